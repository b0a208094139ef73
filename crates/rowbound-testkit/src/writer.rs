//! An application that never rests: it inserts, replaces, clears, shares, swaps, deletes and rolls back rows of `doc` while a
//! test kills collectors, servers and mounts around it, and knows at the end what every file must hold.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    App, Backend, World,
    trace::{Reference, Teller},
};

/// The running application.
#[derive(Debug)]
pub struct Writer {
    stop: watch::Sender<bool>,
    task: JoinHandle<Written>,
}

/// What the application did, and what must be true now.
#[derive(Debug, Default)]
pub struct Written {
    /// Name -> content of every file that a row references.
    pub expected: BTreeMap<String, String>,
    /// Statements and transactions that were committed.
    pub operations: u64,
    /// The longest that one of them took.
    pub slowest: Duration,
    /// Names that were released.
    pub released: u64,
}

impl Writer {
    /// Starts an application on the world's table `doc` (see [`World::with_docs`]). Ids begin at `first_id`, names with `prefix`, so that
    /// several can run beside each other. `pace` is the pause between two operations.
    pub async fn start(world: &World, prefix: &str, first_id: i64, pace: Duration) -> Writer {
        let (stop, stopped) = watch::channel(false);
        let life = Life {
            app: world.db.app().await,
            backend: world.db.backend(),
            media: world.media(),
            prefix: prefix.to_owned(),
            next: first_id,
            rows: BTreeMap::new(),
            contents: BTreeMap::new(),
            released: Vec::new(),
            done: Written::default(),
            random: SmallRng::seed_from_u64(first_id.unsigned_abs()),
            tell: Teller::new(world.trace.as_ref(), prefix),
            references: BTreeMap::new(),
        };
        Writer { stop, task: tokio::spawn(life.go(stopped, pace)) }
    }

    /// Lets it finish its operation and tells what it did.
    ///
    /// # Panics
    /// When one of its statements failed: an application's own writes never fail because of Rowbound.
    pub async fn stop(self) -> Written {
        let _ = self.stop.send(true);
        self.task.await.expect("the application's own statement failed")
    }
}

impl Written {
    /// Every file that a row references is there and holds what was written last.
    ///
    /// # Panics
    /// Names what is lost.
    pub fn assert_nothing_lost(&self, world: &World) {
        let lost: Vec<_> = self
            .expected
            .iter()
            .filter_map(|(name, content)| match std::fs::read_to_string(world.media().join(name)) {
                Ok(found) if found == *content => None,
                other => Some(format!("{name}: expected {content:?}, found {other:?}")),
            })
            .collect();
        assert!(lost.is_empty(), "lost {} of {}: {:#?}", lost.len(), self.expected.len(), &lost[..lost.len().min(10)]);
    }
}

struct Life {
    app: App,
    backend: Backend,
    media: PathBuf,
    prefix: String,
    next: i64,
    rows: BTreeMap<i64, Option<String>>,
    contents: BTreeMap<String, String>,
    released: Vec<String>,
    done: Written,
    random: SmallRng,
    tell: Teller,
    /// The references of rows with a file.
    references: BTreeMap<i64, Reference>,
}

impl Life {
    async fn go(mut self, stop: watch::Receiver<bool>, pace: Duration) -> Written {
        while !*stop.borrow() {
            let started = Instant::now();
            self.step().await;
            self.done.operations += 1;
            self.done.slowest = self.done.slowest.max(started.elapsed());
            tokio::time::sleep(pace).await;
        }
        self.app.close().await;
        for name in self.rows.values().flatten() {
            self.done.expected.insert(name.clone(), self.contents[name].clone());
        }
        self.done.released = self.released.len() as u64;
        self.done
    }

    fn upload(&mut self, name: &str) {
        let content = format!("{name} {}", self.random.random::<u32>());
        let (path, began) = (self.media.join(name), self.tell.now());
        write_file(&path, content.as_bytes());
        self.tell.put(began, name);
        self.contents.insert(name.to_owned(), content);
    }

    fn fresh(&mut self) -> String {
        self.next += 1;
        let name = format!("{}/{}/{}.jpg", self.prefix, self.next % 7, self.next);
        self.upload(&name);
        name
    }

    fn pick(&mut self) -> Option<i64> {
        let ids: Vec<i64> = self.rows.keys().copied().collect();
        ids.choose(&mut self.random).copied()
    }

    fn text(&self, name: &str) -> String {
        self.backend.literal(name)
    }

    /// Runs one statement after which `rows` are as given: with a file, without one, or not there.
    async fn change(&mut self, sql: &str, rows: &[(i64, Option<&str>)], blind: bool) {
        let began = self.tell.now();
        self.app.exec(sql).await;
        let gone: Vec<Reference> = rows.iter().filter_map(|(id, _)| self.references.remove(id)).collect();
        let come: Vec<(i64, &str)> = rows.iter().filter_map(|(id, name)| Some((*id, (*name)?))).collect();
        let names: Vec<&str> = come.iter().map(|(_, name)| *name).collect();
        let new = self.tell.statement(began, &gone, &names, blind);
        self.references.extend(come.iter().map(|(id, _)| *id).zip(new));
    }

    async fn insert(&mut self, name: String, blind: bool) {
        self.next += 1;
        let sql = format!("insert into doc (id, file, title) values ({}, {}, 't')", self.next, self.text(&name));
        self.change(&sql, &[(self.next, Some(&name))], blind).await;
        self.rows.insert(self.next, Some(name));
    }

    fn release(&mut self, name: Option<String>) {
        self.released.extend(name);
    }

    async fn step(&mut self) {
        let kind = if self.rows.len() < 10 { 0 } else { self.random.random_range(0..13) };
        let Some(id) = self.pick().or((kind == 0).then_some(0)) else { return };
        match kind {
            0..=2 => {
                let name = self.fresh();
                self.insert(name, false).await;
            }
            3 | 4 => {
                let name = self.fresh();
                let sql = format!("update doc set file = {} where id = {id}", self.text(&name));
                self.change(&sql, &[(id, Some(&name))], false).await;
                let old = self.rows.insert(id, Some(name)).flatten();
                self.release(old);
            }
            5 => {
                let sql = format!("update doc set file = {} where id = {id}", if id % 2 == 0 { "null" } else { "''" });
                self.change(&sql, &[(id, None)], false).await;
                let old = self.rows.insert(id, None).flatten();
                self.release(old);
            }
            6 | 7 => {
                self.change(&format!("delete from doc where id = {id}"), &[(id, None)], false).await;
                let old = self.rows.remove(&id).flatten();
                self.release(old);
            }
            8 => {
                let some: Vec<i64> = self.rows.range(id..).take(3).map(|(id, _)| *id).collect();
                let list: Vec<String> = some.iter().map(i64::to_string).collect();
                let rows: Vec<(i64, Option<&str>)> = some.iter().map(|id| (*id, None)).collect();
                self.change(&format!("delete from doc where id in ({})", list.join(", ")), &rows, false).await;
                for id in some {
                    let old = self.rows.remove(&id).flatten();
                    self.release(old);
                }
            }
            // A second row references the same file; later one of them goes.
            9 => {
                if let Some(Some(name)) = self.rows.get(&id).cloned() {
                    self.insert(name, true).await;
                }
            }
            // Two rows swap their files in one statement.
            10 => {
                let Some(other) = self.pick() else { return };
                if other != id {
                    let (a, b) = (self.rows[&id].clone(), self.rows[&other].clone());
                    let text = |name: &Option<String>| name.as_ref().map_or_else(|| "null".to_owned(), |n| self.text(n));
                    let sql = format!(
                        "update doc set file = case id when {id} then {} else {} end where id in ({id}, {other})",
                        text(&b),
                        text(&a)
                    );
                    self.change(&sql, &[(id, b.as_deref()), (other, a.as_deref())], true).await;
                    self.rows.insert(id, b);
                    self.rows.insert(other, a);
                }
            }
            // What is rolled back has not happened.
            11 => {
                self.app.begin().await;
                self.app.exec(&format!("delete from doc where id = {id}")).await;
                let gone: Vec<Reference> = self.references.get(&id).cloned().into_iter().collect();
                self.tell.pending(self.tell.now(), &gone, &[], false);
                self.app.exec("update doc set file = null where id > 0").await;
                let began = self.tell.now();
                self.app.rollback().await;
                self.tell.rollback(began, gone.len());
            }
            // A released name is used again: new bytes, then the row.
            _ => {
                let from = self.released.len().saturating_sub(20);
                let Some(name) = self.released[from..].choose(&mut self.random).cloned() else { return };
                self.upload(&name);
                self.insert(name, false).await;
            }
        }
    }
}

/// Writes a file as an application does that meets a folder being removed: it makes the folder again.
fn write_file(path: &Path, bytes: &[u8]) {
    for _ in 0..100 {
        let parent = path.parent().expect("a file has a folder");
        // A missing root means that a test has taken it away: an application would fail, so wait for it here.
        if std::fs::create_dir_all(parent).and_then(|()| std::fs::write(path, bytes)).is_ok() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("cannot write {}", path.display());
}

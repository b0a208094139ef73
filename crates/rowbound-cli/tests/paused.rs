//! A process that stands still at a named place, as a virtual machine's pause or a swap storm makes it, for longer than its lease; another one goes on with its
//! work, and the application uses the same names. Then the first goes on as if nothing had happened. At the end files and rows agree, and no row has another
//! file's bytes.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use rowbound::{
    Trash,
    crash::{ERASURE_POINTS, POINTS, RECHECK_POINTS},
};
use rowbound_testkit::{App, Backend, Rowbound, Running, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Trash = Trash::Keep(Duration::from_secs(86_400));

/// Names that are released at the beginning.
const NAMES: usize = 12;

/// The application: it knows what each name must hold.
struct Application<'w> {
    world: &'w World,
    app: App,
    generation: u32,
    /// What was written last under each name.
    content: BTreeMap<String, String>,
}

impl<'w> Application<'w> {
    async fn of(world: &'w World) -> Self {
        Application { world, app: world.db.app().await, generation: 0, content: BTreeMap::new() }
    }

    /// Another file under the name, which a row references afterwards.
    async fn upload(&mut self, name: &str) {
        self.generation += 1;
        let content = format!("{name}, generation {}", self.generation);
        let draft = self.world.folder().join(format!("draft-{:016x}", rand::random::<u64>()));
        fs::write(&draft, &content).expect("cannot write a draft");
        fs::rename(&draft, self.world.media().join(name)).expect("cannot rename");
        self.content.insert(name.to_owned(), content);
        self.name(name).await;
    }

    async fn name(&mut self, name: &str) {
        self.app.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }

    async fn let_go(&mut self, name: &str) {
        self.app.exec(&format!("delete from doc where file = '{name}'")).await;
    }

    /// Looks within a visible transaction; what is there is only named.
    async fn name_or_upload(&mut self, name: &str) {
        self.app.begin().await;
        self.app.query_strings("select id from doc where id = 0").await;
        if self.world.media().join(name).exists() {
            self.name(name).await;
        } else {
            self.upload(name).await;
        }
        self.app.commit().await;
    }

    /// Every row has its file, with the bytes that were written last; nothing else is left.
    async fn assert_kept(&self, at: &str) {
        let (refs, files) = (self.world.refs().await, self.world.files());
        let mut faults = Vec::new();
        for name in &refs {
            match fs::read_to_string(self.world.media().join(name)) {
                Ok(found) if found == self.content[name] => {}
                Ok(found) => faults.push(format!("{name} holds {found:?} instead of {:?}", self.content[name])),
                Err(e) => faults.push(format!("{name} is lost: {e}")),
            }
        }
        faults.extend(files.iter().filter(|name| !refs.contains(name)).map(|name| format!("{name} is left")));
        if !faults.is_empty() {
            let history = Rowbound::new(BINARY, self.world).run(&["history"]).await.stdout;
            panic!("{at}: {faults:#?}\n{history}");
        }
    }
}

fn name(n: usize) -> String {
    format!("{n:02}.jpg")
}

async fn pending(world: &World) -> u64 {
    world.count(&format!("{} where event <> 'return'", world.own_table("candidate"))).await
}

async fn stop(daemon: Running) {
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// One process is paused at `point` while another one and the application go on.
async fn paused_at(backend: Backend, trash: Trash, point: &str) {
    let at = format!("{backend}, {trash:?}, {point}");
    let began = Instant::now();
    // What is never due is never erased.
    let trash = if ERASURE_POINTS.contains(&point) && trash != Trash::Off { Trash::Keep(Duration::from_secs(1)) } else { trash };
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(trash));
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let mut app = Application::of(&world).await;
    for n in 0..NAMES {
        app.upload(&name(n)).await;
    }
    world.db.exec("delete from doc").await;
    let hold = if ERASURE_POINTS.contains(&point) { "200" } else { "5000" };
    let rowbound = || Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", hold);
    let args = ["run", "--lease", "1s", "--poll", "20ms"];
    let recheck = RECHECK_POINTS.contains(&point);
    if recheck {
        // So the next process makes its first re-check at once, and has something to bring back.
        let killed = rowbound().env("ROWBOUND_CRASH_AT", "settled").run(&["collect", "--lease", "1s", "--patience", "40s"]).await;
        assert_eq!(killed.signal, Some(9), "{at}: {}", killed.stderr);
        app.name(&name(0)).await;
        app.name(&name(1)).await;
    }
    let (held, place) = rowbound().held_at(point);
    let first = held.spawn(&args);
    let mut blocker = None;
    if point == "returned" || point == "moved-batch-stopped" {
        first.until(DEADLINE, "nothing was moved", || async { world.files().is_empty() }).await;
        if point == "returned" {
            // Looked at before the move by a transaction that nobody saw.
            app.name(&name(0)).await;
        } else {
            let mut open = world.db.app().await;
            open.begin().await;
            open.query_strings("select id from doc where id = 0").await;
            blocker = Some(open);
            first.terminate();
        }
    }
    place.reached(&first, DEADLINE).await;
    first.pause();

    // The application does not wait: a third is only named where it is found, a third is another upload, the rest stays released.
    for n in 0..NAMES {
        match n % 3 {
            0 => app.name_or_upload(&name(n)).await,
            1 => app.upload(&name(n)).await,
            _ => {}
        }
    }
    if let Some(mut open) = blocker {
        open.commit().await;
    }
    let second = rowbound().spawn(&args);
    second.until(DEADLINE, &format!("{at}: the second one does not finish"), || async { pending(&world).await == 0 }).await;
    // And on: what was uploaded is released, what was released is uploaded.
    for n in (0..NAMES).step_by(4) {
        app.let_go(&name(n)).await;
    }
    for n in [2, 5] {
        app.upload(&name(n)).await;
    }
    second.until(DEADLINE, &format!("{at}: the second one does not finish"), || async { pending(&world).await == 0 }).await;
    place.let_go();
    first.resume();
    // While it goes on, too.
    for n in [8, 11] {
        app.name_or_upload(&name(n)).await;
    }
    app.let_go(&name(5)).await;
    if point == "moved-batch-stopped" {
        first.wait(DEADLINE).await.expect(0);
    } else {
        wait_until(DEADLINE, &format!("{at}: they do not finish"), || async { pending(&world).await == 0 }).await;
        stop(first).await;
    }
    stop(second).await;
    // What came back is looked at once more a minute later: now.
    world.look_again_now().await;
    let end = rowbound().run(&["collect", "--retry-now", "--lease", "1s", "--wait", "40s"]).await;
    app.assert_kept(&at).await;
    end.expect(0);
    // A re-check that comes later has nothing to bring back, and nothing is erased that a row references.
    println!("{at}: {:?}", began.elapsed());
}

/// Many files return at once, and the process is paused among them for longer than a minute: not at a named place, but while it renames. Meanwhile their rows go,
/// and another process decides about the names.
async fn paused_among_returns(backend: Backend) {
    const MANY: usize = 6_000;
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let rows: Vec<String> = (0..MANY).map(|n| format!("('{}')", name(n))).collect();
    (0..MANY).for_each(|n| world.put_file(&name(n), b"x"));
    let insert: Vec<String> = rows.chunks(1_000).map(|rows| format!("insert into doc (file) values {}", rows.join(", "))).collect();
    for sql in &insert {
        world.db.exec(sql).await;
    }
    world.db.exec("delete from doc").await;
    let killed = Rowbound::new(BINARY, &world)
        .env("ROWBOUND_CRASH_AT", "settled")
        .run(&["collect", "--batch", "20000", "--lease", "60s", "--workers", "1", "--patience", "40s"])
        .await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    assert!(world.files().is_empty());
    for sql in &insert {
        world.db.exec(sql).await;
    }
    // The first re-check of a process comes at once.
    let first = Rowbound::new(BINARY, &world).spawn(&["run", "--lease", "1s", "--poll", "20ms"]);
    first.until(DEADLINE, "nothing returns", || async { std::fs::read_dir(world.media()).expect("the folder").count() > 1 }).await;
    first.pause();
    let back = world.files().len();
    println!("{backend}: paused when {back} of {MANY} were back");
    world.db.exec("delete from doc").await;
    // The pause lasts longer than a minute: what was announced is due.
    world.look_again_now().await;
    Rowbound::new(BINARY, &world).run(&["collect", "--retry-now", "--lease", "10s", "--wait", "90s"]).await.expect(0);
    assert!(world.files().is_empty(), "the second one has collected what was back");
    first.resume();
    // It goes on with its work, and is idle in the end.
    wait_until(DEADLINE, "the queue is empty", || async { pending(&world).await == 0 }).await;
    stop(first).await;
    world.look_again_now().await;
    Rowbound::new(BINARY, &world).run(&["collect", "--retry-now", "--lease", "10s", "--wait", "60s"]).await.expect(0);
    let left = world.files().len();
    assert!(back < MANY, "all were back before the pause: nothing was tried");
    assert_eq!(left, 0, "{left} files are left that no row references, and nobody will look for them");
}

fn reachable() -> impl Iterator<Item = &'static str> {
    POINTS.into_iter().chain(RECHECK_POINTS).chain(ERASURE_POINTS)
}

macro_rules! on {
    ($($module:ident $backend:ident $($why:literal)?),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $why])?
            async fn race_of_a_process_that_was_paused() {
                for (trash, point) in [(DAY, "confirmed"), (Trash::Off, "remove-one"), (DAY, "checked-again"), (Trash::Off, "erasure-noted")] {
                    paused_at(Backend::$backend, trash, point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            $(#[ignore = $why])?
            async fn race_of_a_process_that_was_paused_among_returns() {
                paused_among_returns(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_paused_everywhere() {
                let mut failed = Vec::new();
                for trash in [DAY, Trash::Off] {
                    for point in reachable() {
                        // One place says nothing about the others.
                        if let Err(e) = tokio::spawn(paused_at(Backend::$backend, trash, point)).await {
                            failed.push(format!("{trash:?}, {point}: {e}"));
                        }
                    }
                }
                assert!(failed.is_empty(), "{failed:#?}");
            }
        }
    )* };
}

// On MariaDB a process that is frozen within a look at the open transactions holds the lock that all of a server take turns by: others get nowhere until it
// goes on, or its connection ends.
on!(postgres Postgres, mariadb Mariadb "soak: a frozen process may hold the lock of the server's list of transactions");

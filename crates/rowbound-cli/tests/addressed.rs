//! Content-addressed applications: "the file is there, so it is not written, only a row is inserted". Such a row may reference a file that a collector is about to
//! move. Real sessions do this while `rowbound run` deletes, and a sampler measures for how long a committed row was without its file.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::SmallRng};
use rowbound::Trash;
use rowbound_testkit::{App, Backend, Rowbound, World};
use tokio::sync::{Semaphore, watch};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(86_400);

/// Where the files lie.
const FOLDER: &str = "objects";
const SESSIONS: u64 = 6;

/// When a session looks for the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    /// After its first statement: the database can tell that its transaction is open.
    Visible,
    /// Before its transaction begins, as autocommit code and many drivers do: nobody can tell.
    Invisible,
}

/// One run.
#[derive(Debug, Clone)]
struct Attack {
    backend: Backend,
    trash: Trash,
    looks: Looks,
    /// How many names there are, which is about what one batch has.
    names: usize,
    /// From a look to its commit at most.
    open: Duration,
    /// For how long the sessions work.
    time: Duration,
    seed: u64,
}

/// What it came to.
#[derive(Debug, Default)]
struct Report {
    committed: u64,
    deleted: u64,
    /// Files that came back from the trash.
    returned: u64,
    /// Transactions that the database rolled back: deadlocks of the sessions among themselves.
    refused: u64,
    /// For how long committed rows were without their files.
    absences: Vec<(Duration, String)>,
    /// Committed rows that never got their files back.
    lost: Vec<String>,
    /// Whatever else was not as promised.
    faults: Vec<String>,
}

impl Report {
    fn longest(&self) -> Duration {
        self.absences.iter().map(|(time, _)| *time).max().unwrap_or_default()
    }
}

impl Attack {
    /// So long a committed row may be without its file: the rest after a move, the longest transaction that the second barrier waits for, and what the worker does
    /// between two looks at it; where nobody sees the looks, a re-check, which comes every minute.
    fn bearable(&self) -> Duration {
        match self.looks {
            Looks::Visible => self.open + Duration::from_secs(5),
            Looks::Invisible => Duration::from_secs(75),
        }
    }

    /// Sessions look, write, insert and delete beside `rowbound run`.
    async fn go(&self) -> Report {
        let min_age = Duration::ZERO;
        let world = World::new(self.backend).await.with_docs().await.storage(|s| s.trash(self.trash).min_age(min_age).prune_folders(false));
        fs::create_dir_all(world.media().join(FOLDER)).expect("cannot make the folder");
        // As it is installed: a file without a trash is held for its whole minute.
        let rowbound = Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "");
        rowbound.run(&["attach"]).await.expect(0);
        let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;

        let (committed, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stop, stopped) = watch::channel(false);
        let (over, at_end) = watch::channel(false);
        let sampler = tokio::spawn(sample(world.db.app().await, world.media().join(FOLDER), at_end));
        let mut sessions = tokio::task::JoinSet::new();
        for n in 0..=SESSIONS {
            let session = Session {
                app: world.db.app().await,
                attack: self.clone(),
                folder: world.media().join(FOLDER),
                random: SmallRng::seed_from_u64(self.seed * 100 + n),
                title: format!("s{n}"),
                committed: committed.clone(),
                refused: refused.clone(),
            };
            match n {
                0 => sessions.spawn(session.fill_and_delete(stopped.clone())),
                _ => sessions.spawn(session.work(stopped.clone())),
            };
        }
        tokio::time::sleep(self.time).await; // the sessions' own time, not a wait for something
        let _ = stop.send(true);
        while let Some(ended) = sessions.join_next().await {
            ended.expect("a session failed");
        }

        // What is away now must be back within the time that is bearable.
        let mut report = Report { committed: committed.load(Relaxed), refused: refused.load(Relaxed), ..Report::default() };
        let end = Instant::now() + self.bearable() + Duration::from_secs(30);
        loop {
            report.lost = missing(&world).await;
            if report.lost.is_empty() || Instant::now() > end {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let _ = over.send(true);
        report.absences = sampler.await.expect("the sampler failed");
        daemon.terminate();
        let said = daemon.wait(DEADLINE).await;
        // On SQLite the sessions hold the only lock most of the time, and that is said.
        let busy = |line: &str| self.backend == Backend::Sqlite && line.contains("locked by another writer");
        let bad = |line: &str| line.contains("panicked") || line.contains("ERROR") && !busy(line);
        if said.code != Some(0) || said.stderr.lines().any(bad) {
            report.faults.push(format!("`run` ended with {:?}: {}", said.code, said.stderr));
        }
        // Nobody writes any more: nothing is lost by a shorter hold.
        // What came back is looked at once more a minute later: now; what comes back by this, too.
        for last in [false, false, true] {
            world.look_again_now().await;
            let end = Rowbound::new(BINARY, &world).run(&["collect", "--retry-now", "--wait", if last { "60s" } else { "20s" }]).await;
            if end.code == Some(0) {
                break;
            }
            if last {
                report.faults.push(format!("`collect` ended with {:?}: {}{}", end.code, end.stdout, end.stderr));
            }
        }
        for name in missing(&world).await {
            if !report.lost.contains(&name) {
                report.lost.push(name);
            }
        }
        let (files, refs) = (world.files(), world.refs().await);
        let left: Vec<_> = files.iter().filter(|f| !refs.contains(f)).collect();
        if !left.is_empty() {
            report.faults.push(format!("left without a row: {left:?}"));
        }
        for name in &files {
            let content = fs::read_to_string(world.media().join(name)).unwrap_or_default();
            if content != *name {
                report.faults.push(format!("{name} holds {content:?}"));
            }
        }
        report.deleted = count(&world, "outcome in ('trashed', 'erased') and event <> 'trash'").await;
        report.returned = count(&world, "outcome = 'restored' or note like '%came back%'").await;
        for name in report.lost.iter().take(3) {
            let history = Rowbound::new(BINARY, &world).run(&["history", "--name", name]).await.stdout;
            report.faults.push(format!("the history of {name}, which is lost:\n{history}"));
        }
        report
    }
}

async fn count(world: &World, which: &str) -> u64 {
    world.count(&format!("{} where {which}", world.own_table("ledger"))).await
}

/// Names of committed rows whose files are not there.
async fn missing(world: &World) -> Vec<String> {
    let refs = world.refs().await;
    refs.into_iter().filter(|name| !world.media().join(name).exists()).collect()
}

/// Looks ten times a second for committed rows without files; returns how long each was without.
async fn sample(mut app: App, folder: std::path::PathBuf, over: watch::Receiver<bool>) -> Vec<(Duration, String)> {
    let mut since: HashMap<String, (Instant, Instant)> = HashMap::new();
    let mut absences = Vec::new();
    while !*over.borrow() {
        let now = Instant::now();
        let rows: HashSet<String> = app.query_strings("select distinct file from doc").await.into_iter().flatten().collect();
        let there: HashSet<String> = fs::read_dir(&folder)
            .expect("the folder")
            .filter_map(|e| Some(format!("{FOLDER}/{}", e.ok()?.file_name().to_string_lossy())))
            .collect();
        let mut away = HashSet::new();
        for name in rows.difference(&there) {
            // The row may have been deleted between the two looks: it is asked for again, and the file looked for before.
            let path = folder.join(name.trim_start_matches(FOLDER).trim_start_matches('/'));
            if path.exists() || app.query_strings(&format!("select id from doc where file = '{name}' limit 1")).await.is_empty() {
                continue;
            }
            away.insert(name.clone());
        }
        for name in &away {
            since.entry(name.clone()).or_insert((now, now)).1 = Instant::now();
        }
        let (gone, still): (HashMap<_, _>, _) = since.into_iter().partition(|(name, _)| !away.contains(name));
        absences.extend(gone.into_iter().map(|(name, (first, last))| (last - first, name)));
        since = still;
        tokio::time::sleep(Duration::from_millis(100).saturating_sub(now.elapsed())).await;
    }
    absences.extend(since.into_iter().map(|(name, (first, last))| (last - first, name)));
    absences
}

/// One connection of the application.
struct Session {
    app: App,
    attack: Attack,
    folder: std::path::PathBuf,
    random: SmallRng,
    title: String,
    committed: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

impl Session {
    fn name(n: usize) -> String {
        format!("{FOLDER}/{n:04}.bin")
    }

    /// The look, and the write where it found nothing. Never over a file.
    fn look_and_write(&self, n: usize) {
        let name = Self::name(n);
        let path = self.folder.join(format!("{n:04}.bin"));
        if path.exists() {
            return;
        }
        create_only(&path, name.as_bytes());
    }

    /// Runs what the database may refuse because of another session: then the transaction is rolled back. Another error is a fault.
    async fn tried(&mut self, sql: &str) -> bool {
        match self.app.try_exec(sql).await {
            Ok(()) => true,
            Err(e) => {
                let text = e.to_string().to_lowercase();
                assert!(["locked", "deadlock", "lock wait"].iter().any(|word| text.contains(word)), "{e}\n{sql}");
                let _ = self.app.try_exec("rollback").await;
                self.refused.fetch_add(1, Relaxed);
                false
            }
        }
    }

    /// Begins a transaction that the database shows as open.
    async fn begin_visibly(&mut self) -> bool {
        match self.attack.backend {
            Backend::Sqlite => self.tried("begin immediate").await,
            _ => self.tried("begin").await && self.tried("select count(*) from doc where id = 0").await,
        }
    }

    /// Half of them short, some long.
    fn some_time(&mut self, longest: Duration) -> Duration {
        let (least, most) = (0.05_f64.ln(), longest.as_secs_f64().max(0.06).ln());
        Duration::from_secs_f64(self.random.random_range(least..most).exp())
    }

    /// Chooses a name, looks, writes if need be, inserts a row and commits after a while.
    async fn work(mut self, stop: watch::Receiver<bool>) {
        while !*stop.borrow() {
            let n = self.random.random_range(0..self.attack.names);
            let mut open = self.some_time(self.attack.open);
            let insert = format!("insert into doc (file, title) values ('{}', '{}')", Self::name(n), self.title);
            let done = match self.attack.looks {
                Looks::Visible => {
                    if self.attack.backend == Backend::Sqlite {
                        // While one writes, all others wait.
                        open /= 20;
                    }
                    if !self.begin_visibly().await {
                        continue;
                    }
                    self.look_and_write(n);
                    let before = open.mul_f64(self.random.random_range(0.0..1.0));
                    tokio::time::sleep(before).await;
                    let inserted = self.tried(&insert).await;
                    if inserted {
                        tokio::time::sleep(open - before).await;
                    }
                    inserted
                }
                Looks::Invisible => {
                    self.look_and_write(n);
                    let before = match self.attack.backend {
                        Backend::Sqlite => open,
                        _ => open.mul_f64(self.random.random_range(0.0..1.0)),
                    };
                    tokio::time::sleep(before).await;
                    let begun = self.tried("begin").await && self.tried(&insert).await;
                    if begun {
                        tokio::time::sleep(open - before).await;
                    }
                    begun
                }
            };
            if done && self.tried("commit").await {
                self.committed.fetch_add(1, Relaxed);
            }
            if self.attack.backend == Backend::Sqlite {
                // The collector wants the lock, too.
                let rest = self.random.random_range(0..200);
                tokio::time::sleep(Duration::from_millis(rest)).await;
            }
        }
        self.app.close().await;
    }

    /// References every name, as the others do, and releases all that, so that a whole batch is due at once; of the others' rows it deletes some.
    async fn fill_and_delete(mut self, stop: watch::Receiver<bool>) {
        if self.attack.backend == Backend::Mariadb || self.attack.backend == Backend::Mysql {
            self.app.exec("set session transaction isolation level read committed").await;
        }
        let (others, most) = match self.attack.looks {
            Looks::Visible => (30, 2.5),
            // Their rows have to outlive a re-check, or nobody would see that a file was away.
            Looks::Invisible => (4, 6.0),
        };
        while !*stop.borrow() {
            if !self.begin_visibly().await {
                continue;
            }
            (0..self.attack.names).for_each(|n| self.look_and_write(n));
            let mut inserted = true;
            for chunk in (0..self.attack.names).collect::<Vec<_>>().chunks(500) {
                let rows: Vec<_> = chunk.iter().map(|n| format!("('{}', 'bulk')", Self::name(*n))).collect();
                inserted = inserted && self.tried(&format!("insert into doc (file, title) values {}", rows.join(", "))).await;
            }
            if !inserted || !self.tried("commit").await {
                continue;
            }
            self.committed.fetch_add(self.attack.names as u64, Relaxed);
            let mut ids = self.app.query_strings("select id from doc where title = 'bulk'").await;
            let theirs = self.app.query_strings("select id from doc where title <> 'bulk'").await;
            ids.extend(theirs.into_iter().filter(|_| self.random.random_range(0..100) < others));
            let ids: Vec<String> = ids.into_iter().flatten().collect();
            for chunk in ids.chunks(300) {
                while !self.tried(&format!("delete from doc where id in ({})", chunk.join(", "))).await {}
            }
            let rest = self.random.random_range(0.3..most);
            tokio::time::sleep(Duration::from_secs_f64(rest)).await;
        }
        self.app.close().await;
    }
}

/// Writes a file that is not there, whole or not at all; one that is there stays.
fn create_only(path: &Path, bytes: &[u8]) {
    let draft =
        path.parent().and_then(Path::parent).and_then(Path::parent).expect("the world").join(format!("{:016x}", rand::random::<u64>()));
    let mut file = OpenOptions::new().write(true).create_new(true).open(&draft).expect("cannot write a draft");
    file.write_all(bytes).expect("cannot write a draft");
    match fs::hard_link(&draft, path) {
        Ok(()) => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
        Err(e) => panic!("cannot write {}: {e}", path.display()),
    }
    fs::remove_file(&draft).expect("cannot remove a draft");
}

/// Twenty seconds of it, with looks that the database can see.
async fn content_addressed_writers_beside_a_collector(backend: Backend) {
    let attack = Attack {
        backend,
        trash: Trash::Keep(DAY),
        looks: Looks::Visible,
        names: 300,
        open: Duration::from_secs(2),
        time: Duration::from_secs(15),
        seed: rand::random_range(0..1_000_000),
    };
    let report = attack.go().await;
    println!(
        "{backend}: {} rows committed, {} files deleted, {} came back, {} transactions refused, {} absences, the longest {:?}",
        report.committed,
        report.deleted,
        report.returned,
        report.refused,
        report.absences.len(),
        report.longest()
    );
    assert!(report.lost.is_empty(), "lost: {:?} {:#?}", report.lost, report.faults);
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    let longest = report.longest();
    // A second of rest, the transactions of two seconds and a busy machine; the next re-check would come after a minute.
    assert!(longest <= Duration::from_secs(20), "a committed row was without its file for {longest:?}: {:?}", report.absences);
    assert!(report.committed > 300 && report.deleted > 100, "nothing was tried: {report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn race_of_content_addressed_writers_on_sqlite() {
    content_addressed_writers_beside_a_collector(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn race_of_content_addressed_writers_on_postgres() {
    content_addressed_writers_beside_a_collector(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn race_of_content_addressed_writers_on_mariadb() {
    content_addressed_writers_beside_a_collector(Backend::Mariadb).await;
}

/// Every database, with and without a trash, with looks that nobody sees too; `ROWBOUND_ADDRESSED_RUNS` runs in all, `ROWBOUND_ADDRESSED_AT_ONCE` at a time.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_addressed() {
    let number = |name: &str, usual: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual);
    let (runs, at_once) = (number("ROWBOUND_ADDRESSED_RUNS", 120), number("ROWBOUND_ADDRESSED_AT_ONCE", 8));
    let mut kinds = Vec::new();
    for looks in [Looks::Visible, Looks::Invisible] {
        for trash in [Trash::Keep(DAY), Trash::Off] {
            for backend in [Backend::Sqlite, Backend::Postgres, Backend::Mariadb] {
                kinds.push((backend, trash, looks));
            }
        }
    }
    let turns = Arc::new(Semaphore::new(at_once));
    // A MariaDB server lists its open transactions nine times a second, for all of its databases together.
    let mariadb = Arc::new(Semaphore::new(3));
    let mut tasks = tokio::task::JoinSet::new();
    for run in 0..runs {
        let (backend, trash, looks) = kinds[run % kinds.len()];
        let round = run / kinds.len();
        let attack = Attack {
            backend,
            trash,
            looks,
            names: [30, 300, 1_000, 3_000][round % 4],
            open: Duration::from_secs([5, 2, 5, 1][round / 4 % 4]),
            time: Duration::from_secs(if looks == Looks::Visible { 30 } else { 50 }),
            seed: run as u64,
        };
        let (turns, mariadb) = (turns.clone(), mariadb.clone());
        tasks.spawn(async move {
            let _mariadb = match backend {
                Backend::Mariadb => Some(mariadb.acquire_owned().await.expect("open")),
                _ => None,
            };
            let _turn = turns.acquire_owned().await.expect("open");
            let report = attack.go().await;
            println!(
                "{attack:?}: {} committed, {} deleted, {} came back, longest {:?}, lost {:?} {:#?}",
                report.committed,
                report.deleted,
                report.returned,
                report.longest(),
                report.lost,
                report.faults
            );
            (attack, report)
        });
    }
    let (mut done, mut bad) = (Vec::new(), Vec::new());
    while let Some(one) = tasks.join_next().await {
        match one {
            Ok(one) => done.push(one),
            Err(e) => bad.push(format!("a run failed: {e}")),
        }
    }
    println!("| database | trash | looks | runs | rows committed | files deleted | came back | absences | longest absence | lost |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for (backend, trash, looks) in kinds {
        let of: Vec<_> = done.iter().filter(|(a, _)| (a.backend, a.trash, a.looks) == (backend, trash, looks)).collect();
        let sum = |f: fn(&Report) -> u64| of.iter().map(|(_, r)| f(r)).sum::<u64>();
        println!(
            "| {backend} | {} | {looks:?} | {} | {} | {} | {} | {} | {:.1} s | {} |",
            if trash == Trash::Off { "off" } else { "1d" },
            of.len(),
            sum(|r| r.committed),
            sum(|r| r.deleted),
            sum(|r| r.returned),
            sum(|r| r.absences.len() as u64),
            of.iter().map(|(_, r)| r.longest()).max().unwrap_or_default().as_secs_f64(),
            sum(|r| r.lost.len() as u64),
        );
        for (attack, report) in of {
            if !report.lost.is_empty() || !report.faults.is_empty() || report.longest() > attack.bearable() {
                bad.push(format!("{attack:?}: longest {:?}, lost {:?}, {:?}", report.longest(), report.lost, report.faults));
            }
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

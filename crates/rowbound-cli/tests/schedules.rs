//! Known ways to lose a file, as schedules: a real process waits at a named place while the application does what hurts most there. Each came from a model or
//! from a run that lost something, and each ends in the same way: files and rows agree, and no name has another file's bytes.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use rowbound::{
    Trash,
    plan::{Call, Hook},
};
use rowbound_testkit::{App, Backend, Place, Rowbound, Running, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Trash = Trash::Keep(Duration::from_secs(86_400));

/// On a MariaDB server the barriers wait for the transactions of all databases: what is not about patience has much of it.
const PATIENT: [&str; 3] = ["collect", "--patience", "40s"];

/// A running collector checks what it moved every minute.
const RECHECKED: Duration = Duration::from_secs(80);

const FIRST: &str = "the first file of this name";
const SECOND: &str = "another upload under this name";

/// A world in which no row references `names` any more, and nothing was collected yet. What was made from them lies in `CACHE/images`.
async fn let_go_of(backend: Backend, trash: Trash, names: &[&str]) -> World {
    let mut world = World::new(backend).await.with_docs().await.storage(|s| s.trash(trash));
    let binding = world.bindings.remove(0).derivatives(["imagekit"]);
    world.bindings.push(binding);
    rowbound(&world).run(&["attach"]).await.expect(0);
    for name in names {
        world.put_file(name, FIRST.as_bytes());
        world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    world.db.exec("delete from doc").await;
    world
}

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world)
}

fn insert(name: &str) -> String {
    format!("insert into doc (file) values ('{name}')")
}

/// A new file under the name, whether or not there is an old one.
fn upload(world: &World, name: &str) {
    let draft = world.folder().join(format!("draft-{:016x}", rand::random::<u64>()));
    fs::write(&draft, SECOND).expect("cannot write");
    fs::create_dir_all(world.media().join(name).parent().expect("a folder")).expect("cannot make a folder");
    fs::rename(&draft, world.media().join(name)).expect("cannot rename");
}

/// A transaction that the database shows as open.
async fn begin_visibly(world: &World) -> App {
    let mut app = world.db.app().await;
    app.begin().await;
    app.query_strings("select id from doc where id = 0").await;
    app
}

/// A transaction that has begun as far as the application knows, and that nobody can see.
async fn begin_unseen(world: &World) -> App {
    let mut app = world.db.app().await;
    if world.db.backend() != Backend::Postgres {
        app.begin().await;
    }
    app
}

/// Its first statement, and its end.
async fn insert_and_commit(world: &World, app: &mut App, names: &[&str]) {
    if world.db.backend() == Backend::Postgres {
        // A driver sends BEGIN with the first statement.
        app.begin().await;
    }
    for name in names {
        app.exec(&insert(name)).await;
    }
    app.commit().await;
}

async fn stop(daemon: Running) {
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// Everything that waits is decided, what waits for a second look too.
async fn settle_everything(world: &World) {
    world.look_again_now().await;
    rowbound(world).run(&["collect", "--retry-now", "--lease", "20s", "--wait", "90s"]).await.expect(0);
    world.assert_files_follow_rows().await;
}

/// When the row commits whose transaction has looked before the file was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Commits {
    BeforeTheSecondBarrier,
    WhileTheBatchWaits,
    AfterTheCollectorHasEnded,
}

/// The transaction begins behind the first barrier, finds the file, and inserts its row; the collector moves the file.
async fn a_row_commits_late(backend: Backend, when: Commits) {
    let world = let_go_of(backend, DAY, &["a.jpg"]).await;
    let (held, place) = rowbound(&world).held_at("checked");
    let collector = held.spawn(&["run", "--poll", "20ms"]);
    place.reached(&collector, DEADLINE).await;
    let mut app = begin_visibly(&world).await;
    assert!(world.is_there("a.jpg"), "the transaction finds it");
    app.exec(&insert("a.jpg")).await;
    place.let_go();
    collector.until(DEADLINE, "the file was not moved", || async { !world.is_there("a.jpg") }).await;
    match when {
        Commits::BeforeTheSecondBarrier => {
            app.commit().await;
            collector.until(DEADLINE, "the file did not come back", || async { world.is_there("a.jpg") }).await;
            stop(collector).await;
        }
        Commits::WhileTheBatchWaits => {
            let moved = Instant::now();
            collector.until(DEADLINE, "the rest is over", || async { moved.elapsed() > Duration::from_millis(2_500) }).await;
            assert_eq!(world.outcomes("a.jpg").await, [""; 0], "nothing is final while the transaction is open");
            app.commit().await;
            let committed = Instant::now();
            collector.until(DEADLINE, "the file did not come back", || async { world.is_there("a.jpg") }).await;
            println!("{backend}: it came back {:?} after the commit", committed.elapsed());
            // Not with a re-check, which comes after a minute.
            assert!(committed.elapsed() < Duration::from_secs(30));
            stop(collector).await;
        }
        Commits::AfterTheCollectorHasEnded => {
            stop(collector).await;
            assert_eq!(world.outcomes("a.jpg").await, [""; 0], "nothing is final while the transaction is open");
            app.commit().await;
            rowbound(&world).run(&["collect", "--wait", "90s"]).await;
        }
    }
    assert_eq!(world.holds("a.jpg"), FIRST);
    settle_everything(&world).await;
    let said = world.outcomes("a.jpg").await;
    assert!(!said.contains(&"trashed".to_owned()) && said.contains(&"kept".to_owned()), "{said:?}");
}

/// Nobody sees the transaction that has looked: the file is settled as trashed, and the row commits afterwards. The next re-check brings it back.
async fn a_look_that_nobody_saw(backend: Backend) {
    let world = let_go_of(backend, DAY, &["a.jpg"]).await;
    let (held, place) = rowbound(&world).held_at("checked");
    // Killed, so that the next process makes its first re-check at once.
    let collector = held.env("ROWBOUND_CRASH_AT", "settled").spawn(&PATIENT);
    place.reached(&collector, DEADLINE).await;
    let mut app = begin_unseen(&world).await;
    assert!(world.is_there("a.jpg"), "the transaction finds it");
    place.let_go();
    assert_eq!(collector.wait(DEADLINE).await.signal, Some(9));
    assert!(!world.is_there("a.jpg"));
    assert_eq!(world.outcomes("a.jpg").await, ["trashed"]);
    insert_and_commit(&world, &mut app, &["a.jpg"]).await;
    rowbound(&world).run(&PATIENT).await;
    assert_eq!(world.holds("a.jpg"), FIRST, "it came back");
    settle_everything(&world).await;
    let said = world.outcomes("a.jpg").await;
    assert_eq!(said[..2], ["trashed", "restored"], "{said:?}");
    // Nothing was forgotten: the row goes, and so does the file.
    world.db.exec("delete from doc").await;
    settle_everything(&world).await;
    assert!(world.files().is_empty());
}

/// The same beside a collector that runs, with what belongs to it: what was made from the file comes back with it, a new upload does not get what was made from
/// the old one, and a row that has gone again brings nothing back.
async fn what_nobody_saw_comes_back_within_a_minute(backend: Backend) {
    let derivatives = ["CACHE/images/p/1.jpg", "CACHE/images/q/1.jpg"];
    let world = let_go_of(backend, DAY, &["alone.jpg", "p.jpg", "q.jpg", "gone-again.jpg"]).await;
    derivatives.iter().for_each(|name| world.put_file(name, FIRST.as_bytes()));
    let mut app = begin_unseen(&world).await;
    assert!(world.is_there("alone.jpg") && world.is_there("p.jpg") && world.is_there("gone-again.jpg"), "it finds them");
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms"]);
    let settled = || async {
        let mut n = 0;
        for name in ["alone.jpg", "p.jpg", "q.jpg", "gone-again.jpg"].iter().chain(&derivatives) {
            n += world.outcomes(name).await.iter().filter(|o| *o == "trashed").count();
        }
        n == 6
    };
    daemon.until(DEADLINE, "they are not settled", settled).await;
    assert!(world.files().is_empty());
    upload(&world, "q.jpg");
    insert_and_commit(&world, &mut app, &["alone.jpg", "p.jpg", "q.jpg", "gone-again.jpg"]).await;
    world.db.exec("delete from doc where file = 'gone-again.jpg'").await;
    let committed = Instant::now();
    let back = || async { ["alone.jpg", "p.jpg", "CACHE/images/p/1.jpg"].iter().all(|name| world.is_there(name)) };
    daemon.until(RECHECKED, "they did not come back", back).await;
    println!("{backend}: back {:?} after the commit", committed.elapsed());
    stop(daemon).await;
    settle_everything_with_derivatives(&world, &["CACHE/images/p/1.jpg", "alone.jpg", "p.jpg", "q.jpg"]).await;
    assert_eq!([world.holds("q.jpg"), world.holds("p.jpg")], [SECOND, FIRST]);
}

async fn settle_everything_with_derivatives(world: &World, files: &[&str]) {
    world.look_again_now().await;
    rowbound(world).run(&["collect", "--retry-now", "--lease", "20s", "--wait", "90s"]).await.expect(0);
    assert_eq!(world.files(), files);
}

/// An original and what was made from it lie in the trash; a row references the original again, or means a new upload.
async fn an_original_and_its_derivative(backend: Backend, replaced: bool) {
    let world = let_go_of(backend, DAY, &["p.jpg"]).await;
    world.put_file("CACHE/images/p/1.jpg", FIRST.as_bytes());
    let mut app = begin_unseen(&world).await;
    assert!(world.is_there("p.jpg"));
    // The second settlement is the derivative's.
    let killed = rowbound(&world).env("ROWBOUND_CRASH_AT", "settled:2").run(&PATIENT).await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    assert!(world.files().is_empty());
    if replaced {
        upload(&world, "p.jpg");
    }
    insert_and_commit(&world, &mut app, &["p.jpg"]).await;
    rowbound(&world).run(&PATIENT).await;
    if replaced {
        settle_everything_with_derivatives(&world, &["p.jpg"]).await;
        assert_eq!(world.holds("p.jpg"), SECOND);
    } else {
        settle_everything_with_derivatives(&world, &["CACHE/images/p/1.jpg", "p.jpg"]).await;
        assert_eq!(world.holds("p.jpg"), FIRST);
    }
}

/// A worker that holds its candidates for `lease` at a time, and stands still at `point`. A machine that stalls for longer takes them away before it gets there, and
/// the worker ends: then the next one tries.
async fn standing_at(world: &World, point: &str, lease: &str, crash_at: Option<&str>) -> (Running, Place) {
    for _ in 0..5 {
        let (held, place) = rowbound(world).held_at(point);
        let held = if let Some(at) = crash_at { held.env("ROWBOUND_CRASH_AT", at) } else { held };
        let mut worker = held.spawn(&["collect", "--retry-now", "--lease", lease, "--workers", "1", "--patience", "40s"]);
        if place.reached_or_ended(&mut worker, DEADLINE).await {
            return (worker, place);
        }
        println!("{point} was not reached: {}", worker.said());
    }
    panic!("{point} was not reached by any of five workers");
}

/// A worker stands still at `point` for longer than its lease; another one finishes its work, and the application uses the names again. Then the first goes on.
async fn overtaken(backend: Backend, point: &str) {
    let names = ["a-gone.jpg", "b-named.jpg", "c-again.jpg", "d.jpg", "e.jpg", "f.jpg"];
    let world = let_go_of(backend, DAY, &names).await;
    let (first, place) = standing_at(&world, point, "1s", None).await;
    // Content-addressed: what is there is not written.
    let mut app = begin_visibly(&world).await;
    let found = world.is_there("b-named.jpg");
    if !found {
        upload(&world, "b-named.jpg");
    }
    app.exec(&insert("b-named.jpg")).await;
    app.commit().await;
    rowbound(&world).run(&["collect", "--lease", "20s", "--wait", "90s"]).await.expect(0);
    assert!(world.is_there("b-named.jpg"), "the second one kept it");
    upload(&world, "c-again.jpg");
    world.db.exec(&insert("c-again.jpg")).await;
    place.let_go();
    let ended = first.wait(DEADLINE).await;
    println!(
        "{backend}, {point}: the first found it: {found}; it ended with {:?}: {}",
        ended.code,
        ended.stdout.lines().next().unwrap_or("")
    );
    settle_everything(&world).await;
    assert_eq!(world.files(), ["b-named.jpg", "c-again.jpg"]);
    assert_eq!(world.holds("b-named.jpg"), if found { FIRST } else { SECOND });
    assert_eq!(world.holds("c-again.jpg"), SECOND);
}

/// Two batches of one process: the first stands still for longer than its lease, and the second claims the same candidates and holds them. The first must not
/// take them for its own.
async fn overtaken_by_its_own_process(backend: Backend) {
    let world = let_go_of(backend, DAY, &["a.jpg", "b.jpg"]).await.traced(Duration::from_secs(1));
    let (held, place) = rowbound(&world).held_at("checked");
    let daemon = held.spawn(&["run", "--lease", "1s", "--poll", "20ms", "--workers", "2"]);
    place.reached(&daemon, DEADLINE).await;
    daemon.until(DEADLINE, "the second batch moves them", || async { world.files().is_empty() }).await;
    // The second batch waits for it.
    let mut app = begin_visibly(&world).await;
    place.let_go();
    daemon.until(DEADLINE, "the first is told that it lost them", || async { world.trace.as_ref().is_some_and(|t| t.says("lost")) }).await;
    app.commit().await;
    // A slow machine loses more leases, and what a batch moved without one is looked at once more.
    let waits = || async { world.count(&world.own_table("candidate")).await };
    daemon.until(DEADLINE, "both are settled", || async { waits().await == 0 }).await;
    stop(daemon).await;
    for name in ["a.jpg", "b.jpg"] {
        let outcomes = world.outcomes(name).await;
        assert_eq!(outcomes.iter().filter(|o| *o == "trashed").count(), 1, "{name}: {outcomes:?}");
    }
    world.assert_trace_allowed(0);
}

/// The worker is killed with the file in the trash, and the transaction that has looked is still open.
async fn killed_under_an_open_transaction(backend: Backend, point: &str) {
    let world = let_go_of(backend, DAY, &["a.jpg"]).await;
    // Long enough for it to come to its end on a busy machine: without its lease it moves nothing.
    let (killed, place) = standing_at(&world, "checked", "5s", Some(point)).await;
    let sqlite = backend == Backend::Sqlite;
    // SQLite's write lock keeps visible ones out.
    let mut app = if sqlite { begin_unseen(&world).await } else { begin_visibly(&world).await };
    assert!(world.is_there("a.jpg"), "the transaction finds it");
    place.let_go();
    assert_eq!(killed.wait(DEADLINE).await.signal, Some(9), "{point}");
    assert!(!world.is_there("a.jpg"), "{point}");
    app.exec(&insert("a.jpg")).await;
    if !sqlite {
        let second = rowbound(&world).run(&["collect", "--lease", "1s", "--patience", "300ms", "--wait", "3s"]).await;
        assert_eq!(world.outcomes("a.jpg").await, [""; 0], "{point}: nothing is final while it is open: {}", second.stdout);
    }
    app.commit().await;
    rowbound(&world).run(&["collect", "--lease", "20s", "--wait", "90s"]).await;
    assert_eq!(world.holds("a.jpg"), FIRST, "{point}");
    settle_everything(&world).await;
}

/// The row that brings the file back goes again while it returns.
async fn let_go_again_while_it_returns(backend: Backend, point: &str, lease: &str) {
    let mut tries = 0;
    let (world, worker, place) = loop {
        let world = let_go_of(backend, DAY, &["a.jpg"]).await;
        let (held, place) = rowbound(&world).held_at(point);
        let worker = held.spawn(&["run", "--poll", "20ms", "--lease", lease]);
        worker.until(DEADLINE, "the file was not moved", || async { !world.is_there("a.jpg") }).await;
        // Within the rest of a second: its transaction has looked before.
        world.db.exec(&insert("a.jpg")).await;
        let settled = || async { place.is_reached() || !world.outcomes("a.jpg").await.is_empty() };
        worker.until(DEADLINE, "it does not return", settled).await;
        if place.is_reached() {
            break (world, worker, place);
        }
        // On a busy machine the row came too late, and the next re-check has the file; or the lease was lost, and another batch kept it.
        tries += 1;
        assert!(tries < 5, "the rest is always over before the row is there");
        stop(worker).await;
    };
    place.reached(&worker, DEADLINE).await;
    world.db.exec("delete from doc").await;
    rowbound(&world).run(&["collect", "--lease", "1s", "--wait", "3s"]).await;
    place.let_go();
    worker.until(DEADLINE, "it is not settled", || async { !world.outcomes("a.jpg").await.is_empty() }).await;
    stop(worker).await;
    settle_everything(&world).await;
    assert!(world.files().is_empty(), "{point}");
}

/// The same within a re-check.
async fn let_go_again_while_a_re_check_returns_it(backend: Backend, point: &str) {
    let world = let_go_of(backend, DAY, &["a.jpg"]).await;
    let killed = rowbound(&world).env("ROWBOUND_CRASH_AT", "settled").run(&PATIENT).await;
    assert_eq!(killed.signal, Some(9));
    world.db.exec(&insert("a.jpg")).await;
    let (held, place) = rowbound(&world).held_at(point);
    let first = held.spawn(&PATIENT);
    place.reached(&first, DEADLINE).await;
    world.db.exec("delete from doc").await;
    if backend != Backend::Sqlite {
        rowbound(&world).run(&["collect", "--lease", "1s", "--wait", "3s"]).await;
    }
    place.let_go();
    first.wait(DEADLINE).await;
    settle_everything(&world).await;
    assert!(world.files().is_empty(), "{point}: {:?}", world.outcomes("a.jpg").await);
}

/// Another upload takes the name while the worker stands at `point`.
async fn a_name_is_used_again(backend: Backend, point: &str) {
    let world = let_go_of(backend, DAY, &["a.jpg", "b.jpg"]).await;
    let (held, place) = rowbound(&world).held_at(point);
    let worker = held.spawn(&PATIENT);
    place.reached(&worker, DEADLINE).await;
    upload(&world, "a.jpg");
    upload(&world, "b.jpg");
    if backend == Backend::Sqlite {
        // The worker holds the write lock: the application waits for it.
        place.let_go();
    }
    world.db.exec("insert into doc (file) values ('a.jpg'), ('b.jpg')").await;
    if backend != Backend::Sqlite {
        place.let_go();
    }
    worker.wait(DEADLINE).await;
    settle_everything(&world).await;
    for name in ["a.jpg", "b.jpg"] {
        assert_eq!(world.holds(name), SECOND, "{point}: {name}");
    }
}

/// Two sessions read, each for three seconds, the next before the last has ended: there is no moment without a transaction.
async fn overlapping_transactions_starve_nothing(backend: Backend) {
    let world = let_go_of(backend, DAY, &["a.jpg", "b.jpg", "c.jpg"]).await;
    let begin = Instant::now();
    let (over, is_over) = tokio::sync::watch::channel(false);
    let mut sessions = tokio::task::JoinSet::new();
    let first = begin_visibly(&world).await;
    for (n, mut app) in [(0, first), (1, world.db.app().await)] {
        let over = is_over.clone();
        sessions.spawn(async move {
            // Its own time, not a wait for something.
            tokio::time::sleep(Duration::from_millis(1_500 * n)).await;
            while !*over.borrow() {
                if n > 0 || begin.elapsed() > Duration::from_secs(2) {
                    app.begin().await;
                    app.query_strings("select id from doc where id = 0").await;
                }
                tokio::time::sleep(Duration::from_secs(3)).await;
                app.commit().await;
            }
        });
    }
    // Less patience than one of the transactions lasts: each batch meets one.
    let daemon = rowbound(&world).spawn(&["run", "--poll", "20ms", "--patience", "500ms"]);
    daemon.wait_for_line("open transaction", DEADLINE).await;
    let gone = || async { world.files().is_empty() && world.outcomes("c.jpg").await == ["trashed"] };
    daemon.until(DEADLINE, "transactions that overlap keep the files for ever", gone).await;
    println!("{backend}: settled after {:?}", begin.elapsed());
    let _ = over.send(true);
    while let Some(ended) = sessions.join_next().await {
        ended.expect("a session failed");
    }
    stop(daemon).await;
}

/// Without a trash: a transaction has looked before the move and commits while the file is held, or an open one outlasts the hold.
async fn an_erasure_waits_for_who_has_looked(backend: Backend, seen: bool) {
    let world = let_go_of(backend, Trash::Off, &["a.jpg"]).await;
    let (held, place) = rowbound(&world).env("ROWBOUND_HOLD", if seen { "1000" } else { "12000" }).held_at("checked");
    let daemon = held.spawn(&["run", "--poll", "20ms"]);
    place.reached(&daemon, DEADLINE).await;
    let mut app = if seen { begin_visibly(&world).await } else { begin_unseen(&world).await };
    assert!(world.is_there("a.jpg"), "the transaction finds it");
    place.let_go();
    daemon.until(DEADLINE, "the file was not moved", || async { !world.is_there("a.jpg") }).await;
    let moved = Instant::now();
    if seen {
        app.exec(&insert("a.jpg")).await;
    } else {
        daemon.until(DEADLINE, "it is not settled", || async { world.outcomes("a.jpg").await == ["trashed"] }).await;
        // Seen from now on, and committed long after the hold.
        if backend == Backend::Postgres {
            app.begin().await;
        }
        if backend != Backend::Sqlite {
            app.exec(&insert("a.jpg")).await;
        }
    }
    let outlast = Duration::from_secs(if seen { 4 } else { 15 });
    if backend == Backend::Sqlite {
        insert_and_commit(&world, &mut app, &["a.jpg"]).await;
    }
    daemon.until(DEADLINE, "the hold is over", || async { moved.elapsed() > outlast }).await;
    if backend != Backend::Sqlite {
        assert!(!world.outcomes("a.jpg").await.contains(&"erased".to_owned()), "erased while a transaction named it");
        app.commit().await;
    }
    daemon.until(RECHECKED, "it did not come back", || async { world.is_there("a.jpg") }).await;
    println!("{backend}, seen: {seen}: back {:?} after the move", moved.elapsed());
    stop(daemon).await;
    assert_eq!(world.holds("a.jpg"), FIRST);
    settle_everything(&world).await;
    assert!(!world.outcomes("a.jpg").await.contains(&"erased".to_owned()));
}

/// Killed while it erases: the ledger says of each file once that it went, and the hook hears of each.
async fn killed_while_it_erases(backend: Backend, trash: Trash, point: &str) {
    let names: Vec<String> = (0..5).map(|n| format!("{n}.jpg")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = let_go_of(backend, trash, &names).await;
    let heard = world.folder().join("heard");
    let ended = if trash == Trash::Off { "erased" } else { "purged" };
    let outcome = rowbound::queue::Outcome::from_word(ended).expect("an outcome");
    let call = Call::Command(format!("echo \"$ROWBOUND_NAME $ROWBOUND_OUTCOME\" >> {}", heard.display()));
    let world = world.hook(Hook { name: "log".into(), outcomes: vec![outcome], ..Hook::new(call) });
    let args = ["run", "--poll", "20ms", "--lease", "1s"];
    let killed = rowbound(&world).env("ROWBOUND_CRASH_AT", point).spawn(&args).wait(DEADLINE).await;
    assert_eq!(killed.signal, Some(9), "{point} was never passed: {}", killed.stderr);
    let daemon = rowbound(&world).spawn(&args);
    let lines = || fs::read_to_string(&heard).unwrap_or_default().lines().map(str::to_owned).collect::<Vec<_>>();
    daemon.until(DEADLINE, "the hook has not heard of each", || async { lines().len() >= names.len() }).await;
    stop(daemon).await;
    settle_everything(&world).await;
    let mut told: BTreeMap<String, usize> = BTreeMap::new();
    lines().into_iter().for_each(|line| *told.entry(line).or_default() += 1);
    if point == "purged" {
        // Written down before the kill: the hook may have heard of one by then, and hears of it again.
        told.values_mut().for_each(|times| *times = 1);
    }
    let wanted: BTreeMap<String, usize> = names.iter().map(|name| (format!("{name} {ended}"), 1)).collect();
    assert_eq!(told, wanted, "{point}: heard");
    for name in names {
        let mut outcomes = world.outcomes(name).await;
        // A slow machine loses leases, and what was moved without one is looked at once more.
        outcomes.retain(|outcome| outcome != "duplicate");
        assert_eq!(outcomes, ["trashed", ended], "{point}: {name}");
    }
    assert!(!world.trashed().iter().any(|name| name.ends_with(".jpg")), "{point}: {:?}", world.trashed());
}

/// A file is moved, restored by a person and moved again within the same moment: it lies at the same place as before. Killed while it is erased, the second life
/// ends in the ledger too.
#[tokio::test(flavor = "multi_thread")]
async fn a_place_in_the_trash_that_is_used_twice_is_purged_twice() {
    let world = let_go_of(Backend::Sqlite, Trash::Keep(Duration::from_secs(100)), &["a.jpg"]).await;
    let sql = "select place from rowbound_ledger where outcome = 'trashed' order by id desc";
    // A bucket of the trash is open for a quarter of the retention.
    let end = Instant::now() + DEADLINE;
    loop {
        rowbound(&world).run(&PATIENT).await;
        let places = world.db.query_strings(sql).await;
        if places.len() > 1 && places[0] == places[1] {
            break;
        }
        assert!(Instant::now() < end + DEADLINE, "never twice at the same place: {places:?}");
        rowbound(&world).run(&["restore", "a.jpg"]).await.expect(0);
        world.db.exec("insert into doc (file) values ('a.jpg')").await;
        world.db.exec("delete from doc where file = 'a.jpg'").await;
    }
    let world = world.storage(|s| s.trash(Trash::Keep(Duration::from_secs(1))));
    let killed = rowbound(&world).env("ROWBOUND_CRASH_AT", "purging").spawn(&["run", "--lease", "1s"]).wait(DEADLINE).await;
    assert_eq!(killed.signal, Some(9), "{}", killed.stderr);
    let daemon = rowbound(&world).spawn(&["run", "--lease", "1s"]);
    let told = || async { world.outcomes("a.jpg").await.last().is_some_and(|last| last == "purged") };
    daemon.until(DEADLINE, "the ledger does not say that it was purged", told).await;
    stop(daemon).await;
    settle_everything(&world).await;
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_look_that_nobody_saw_is_made_good() {
                a_look_that_nobody_saw(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn what_nobody_saw_comes_back_beside_a_running_collector() {
                what_nobody_saw_comes_back_within_a_minute(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_original_comes_back_with_its_derivative() {
                an_original_and_its_derivative(Backend::$backend, false).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_new_upload_does_not_get_the_old_derivative() {
                an_original_and_its_derivative(Backend::$backend, true).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn killed_with_the_file_in_the_trash_and_a_transaction_open() {
                let points: &[&str] = if Backend::$backend == Backend::Sqlite { &["removed", "settling"] } else { &["removed", "rested"] };
                for point in points {
                    killed_under_an_open_transaction(Backend::$backend, point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_goes_again_while_a_re_check_returns_its_file() {
                for point in ["recheck-checked", "recheck-returned"] {
                    let_go_again_while_a_re_check_returns_it(Backend::$backend, point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_new_upload_takes_a_name_that_is_being_collected() {
                for point in ["checked", "confirmed", "remove-one", "removed"] {
                    a_name_is_used_again(Backend::$backend, point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_erasure_waits_for_a_look_that_nobody_saw() {
                an_erasure_waits_for_who_has_looked(Backend::$backend, false).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn killed_while_it_erases_each_file_is_in_the_ledger_once() {
                for point in ["erasure-noted", "purge-one", "purging", "purged"] {
                    killed_while_it_erases(Backend::$backend, Trash::Keep(Duration::from_secs(1)), point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn killed_while_it_erases_what_was_held_each_file_is_in_the_ledger_once() {
                for point in ["erasure-noted", "purge-one", "purging", "purged"] {
                    killed_while_it_erases(Backend::$backend, Trash::Off, point).await;
                }
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb);

/// Where several processes share the work and transactions can be seen.
macro_rules! on_servers {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_that_commits_before_the_second_barrier_has_its_file() {
                a_row_commits_late(Backend::$backend, Commits::BeforeTheSecondBarrier).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_that_commits_while_the_batch_waits_has_its_file() {
                a_row_commits_late(Backend::$backend, Commits::WhileTheBatchWaits).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_that_commits_after_the_collector_has_ended_has_its_file() {
                a_row_commits_late(Backend::$backend, Commits::AfterTheCollectorHasEnded).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_worker_is_overtaken_by_another() {
                for point in ["checked", "confirmed", "remove-one", "removed"] {
                    overtaken(Backend::$backend, point).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_batch_is_overtaken_by_another_of_its_process() {
                overtaken_by_its_own_process(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn a_row_goes_again_while_its_file_returns() {
                for (point, lease) in [("checked-again", "60s"), ("returned", "60s"), ("checked-again", "1s"), ("returned", "1s")] {
                    let_go_again_while_it_returns(Backend::$backend, point, lease).await;
                }
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn transactions_that_overlap_starve_nothing() {
                overlapping_transactions_starve_nothing(Backend::$backend).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn an_erasure_waits_for_a_transaction_that_has_looked() {
                an_erasure_waits_for_who_has_looked(Backend::$backend, true).await;
            }
        }
    )* };
}

on_servers!(on_postgres Postgres, on_mariadb Mariadb);

/// What the deadlines above rest on.
#[tokio::test]
async fn nothing_waits_where_nobody_holds_it() {
    let world = let_go_of(Backend::Sqlite, DAY, &["a.jpg"]).await;
    let (held, place) = rowbound(&world).held_at("claimed");
    let collector = held.spawn(&PATIENT);
    place.reached(&collector, DEADLINE).await;
    assert!(world.is_there("a.jpg"));
    place.let_go();
    wait_until(DEADLINE, "it goes on", || async { !world.is_there("a.jpg") }).await;
    collector.wait(DEADLINE).await.expect(0);
}

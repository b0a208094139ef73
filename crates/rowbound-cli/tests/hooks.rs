//! Commands and webhooks that hear of what was deleted: a real shell, a real web server, the real binary.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use rowbound::{
    Trash,
    capture::VERSION,
    crash::{FOLLOW_POINTS, ordinary},
    plan::{Call, Hook},
    queue::Outcome,
};
use rowbound_testkit::{Backend, Receiver, Rowbound, World, wait_until};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// A world with a file and a row for each name, attached.
async fn attached(world: World, names: &[&str]) -> World {
    for name in names {
        world.put_doc(name).await;
    }
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    world
}

async fn world(names: &[&str]) -> World {
    attached(World::new(Backend::Sqlite).await.with_docs().await, names).await
}

fn path(world: &World, name: &str) -> PathBuf {
    world.folder().join(name)
}

fn shell(world: &World, script: &str) -> Call {
    Call::Command(script.replace("DIR", world.folder().to_str().expect("UTF-8")))
}

fn named(name: &str, call: Call) -> Hook {
    Hook { name: name.into(), ..Hook::new(call) }
}

fn lines(world: &World, name: &str) -> Vec<String> {
    let text = fs::read_to_string(path(world, name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

async fn run(world: &World, args: &[&str]) -> rowbound_testkit::Output {
    // What has no trash is held until the test is over.
    Rowbound::new(BINARY, world).env("ROWBOUND_HOLD", "600000").run(args).await
}

/// The hook `name` as `status` tells of it.
async fn status(world: &World, name: &str) -> (Value, Option<i32>) {
    let output = run(world, &["status", "--format", "json"]).await;
    let all = output.json();
    let hook = all["followers"].as_array().expect("followers").iter().find(|f| f["name"] == name).cloned().unwrap_or_default();
    (hook, output.code)
}

/// On its standard input a command has what `history` prints, in its environment the simple case.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_hears_of_each_deletion_once() {
    let world = world(&["a.jpg", "it's b.jpg", "stays.jpg"]).await;
    let script = world.folder().join("hook.sh");
    let text = "cat >> DIR/stdin; printf '%s|%s|%s|%s|%s|%s|%s\\n' \"$ROWBOUND_NAME\" \"$ROWBOUND_STORAGE\" \"$ROWBOUND_OUTCOME\" \"$ROWBOUND_COLUMN\" \"$ROWBOUND_KEY\" \"$ROWBOUND_EVENT\" \"$ROWBOUND_ID\" >> DIR/env; echo to stdout";
    fs::write(&script, text.replace("DIR", world.folder().to_str().expect("UTF-8"))).expect("cannot write");
    let hook = format!("sh {}", script.display());
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    // It is registered by this, before anything is settled.
    let output = run(&world, &["collect", "--hook", &hook, "--format", "json"]).await.expect(0);
    assert_eq!(output.json()["hooks"][0]["waiting"], 0, "stdout is data, whatever a hook prints: {}", output.stdout);
    world.db.exec("delete from doc where file <> 'stays.jpg'").await;
    run(&world, &["collect", "--hook", &hook]).await.expect(0);
    run(&world, &["collect", "--hook", &hook]).await.expect(0);
    let heard: Vec<Value> = lines(&world, "stdin").iter().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    let mut history = run(&world, &["history", "--format", "json"]).await.expect(0).json();
    history.as_array_mut().expect("a list").reverse();
    assert_eq!(Value::from(heard.clone()), history);
    let name = Hook::new(Call::Command(hook.clone())).name;
    let want: Vec<_> = [("a.jpg", 1, &heard[0]), ("it's b.jpg", 2, &heard[1])]
        .map(|(file, key, e)| format!("{file}|default|trashed|doc.file|{key}|delete|{name}-{}", e["id"]))
        .into();
    assert_eq!(lines(&world, "env"), want);
}

/// What the application rolled back, and what a row still names, is never heard.
#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_and_a_kept_file_are_not_heard() {
    let mut world = world(&["a.jpg", "shared.jpg"]).await;
    world.db.exec("insert into doc (file) values ('shared.jpg')").await;
    world.hooks = vec![named("log", shell(&world, "echo $ROWBOUND_NAME >> DIR/heard"))];
    run(&world, &["collect"]).await.expect(0);
    let mut app = world.db.app().await;
    app.begin().await;
    app.exec("delete from doc").await;
    app.rollback().await;
    app.close().await;
    world.db.exec("delete from doc where id = 2").await;
    run(&world, &["collect"]).await.expect(0);
    assert_eq!(lines(&world, "heard"), [""; 0]);
    assert_eq!(world.files(), ["a.jpg", "shared.jpg"]);
    let (hook, code) = status(&world, "log").await;
    assert_eq!((hook["waiting"].as_u64(), hook["planned"].as_bool(), code), (Some(0), Some(true), Some(0)));
}

/// A failure is shown with what the command said last, ends with 1, and is made good later.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_shown_and_called_again() {
    let mut world = world(&["a.jpg", "b.jpg"]).await;
    let script = "if [ -e DIR/broken ]; then echo early >&2; echo 'the CDN is down' >&2; exit 7; fi; echo $ROWBOUND_NAME >> DIR/heard";
    world.hooks = vec![named("cdn", shell(&world, script))];
    fs::write(path(&world, "broken"), "").expect("cannot write");
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(output.stdout.contains("left for hook cdn: 2 waiting: 0 due, 2 failing"), "{}", output.stdout);
    assert!(output.stdout.contains("ended with exit status: 7: early\\nthe CDN is down"), "{}", output.stdout);
    assert!(world.files().is_empty(), "the deletion does not wait for it");
    let (hook, code) = status(&world, "cdn").await;
    assert_eq!((hook["failing"].as_u64(), hook["sample"][0]["attempts"].as_u64(), code), (Some(2), Some(1), Some(1)));
    let text = run(&world, &["status"]).await.expect(1).stdout;
    assert!(text.contains("hook      cdn hears of erased, trashed, missing\n  2 waiting: 0 due, 2 failing"), "{text}");
    assert!(text.contains("  a.jpg: ended with exit status: 7: early\\nthe CDN is down (failed 1 times, next try "), "{text}");
    let doctor = run(&world, &["doctor", "--format", "json"]).await.expect(1).json();
    let finding = doctor.as_array().expect("findings").iter().find(|f| f["name"] == "hooks").expect("the hook is examined");
    assert_eq!(finding["state"], "warning");
    fs::remove_file(path(&world, "broken")).expect("cannot remove");
    run(&world, &["collect"]).await.expect(1);
    run(&world, &["collect", "--retry-now"]).await.expect(0);
    assert_eq!(lines(&world, "heard"), ["a.jpg", "b.jpg"]);
}

/// `run` calls hooks beside the collector, and SIGTERM lets the call that is under way end.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_runs_beside_the_collector_and_ends_before_it() {
    let mut world = world(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let script = "echo $ROWBOUND_NAME >> DIR/started; until [ -e DIR/go ]; do sleep 0.02; done; echo $ROWBOUND_NAME >> DIR/heard";
    world.hooks = vec![named("slow", shell(&world, script))];
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "50ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    world.db.exec("delete from doc where id = 1").await;
    daemon.until(DEADLINE, "the hook was never called", || async { lines(&world, "started").len() == 1 }).await;
    world.db.exec("delete from doc").await;
    daemon.until(DEADLINE, "the files wait for the hook", || async { world.files().is_empty() }).await;
    assert_eq!(lines(&world, "heard"), [""; 0]);
    daemon.terminate();
    daemon.wait_for_line("finishing", DEADLINE).await;
    fs::write(path(&world, "go"), "").expect("cannot write");
    daemon.wait(DEADLINE).await.expect(0);
    assert_eq!(lines(&world, "heard"), ["a.jpg"]);
    let (hook, code) = status(&world, "slow").await;
    assert_eq!((hook["waiting"].as_u64(), hook["due"].as_u64(), code), (Some(2), Some(2), Some(0)));
    run(&world, &["collect"]).await.expect(0);
    assert_eq!(lines(&world, "heard"), ["a.jpg", "b.jpg", "c.jpg"]);
}

/// A command that takes too long is killed, with everything that it started.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_killed_with_its_children_after_its_time() {
    let mut world = world(&["a.jpg"]).await;
    let script = "sleep 1000 & echo $! > DIR/child; echo waiting >&2; wait";
    world.hooks = vec![Hook { timeout: Duration::from_millis(700), ..named("slow", shell(&world, script)) }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let began = Instant::now();
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(output.stdout.contains("took longer than 700ms and was killed: waiting"), "{}", output.stdout);
    let child = lines(&world, "child")[0].parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    // Killed, and perhaps not yet buried by whoever inherited it.
    let gone = || async {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.as_raw_nonzero())).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    wait_until(DEADLINE, "the child lives on", gone).await;
}

/// A process that the command leaves behind does not hold the delivery up, nor does input that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_behind_is_not_waited_for() {
    let mut world = world(&["a.jpg"]).await;
    let script = "(until [ -e DIR/go ]; do sleep 0.02; done; touch DIR/went) > /dev/null & true";
    world.hooks = vec![named("quick", shell(&world, script))];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    // Its own stderr is the pipe that the one left behind holds.
    let began = Instant::now();
    run(&world, &["collect"]).await.expect(0);
    assert!(began.elapsed() < Duration::from_secs(25), "it was waited for until its time was over");
    fs::write(path(&world, "go"), "").expect("cannot write");
    wait_until(DEADLINE, "the one left behind was killed", || async { path(&world, "went").exists() }).await;
}

/// Several entries at once: a line each for a command, a list for a webhook.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_lines_or_a_list() {
    let receiver = Receiver::start();
    let mut world = world(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let command = named("lines", shell(&world, "wc -l | tr -d ' ' >> DIR/count; echo \"<$ROWBOUND_NAME>\" >> DIR/names"));
    let webhook = named("list", Call::Webhook { url: receiver.url("/x"), secret: None });
    world.hooks = vec![Hook { batch: 2, ..command }, Hook { batch: 100, ..webhook }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(0);
    assert_eq!((lines(&world, "count"), lines(&world, "names")), (vec!["2".to_owned(), "1".to_owned()], vec!["<>".to_owned(); 2]));
    let received = receiver.received();
    let names: Vec<_> = received[0].json().as_array().expect("a list").iter().map(|e| e["name"].clone()).collect();
    assert_eq!((received.len(), names), (1, vec!["a.jpg".into(), "b.jpg".into(), "c.jpg".into()]));
}

/// The outcomes of the configuration, each name's in their order.
#[tokio::test(flavor = "multi_thread")]
async fn chosen_outcomes_are_heard_in_order() {
    let plain = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(Trash::Keep(Duration::from_secs(3600))));
    let mut world = attached(plain, &["a.jpg"]).await;
    let hook = named("all", shell(&world, "echo $ROWBOUND_OUTCOME $ROWBOUND_NAME $ROWBOUND_EVENT >> DIR/heard"));
    world.hooks = vec![Hook { outcomes: vec![Outcome::Trashed, Outcome::Restored, Outcome::Kept], ..hook }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(0);
    run(&world, &["restore", "a.jpg"]).await.expect(0);
    run(&world, &["collect"]).await.expect(0);
    assert_eq!(lines(&world, "heard"), ["trashed a.jpg delete", "restored a.jpg restore"]);
}

/// A POST with the entry, an id that stays the same at each try, and a signature; only 2xx is an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_called_until_it_says_2xx() {
    let receiver = Receiver::start();
    let mut world = world(&["a.jpg"]).await;
    world.hooks = vec![named("site", Call::Webhook { url: receiver.url("/gone?token=t0k3n"), secret: Some("Jefe".into()) })];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let elsewhere = ("location", receiver.url("/elsewhere"));
    receiver.answer([(500, vec![], "out of order"), (302, vec![elsewhere], ""), (204, vec![], "")]);
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(output.stdout.contains("answered 500 Internal Server Error: out of order"), "{}", output.stdout);
    let output = run(&world, &["collect", "--retry-now"]).await.expect(1);
    assert!(output.stdout.contains("answered 302 Found, and redirects are not followed"), "{}", output.stdout);
    run(&world, &["collect", "--retry-now"]).await.expect(0);
    let received = receiver.received();
    assert_eq!(received.len(), 3, "{received:?}");
    let entry = received[0].json();
    assert_eq!(
        (entry["name"].as_str(), entry["outcome"].as_str(), entry["column"].as_str()),
        (Some("a.jpg"), Some("trashed"), Some("doc.file"))
    );
    for r in &received {
        let header = |name: &str| r.headers.get(name).map(String::as_str);
        assert_eq!((r.method.as_str(), r.path.as_str(), &r.body), ("POST", "/gone?token=t0k3n", &received[0].body));
        assert_eq!((header("content-type"), header("rowbound-hook")), (Some("application/json"), Some("site")));
        assert_eq!(header("rowbound-delivery"), Some(&*format!("site-{}", entry["id"])));
        assert_eq!(header("rowbound-signature"), received[0].headers.get("rowbound-signature").map(String::as_str));
        assert!(header("rowbound-signature").is_some_and(|s| s.starts_with("sha256=") && s.len() == 71), "{r:?}");
        assert!(header("user-agent").is_some_and(|a| a.starts_with("rowbound/")));
    }
}

/// Who answers 429 or 503 with a time is not called before it. A URL's path may be a secret: it is not shown.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_asks_for_time_gets_it() {
    let receiver = Receiver::start();
    let world = world(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let url = receiver.url("/T0K3N");
    run(&world, &["collect", "--webhook", &url]).await.expect(0);
    world.db.exec("delete from doc").await;
    receiver.answer([(429, vec![("retry-after", "7200".to_owned())], "slowly")]);
    let output = run(&world, &["collect", "--webhook", &url]).await.expect(1);
    assert!(!format!("{}{}", output.stdout, output.stderr).contains("T0K3N"), "{}", output.stderr);
    assert_eq!(receiver.received().len(), 1, "the others wait, too");
    let hook = Hook::new(Call::Webhook { url: url.clone(), secret: None }).name;
    let (shown, _) = status(&world, &hook).await;
    assert_eq!((shown["waiting"].as_u64(), shown["due"].as_u64(), shown["planned"].as_bool()), (Some(3), Some(2), Some(false)));
    let due: jiff::Timestamp = shown["sample"][0]["due_at"].as_str().expect("a time").parse().expect("a time");
    assert!(due.duration_since(jiff::Timestamp::now()).as_secs() > 6000, "{due}");

    // Nobody listens: no answer is none that counts.
    drop(receiver);
    let output = run(&world, &["collect", "--webhook", &url]).await.expect(1);
    assert!(!format!("{}{}", output.stdout, output.stderr).contains("T0K3N"), "{}", output.stderr);
    let (shown, code) = status(&world, &hook).await;
    assert_eq!((shown["waiting"].as_u64(), shown["failing"].as_u64(), code), (Some(3), Some(3), Some(1)));
}

/// What waits is given up only by whoever says so.
#[tokio::test(flavor = "multi_thread")]
async fn forget_gives_up_nothing_by_itself() {
    let mut world = world(&["a.jpg"]).await;
    world.hooks = vec![named("old", shell(&world, "exit 1"))];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(1);
    world.hooks.clear();
    let text = run(&world, &["status"]).await.expect(1).stdout;
    assert!(text.contains("not in rowbound.toml; when nobody needs it: rowbound forget old"), "{text}");
    let refused = run(&world, &["forget", "old"]).await.expect(1);
    assert!(refused.stderr.contains("deliveries wait for this hook") && refused.stderr.contains("--give-up old"), "{}", refused.stderr);
    assert_eq!(status(&world, "old").await.0["waiting"], 1);
    let answer = run(&world, &["forget", "--give-up", "old", "--format", "json"]).await.expect(0).json();
    assert_eq!((answer["name"].as_str(), answer["given_up"].as_u64()), (Some("old"), Some(1)));
    assert_eq!(status(&world, "old").await, (Value::Null, Some(0)));
    assert!(run(&world, &["forget", "old"]).await.expect(1).stderr.contains("nothing follows under this name"));
}

/// Mistakes are found before anything is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_cannot_be_is_refused() {
    let world = world(&[]).await;
    for (args, why) in [
        (&["collect", "--hook", " "][..], "`command` is empty"),
        (&["collect", "--webhook", "ftp://x/"], "begins with neither https:// nor http://"),
        (&["collect", "--webhook", "http://"], "is no URL"),
        (&["run", "--hook", "true", "--hook", "true"], "two hooks have the same name"),
    ] {
        let output = run(&world, args).await.expect(2);
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
    }
    assert!(run(&world, &["status", "--format", "json"]).await.json()["followers"].as_array().is_some_and(Vec::is_empty));
}

/// Killed at every point of a batch and of a delivery: every file that went is heard of at least once, and no other.
async fn killed(backend: Backend, rounds: usize, trash: Trash) {
    let plain = World::new(backend).await.with_docs().await.storage(|s| s.trash(trash));
    let mut world = attached(plain, &[]).await;
    // One line each: what two processes append at once does not mix.
    world.hooks = vec![named("log", shell(&world, "echo $ROWBOUND_NAME $ROWBOUND_OUTCOME >> DIR/heard"))];
    run(&world, &["collect"]).await.expect(0);
    let points: Vec<_> = ordinary(backend == Backend::Sqlite).chain(FOLLOW_POINTS).collect();
    let points = points.repeat(rounds);
    for (n, point) in points.iter().enumerate() {
        for i in 0..4 {
            world.put_doc(&format!("{n}/{i}.jpg")).await;
        }
        // One is shared, one stays because its transaction is rolled back; two go.
        world.db.exec(&format!("insert into doc (file) values ('{n}/0.jpg')")).await;
        let mut app = world.db.app().await;
        app.begin().await;
        app.exec(&format!("delete from doc where file = '{n}/1.jpg'")).await;
        app.rollback().await;
        app.close().await;
        let daemon = Rowbound::new(BINARY, &world).env("ROWBOUND_CRASH_AT", point).spawn(&["run", "--lease", "1s", "--poll", "20ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        world.db.exec(&format!("delete from doc where file in ('{n}/2.jpg', '{n}/3.jpg')")).await;
        let one = if world.db.dialect() == rowbound::database::Dialect::Mysql {
            format!("delete from doc where file = '{n}/0.jpg' limit 1")
        } else {
            format!("delete from doc where id = (select min(id) from doc where file = '{n}/0.jpg')")
        };
        world.db.exec(&one).await;
        let output = daemon.wait(DEADLINE).await;
        assert_eq!(output.signal, Some(9), "{point} was never passed: {}", output.stderr);
    }
    // Deliveries of a killed process are its own until its lease ends.
    Rowbound::new(BINARY, &world).run(&["collect", "--wait", "90s", "--lease", "1s"]).await.expect(0);
    let mut heard = BTreeMap::<String, usize>::new();
    for line in lines(&world, "heard") {
        *heard.entry(line).or_default() += 1;
    }
    let want: Vec<_> = (0..points.len())
        .flat_map(|n| [2, 3].map(|i| format!("{n}/{i}.jpg")))
        .flat_map(|name| match trash {
            Trash::Off => vec![format!("{name} trashed"), format!("{name} erased")],
            _ => vec![format!("{name} trashed")],
        })
        .collect();
    let mut want: Vec<&String> = want.iter().collect();
    want.sort();
    assert_eq!(heard.keys().collect::<Vec<_>>(), want);
    assert_eq!(world.files().len(), points.len() * 2, "those that are shared, and those whose delete was rolled back");
    let twice = heard.values().filter(|n| **n > 1).count();
    println!("{backend:?}: {} kills, {} files heard of, {twice} of them more than once", points.len(), heard.len());
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread")]
            async fn every_deletion_is_heard_whatever_is_killed() {
                killed(Backend::$backend, 1, Trash::Keep(Duration::from_secs(3600))).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn every_deletion_is_heard_whatever_is_killed_without_a_trash() {
                killed(Backend::$backend, 1, Trash::Off).await;
            }

            /// Who attached before there were hooks is told to attach again, and that is all.
            #[tokio::test(flavor = "multi_thread")]
            async fn an_older_installation_is_upgraded_by_attach() {
                let plain = World::new(Backend::$backend).await.with_docs().await;
                let mut world = attached(plain, &["a.jpg"]).await;
                let postgres = Backend::$backend == Backend::Postgres;
                let (prefix, record) = if postgres { ("rowbound.", "record::text") } else { ("rowbound_", "record") };
                let cast = if postgres { "::jsonb" } else { "" };
                world.db.exec(&format!("drop table {prefix}delivery")).await;
                world.db.exec(&format!("drop table {prefix}follower")).await;
                for written in ["\"version\":", "\"version\": "] {
                    let older = format!("replace({record}, '{written}{VERSION}', '{written}1'){cast}");
                    world.db.exec(&format!("update {prefix}installation set record = {older}")).await;
                }
                world.db.exec("delete from doc").await;
                world.hooks = vec![named("log", shell(&world, "echo $ROWBOUND_NAME >> DIR/heard"))];
                for command in ["collect", "status", "doctor"] {
                    let output = run(&world, &[command]).await;
                    assert!(matches!(output.code, Some(2 | 4)), "{command}: {output:?}");
                    assert!(format!("{}{}", output.stdout, output.stderr).contains("rowbound attach"), "{command}: {output:?}");
                }
                run(&world, &["attach"]).await.expect(0);
                run(&world, &["collect"]).await.expect(0);
                assert_eq!(lines(&world, "heard"), ["a.jpg"]);
            }

            /// A short story on each database: heard, failed, heard again, and by two hooks.
            #[tokio::test(flavor = "multi_thread")]
            async fn hooks_hear_on_every_database() {
                let plain = World::new(Backend::$backend).await.with_docs().await;
                let mut world = attached(plain, &["a.jpg", "b.jpg"]).await;
                let receiver = Receiver::start();
                let hooks = [
                    named("command", shell(&world, "echo $ROWBOUND_NAME $ROWBOUND_COLUMN $ROWBOUND_KEY >> DIR/heard")),
                    named("webhook", Call::Webhook { url: receiver.url("/"), secret: None }),
                ];
                world.hooks = hooks.map(|hook| Hook { outcomes: vec![Outcome::Trashed], ..hook }).into();
                receiver.answer([(500, vec![], "no")]);
                let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--poll", "20ms"]);
                daemon.wait_for_line("collecting", DEADLINE).await;
                world.db.exec("delete from doc").await;
                daemon.until(DEADLINE, "not all was heard", || async { receiver.received().len() == 3 }).await;
                daemon.until(DEADLINE, "not all was heard", || async { lines(&world, "heard").len() == 2 }).await;
                daemon.terminate();
                daemon.wait(DEADLINE).await.expect(0);
                assert_eq!(lines(&world, "heard"), ["a.jpg doc.file 1", "b.jpg doc.file 2"]);
                assert_eq!(status(&world, "webhook").await.0["waiting"], 0);
                run(&world, &["forget", "webhook"]).await.expect(0);
                run(&world, &["detach"]).await.expect(0);
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

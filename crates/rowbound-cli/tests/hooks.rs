//! Commands and webhooks that hear of what was deleted: a real shell, a real web server, the real binary.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rowbound::{
    Trash,
    capture::VERSION,
    crash::{FOLLOW_POINTS, ordinary},
    plan::{Call, Hook, Plan},
    queue::Outcome,
};
use rowbound_testkit::{Backend, Received, Receiver, Rowbound, Running, World, wait_until};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// Secrets of both kinds: base64 of 24 bytes, as the libraries of Standard Webhooks take it, and a text.
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "Jefe";

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

/// A block of this language in docs/hooks.md, the one that holds `text`.
fn documented(language: &str, text: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/hooks.md")).expect("cannot read the page");
    let fence = format!("```{language}\n");
    let mut blocks = page.split(&fence).skip(1).filter_map(|block| block.split("```").next());
    blocks.find(|block| block.contains(text)).unwrap_or_else(|| panic!("no {language} with {text:?}")).to_owned()
}

/// Waits until these processes have ended. They may be unburied by whoever inherited them.
async fn gone(pids: &[String]) {
    for pid in pids {
        let ended = || async {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.is_empty() || stat.contains(") Z ")
        };
        wait_until(DEADLINE, "a child lives on", ended).await;
    }
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

/// What the application rolled back, and what a row still references, is never heard.
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
    // Not due again while the test looks at them.
    world.db.exec("update rowbound_delivery set due_at = due_at + 3600000").await;
    let (hook, code) = status(&world, "cdn").await;
    assert_eq!((hook["failing"].as_u64(), hook["sample"][0]["attempts"].as_u64(), code), (Some(2), Some(1), Some(1)));
    let text = run(&world, &["status"]).await.expect(1).stdout;
    assert!(text.contains("hook      cdn receives erased, trashed, missing\n  2 waiting: 0 due, 2 failing"), "{text}");
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
    // Nothing is erased meanwhile, which would be heard as well.
    let daemon = Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "600000").spawn(&["run", "--poll", "50ms"]);
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

/// Each hook is called by itself: one that hangs keeps no other from hearing.
#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_hangs_keeps_no_other() {
    let mut world = world(&["a.jpg", "b.jpg"]).await;
    let hangs = "touch DIR/started; until [ -e DIR/go ]; do sleep 0.02; done";
    world.hooks = vec![named("hangs", shell(&world, hangs)), named("quick", shell(&world, "echo $ROWBOUND_NAME >> DIR/heard"))];
    let daemon = Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "600000").spawn(&["run", "--poll", "50ms"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    world.db.exec("delete from doc where id = 1").await;
    daemon.until(DEADLINE, "the hook was never called", || async { path(&world, "started").exists() }).await;
    world.db.exec("delete from doc").await;
    daemon.until(DEADLINE, "the other hears nothing", || async { lines(&world, "heard").len() == 2 }).await;
    assert_eq!(status(&world, "hangs").await.0["waiting"], 2);
    fs::write(path(&world, "go"), "").expect("cannot write");
    daemon.until(DEADLINE, "the first is delivered", || async { status(&world, "hangs").await.0["waiting"] == 0 }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
}

/// A command that takes too long is killed, with everything that it started.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_killed_with_its_children_after_its_time() {
    let mut world = world(&["a.jpg"]).await;
    let script = "sleep 1000 & echo $! > DIR/child; echo waiting >&2; wait";
    world.hooks = vec![Hook { timeout: Duration::from_secs(5), ..named("slow", shell(&world, script)) }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let began = Instant::now();
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert!(output.stdout.contains("took longer than 5s and was killed: waiting"), "{}", output.stdout);
    gone(&lines(&world, "child")).await;
}

/// What a command left running in the background ends with it, whatever its status is: nobody would ever end it otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_command_leaves_in_its_group_ends_with_it() {
    let mut world = world(&["a.jpg"]).await;
    // One of them holds the pipe that is the command's stderr.
    let left = |name: &str, exit: u8| {
        let script =
            format!("sleep 1000 > /dev/null 2>&1 & echo $! >> DIR/{name}; sleep 1000 > /dev/null & echo $! >> DIR/{name}; exit {exit}");
        named(name, shell(&world, &script))
    };
    world.hooks = vec![left("fine", 0), left("broken", 7)];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(output.stdout.contains("left for hook broken: 1 waiting") && !output.stdout.contains("hook fine"), "{}", output.stdout);
    for name in ["fine", "broken"] {
        let children = lines(&world, name);
        assert_eq!(children.len(), 2);
        gone(&children).await;
    }
}

/// SIGTERM and Ctrl-C let the call that is under way end. Nothing that it started goes on after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_rowbound_that_is_stopped_leaves_nothing_of_its_hooks() {
    for stop in [Running::terminate, Running::interrupt] {
        let mut world = world(&["a.jpg"]).await;
        let script = "sleep 1000 > /dev/null 2>&1 & echo $! > DIR/new; mv DIR/new DIR/child; until [ -e DIR/go ]; do sleep 0.02; done";
        world.hooks = vec![named("slow", shell(&world, script))];
        let daemon = Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "600000").spawn(&["run", "--poll", "50ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        world.db.exec("delete from doc").await;
        daemon.until(DEADLINE, "the hook was never called", || async { path(&world, "child").exists() }).await;
        stop(&daemon);
        daemon.wait_for_line("finishing", DEADLINE).await;
        fs::write(path(&world, "go"), "").expect("cannot write");
        daemon.wait(DEADLINE).await.expect(0);
        gone(&lines(&world, "child")).await;
        assert_eq!(status(&world, "slow").await.0["waiting"], 0);
    }
}

/// A job in a session of its own, as the documentation starts one, goes on. It does not hold the delivery up, nor does input that nobody reads.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_a_session_of_its_own_goes_on() {
    let mut world = world(&["a.jpg"]).await;
    fs::write(path(&world, "job"), "until [ -e \"$1/go\" ]; do sleep 0.02; done; touch \"$1/went\"").expect("cannot write");
    // The one that goes on holds the pipe that is the command's stderr.
    let script = "setsid --wait sh -c 'sh DIR/job DIR > /dev/null &'";
    world.hooks = vec![Hook { timeout: Duration::from_secs(300), ..named("quick", shell(&world, script)) }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let began = Instant::now();
    run(&world, &["collect"]).await.expect(0);
    assert!(began.elapsed() < Duration::from_secs(110), "it was waited for until its time was over");
    fs::write(path(&world, "go"), "").expect("cannot write");
    wait_until(DEADLINE, "the one left behind was killed", || async { path(&world, "went").exists() }).await;
}

/// A value of 200 kB was too long for any environment: the command could not be started, for ever (E2BIG).
#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_any_length_is_delivered() {
    let long = "é/".repeat(70_000) + "a.jpg";
    let mut world = world(&["b c.jpg"]).await;
    world.db.exec(&format!("insert into doc (file) values ('{long}')")).await;
    let script = r#"cat >> DIR/stdin; printf '%s|%s|%s\n' "$ROWBOUND_NAME" "$ROWBOUND_NAME_URL" "$ROWBOUND_CUT" >> DIR/env"#;
    world.hooks = vec![named("log", shell(&world, script))];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(0);
    let name = |line: &String| serde_json::from_str::<Value>(line).expect("JSON")["name"].as_str().expect("a name").to_owned();
    let mut heard: Vec<String> = lines(&world, "stdin").iter().map(name).collect();
    heard.sort();
    assert!(heard == ["b c.jpg", &*long], "on standard input each stands whole");
    let mut env = lines(&world, "env");
    env.sort();
    // 4096 bytes would end in the middle of a character.
    assert_eq!(env, ["b c.jpg|b%20c.jpg|".to_owned(), format!("{}||ROWBOUND_NAME", "é/".repeat(1365))]);
}

/// The recipe of the documentation, with the real curl: whatever a name holds, its own URL is purged.
#[tokio::test(flavor = "multi_thread")]
async fn the_recipe_of_the_documentation_purges_the_right_url() {
    let names = ["2026/a b.jpg", "a#b.jpg", "a?b=c.jpg", "100%.jpg", "%41.jpg", "it's\".jpg", "{a,b}[1-3].jpg", "café.jpg"];
    let receiver = Receiver::start();
    let mut world = world(&names).await;
    let recipe = documented("toml", "PURGE");
    let text = format!("database = \"sqlite:x\"\n[storage.default]\nurl = \"folder:m\"\n[[binding]]\ncolumn = \"t.f\"\n{recipe}");
    let mut plan = Plan::parse(&text, Path::new("/"), None, &|_| None).unwrap_or_else(|e| panic!("{}", e.full()));
    let hook = plan.hooks.remove(0);
    let Call::Command(command) = &hook.call else { panic!("no command: {recipe}") };
    let host = "https://cdn.example.com";
    assert!(command.contains(host), "{command}");
    world.hooks = vec![Hook { call: Call::Command(command.replace(host, &receiver.url(""))), ..hook }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(0);
    let mut purged: Vec<_> = receiver.received().into_iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    purged.sort();
    let mut want = [
        "2026/a%20b.jpg",
        "a%23b.jpg",
        "a%3Fb%3Dc.jpg",
        "100%25.jpg",
        "%2541.jpg",
        "it%27s%22.jpg",
        "%7Ba%2Cb%7D%5B1-3%5D.jpg",
        "caf%C3%A9.jpg",
    ]
    .map(|path| format!("PURGE /media/{path}"));
    want.sort();
    assert_eq!(purged, want);
}

/// Several entries at once: a line each for a command, a list for a webhook.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_lines_or_a_list() {
    let receiver = Receiver::start();
    let mut world = world(&["a.jpg", "b.jpg", "c.jpg"]).await;
    let command = named("lines", shell(&world, "wc -l | tr -d ' ' >> DIR/count; echo \"<$ROWBOUND_NAME>\" >> DIR/names"));
    let webhook = named("list", Call::Webhook { url: receiver.url("/x"), secrets: Vec::new() });
    world.hooks = vec![Hook { batch: 2, ..command }, Hook { batch: 100, ..webhook }];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    run(&world, &["collect"]).await.expect(0);
    assert_eq!((lines(&world, "count"), lines(&world, "names")), (vec!["2".to_owned(), "1".to_owned()], vec!["<>".to_owned(); 2]));
    let received = receiver.received();
    let names: Vec<_> = received[0].json().as_array().expect("a list").iter().map(|e| e["name"].clone()).collect();
    assert_eq!((received.len(), names), (1, vec!["a.jpg".into(), "b.jpg".into(), "c.jpg".into()]));
    let header = |of: &str| received[0].headers.get(of).cloned().unwrap_or_default();
    assert!(header("webhook-id").starts_with(&format!("list-{}-", received[0].json()[0]["id"])), "{:?}", received[0].headers);
    assert_eq!(header("webhook-signature"), "", "nothing is signed without a secret");
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

/// What a receiver that is written as in the documentation says of a request at `now` (seconds; `None`: by the clock).
fn verified(secret: &str, headers: &BTreeMap<String, String>, body: &[u8], now: Option<i64>) -> bool {
    let mut program = documented("python", "def verified");
    if let Some(now) = now {
        program += &format!("time.time = lambda: {now}\n");
    }
    program += "import json, sys\nheaders = json.loads(sys.argv[2])\nprint(verified(sys.argv[1], headers, sys.stdin.buffer.read()))\n";
    let headers = serde_json::to_string(headers).expect("JSON");
    let mut python = Command::new("python3")
        .args(["-c", &program, secret, &headers])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start python3");
    python.stdin.take().expect("stdin is piped").write_all(body).expect("cannot write");
    let output = python.wait_with_output().expect("cannot wait for python3");
    match (output.status.success(), &*output.stdout) {
        (true, b"True\n") => true,
        (true, b"False\n") => false,
        other => panic!("{other:?}"),
    }
}

/// The example of Standard Webhooks, and what is wrong with others.
#[test]
fn the_receiver_of_the_documentation_believes_nobody_else() {
    let (at, body) = (1_614_265_330, br#"{"test": 2432232314}"#);
    let signed = [
        ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
        ("webhook-timestamp", "1614265330"),
        ("webhook-signature", "v1,unknown v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ];
    let signed: BTreeMap<_, _> = signed.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    assert!(verified(NEW, &signed, body, Some(at)) && verified(NEW, &signed, body, Some(at + 300)));
    assert!(!verified(NEW, &signed, body, Some(at + 301)), "it is too old");
    assert!(!verified(NEW, &signed, body, Some(at - 301)), "it is out of the future");
    assert!(!verified(OLD, &signed, body, Some(at)) && !verified(NEW, &signed, b"{}", Some(at)));
    for (name, value) in [("webhook-id", "other"), ("webhook-timestamp", "1614265331"), ("webhook-signature", "v1,é")] {
        let other = signed.clone().into_iter().chain([(name.to_owned(), value.to_owned())]).collect();
        assert!(!verified(NEW, &other, body, Some(at)), "{name}");
    }
}

/// A POST with the entry, an id that stays the same at each try, and a signature of its moment by each secret; only 2xx is an end.
#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_called_until_it_says_2xx() {
    let receiver = Receiver::start();
    let mut world = world(&["a.jpg"]).await;
    world.hooks = vec![named("site", Call::Webhook { url: receiver.url("/gone?token=t0k3n"), secrets: vec![NEW.into(), OLD.into()] })];
    run(&world, &["collect"]).await.expect(0);
    world.db.exec("delete from doc").await;
    let elsewhere = ("location", receiver.url("/elsewhere"));
    receiver.answer([(500, vec![], "out of order"), (302, vec![elsewhere], ""), (204, vec![], "")]);
    let output = run(&world, &["collect"]).await.expect(1);
    assert!(output.stdout.contains("answered 500 Internal Server Error: out of order"), "{}", output.stdout);
    let output = run(&world, &["collect", "--retry-now"]).await.expect(1);
    assert!(output.stdout.contains("answered 302 Found, and redirects are not followed"), "{}", output.stdout);
    let times =
        |received: &[Received]| -> Vec<i64> { received.iter().map(|r| r.headers["webhook-timestamp"].parse().expect("seconds")).collect() };
    let before = times(&receiver.received());
    wait_until(DEADLINE, "the clock stands", || async { jiff::Timestamp::now().as_second() > before[1] }).await;
    run(&world, &["collect", "--retry-now"]).await.expect(0);
    let received = receiver.received();
    assert_eq!(received.len(), 3, "{received:?}");
    let tries = times(&received);
    assert!(tries[2] > tries[1], "each try is signed with its own moment: {tries:?}");
    let entry = received[0].json();
    assert_eq!(
        (entry["name"].as_str(), entry["outcome"].as_str(), entry["column"].as_str()),
        (Some("a.jpg"), Some("trashed"), Some("doc.file"))
    );
    for r in &received {
        let header = |name: &str| r.headers.get(name).map(String::as_str);
        assert_eq!((r.method.as_str(), r.path.as_str(), &r.body), ("POST", "/gone?token=t0k3n", &received[0].body));
        assert_eq!((header("content-type"), header("rowbound-hook")), (Some("application/json"), Some("site")));
        assert_eq!(header("webhook-id"), Some(&*format!("site-{}", entry["id"])));
        assert!(verified(NEW, &r.headers, &r.body, None) && verified(OLD, &r.headers, &r.body, None), "{r:?}");
        assert!(!verified("other", &r.headers, &r.body, None), "{r:?}");
        let later = r.headers["webhook-timestamp"].parse::<i64>().expect("seconds") + 60;
        let replayed = r.headers.clone().into_iter().chain([("webhook-timestamp".to_owned(), later.to_string())]).collect();
        assert!(!verified(NEW, &replayed, &r.body, None), "the signature covers the time");
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
    let hook = Hook::new(Call::Webhook { url: url.clone(), secrets: Vec::new() }).name;
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
    let mut world = world(&[]).await;
    for (args, why) in [
        (&["collect", "--hook", " "][..], "`command` is empty"),
        (&["collect", "--webhook", "ftp://x/"], "begins with neither https:// nor http://"),
        (&["collect", "--webhook", "http://"], "is no URL"),
        (&["run", "--hook", "true", "--hook", "true"], "two hooks have the same name"),
        (&["collect", "--hook", &"x".repeat(65_537)], "is longer than 64 KiB"),
    ] {
        let output = run(&world, args).await.expect(2);
        assert!(output.stderr.contains(why), "{why}: {}", output.stderr);
    }
    world.hooks = vec![named("site", Call::Webhook { url: "http://127.0.0.1:9/".into(), secrets: vec!["whsec_T0K3N!".into()] })];
    let output = run(&world, &["collect"]).await.expect(2);
    assert!(output.stderr.contains("begins with whsec_") && !output.stderr.contains("T0K3N"), "{}", output.stderr);
    world.hooks.clear();
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
    Rowbound::new(BINARY, &world).run(&["collect", "--wait", "90s", "--lease", "20s"]).await.expect(0);
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
                    named("webhook", Call::Webhook { url: receiver.url("/"), secrets: Vec::new() }),
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

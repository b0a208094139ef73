//! A real Django project, written without a thought of Rowbound, beside a running `rowbound`.
//!
//! `django/scenarios.py` is the application. It speaks one JSON object a line (`django/protocol.py`): what it did, which names its rows hold
//! now, and what has to be true of the files. Here stands the other half: the collector as a process, the media folder, and the comparison.
//! After every scenario the folder must hold exactly the files that rows reference, and the queue must be empty.
//!
//! `DJANGO_SCENARIO=word` runs only the scenarios that have the word in their names, and shows the collector's log.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rowbound::{
    Binding, Trash,
    database::{self, Database, Options},
    ledger::Filter,
    queue::Outcome,
    status,
};
use rowbound_testkit::{Backend, Journal, Rowbound, Running, TestDb, World};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
/// How long the files may take to follow the rows.
const DEADLINE: Duration = Duration::from_secs(60);

mod django {
    use super::*;

    #[tokio::test]
    async fn sqlite() {
        run(Backend::Sqlite).await;
    }

    #[tokio::test]
    async fn postgres() {
        run(Backend::Postgres).await;
    }

    #[tokio::test]
    async fn mariadb() {
        run(Backend::Mariadb).await;
    }
}

async fn run(backend: Backend) {
    let db = match backend {
        // What Django leaves SQLite at.
        Backend::Sqlite => TestDb::sqlite(Journal::Rollback).await,
        _ => TestDb::new(backend).await,
    };
    let world = World::with(db).storage(|s| s.min_age(Duration::from_millis(200)).trash(Trash::Keep(Duration::from_secs(3600))));
    let app = Application::start(&world);
    let db = database::open(world.db.url(), &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let mut test = Test { world, app, db, daemon: None, scenario: "none yet".into(), began: Instant::now(), attached: BTreeSet::new() };
    let done = test.serve().await;
    assert!(done > 0, "no scenario ran");

    // What Rowbound put into the database goes without a trace.
    test.stop().await;
    test.rowbound().run(&["detach"]).await.expect(0);
    let triggers = test.world.db.triggers().await;
    assert!(triggers.is_empty(), "left after detach: {triggers:?}");
    test.db.close().await;
    let ended = tokio::time::timeout(DEADLINE, test.app.child.wait()).await.expect("the application does not end");
    let status = ended.expect("cannot wait for our own child");
    assert!(status.success(), "the application ended with {status}\n{}", test.app.stderr());
}

/// `django/scenarios.py`, running.
struct Application {
    child: Child,
    requests: Lines<BufReader<ChildStdout>>,
    answers: ChildStdin,
    stderr: Arc<Mutex<String>>,
}

impl Application {
    fn start(world: &World) -> Application {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/django");
        let mut child = Command::new(python())
            .arg("scenarios.py")
            .current_dir(&here)
            .env("DJANGO_SETTINGS_MODULE", "settings")
            .env("DJANGO_DATABASE", world.db.url())
            .env("DJANGO_MEDIA", world.media())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("cannot start Python");
        let stderr = Arc::<Mutex<String>>::default();
        let mut from = child.stderr.take().expect("stderr is piped");
        let into = Arc::clone(&stderr);
        tokio::spawn(async move {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes).await {
                into.lock().expect("a reader panicked").push_str(&String::from_utf8_lossy(&bytes[..n]));
            }
        });
        Application {
            requests: BufReader::new(child.stdout.take().expect("stdout is piped")).lines(),
            answers: child.stdin.take().expect("stdin is piped"),
            child,
            stderr,
        }
    }

    fn stderr(&self) -> String {
        self.stderr.lock().expect("a reader panicked").clone()
    }
}

/// The interpreter that `scripts/django-venv` made.
fn python() -> PathBuf {
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv");
    let python = venv.join("bin/python");
    assert!(
        python.exists() && venv.join(".made-from").exists(),
        "there is no Python with Django in .venv: run `make test`, or scripts/django-venv"
    );
    python
}

struct Test {
    world: World,
    app: Application,
    db: Arc<dyn Database>,
    daemon: Option<Running>,
    scenario: String,
    began: Instant,
    /// The columns that are attached.
    attached: BTreeSet<String>,
}

impl Test {
    /// Fulfils what the application asks for until it is done; returns how many scenarios there were.
    async fn serve(&mut self) -> u64 {
        loop {
            let line = self.app.requests.next_line().await.expect("cannot read from the application");
            let Some(line) = line else {
                let status = self.app.child.wait().await;
                panic!("scenario {}: the application ended ({status:?}):\n{}\n{}", self.scenario, self.app.stderr(), self.talk());
            };
            let request: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let object = request.as_object().expect("a request is an object");
            let has = |key: &str| object.contains_key(key);
            let mut answer = json!({ "ok": true });
            let mut done = None;
            if has("check") {
                self.check(&request).await;
            } else if has("scenario") {
                self.scenario = text(&request["scenario"]);
                eprintln!("{:6.2} s  {}", self.began.elapsed().as_secs_f64(), self.scenario);
            } else if has("bindings") {
                self.bind(&request["bindings"]);
            } else if has("attach") {
                self.attach().await;
            } else if has("start") {
                self.start(&request["start"]).await;
            } else if has("stop") {
                self.stop().await;
            } else if has("whole") {
                self.whole(&text(&request["whole"])).await;
            } else if has("stopped") {
                self.stopped(&text(&request["stopped"])).await;
            } else if has("collect") {
                let code = request["collect"].as_i64().expect("an exit status");
                self.rowbound().run(&["collect"]).await.expect(i32::try_from(code).expect("an exit status"));
            } else if has("files") {
                let files: BTreeSet<String> = self.world.files().into_iter().collect();
                let lost: Vec<_> = names(&request["files"]).into_iter().filter(|n| !files.contains(n)).collect();
                assert!(lost.is_empty(), "scenario {}: must be there, but is not: {lost:?}\n{}", self.scenario, self.talk());
            } else if has("waits") {
                self.waits(&text(&request["waits"])).await;
            } else if has("restore") {
                self.rowbound().run(&["restore", &text(&request["restore"])]).await.expect(0);
            } else if has("trash") {
                answer = json!({ "files": self.world.trashed() });
            } else if has("gaps") {
                let status = self.rowbound().run(&["status", "--format", "json"]).await.json();
                let gaps = status["gaps"].as_array().map_or(0, Vec::len);
                // Attaching after the renames records gaps on every database; rebuilds record theirs besides.
                let least = if request["gaps"] == json!(true) { 5 } else { 1 };
                assert!(gaps >= least, "scenario {}: {gaps} gaps are recorded: {}", self.scenario, status["gaps"]);
            } else if has("done") {
                done = Some(request["done"].as_u64().expect("a number"));
            } else {
                panic!("the application asks for something unknown: {line}");
            }
            let line = format!("{answer}\n");
            self.app.answers.write_all(line.as_bytes()).await.expect("the application does not read");
            if let Some(done) = done {
                if std::env::var_os("DJANGO_SCENARIO").is_some() {
                    eprintln!("{}", self.talk());
                }
                eprintln!("{:6.2} s  {done} scenarios on {}", self.began.elapsed().as_secs_f64(), self.world.db.backend());
                return done;
            }
        }
    }

    fn rowbound(&self) -> Rowbound {
        Rowbound::new(BINARY, &self.world).env("ROWBOUND_LOG", "info")
    }

    /// What the collector said lately.
    fn talk(&self) -> String {
        let said = self.daemon.as_ref().map_or_else(|| "it does not run".to_owned(), Running::said);
        let lines: Vec<_> = said.lines().collect();
        format!("--- rowbound run\n{}", lines[lines.len().saturating_sub(40)..].join("\n"))
    }

    /// Attaches what is bound now. Bindings that were attached and are not bound any more are meant to go.
    async fn attach(&mut self) {
        let bound: BTreeSet<String> = self.world.bindings.iter().map(|b| b.column.to_string()).collect();
        let dropped: Vec<&str> = self.attached.difference(&bound).flat_map(|column| ["--drop", column]).collect();
        self.rowbound().run(&[&["attach"], &dropped[..]].concat()).await.expect(0);
        self.attached = bound;
    }

    fn bind(&mut self, bindings: &Value) {
        self.world.bindings = bindings
            .as_array()
            .expect("bindings are a list")
            .iter()
            .map(|b| {
                let binding = Binding::name(&text(&b["column"]), "default").expect("a column");
                binding.keep(names(&b["keep"])).derivatives(names(&b["derivatives"]))
            })
            .collect();
    }

    async fn start(&mut self, settings: &Value) {
        assert!(self.daemon.is_none(), "the collector runs already");
        self.world.storage.min_age = Duration::from_millis(settings["min_age"].as_u64().unwrap_or(200));
        self.world.storage.trash = match settings["trash"] {
            Value::Bool(false) => Trash::Off,
            _ => Trash::Keep(Duration::from_secs(3600)),
        };
        let daemon = self.rowbound().spawn(&["run", "--poll", "50ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        self.daemon = Some(daemon);
    }

    /// SIGTERM, and it ends with status 0.
    async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.terminate();
            daemon.wait(DEADLINE).await.expect(0);
        }
    }

    /// Waits until capture stands as `status` wants it and the collector is at work.
    async fn whole(&mut self, after: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let status = status::status(&self.world.plan(), self.db.as_ref()).await.unwrap_or_else(|e| panic!("{}", e.full()));
            if status.problems.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "scenario {}: capture is not whole {DEADLINE:?} after migration {after}: {:#?}\n{}",
                self.scenario,
                status.problems,
                self.talk()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the collector has said that it does not delete any more; `status` must say so too.
    async fn stopped(&mut self, after: &str) {
        let daemon = self.daemon.as_ref().expect("the collector runs");
        daemon
            .until(DEADLINE, &format!("the collector does not say that it stops after migration {after}"), || async {
                let column = if after == "0008" { "column blog_document.file is gone" } else { "column blog_document.upload is gone" };
                daemon.said().lines().any(|line| line.contains("ERROR") && line.contains(column))
            })
            .await;
        let status = self.rowbound().run(&["status"]).await.expect(4);
        assert!(status.stdout.contains("STOPPED") && status.stdout.contains("rowbound attach"), "{}", status.stdout);
    }

    /// Waits until a candidate was put back because a transaction is open.
    async fn waits(&mut self, name: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let waiting = self.db.waiting(&[name.to_owned()]).await.unwrap_or_else(|e| panic!("{}", e.full()));
            if waiting.iter().any(|w| w.note.is_some()) {
                return;
            }
            assert!(
                Instant::now() < end,
                "scenario {}: {name} does not wait for the open transaction: {waiting:?}\n{}",
                self.scenario,
                self.talk()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the files are those that rows reference and nothing waits, then compares.
    async fn check(&mut self, request: &Value) {
        let step = text(&request["check"]);
        let set = |key: &str| names(&request[key]).into_iter().collect::<BTreeSet<String>>();
        let (referenced, mut gone, stays, orphans, mut may) = (set("referenced"), set("gone"), set("stays"), set("orphans"), set("may"));
        let renamed = request["renamed"] == json!(true);
        // Rowbound must see the same rows as Django does.
        let refs: BTreeSet<String> = self.world.refs().await.into_iter().collect();
        assert_eq!(refs, referenced, "scenario {step}: the bindings name other files than Django's models");
        let expected: BTreeSet<String> = referenced.iter().chain(&stays).chain(&orphans).cloned().collect();

        let plan = self.world.plan();
        let end = Instant::now() + DEADLINE;
        loop {
            let backlogs = status::backlogs(&plan, self.db.as_ref()).await.unwrap_or_else(|e| panic!("{}", e.full()));
            let waiting: u64 = backlogs.values().map(|b| b.total - b.staged).sum();
            if renamed {
                // What waited in the queue while its column was renamed belongs to a binding that has left the plan: the ledger says so.
                let unbound = Filter { outcomes: vec![Outcome::Unbound], ..Filter::default() };
                let entries = self.db.history(&unbound).await.unwrap_or_else(|e| panic!("{}", e.full()));
                for entry in entries {
                    gone.remove(&entry.name);
                    may.insert(entry.name);
                }
            }
            // The queue first: with nothing left in it, nothing can change the files any more.
            let files: BTreeSet<String> = self.world.files().into_iter().collect();
            let lost: Vec<_> = expected.difference(&files).collect();
            let leaked: Vec<_> = files.difference(&expected).filter(|n| !may.contains(*n)).collect();
            let late: Vec<_> = gone.intersection(&files).collect();
            if lost.is_empty() && leaked.is_empty() && late.is_empty() && waiting == 0 {
                return;
            }
            // A file that is lost does not come back: no reason to wait.
            if !lost.is_empty() && waiting == 0 || Instant::now() > end {
                let history = self.history(lost.iter().chain(&leaked).map(|n| n.as_str())).await;
                panic!(
                    "scenario {step}: the files are not those that rows name ({})\n\
                     lost (a row names it, or it must stay; no file): {lost:#?}\n\
                     leaked (a file, no row names it): {leaked:#?}\n\
                     should be gone: {late:#?}\n\
                     expected {} files, found {}; {waiting} candidates wait: {backlogs:#?}\n{history}\n{}\n--- the application\n{}",
                    self.world.db.backend(),
                    expected.len(),
                    files.len(),
                    self.talk(),
                    self.app.stderr(),
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The ledger's word on a few names.
    async fn history(&self, names: impl Iterator<Item = &str>) -> String {
        let mut out = String::from("--- the ledger");
        for name in names.take(5) {
            let output = self.rowbound().run(&["explain", name]).await;
            out += &format!("\n{}{}", output.stdout, output.stderr);
        }
        out
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default()
}

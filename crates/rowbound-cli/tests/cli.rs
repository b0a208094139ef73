//! What a person and a program see of the `rowbound` command: every text, every JSON, every exit status, from the real binary. And that the
//! documentation says all of it.
//!
//! Snapshots lie in `snapshots/`; `INSTA_UPDATE=always cargo nextest run -p rowbound-cli --test cli` writes them anew.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rowbound::{Plan, Trash, queue::Outcome};
use rowbound_testkit::{Backend, Journal, Output, Rowbound, TestDb, World};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// The repository.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn doc(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// `rowbound` with nothing of the developer's shell, in `folder`.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(folder).env("NO_COLOR", "1").stdin(Stdio::null());
    for name in ["DATABASE_URL", "ROWBOUND_CONFIG", "ROWBOUND_LOG", "RUST_LOG", "COLUMNS", "LINES"] {
        command.env_remove(name);
    }
    command
}

fn finish(mut command: Command) -> Output {
    let done = command.output().expect("cannot start rowbound");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output { code: done.status.code(), signal: None, stdout: text(done.stdout), stderr: text(done.stderr) }
}

fn rowbound(folder: &Path, args: &[&str]) -> Output {
    finish(command(folder, args))
}

/// Runs `rowbound` where the world's own configuration lies.
fn run(world: &World, args: &[&str]) -> Output {
    world.write_config();
    rowbound(world.folder(), args)
}

/// Runs `rowbound` with another configuration.
fn run_with(world: &World, config: &str, args: &[&str]) -> Output {
    fs::write(world.folder().join("rowbound.toml"), config).expect("cannot write rowbound.toml");
    rowbound(world.folder(), args)
}

/// An output as a person sees it, without what differs from run to run.
fn shown(world: Option<&World>, args: &[&str], output: &Output) -> String {
    let mut text = format!("$ rowbound {}\n{}", args.join(" "), output.stdout);
    if !output.stderr.is_empty() {
        text.push_str("--- stderr\n");
        text.push_str(&output.stderr);
    }
    text.push_str(&format!("--- status {}\n", output.code.map_or("none".into(), |c| c.to_string())));
    if let Some(world) = world {
        text = text.replace(world.folder().to_str().expect("UTF-8"), "[folder]");
        text = text.replace(world.db.url().trim_start_matches("sqlite:"), "[db]").replace("(sqlite app.sqlite3)", "(sqlite [db])");
    }
    text
}

/// Compares with a snapshot.
macro_rules! snapshot {
    ($name:expr, $text:expr) => {
        insta::with_settings!({
            prepend_module_to_snapshot => false,
            omit_expression => true,
            filters => vec![
                (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z", "[time]"),
                (r"collect   \S+ \(process \d+\) \d+ s ago", "collect   [machine] (process [pid]) [time] ago"),
                (r#""place": "[^"]+:\d+:[0-9a-f]{8}""#, "\"place\": \"[machine]:[pid]:[owner]\""),
                (r#""ended": true,\s+"seconds": \d+"#, "\"ended\": true, \"seconds\": [seconds]"),
                (r"\d{8}T\d{6}Z", "[bucket]"),
                (r"\[db\] on [0-9a-f]*", "[db] on [machine]"),
                // Beneath the machine: what the file beside the database is. The id in it is one already.
                (r" by (\[id\]|[0-9a-f]{32})( inode [0-9]+)?( born [0-9.]+)?", " by [file]"),
                (r"\b[0-9a-f]{32}\b", "[id]"),
                (r"the oldest for [0-9a-z ]+", "the oldest for [length]"),
                (r#""oldest_seconds": \d+"#, r#""oldest_seconds": [seconds]"#),
                (r"rowbound \d+\.\d+\.\d+", "rowbound [version]"),
            ],
        }, { insta::assert_snapshot!($name, $text) })
    };
}

/// Runs, insists on the status, compares with the snapshot.
fn see(name: &str, world: &World, args: &[&str], status: i32) -> Output {
    let output = run(world, args).expect(status);
    snapshot!(name, shown(Some(world), args, &output));
    output
}

/// Everything that a command could have changed: schema, rows, files and what Rowbound keeps among them.
async fn state(world: &World) -> String {
    let mut text = String::new();
    for sql in [
        "select type || ' ' || name || ' ' || ifnull(sql, '') from sqlite_schema order by 1",
        "select id || ' ' || ifnull(file, 'null') from doc",
    ] {
        for row in world.db.query_strings(sql).await.into_iter().flatten() {
            text.push_str(&row);
            text.push('\n');
        }
    }
    text.push_str(&format!("{:?}\n{:?}\n", world.files(), world.trashed()));
    let marker = world.media().join(".rowbound/storage.json");
    text.push_str(&fs::read_to_string(marker).unwrap_or_else(|e| e.kind().to_string()));
    text
}

/// A command that fails: says what and what to do, prints nothing on stdout, changes nothing.
async fn refused(name: &str, world: &World, config: Option<&str>, args: &[&str], status: i32) -> Output {
    let before = state(world).await;
    let output = match config {
        Some(config) => run_with(world, config, args),
        None => run(world, args),
    }
    .expect(status);
    snapshot!(name, shown(Some(world), args, &output));
    assert!(output.stderr.starts_with("error: ") && output.stderr.contains("\n  hint: "), "{}", output.stderr);
    assert_eq!(output.stdout, "");
    assert_eq!(state(world).await, before, "{args:?} changed something");
    output
}

/// Longer ago than any release.
const HOUR: Duration = Duration::from_secs(3600);

async fn world() -> World {
    World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(Trash::Keep(Duration::from_secs(86_400))))
}

/// The world's configuration with one storage in `media` and one binding of `column`, with the defaults.
fn config(world: &World, column: &str) -> String {
    format!("database = \"{}\"\n[storage.default]\nurl = \"folder:media\"\n[[binding]]\ncolumn = \"{column}\"\n", world.db.url())
}

/// Every command that `--help` lists.
fn commands() -> Vec<String> {
    let help = rowbound(Path::new("/"), &["--help"]).expect(0).stdout;
    let list = help.split("Commands:\n").nth(1).expect("a list of commands").split("\n\n").next().expect("its end");
    list.lines().filter_map(|l| l.split_whitespace().next()).map(str::to_owned).collect()
}

/// Every option that the help of a command lists, `--help` and `--version` included.
fn options(help: &str) -> Vec<String> {
    help.lines()
        .map(str::trim_start)
        .filter(|l| l.starts_with('-') && !l.starts_with("- "))
        .filter_map(|l| l.split([' ', ',']).find(|w| w.starts_with("--")))
        .map(|o| o.trim_end_matches("...").to_owned())
        .collect()
}

#[test]
fn help_of_every_command() {
    let all = commands();
    for wanted in [
        "demo",
        "attach",
        "detach",
        "run",
        "collect",
        "status",
        "history",
        "explain",
        "restore",
        "put",
        "thumbnail",
        "completions",
        "man",
        "help",
    ] {
        assert!(all.iter().any(|c| c == wanted), "{wanted} is not among {all:?}");
    }
    snapshot!("help", shown(None, &["--help"], &rowbound(Path::new("/"), &["--help"]).expect(0)));
    snapshot!("help_short", shown(None, &["-h"], &rowbound(Path::new("/"), &["-h"]).expect(0)));
    for name in all.iter().filter(|c| *c != "help") {
        let args = ["help", name.as_str()];
        let output = rowbound(Path::new("/"), &args).expect(0);
        snapshot!(format!("help_{name}"), shown(None, &args, &output));
        assert!(output.stdout.lines().all(|l| l.chars().count() <= 100), "{name}: a line is wider than 100 columns");
    }
}

/// django-cleanup: an ignored model keeps its files.
#[tokio::test(flavor = "multi_thread")]
async fn every_answer_as_text_and_as_json() {
    let world = world().await.bind(rowbound::Binding::name("doc.title", "default").expect("a column").keep(["defaults/*"]));
    for name in ["2026/cat.jpg", "2026/dog.jpg", "2026/shared.jpg", "2026/young.jpg", "defaults/none.jpg"] {
        world.put_doc(name).await;
        world.age(name, HOUR);
    }
    world.grown().await;
    world.db.exec("insert into doc (file) values ('2026/shared.jpg'), ('../etc/passwd')").await;
    let json = |mut args: Vec<&'static str>| {
        args.extend(["--format", "json"]);
        args
    };

    see("status_not_attached", &world, &["status"], 2);
    see("attach_print_sql", &world, &["attach", "--print-sql"], 0);
    let sql = run(&world, &json(vec!["attach", "--print-sql"])).expect(0).json();
    assert!(sql["statements"].as_array().is_some_and(|s| s.len() > 5) && sql["inspection"]["blind"].is_array(), "{sql}");
    see("attach", &world, &["attach"], 0);
    let attached = run(&world, &json(vec!["attach"])).expect(0).json();
    snapshot!("attach_json_shape", shape(&attached));
    see("status_idle", &world, &["status"], 0);
    see("history_empty", &world, &["history"], 0);

    // A file that is written after its release is young as long as `min_age` says.
    let world = world.storage(|s| s.min_age(Duration::from_secs(3600)));
    world.db.exec("delete from doc where file <> '2026/shared.jpg' or id = 3").await;
    world.put_file("2026/young.jpg", b"a new upload");
    see("status_due", &world, &["status"], 0);
    see("collect", &world, &["collect"], 1);
    see("collect_nothing_more", &world, &["collect"], 1);
    see("collect_json", &world, &json(vec!["collect"]), 1);
    see("status", &world, &["status"], 0);
    see("status_json", &world, &json(vec!["status"]), 0);
    see("history", &world, &["history"], 0);
    see("history_json", &world, &json(vec!["history", "--limit", "2"]), 0);
    see("history_filtered", &world, &["history", "--outcome", "trashed,kept", "--name", "2026/cat.jpg", "--since", "1d"], 0);
    for (name, file) in [
        ("kept", "2026/shared.jpg"),
        ("trashed", "2026/cat.jpg"),
        ("waiting", "2026/young.jpg"),
        ("protected", "defaults/none.jpg"),
        ("unknown", "no/such.jpg"),
    ] {
        see(&format!("explain_{name}"), &world, &["explain", file], 0);
    }
    see("explain_json", &world, &json(vec!["explain", "2026/cat.jpg"]), 0);
    see("restore", &world, &["restore", "2026/cat.jpg"], 0);
    see("restore_json", &world, &json(vec!["restore", "2026/dog.jpg"]), 0);
    see("explain_orphan", &world, &["explain", "2026/cat.jpg"], 0);
    see("detach_print_sql", &world, &["detach", "--print-sql"], 0);
    see("detach", &world, &["detach"], 0);
    see("detach_again_json", &world, &json(vec!["detach"]), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn put_says_which_row_names_what() {
    let world = world().await.storage(|s| s.min_age(Duration::from_secs(60)));
    world.put_doc("2026/cat.jpg").await;
    world.db.exec("insert into doc (file) values (null)").await;
    run(&world, &["attach"]).expect(0);
    let at = |name: &str| world.folder().join(name).to_str().expect("UTF-8").to_owned();
    let (one, two, list) = (at("My Paper (1).txt"), at("two.txt"), at("list.csv"));
    fs::write(&one, "paper").expect("a file");
    fs::write(&two, "paper too").expect("a file");
    fs::write(&list, format!("2,{two}\n")).expect("a file");
    see("put", &world, &["put", "doc.file", "1", &one, "--list", &list, "9", &one, "--upload-to", "d"], 1);
    see("put_json", &world, &["put", "doc.file", "2", &two, "9", &one, "--format", "json"], 1);
    refused("put_twice", &world, None, &["put", "doc.file", "1", &one, "1", &two], 2).await;
    refused("put_unbound", &world, None, &["put", "doc.title", "1", &one], 2).await;
    fs::write(&list, "1,a\n2,b,c\n").expect("a file");
    refused("put_list", &world, None, &["put", "doc.file", "--list", &list], 2).await;
}

/// A JSON value with its leaves replaced by their types, lists by their first item, and the database's own words left out.
fn shape(value: &Value) -> String {
    fn walk(value: &Value, indent: usize, out: &mut String) {
        let pad = "  ".repeat(indent);
        match value {
            Value::Object(map) => {
                for (key, item) in map {
                    // What the items of a snapshot are called is each database's affair.
                    let item = if key == "snapshot" { &Value::Null } else { item };
                    out.push_str(&format!("{pad}{key}: {}\n", kind(item)));
                    walk(item, indent + 1, out);
                }
            }
            Value::Array(items) => {
                if let Some(first) = items.first() {
                    out.push_str(&format!("{pad}- {}\n", kind(first)));
                    walk(first, indent + 1, out);
                }
            }
            _ => {}
        }
    }
    fn kind(value: &Value) -> &'static str {
        match value {
            Value::Null => "..",
            Value::Bool(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "text",
            Value::Array(_) => "list",
            Value::Object(_) => "object",
        }
    }
    let mut out = String::new();
    walk(value, 0, &mut out);
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn status_2_for_what_is_wrong_in_the_configuration() {
    let world = world().await;
    world.put_doc("a.jpg").await;
    let good = config(&world, "doc.file");
    let url = world.db.url();
    let cases: Vec<(&str, String, &[&str])> = vec![
        ("wrong_column", config(&world, "doc.nope"), &["attach"]),
        ("wrong_table", config(&world, "nope.file"), &["attach"]),
        ("unknown_field", good.replace("url = \"folder", "colour = 1\nurl = \"folder"), &["attach"]),
        ("unknown_storage", format!("{good}storage = \"media\"\n"), &["attach"]),
        ("unknown_storage_scheme", good.replace("folder:", "ftp:"), &["attach"]),
        ("number_for_a_time", good.replace("url = \"folder", "grace = 10\nurl = \"folder"), &["attach"]),
        ("time_without_unit", good.replace("url = \"folder", "grace = \"10\"\nurl = \"folder"), &["attach"]),
        ("unset_variable", good.replace(url, "${ROWBOUND_TEST_UNSET}"), &["attach"]),
        ("no_binding", good.split("[[binding]]").next().unwrap_or_default().to_owned(), &["attach"]),
        ("wrong_url", good.replace(url, "oracle://db/app"), &["attach"]),
        ("no_database_file", good.replace(url, "sqlite:rowbound.toml"), &["attach"]),
        ("adopt_unknown_storage", good.clone(), &["attach", "--adopt-storage", "media"]),
        ("not_attached", good.clone(), &["collect"]),
        ("not_attached_run", good.clone(), &["run"]),
        ("bad_name", good.clone(), &["explain", "/etc/passwd"]),
        ("bad_filter", good.clone(), &["collect", "--log", "=="]),
        ("history_of_unknown_storage", good.clone(), &["history", "--storage", "media"]),
    ];
    for (name, config, args) in &cases {
        refused(&format!("error_{name}"), &world, Some(config), args, 2).await;
    }
    refused("error_no_configuration", &world, None, &["attach", "--config", "elsewhere.toml"], 2).await;

    // As JSON it is one object on stderr.
    let output = run_with(&world, &cases[0].1, &["attach", "--format", "json"]).expect(2);
    let error: Value = serde_json::from_str(&output.stderr).expect("JSON on stderr");
    assert_eq!(error["error"]["kind"], "schema");
    assert!(error["error"]["hint"].as_str().is_some_and(|h| h.contains("file, title")), "{error}");

    // Mistakes in the arguments are clap's.
    for args in [
        &["frobnicate"] as &[&str],
        &["collect", "--workers", "0"],
        &["history", "--outcome", "gone"],
        &["collect", "--wait", "10"],
        &["explain"],
        &[],
    ] {
        let output = run(&world, args).expect(2);
        assert!(
            output.stdout.is_empty() && output.stderr.contains("Usage:") | output.stderr.contains("--help"),
            "{args:?}: {}",
            output.stderr
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_2_for_a_database_that_may_not_be_written() {
    let world = World::with(TestDb::sqlite(Journal::Rollback).await).with_docs().await;
    world.put_doc("a.jpg").await;
    world.write_config();
    let before = state(&world).await;
    let file = PathBuf::from(world.db.url().trim_start_matches("sqlite:"));
    let (db_folder, mode) = (file.parent().expect("a folder"), |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("cannot set rights");
    });
    mode(db_folder, 0o755);
    mode(world.folder(), 0o755);
    mode(&file, 0o444);
    let mut attach = command(world.folder(), &["attach"]);
    // Rights mean nothing to root.
    if fs::metadata(&file).is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0) {
        if Command::new(BINARY).arg("--version").uid(65_534).gid(65_534).output().is_err() {
            eprintln!("the binary lies where nobody may run it: copied");
        }
        let copy = world.folder().join("rowbound-binary");
        fs::copy(BINARY, &copy).expect("cannot copy the binary");
        std::os::unix::fs::chown(world.media(), Some(65_534), Some(65_534)).expect("the folder's owner");
        attach = Command::new(copy);
        attach.arg("attach").current_dir(world.folder()).env_remove("DATABASE_URL").env("NO_COLOR", "1").uid(65_534).gid(65_534);
    } else {
        mode(db_folder, 0o555);
    }
    let output = finish(attach);
    mode(db_folder, 0o755);
    mode(&file, 0o644);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("cannot be written") && output.stderr.contains("hint: "), "{}", output.stderr);
    assert_eq!(state(&world).await, before);
}

/// A role that may nothing but connect is told right by right what it needs, and each hint, followed, leads on.
async fn hints_lead_to_an_attached_database(backend: Backend) {
    let world = World::new(backend).await.with_docs().await;
    let role = format!("rowbound_cli_{}", std::process::id());
    let superuser = world.db.url().split("://").nth(1).and_then(|u| u.split('@').next()).expect("a user").to_owned();
    let (make, login) = match backend {
        Backend::Postgres => (vec![format!("create role {role} login")], role.clone()),
        _ => {
            let database = world.db.url().rsplit('/').next().expect("a database");
            (
                vec![format!("create user {role}@'%' identified by 'secret'"), format!("grant select on {database}.* to {role}@'%'")],
                format!("{role}:secret"),
            )
        }
    };
    for sql in make {
        world.db.exec(&sql).await;
    }
    let config = config(&world, "doc.file").replace(&format!("{superuser}@"), &format!("{login}@"));
    let before = world.db.schema().await;
    let mut granted = Vec::new();
    loop {
        let output = run_with(&world, &config, &["attach"]);
        assert!(!output.stderr.contains("secret"), "{}", output.stderr);
        if output.code == Some(0) {
            break;
        }
        assert_eq!(output.code, Some(2), "{}", output.stderr);
        assert_eq!(world.db.schema().await, before, "an attach that was refused left something");
        assert!(!world.media().join(".rowbound").exists(), "an attach that was refused left a marker");
        let hint = output.stderr.split("hint: ").nth(1).expect("a hint").trim().to_owned();
        assert!(hint.starts_with("GRANT ") && !granted.contains(&hint), "{granted:?}\n{}", output.stderr);
        for sql in hint.split("; ") {
            world.db.exec(sql).await;
        }
        granted.push(hint);
    }
    assert!(!granted.is_empty(), "{backend} let a role without rights attach");
    world.put_doc("a.jpg").await;
    world.grown().await;
    world.db.exec("delete from doc").await;
    let config = config.replace("url =", "grace = \"0\"\nurl =");
    run_with(&world, &config, &["collect"]).expect(0);
    assert!(world.files().is_empty());
    run_with(&world, &config, &["detach"]).expect(0);
    if backend == Backend::Postgres {
        world.db.exec(&format!("drop owned by {role}")).await;
        world.db.exec(&format!("drop role {role}")).await;
    } else {
        world.db.exec(&format!("drop user {role}@'%'")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_2_for_missing_rights_on_postgres() {
    hints_lead_to_an_attached_database(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_2_for_missing_rights_on_mariadb() {
    hints_lead_to_an_attached_database(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_2_for_missing_rights_on_mysql() {
    hints_lead_to_an_attached_database(Backend::Mysql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_3_for_what_is_not_there() {
    let world = world().await;
    world.put_doc("a.jpg").await;
    let good = config(&world, "doc.file");
    refused("error_database_missing", &world, Some(&good.replace(world.db.url(), "sqlite:gone.sqlite3")), &["status"], 3).await;
    for (name, url) in [("postgres", "postgres://app:secret@127.0.0.1:1/app"), ("mysql", "mysql://app:secret@127.0.0.1:1/app")] {
        let config = good.replace(world.db.url(), url);
        let output = refused(&format!("error_{name}_missing"), &world, Some(&config), &["status"], 3).await;
        assert!(!output.stderr.contains("secret"), "{}", output.stderr);
    }
    refused("error_folder_missing", &world, Some(&good.replace("folder:media", "folder:nomedia")), &["attach"], 3).await;

    run(&world, &["attach"]).expect(0);
    world.db.exec("delete from doc").await;
    let away = world.folder().join("away");
    fs::rename(world.media(), &away).expect("cannot move the folder");
    see("status_folder_gone", &world, &["status"], 3);
    refused("error_collect_folder_gone", &world, None, &["collect"], 3).await;
    // An empty folder in its place is not the storage.
    fs::create_dir(world.media()).expect("cannot make the folder");
    refused("error_collect_folder_unmounted", &world, None, &["collect"], 3).await;
    refused("error_attach_folder_unmounted", &world, None, &["attach"], 3).await;
    // What the database knows is told all the same.
    see("explain_folder_unmounted", &world, &["explain", "a.jpg"], 3);
    fs::remove_dir(world.media()).expect("it is empty still");
    fs::rename(&away, world.media()).expect("cannot move the folder back");
    world.age("a.jpg", HOUR);
    run(&world, &["collect", "--wait", "20s"]).expect(0);
    world.assert_files_follow_rows().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_4_for_a_renamed_column() {
    let world = world().await;
    world.put_doc("a.jpg").await;
    world.age("a.jpg", HOUR);
    run(&world, &["attach"]).expect(0);
    world.db.exec("delete from doc").await;
    world.db.exec("alter table doc rename column file to upload").await;
    world.db.exec("alter table doc add column file varchar(255)").await; // so that the world's own questions have an answer
    world.db.exec("insert into doc (upload) values ('a.jpg')").await;
    see("status_drift", &world, &["status"], 4);
    refused("error_collect_drift", &world, None, &["collect"], 4).await;
    refused("error_run_drift", &world, None, &["run"], 4).await;
    assert_eq!(world.files(), ["a.jpg"]);
    // The hint is the way out.
    let config = config(&world, "doc.upload").replace("url =", "grace = \"0\"\nurl =");
    run_with(&world, &config, &["attach"]).expect(0);
    run_with(&world, &config, &["collect"]).expect(0);
    assert_eq!(world.files(), ["a.jpg"], "the renamed column names it");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_4_for_a_binding_that_left_the_plan() {
    let mut world = world().await;
    run(&world, &["attach"]).expect(0);
    world.bindings = vec![rowbound::Binding::name("doc.title", "default").expect("a column")];
    refused("error_binding_not_attached", &world, None, &["collect"], 2).await;
    world.bindings.push(rowbound::Binding::name("doc.file", "default").expect("a column"));
    run(&world, &["attach"]).expect(0);
    world.bindings.pop();
    refused("error_binding_left", &world, None, &["collect"], 4).await;
    refused("error_attach_without_a_binding", &world, None, &["attach"], 4).await;
    run(&world, &["attach", "--print-sql"]).expect(4);
    refused("error_drop_unknown", &world, None, &["attach", "--drop", "doc.name"], 2).await;
    refused("error_drop_planned", &world, None, &["attach", "--drop", "doc.title"], 2).await;
    refused("error_binding_left", &world, None, &["collect"], 4).await;
    let sql = run(&world, &["attach", "--print-sql", "--drop", "doc.file"]).expect(0);
    assert!(sql.stdout.contains("DROP TRIGGER"), "{}", sql.stdout);
    see("attach_without_a_binding", &world, &["attach", "--drop", "doc.file"], 0);
    run(&world, &["attach", "--drop", "doc.file"]).expect(0);
    run(&world, &["collect"]).expect(0);
}

/// A query is dropped by its name, and a column whose table is gone as any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_dropped_by_its_name() {
    for backend in Backend::all() {
        let from = if backend == Backend::Postgres { "public.old" } else { "old" };
        let mut world = World::new(backend).await.with_docs().await;
        world.db.exec("create table old (id integer primary key, file varchar(255))").await;
        world.bindings.push(rowbound::Binding::name("old.file", "default").expect("a column"));
        world.bindings.push(rowbound::Binding::query("old files", "default", &format!("select file from {from}")));
        let rowbound = Rowbound::new(env!("CARGO_BIN_EXE_rowbound"), &world);
        rowbound.run(&["attach"]).await.expect(0);
        world.bindings.truncate(1);
        world.db.exec("drop table old").await;
        world.write_config();
        let said = rowbound.run(&["attach"]).await.expect(4).stderr;
        assert!(
            said.contains("old.file -> default") && said.contains("rowbound attach --drop old.file --drop 'old files'"),
            "{backend}: {said}"
        );
        rowbound.run(&["attach", "--drop", "old.file", "--drop", "old files"]).await.expect(0);
        rowbound.run(&["collect"]).await.expect(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_4_for_a_copied_database() {
    let world = world().await;
    world.put_doc("a.jpg").await;
    world.age("a.jpg", HOUR);
    run(&world, &["attach"]).expect(0);
    world.db.exec("delete from doc").await;
    let copy = world.db.copy().await;
    let config = config(&world, "doc.file").replace(world.db.url(), copy.url()).replace("url = \"folder", "grace = \"1h\"\nurl = \"folder");
    let hide = |text: String| text.replace(copy.url().trim_start_matches("sqlite:"), "[copy]").replace("[copy] on ", "[db] on ");
    for (name, args, status) in
        [("error_collect_copy", &["collect"] as &[&str], 4), ("error_attach_copy", &["attach"], 4), ("status_copy", &["status"], 4)]
    {
        let output = run_with(&world, &config, args).expect(status);
        snapshot!(name, hide(shown(Some(&world), args, &output)));
    }
    // The copy may be adopted, but the storage belongs to the original.
    let output = run_with(&world, &config, &["attach", "--adopt"]).expect(4);
    snapshot!("error_attach_copy_storage", hide(shown(Some(&world), &["attach", "--adopt"], &output)));
    assert_eq!(world.files(), ["a.jpg"]);
    fs::create_dir(world.folder().join("other")).expect("cannot make a folder");
    run_with(&world, &config.replace("folder:media", "folder:other"), &["attach", "--adopt"]).expect(0);
    run(&world, &["collect"]).expect(0);
    assert_eq!(world.files(), Vec::<String>::new(), "the original goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn status_1_for_what_waits_fails_or_is_busy() {
    let world = world().await.storage(|s| s.min_age(Duration::from_secs(3600)));
    world.put_doc("young.jpg").await;
    run(&world, &["attach"]).expect(0);
    world.db.exec("delete from doc").await;
    // Written when its row was gone, however slow the rest was.
    world.put_file("young.jpg", b"young.jpg");
    let left = run(&world, &["collect", "--format", "json"]).expect(1).json();
    assert_eq!((&left["waiting"], &left["left"]["default"]["total"]), (&1.into(), &1.into()));
    refused("error_restore_nothing", &world, None, &["restore", "young.jpg"], 1).await;

    // One worker on SQLite: the second says so and leaves.
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run"]);
    daemon.wait_for_line("collecting", DEADLINE).await;
    refused("error_second_worker", &world, None, &["collect"], 1).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);

    // Occupied: the trash never overwrites.
    let world = world.storage(|s| s.min_age(Duration::ZERO));
    run(&world, &["collect", "--wait", "20s", "--retry-now"]).expect(0);
    world.put_file("young.jpg", b"another");
    refused("error_restore_occupied", &world, None, &["restore", "young.jpg"], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_storage_need_not_be_named() {
    let world = world().await;
    world.put_file("a.jpg", b"a");
    let named = config(&world, "doc.file").replace("[storage.default]", "[storage.media]") + "storage = \"media\"\n";
    run_with(&world, &named, &["attach"]).expect(0);
    let output = run_with(&world, &named, &["explain", "a.jpg"]).expect(0);
    assert!(output.stdout.contains("a.jpg on media: an orphan"), "{}", output.stdout);

    fs::create_dir(world.folder().join("b")).expect("cannot make a folder");
    let two = format!("{named}[storage.b]\nurl = \"folder:b\"\n");
    run_with(&world, &two, &["attach"]).expect(0);
    refused("error_which_storage", &world, Some(&two), &["explain", "a.jpg"], 2).await;
    refused("error_no_such_storage", &world, Some(&two), &["restore", "a.jpg", "--storage", "c"], 2).await;
    run_with(&world, &two, &["explain", "a.jpg", "--storage", "media"]).expect(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_finishes_the_batch_and_ends_with_0() {
    const FILES: usize = 3000;
    let world = World::new(Backend::Sqlite).await.with_docs().await;
    let names: Vec<String> = (0..FILES).map(|i| format!("{}/{i}.jpg", i % 7)).collect();
    for name in &names {
        world.put_file(name, b"x");
    }
    for some in names.chunks(500) {
        let values: Vec<_> = some.iter().map(|n| format!("('{n}')")).collect();
        world.db.exec(&format!("insert into doc (file) values {}", values.join(", "))).await;
    }
    run(&world, &["attach"]).expect(0);
    world.db.exec("delete from doc").await;
    let daemon = Rowbound::new(BINARY, &world).spawn(&["run", "--log-format", "json", "--batch", "50", "--format", "json"]);
    daemon.wait_for_line("\"claimed\"", DEADLINE).await;
    daemon.terminate();
    let output = daemon.wait(DEADLINE).await.expect(0);

    // Each line is an object, and the batches add up to the answer on stdout.
    let lines: Vec<Value> = output.stderr.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    assert!(lines.iter().all(|l| ["timestamp", "level", "message"].iter().all(|f| l[f].is_string())), "{}", output.stderr);
    let claimed: u64 = lines.iter().filter_map(|l| l["claimed"].as_u64()).sum();
    let deleted = output.json()["outcomes"]["trashed"].as_u64().expect("deleted files");
    assert_eq!(claimed, deleted, "{}", output.stderr);
    // What is gone from the folder stands in the ledger, and only that.
    assert_eq!(FILES - world.files().len(), usize::try_from(deleted).expect("a count"));
    let ledger = world.db.query_strings("select name from rowbound_ledger where outcome = 'trashed'").await;
    assert_eq!(ledger.len() as u64, deleted);
    // The next one goes on where it stopped.
    let rest = run(&world, &["collect", "--wait", "30s", "--format", "json"]).expect(0).json();
    assert_eq!(rest["outcomes"]["trashed"].as_u64().unwrap_or(0) + deleted, FILES as u64);
}

#[test]
fn completions_and_man_pages() {
    let folder = tempfile::tempdir().expect("cannot make a folder");
    let all = commands();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = rowbound(folder.path(), &["completions", shell]).expect(0).stdout;
        for name in &all {
            assert!(script.contains(name.as_str()), "{shell} does not complete {name}");
        }
        assert!(script.contains("retry-now"), "{shell} does not complete options");
    }
    let page = rowbound(folder.path(), &["man"]).expect(0).stdout;
    assert!(page.contains(".TH rowbound 1") && page.contains("attach"), "{page}");
    rowbound(folder.path(), &["man", "--out", "pages"]).expect(0);
    for name in all.iter().filter(|c| *c != "help") {
        let path = folder.path().join(format!("pages/rowbound-{name}.1"));
        let page = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(page.contains(&format!(".TH rowbound-{name} 1")) || page.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn the_documentation_has_every_command_option_and_status() {
    let text = doc("docs/cli.md");
    let section = |title: &str| {
        let start = text.find(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("docs/cli.md has no section {title}"));
        let rest = &text[start + 4..];
        &rest[..rest.find("\n## ").unwrap_or(rest.len())]
    };
    let help = rowbound(Path::new("/"), &["--help"]).expect(0).stdout;
    let global = options(&help);
    assert!(global.len() >= 7, "{global:?}");
    for option in &global {
        assert!(section("Options of every command").contains(&format!("`{option}")), "{option}");
    }
    let mut seen = 0;
    for name in commands() {
        let here = section(&name);
        if name == "help" {
            continue;
        }
        let help = rowbound(Path::new("/"), &["help", &name]).expect(0).stdout;
        for option in options(&help).iter().filter(|o| !global.contains(o)) {
            assert!(here.contains(&format!("`{option}")), "docs/cli.md does not say `{option}` of `{name}`");
            // One that must be given stands without brackets.
            let usage = here.lines().find(|line| line.starts_with(&format!("    rowbound {name}"))).unwrap_or_default();
            assert!(
                here.contains(&format!("[{option}")) || usage.contains(&format!(" {option} ")),
                "the usage line of `{name}` lacks {option}"
            );
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} options were found");
    let statuses: Vec<&str> =
        help.split("Exit status:\n").nth(1).expect("exit statuses").lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    // The help is wrapped: a line without a number goes on from the one before.
    let joined = statuses.join(" ");
    for n in 0..=4 {
        let said = joined.split(&format!("{n}  ")).nth(1).and_then(|rest| rest.split(&format!(" {}  ", n + 1)).next()).expect("a status");
        assert!(section("Exit statuses").contains(&format!("| {n} | {said} |")), "docs/cli.md does not say of status {n}: {said}");
    }
    for (outcome, means) in Outcome::ALL {
        assert!(text.contains(&format!("| `{}` | {means} |", outcome.word())), "{outcome:?}");
    }
}

/// The fields that a part of rowbound.toml knows, out of the complaint about one that it does not.
fn fields(text: &str) -> Vec<String> {
    let error = Plan::parse(text, Path::new("/"), None, &|_| None).expect_err("an unknown field");
    let list = error.to_string();
    let list = list.split("expected one of ").nth(1).unwrap_or_else(|| panic!("{list}"));
    list.split(" (").next().unwrap_or(list).split(", ").map(|f| f.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_documentation_has_every_field_of_the_configuration() {
    let text = doc("docs/configuration.md");
    let database = fields("nope = 1");
    let storage = fields("[storage.default]\nnope = 1");
    let binding = fields("[[binding]]\nnope = 1");
    assert!(database.len() == 8 && storage.len() >= 5 && binding.len() >= 8, "{database:?} {storage:?} {binding:?}");
    let reference = fields("[[reference]]\nnope = 1");
    let hook = fields("[[hook]]\nnope = 1");
    assert!(hook.len() >= 7, "{hook:?}");
    for field in storage.iter().chain(&binding).chain(&hook).chain(reference.iter().filter(|f| *f == "name" || *f == "query")) {
        assert!(text.contains(&format!("\n| `{field}` | ")), "docs/configuration.md does not explain `{field}`");
    }
    assert!(
        ["## `database`", "## `ignore`", "## `keep_history`", "## `[barrier]`", "## `[storage.NAME]`", "## `[[binding]]`", "## `[[hook]]`"]
            .iter()
            .all(|title| text.contains(title))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mistakes_of_the_documentation_are_what_is_said() {
    let text = doc("docs/configuration.md");
    let world = world().await;
    let t = |more: &str| format!("database = \"{}\"\n[storage.default]\nurl = \"folder:media\"\n{more}", world.db.url());
    world.db.exec("create table t (f text)").await;
    let binding = "[[binding]]\ncolumn = \"t.f\"\n";
    for (config, args) in [
        (t("colour = 1\n"), "status"),
        (t("grace = 10\n"), "status"),
        (t("grace = \"10\"\n"), "status"),
        ("database = \"${DB_PASSWORD}\"".to_owned(), "status"),
        (t(binding) + "storage = \"media\"\n", "status"),
        (t("[[binding]]\ncolumn = \"nope.f\"\n"), "attach"),
        (t("[[binding]]\ncolumn = \"t.nope\"\n"), "attach"),
        (t(binding) + "kind = \"url\"\nprefix = \"https://x/media\"\n", "status"),
        (t(binding) + "[barrier]\nignore = [\"reporting\"]\n", "status"),
        (t("[storage.b]\nurl = \"folder:media/b\"\n") + binding, "status"),
    ] {
        let output = run_with(&world, &config, &[args]).expect(2);
        let said = output.stderr.lines().next().and_then(|l| l.strip_prefix("error: ")).expect("an error");
        let said = if said.starts_with("two storages overlap") { said.split(" (").next().unwrap_or(said) } else { said };
        assert!(text.contains(said), "docs/configuration.md does not say: {said}");
    }
}

/// The fenced blocks of a language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    text.split(&format!("```{language}\n")).skip(1).filter_map(|b| b.split("```").next()).collect()
}

#[test]
fn every_configuration_that_the_documentation_shows_is_one() {
    let mut seen = 0;
    for path in ["README.md", "docs/configuration.md", "crates/rowbound-cli/README.md"] {
        for block in blocks(&doc(path), "toml") {
            if let Err(e) = Plan::parse(block, Path::new("/srv/app"), None, &|_| Some("secret".to_owned())) {
                panic!("{path}: {}\n{block}", e.full());
            }
            seen += 1;
        }
    }
    assert!(seen >= 3);
}

/// Files below a folder with one of the extensions.
fn below(folder: &Path, extension: &str, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            below(&path, extension, into);
        } else if path.extension().is_some_and(|e| e == extension) {
            into.push(path);
        }
    }
}

/// The documentation that is written by hand.
fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<_> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "crates/rowbound/README.md",
        "crates/rowbound-cli/README.md",
    ]
    .iter()
    .map(|p| root().join(p))
    .collect();
    below(&root().join("docs"), "md", &mut pages);
    // Made from the test kit's table of events.
    pages.retain(|p| !p.ends_with("docs/events.md"));
    pages
}

#[test]
fn hints_and_pages_name_commands_that_exist() {
    let known = commands();
    let mut files = pages();
    for crate_name in ["rowbound", "rowbound-cli"] {
        below(&root().join("crates").join(crate_name).join("src"), "rs", &mut files);
    }
    let mut seen = 0;
    for file in files {
        let text = fs::read_to_string(&file).expect("a text");
        for before in ["`rowbound ", "$ rowbound ", "hint(\"rowbound ", "\n    rowbound ", ": rowbound "] {
            for (at, _) in text.match_indices(before) {
                let rest = &text[at + before.len()..];
                let word: String = rest.chars().take_while(|c| c.is_ascii_lowercase()).collect();
                let after = &rest[word.len()..];
                // An option or a placeholder: `rowbound --help`. In a sentence: "rowbound needs write access".
                let sentence = before.ends_with("\"rowbound ") && !after.starts_with(['"', '-']) && !after.starts_with(" --");
                if word.is_empty() || sentence || before.starts_with(':') && !after.starts_with([' ', '"', '\\', '`']) {
                    continue;
                }
                seen += 1;
                assert!(known.contains(&word), "{} tells people to run `rowbound {word}`, which does not exist", file.display());
            }
        }
    }
    assert!(seen > 80, "only {seen} commands were found");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = fs::read_to_string(&page).expect("a page");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = if path.is_empty() { page.clone() } else { page.parent().expect("a folder").join(path) };
            let Ok(there) = fs::read_to_string(&target) else {
                broken.push(format!("{}: {link}", page.display()));
                continue;
            };
            let heads = there.lines().filter_map(|l| l.strip_prefix('#')).map(|l| {
                let head = l.trim_start_matches('#').trim().to_lowercase();
                head.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_')).collect::<String>().replace(' ', "-")
            });
            if !anchor.is_empty() && !heads.into_iter().any(|h| h == anchor) {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// Whether one of these files, as far as they exist, has a test of this name.
fn stands_in(name: &str, files: &[String]) -> bool {
    files.iter().filter(|file| root().join(file).exists()).any(|file| {
        let source = doc(file);
        source.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == name)
    })
}

#[test]
fn each_program_of_tests_is_in_the_table() {
    let mut there = BTreeSet::new();
    let crates = fs::read_dir(root().join("crates")).expect("the crates").map(|entry| entry.expect("a crate").path());
    for folder in crates.chain(["examples", "examples/blog"].map(|p| root().join(p))) {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let names = |part: &str| part.lines().find_map(|l| Some(l.strip_prefix("name = \"")?.trim_end_matches('"').to_owned()));
        let package = names(&manifest).expect("a package has a name");
        let mut tests: Vec<String> = manifest.split("[[test]]").skip(1).filter_map(names).collect();
        for entry in fs::read_dir(folder.join("tests")).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|e| e == "rs") || path.join("main.rs").exists() {
                tests.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
            }
        }
        there.extend(tests.into_iter().map(|test| format!("{package}::{test}")));
    }
    let page = doc("CONTRIBUTING.md");
    let section = page.split("\n## ").find(|s| s.starts_with("Where is which test\n")).expect("CONTRIBUTING.md says where is which test");
    let rows: Vec<_> = section.lines().filter_map(|l| Some(l.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    let listed: BTreeSet<_> = rows.iter().cloned().collect();
    assert_eq!(listed.len(), rows.len(), "a program of tests stands twice in CONTRIBUTING.md");
    assert_eq!(listed.difference(&there).collect::<Vec<_>>(), [""; 0], "CONTRIBUTING.md lists what does not exist");
    assert_eq!(there.difference(&listed).collect::<Vec<_>>(), [""; 0], "CONTRIBUTING.md lacks programs of tests");
    assert!(there.len() > 70, "only {} programs of tests were found", there.len());
}

/// `make mutants` takes hours: that a test of it was given another name is seen here.
#[test]
fn the_tests_that_mutants_name_exist() {
    let mut seen = 0;
    for entry in fs::read_dir(root().join("crates/rowbound-cli/tests/mutants")).expect("the mutants") {
        let path = entry.expect("a mutant").path();
        let patch = fs::read_to_string(&path).expect("a mutant");
        let caught: Vec<_> = patch.lines().filter_map(|line| line.strip_prefix("# Caught by ")).collect();
        assert!(patch.starts_with("# ") && !caught.is_empty(), "{}: it says what it takes out, and who must notice", path.display());
        for test in caught {
            let (binary, name) = test.split_once("::").expect("binary::test");
            let name = name.rsplit("::").next().unwrap_or(name);
            let mut files: Vec<_> =
                ["rowbound", "rowbound-cli", "rowbound-testkit"].map(|of| format!("crates/{of}/tests/{binary}.rs")).into();
            let parts = ["postgres/sessions", "mysql/sessions", "mysql/servers", "mysql/primaries"];
            let of_it = parts.iter().filter(|part| part.split('/').next() == Some(binary));
            files.extend(of_it.map(|part| format!("crates/rowbound/tests/{part}.rs")));
            files.extend((binary == "database").then(|| "crates/rowbound-testkit/src/database_suite.rs".to_owned()));
            assert!(stands_in(name, &files), "{}: there is no {test}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 80, "only {seen} tests were found");
}

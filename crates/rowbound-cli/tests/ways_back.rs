//! Ways back that were walked from end to end: a database that was dumped and restored, one that was moved, copies of database and files, a synced bucket; and
//! files that come back from the trash by the hundred. `attach` says which case it is, and the command that it names is the next one; nothing is lost, and no row
//! is left without its file.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use rowbound::{RESERVED, StoragePlan, Trash, storage::Marker};
use rowbound_testkit::{
    Backend, Output, Rowbound, World,
    s3::{S3Bucket, S3Kind, S3Server},
    wait_until,
};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
const DAY: Trash = Trash::Keep(Duration::from_secs(86_400));

fn rowbound(world: &World) -> Rowbound {
    Rowbound::new(BINARY, world).env("ROWBOUND_STATE", &world.folder().join("state").display().to_string())
}

fn marker(media: &Path) -> Marker {
    let text = std::fs::read_to_string(media.join(RESERVED).join(rowbound::storage::MARKER)).expect("a marker");
    serde_json::from_str(&text).expect("a marker")
}

/// The same database, seen as another world: with its own folder for configuration, and the storage of `of`.
fn world_of(db: rowbound_testkit::TestDb, of: &World) -> World {
    let mut world = World::with(db);
    world.bindings = of.bindings.clone();
    world.storage = of.storage.clone();
    world
}

/// The command after `rowbound` that a refused attach names, at `nth` of those it names.
fn named(refused: &Output, nth: usize) -> Vec<String> {
    let commands: Vec<&str> = refused.stderr.split("rowbound attach").skip(1).collect();
    // The first is the one that was typed, where the message quotes none.
    let rest = commands.get(nth).unwrap_or_else(|| panic!("no command in {}", refused.stderr));
    let mut words = vec!["attach".to_owned()];
    let mut value = false;
    for word in rest.split_whitespace() {
        if !word.starts_with("--") && !value {
            break;
        }
        value = ["--forget-installation", "--adopt-storage"].contains(&word);
        words.push(word.trim_end_matches(['.', ',', ';', '`', ')']).to_owned());
    }
    words
}

/// A way back: what was typed and said on it. Its row of the table is printed at its end.
struct Walk {
    way: &'static str,
    backend: Backend,
    /// Two minutes of `run` at the end, instead of a moment.
    whole: bool,
    typed: Vec<String>,
}

impl Walk {
    fn new(way: &'static str, backend: Backend, whole: bool) -> Walk {
        Walk { way, backend, whole, typed: Vec::new() }
    }

    async fn types(&mut self, rowbound: &Rowbound, command: &[&str], status: i32) -> Output {
        let output = rowbound.run(command).await.expect(status);
        let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        self.typed.push(format!("`{}`: {status} {}", command.join(" "), said.lines().next().unwrap_or_default()));
        output
    }

    /// Files stay there while `run` runs.
    async fn runs(&self, rowbound: &Rowbound) {
        let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        if self.whole {
            tokio::time::sleep(Duration::from_secs(120)).await;
        }
        daemon.terminate();
        daemon.wait(DEADLINE).await.expect(0);
    }

    /// Everything works, and no row is without its file.
    async fn ends(&self, world: &World, rowbound: &Rowbound, media: &Path) {
        works(world, rowbound, media).await;
        if self.whole {
            self.runs(rowbound).await;
        }
        let lost: Vec<String> = world.refs().await.into_iter().filter(|name| !media.join(name).exists()).collect();
        self.row(&lost);
    }

    fn row(&self, lost: &[String]) {
        println!("| {} | {} | {} | lost: {lost:?} |", self.way, self.backend, self.typed.join("; "));
        assert!(lost.is_empty(), "{}: {lost:?}", self.way);
    }
}

fn words(command: &[String]) -> Vec<&str> {
    command.iter().map(String::as_str).collect()
}

/// Everything works: what is released goes, what is referenced stays, no row is left without its file.
async fn works(world: &World, rowbound: &Rowbound, media: &Path) {
    for name in ["works/kept.jpg", "works/gone.jpg"] {
        std::fs::create_dir_all(media.join("works")).expect("a folder");
        std::fs::write(media.join(name), name).expect("a file");
        world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    world.db.exec("delete from doc where file = 'works/gone.jpg'").await;
    let daemon = rowbound.spawn(&["run", "--poll", "20ms"]);
    daemon.until(DEADLINE, "it collects", || async { !media.join("works/gone.jpg").exists() }).await;
    daemon.terminate();
    daemon.wait(DEADLINE).await.expect(0);
    rowbound.run(&["status"]).await.expect(0);
    let swept = rowbound.run(&["sweep", "--format", "json", "--max-share", "1"]).await.json();
    assert_eq!(swept["storages"][0]["dangling"], 0, "{swept}");
    assert!(media.join("works/kept.jpg").exists());
}

/// User, password, host and port of a server's URL.
fn login(url: &str) -> (String, String, String, String) {
    let rest = url.split_once("://").expect("a URL").1;
    let (login, rest) = rest.rsplit_once('@').expect("a login");
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (host, port) = rest.split('/').next().expect("a host").split_once(':').expect("a port");
    (user.to_owned(), password.to_owned(), host.to_owned(), port.to_owned())
}

fn client(backend: Backend, program: &str, url: &str) -> Command {
    let (user, password, host, port) = login(url);
    let mut command = Command::new(program);
    match backend {
        Backend::Postgres => command.env("PGPASSWORD", password).args(["-h", &host, "-p", &port, "-U", &user]),
        _ => command.env("MYSQL_PWD", password).args(["-h", &host, "-P", &port, "-u", &user, "--protocol=tcp"]),
    };
    command
}

fn must(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn fed(command: &mut Command, input: &[u8]) {
    use std::io::Write;
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a client");
    child.stdin.take().expect("stdin").write_all(input).expect("written");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Dumps the database, drops it, makes it again and restores the dump into it, as an operator would.
async fn dumped_and_restored(world: &World) {
    world.db.close_app().await;
    let (backend, url, name) = (world.db.backend(), world.db.url().to_owned(), world.db.name());
    match backend {
        Backend::Sqlite => {
            let file = world.db.file();
            let dump = must(Command::new("sqlite3").arg(&file).arg(".dump"));
            for suffix in ["", "-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{suffix}", file.display()));
            }
            fed(Command::new("sqlite3").arg(&file), &dump);
        }
        Backend::Postgres => {
            let dump = must(client(backend, "pg_dump", &url).arg(&name));
            let sql =
                format!("drop database {name} with (force); create database {name} template template0 encoding 'UTF8' locale 'C.UTF-8'");
            for statement in sql.split("; ") {
                must(client(backend, "psql", &url).args(["-d", "postgres", "-c", statement]));
            }
            fed(client(backend, "psql", &url).args(["-v", "ON_ERROR_STOP=1", "-q", "-d", &name]), &dump);
        }
        _ => {
            let dump = must(client(backend, "mariadb-dump", &url).args(["--triggers", "--skip-ssl", &name]));
            let sql = format!("drop database {name}; create database {name} character set utf8mb4");
            must(client(backend, "mariadb", &url).args(["--skip-ssl", "-e", &sql]));
            fed(client(backend, "mariadb", &url).args(["--skip-ssl", &name]), &dump);
        }
    }
}

/// A dump is restored in the database's own place.
async fn restored_in_place(backend: Backend, whole: bool) {
    let mut walk = Walk::new("dump and restore in place", backend, whole);
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    let rowbound = rowbound(&world);
    rowbound.run(&["attach"]).await.expect(0);
    let first = marker(&world.media());
    world.put_doc("a.jpg").await;
    world.put_doc("b.jpg").await;
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    dumped_and_restored(&world).await;
    match backend {
        // The dump is restored into a file of the same name, beside the file by which it is known.
        Backend::Sqlite => {}
        _ => {
            for command in [&["run"][..], &["collect"], &["status"]] {
                rowbound.run(command).await.expect(4);
            }
            let refused = walk.types(&rowbound, &["attach"], 4).await;
            let command = named(&refused, 0);
            // That the original is gone only a person knows.
            assert_eq!(command, ["attach", "--adopt", "--forget-installation", &first.installations[0]], "{}", refused.stderr);
            walk.types(&rowbound, &words(&command), 0).await;
            let now = marker(&world.media());
            assert_eq!(now.storage, first.storage);
            assert!(now.installations.len() == 1 && now.installations != first.installations, "{now:?}");
        }
    }
    walk.types(&rowbound, &["attach"], 0).await;
    walk.ends(&world, &rowbound, &world.media()).await;
    assert!(world.is_there("a.jpg") && !world.is_there("b.jpg"), "{:?}", world.files());
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_dump_restored_in_place_goes_on() {
    restored_in_place(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_dump_restored_in_place_goes_on() {
    restored_in_place(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_dump_restored_in_place_goes_on() {
    restored_in_place(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_dump_restored_in_place_goes_on() {
    restored_in_place(Backend::Mysql, false).await;
}

/// A dump is restored elsewhere, while the original lives: its storage is not to be had, whatever is typed without naming the original.
async fn restored_elsewhere(backend: Backend, whole: bool) {
    let mut walk = Walk::new("dump and restore elsewhere", backend, whole);
    let original = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    rowbound(&original).run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    let was = marker(&original.media());
    let copy = world_of(original.db.copy().await, &original);
    let refused = walk.types(&rowbound(&copy), &["attach"], 4).await;
    for text in ["its storages are those of the original", "storages of its own", "--forget-installation"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    for command in [&["attach", "--adopt"][..], &["attach", "--adopt", "--adopt-storage", "default"]] {
        let refused = walk.types(&rowbound(&copy), command, 4).await;
        assert!(refused.stderr.contains("the database that this one was copied or moved from"), "{command:?}: {}", refused.stderr);
    }
    assert_eq!(marker(&original.media()), was);
    works(&original, &rowbound(&original), &original.media()).await;

    // With storages of its own it is told that it has them.
    let mut copy = copy;
    let own = copy.media();
    copy.storage.location = StoragePlan::folder("default", &own).location;
    copy.put_file("a.jpg", b"1");
    let refused = rowbound(&copy).run(&["attach"]).await.expect(4);
    assert_eq!(named(&refused, 0), ["attach", "--adopt"], "{}", refused.stderr);
    walk.types(&rowbound(&copy), &["attach", "--adopt"], 0).await;
    walk.ends(&copy, &rowbound(&copy), &own).await;
    walk.ends(&original, &rowbound(&original), &original.media()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_copy_does_not_get_the_originals_storage() {
    restored_elsewhere(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_copy_does_not_get_the_originals_storage() {
    restored_elsewhere(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_copy_does_not_get_the_originals_storage() {
    restored_elsewhere(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_copy_does_not_get_the_originals_storage() {
    restored_elsewhere(Backend::Mysql, false).await;
}

/// The SQLite file is moved with what lies beside it.
async fn moved(whole: bool) {
    let mut walk = Walk::new("move", Backend::Sqlite, whole);
    let world = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| s.trash(DAY));
    rowbound(&world).run(&["attach"]).await.expect(0);
    let first = marker(&world.media());
    world.put_doc("a.jpg").await;
    world.db.close_app().await;
    let (from, to) = (world.db.file(), world.db.file().with_file_name("moved"));
    std::fs::create_dir(&to).expect("a folder");
    for suffix in ["", "-wal", "-shm", "-rowbound.id", "-rowbound.lock"] {
        let of = |path: &Path| std::path::PathBuf::from(format!("{}{suffix}", path.display()));
        if of(&from).exists() {
            std::fs::rename(of(&from), of(&to.join("app.sqlite3"))).expect("moved");
        }
    }
    let database = format!("sqlite:{}", to.join("app.sqlite3").display());
    let refused = walk.types(&rowbound(&world), &["attach", "--database", &database], 4).await;
    let mut command = named(&refused, 0);
    // A container without a machine id may be another machine.
    if std::fs::read_to_string("/etc/machine-id").is_ok_and(|id| id.trim().len() == 32) {
        assert!(refused.stderr.contains("has moved since it was attached"), "{}", refused.stderr);
        assert_eq!(command, ["attach", "--adopt"], "{}", refused.stderr);
    } else {
        assert_eq!(command, ["attach", "--adopt", "--forget-installation", &first.installations[0]], "{}", refused.stderr);
    }
    command.extend(["--database".to_owned(), database.clone()]);
    walk.types(&rowbound(&world), &words(&command), 0).await;
    let now = marker(&world.media());
    assert!(now.installations.len() == 1 && now.installations != first.installations, "{now:?}");
    walk.types(&rowbound(&world), &["collect", "--database", &database], 0).await;
    walk.runs(&Rowbound::new(BINARY, &world).before(&["--database", &database])).await;
    assert_eq!(world.files(), ["a.jpg"]);
    walk.row(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_database_that_was_moved_goes_on() {
    moved(false).await;
}

/// `cp -a` of database and files, as staging: both are copies, and the original goes on.
async fn copied_with_its_files(backend: Backend, whole: bool) {
    let mut walk = Walk::new("copy of database and files", backend, whole);
    let original = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    rowbound(&original).run(&["attach"]).await.expect(0);
    let was = marker(&original.media());
    original.put_doc("a.jpg").await;
    original.put_doc("b.jpg").await;
    original.db.exec("delete from doc where file = 'b.jpg'").await;
    let mut copy = world_of(original.db.copy().await, &original);
    let own = copy.folder().join("copied");
    must(Command::new("cp").arg("-a").arg(original.media()).arg(&own));
    copy.storage.location = StoragePlan::folder("default", &own).location;
    let refused = walk.types(&rowbound(&copy), &["attach"], 4).await;
    assert!(refused.stderr.contains("a copy, and so are the files"), "{}", refused.stderr);
    let command = named(&refused, 0);
    assert_eq!(command, ["attach", "--adopt", "--adopt-storage", "default"], "{}", refused.stderr);
    // Only that word does it.
    let refused = rowbound(&copy).run(&["attach", "--adopt"]).await.expect(4);
    assert!(refused.stderr.contains("copied together with its marker"), "{}", refused.stderr);
    walk.types(&rowbound(&copy), &words(&command), 0).await;
    let now = marker(&own);
    assert!(now.storage != was.storage && now.installations.len() == 1 && now.installations != was.installations, "{now:?}");
    assert_eq!(marker(&original.media()), was);
    walk.ends(&copy, &rowbound(&copy), &own).await;
    walk.ends(&original, &rowbound(&original), &original.media()).await;
    for media in [&own, &original.media()] {
        assert!(media.join("a.jpg").exists() && !media.join("b.jpg").exists(), "{}", media.display());
    }
    // The files of another database, copied: the same word.
    let third = World::new(backend).await.with_docs().await;
    let theirs = third.folder().join("theirs");
    must(Command::new("cp").arg("-a").arg(original.media()).arg(&theirs));
    let third = third.storage(|s| StoragePlan { location: StoragePlan::folder("default", &theirs).location, ..s });
    let refused = rowbound(&third).run(&["attach"]).await.expect(4);
    assert_eq!(named(&refused, 0), ["attach", "--adopt-storage", "default"], "{}", refused.stderr);
    rowbound(&third).run(&["attach", "--adopt-storage", "default"]).await.expect(0);
    assert_ne!(marker(&theirs).storage, was.storage);
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_copy_of_database_and_files_is_a_storage_of_its_own() {
    copied_with_its_files(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_copy_of_database_and_files_is_a_storage_of_its_own() {
    copied_with_its_files(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_copy_of_database_and_files_is_a_storage_of_its_own() {
    copied_with_its_files(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_copy_of_database_and_files_is_a_storage_of_its_own() {
    copied_with_its_files(Backend::Mysql, false).await;
}

/// Every object of one bucket, copied to another, as `aws s3 sync` does.
async fn sync(from: &S3Bucket, to: &S3Bucket) {
    for key in from.keys("").await {
        to.put(&key, &from.get(&key).await.expect("an object")).await;
    }
}

async fn synced(backend: Backend, whole: bool) {
    let mut walk = Walk::new("synced bucket", backend, whole);
    let server = S3Server::start(S3Kind::S3sFs);
    let (bucket, synced) = (server.bucket().await, server.bucket().await);
    let on_server = |world: &World| server.env().iter().fold(rowbound(world), |r, (name, value)| r.env(name, value));
    let location = bucket.location("media/");
    let original = World::new(backend).await.with_docs().await.storage(|s| StoragePlan { location, ..s });
    on_server(&original).run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "b.jpg"] {
        bucket.put(&format!("media/{name}"), b"1").await;
        original.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    original.db.exec("delete from doc where file = 'b.jpg'").await;
    let mut copy = world_of(original.db.copy().await, &original);
    sync(&bucket, &synced).await;
    copy.storage.location = synced.location("media/");
    let refused = walk.types(&on_server(&copy), &["attach"], 4).await;
    let command = named(&refused, 0);
    assert_eq!(command, ["attach", "--adopt", "--adopt-storage", "default"], "{}", refused.stderr);
    walk.types(&on_server(&copy), &words(&command), 0).await;
    on_server(&copy).run(&["collect"]).await.expect(0);
    assert!(synced.get("media/b.jpg").await.is_none() && bucket.get("media/b.jpg").await.is_some());
    on_server(&original).run(&["collect"]).await.expect(0);
    assert!(bucket.get("media/b.jpg").await.is_none() && bucket.get("media/a.jpg").await.is_some());
    for (world, bucket) in [(&copy, &synced), (&original, &bucket)] {
        walk.runs(&on_server(world)).await;
        let keys = bucket.keys("media/").await;
        walk.row(&world.refs().await.into_iter().filter(|name| !keys.contains(&format!("media/{name}"))).collect::<Vec<_>>());
    }
    // The original's bucket itself is not to be had by that word.
    copy.storage.location = bucket.location("media/");
    on_server(&copy).run(&["attach", "--adopt-storage", "default"]).await.expect(4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synced_bucket_is_a_storage_of_its_own() {
    synced(Backend::Sqlite, false).await;
}

/// A copy that is not needed is cleaned: that leaves the original everything.
async fn detached_copy(backend: Backend, whole: bool) {
    let mut walk = Walk::new("detach on a copy", backend, whole);
    let original = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    rowbound(&original).run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    let was = marker(&original.media());
    let copy = world_of(original.db.copy().await, &original);
    let refused = walk.types(&rowbound(&copy), &["detach"], 4).await;
    assert!(refused.stderr.contains("rowbound detach --copy"), "{}", refused.stderr);
    walk.types(&rowbound(&copy), &["detach", "--copy"], 0).await;
    assert_eq!(marker(&original.media()), was);
    copy.db.exec("delete from doc").await;
    walk.ends(&original, &rowbound(&original), &original.media()).await;
    assert!(original.is_there("a.jpg"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_a_copy_that_is_detached_leaves_the_original_everything() {
    detached_copy(Backend::Sqlite, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_a_copy_that_is_detached_leaves_the_original_everything() {
    detached_copy(Backend::Postgres, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_a_copy_that_is_detached_leaves_the_original_everything() {
    detached_copy(Backend::Mariadb, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_a_copy_that_is_detached_leaves_the_original_everything() {
    detached_copy(Backend::Mysql, false).await;
}

/// Every way back with two minutes of `run` at its end.
async fn all_ways(backend: Backend) {
    restored_in_place(backend, true).await;
    restored_elsewhere(backend, true).await;
    if backend == Backend::Sqlite {
        moved(true).await;
    }
    copied_with_its_files(backend, true).await;
    synced(backend, true).await;
    detached_copy(backend, true).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_ways_back_on_sqlite() {
    all_ways(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_ways_back_on_postgres() {
    all_ways(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_ways_back_on_mariadb() {
    all_ways(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "soak"]
async fn soak_ways_back_on_mysql() {
    all_ways(Backend::Mysql).await;
}

/// A mirror at another service has the same name: nobody can tell, so all cases are named.
#[tokio::test(flavor = "multi_thread")]
async fn a_mirrored_bucket_names_every_case() {
    let (server, other) = (S3Server::start(S3Kind::S3sFs), S3Server::start(S3Kind::S3sFs));
    let bucket = server.bucket().await;
    let location = bucket.location("media/");
    let original = World::new(Backend::Sqlite).await.with_docs().await.storage(|s| StoragePlan { location, ..s });
    let on = |server: &S3Server, world: &World| server.env().iter().fold(rowbound(world), |r, (name, value)| r.env(name, value));
    on(&server, &original).run(&["attach"]).await.expect(0);
    let mut copy = world_of(original.db.copy().await, &original);
    let mirror = other.client();
    mirror.create_bucket().bucket(bucket.name()).send().await.expect("a bucket");
    for key in bucket.keys("").await {
        let body = bucket.get(&key).await.expect("an object");
        mirror.put_object().bucket(bucket.name()).key(&key).body(body.into()).send().await.expect("put");
    }
    copy.storage.location = bucket.location_at(&other.endpoint(), "media/");
    let refused = on(&other, &copy).run(&["attach"]).await.expect(4);
    for text in ["(1) these files are this database's own now", "(2) the original still uses these files"] {
        assert!(refused.stderr.contains(text), "{text}: {}", refused.stderr);
    }
    let command = named(&refused, 0);
    assert_eq!(command[..3], ["attach", "--adopt", "--forget-installation"], "{}", refused.stderr);
    // It may be the original's bucket, seen through another address.
    for more in [&["attach", "--adopt"][..], &["attach", "--adopt", "--adopt-storage", "default"]] {
        on(&other, &copy).run(more).await.expect(4);
    }
    on(&other, &copy).run(&words(&command)).await.expect(0);
    on(&other, &copy).run(&["collect"]).await.expect(0);
    on(&server, &original).run(&["collect"]).await.expect(0);
}

/// The folder came back from a backup to its old path, or a copy lies under the same path on another machine: the marker does not tell which. What it holds is
/// not taken away by `--adopt-storage` alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_may_be_a_copy_needs_the_original_to_be_named() {
    let original = World::new(Backend::Sqlite).await.with_docs().await;
    rowbound(&original).run(&["attach"]).await.expect(0);
    original.put_doc("a.jpg").await;
    let mut was = marker(&original.media());
    // As the former version wrote it.
    was.written = None;
    let path = original.media().join(RESERVED).join(rowbound::storage::MARKER);
    std::fs::write(&path, serde_json::to_string(&was).expect("JSON")).expect("the marker");
    let copy = world_of(original.db.copy().await, &original);
    for command in [&["attach", "--adopt"][..], &["attach", "--adopt", "--adopt-storage", "default"]] {
        let refused = rowbound(&copy).run(command).await.expect(4);
        assert!(refused.stderr.contains("--forget-installation"), "{command:?}: {}", refused.stderr);
        assert_eq!(marker(&original.media()), was, "{command:?}");
    }
    let id = was.installations[0].clone();
    rowbound(&copy).run(&["attach", "--adopt", "--adopt-storage", "default", "--forget-installation", &id]).await.expect(0);
    let now = marker(&original.media());
    assert!(now.storage != was.storage && now.installations.len() == 1 && now.installations != was.installations, "{now:?}");
    // The original stops.
    assert_ne!(rowbound(&original).run(&["collect"]).await.code, Some(0));
}

/// On a copied database nothing is brought back by the hundred, as nothing is collected; and the installation that its record tells of is the original's.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_restores_nothing_by_the_hundred() {
    let (original, _) = with_trash(Backend::Sqlite).await;
    let copy = world_of(original.db.copy().await, &original);
    let list = copy.folder().join("list");
    std::fs::write(&list, "early/1.jpg\n").expect("a list");
    let list = list.display().to_string();
    for options in [&["--all"][..], &["--prefix", "early/"], &["--since", "1d"], &["--from", list.as_str()]] {
        let command = [&["restore"][..], options, &["--yes"]].concat();
        let refused = rowbound(&copy).run(&command).await.expect(4);
        assert!(refused.stderr.contains("it is a copy, or it has moved"), "{options:?}: {}", refused.stderr);
    }
    assert_eq!(original.files(), [""; 0]);
    let users = |world: &World| {
        let rowbound = rowbound(world);
        async move { rowbound.run(&["installations", "--format", "json"]).await.expect(0).json()[0]["own"].as_bool() }
    };
    assert_eq!((users(&original).await, users(&copy).await), (Some(true), Some(false)));
    rowbound(&original).run(&["restore", "--all", "--yes"]).await.expect(0);
}

/// Who uses a storage is shown, and one that no longer exists is removed.
async fn installations(backend: Backend) {
    let ours = World::new(backend).await.with_docs().await;
    let mut theirs = World::new(backend).await.with_docs().await;
    theirs.storage = ours.storage.clone();
    rowbound(&ours).run(&["attach"]).await.expect(0);
    rowbound(&theirs).run(&["attach", "--shared"]).await.expect(0);
    let shown = rowbound(&ours).run(&["installations"]).await.expect(0).stdout;
    assert_eq!(shown.lines().filter(|line| line.contains("this database")).count(), 1, "{shown}");
    let users = rowbound(&ours).run(&["installations", "--format", "json"]).await.expect(0).json();
    let users = users.as_array().expect("a list").clone();
    assert_eq!(users.iter().map(|u| u["own"].as_bool()).collect::<Vec<_>>(), [Some(true), Some(false)], "{users:?}");
    let (own, other) = (users[0]["installation"].as_str().expect("an id"), users[1]["installation"].as_str().expect("an id"));
    let database = users[1]["database"].as_str().expect("a database");
    let name = theirs.db.name();
    assert!(database.contains(name.rsplit('/').next().unwrap_or(&name)) && !database.contains("rowbound:rowbound"), "{database}");

    rowbound(&ours).run(&["installations", "--remove", own]).await.expect(2);
    rowbound(&ours).run(&["installations", "--remove", "no such"]).await.expect(2);
    rowbound(&ours).run(&["installations", "--remove", other, "--storage", "no such"]).await.expect(2);
    rowbound(&ours).run(&["installations", "--remove", other]).await.expect(0);
    assert_eq!(marker(&ours.media()).installations, [own]);
    assert_eq!(marker(&ours.media()).databases.keys().collect::<Vec<_>>(), [own]);
    rowbound(&ours).run(&["collect"]).await.expect(0);
    // Whoever lives all the same stops.
    rowbound(&theirs).run(&["collect"]).await.expect(4);
    // Also a database that is attached to nothing removes what is dead.
    let third = World::new(backend).await.with_docs().await.storage(|_| ours.storage.clone());
    rowbound(&third).run(&["attach"]).await.expect(4);
    rowbound(&third).run(&["installations", "--remove", own]).await.expect(0);
    rowbound(&third).run(&["attach"]).await.expect(0);
    works(&third, &rowbound(&third), &ours.media()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_installations_are_shown_and_removed() {
    installations(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_installations_are_shown_and_removed() {
    installations(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_installations_are_shown_and_removed() {
    installations(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_installations_are_shown_and_removed() {
    installations(Backend::Mysql).await;
}

/// A world with files in its trash: `early/0..` was moved before the moment that is returned, `late/0..` after it.
async fn with_trash(backend: Backend) -> (World, String) {
    let world = World::new(backend).await.with_docs().await.storage(|s| s.trash(DAY));
    rowbound(&world).run(&["attach"]).await.expect(0);
    let mut moment = String::new();
    for folder in ["early", "late"] {
        for i in 0..3 {
            world.put_doc(&format!("{folder}/{i}.jpg")).await;
        }
        world.db.exec("delete from doc").await;
        rowbound(&world).run(&["collect"]).await.expect(0);
        if folder == "early" {
            let entry = rowbound(&world).run(&["history", "--limit", "1", "--format", "json"]).await.expect(0).json();
            moment = entry[0]["at"].as_str().expect("a moment").to_owned();
            // Moments are told apart.
            let at: Timestamp = moment.parse().expect("a moment");
            wait_until(DEADLINE, "time goes on", || async { at + Duration::from_secs(1) < Timestamp::now() }).await;
            moment = (at + Duration::from_millis(500)).to_string();
        }
    }
    (world, moment)
}

async fn restores(backend: Backend) {
    let (world, since) = with_trash(backend).await;
    let names = |folder: &str| (0..3).map(|i| format!("{folder}/{i}.jpg")).collect::<Vec<_>>();
    let list = world.folder().join("list");
    std::fs::write(&list, "early/1.jpg\nlate/2.jpg\nnever.jpg\n").expect("a list");
    let list = list.display().to_string();
    let cases: Vec<(Vec<&str>, Vec<String>, i32)> = vec![
        (vec!["--since", &since], names("late"), 0),
        (vec!["--prefix", "early/", "--since", &since], vec![], 0),
        (vec!["--prefix", "early/"], names("early"), 0),
        (vec!["--since", "1d"], [names("early"), names("late")].concat(), 0),
        (vec!["--all"], [names("early"), names("late")].concat(), 0),
        (vec!["--from", &list], vec!["early/1.jpg".to_owned(), "late/2.jpg".to_owned()], 1),
        (vec!["--from", &list, "--prefix", "late/"], vec!["late/2.jpg".to_owned()], 0),
    ];
    for (options, expected, status) in cases {
        let trashed = world.trashed();
        // What would be done is shown first, and nothing is changed.
        let command = [&["restore"], &options[..], &["--format", "json"]].concat();
        let shown = rowbound(&world).run(&command).await.expect(status).json();
        let found = |answer: &serde_json::Value| -> Vec<String> {
            answer["restored"].as_array().expect("a list").iter().map(|f| f["name"].as_str().expect("a name").to_owned()).collect()
        };
        assert_eq!((found(&shown), &shown["dry_run"]), (expected.clone(), &true.into()), "{options:?}");
        assert_eq!((world.files(), world.trashed()), (vec![], trashed.clone()), "{options:?}");
        let text = rowbound(&world).run(&[&["restore"], &options[..]].concat()).await.expect(status).stdout;
        assert!(text.contains("add --yes"), "{options:?}: {text}");

        let done = rowbound(&world).run(&[&command[..], &["--yes"]].concat()).await.expect(status).json();
        assert_eq!((found(&done), &done["dry_run"]), (expected.clone(), &false.into()), "{options:?}");
        assert_eq!(world.files(), expected, "{options:?}");
        for name in &expected {
            assert_eq!(world.outcomes(name).await.last().map(String::as_str), Some("restored"), "{options:?}");
            assert_eq!(world.holds(name), *name);
        }
        // And back into the trash.
        for name in &expected {
            world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
        }
        world.db.exec("delete from doc").await;
        rowbound(&world).run(&["collect"]).await.expect(0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_many_files_come_back_at_once() {
    restores(Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_many_files_come_back_at_once() {
    restores(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_many_files_come_back_at_once() {
    restores(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_many_files_come_back_at_once() {
    restores(Backend::Mysql).await;
}

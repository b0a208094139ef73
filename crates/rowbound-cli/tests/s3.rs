//! The real binary on real S3 servers: an application that overwrites, servers that go away, answers that lie about half a batch, workers that
//! are killed.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use rand::Rng;
use rowbound::{
    StoragePlan, Trash,
    plan::{Call, Hook},
};
use rowbound_testkit::{
    Backend, Rowbound, Running, World,
    faults::{Ask, Fault, FaultProxy, Rule},
    s3::{S3Bucket, S3Kind, S3Server},
    wait_until,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);
/// What every key of the storage begins with; the bucket holds others beside them.
const PREFIX: &str = "media/";

/// An application with its rows in a database and its files in a bucket.
struct Shop {
    world: World,
    server: S3Server,
    bucket: S3Bucket,
}

impl Shop {
    /// A table `doc` bound to a fresh bucket, attached.
    async fn open(kind: S3Kind, backend: Backend, change: impl FnOnce(StoragePlan) -> StoragePlan) -> Shop {
        let server = S3Server::start(kind);
        let bucket = server.bucket().await;
        let location = bucket.location(PREFIX);
        Self::attached(server, bucket, backend, |plan| change(StoragePlan { location, ..plan })).await
    }

    async fn attached(server: S3Server, bucket: S3Bucket, backend: Backend, change: impl FnOnce(StoragePlan) -> StoragePlan) -> Shop {
        let world = World::new(backend).await.with_docs().await.storage(change);
        let shop = Shop { world, server, bucket };
        shop.rowbound().run(&["attach"]).await.expect(0);
        shop
    }

    fn rowbound(&self) -> Rowbound {
        let start = Rowbound::new(BINARY, &self.world).env("ROWBOUND_LOG", "info");
        self.server.env().iter().fold(start, |rowbound, (name, value)| rowbound.env(name, value))
    }

    async fn daemon(&self) -> Running {
        let daemon = self.rowbound().spawn(&["run", "--poll", "50ms"]);
        daemon.wait_for_line("collecting", DEADLINE).await;
        daemon
    }

    async fn put(&self, name: &str) {
        self.bucket.put(&format!("{PREFIX}{name}"), name.as_bytes()).await;
    }

    /// Files and the rows that reference them.
    async fn put_docs(&self, names: impl Iterator<Item = String>) {
        let names: Vec<String> = names.collect();
        for some in names.chunks(32) {
            futures_util::future::join_all(some.iter().map(|name| self.put(name))).await;
            let values: Vec<_> = some.iter().map(|name| format!("({})", self.world.db.backend().literal(name))).collect();
            self.world.db.exec(&format!("insert into doc (file) values {}", values.join(", "))).await;
        }
    }

    /// The names of the files that are there.
    async fn files(&self) -> BTreeSet<String> {
        let keys = self.bucket.keys(PREFIX).await;
        let names = keys.iter().map(|key| key[PREFIX.len()..].to_owned());
        names.filter(|name| !name.starts_with(".rowbound/")).collect()
    }

    async fn refs(&self) -> BTreeSet<String> {
        self.world.refs().await.into_iter().collect()
    }

    /// Until the files are those that rows reference.
    async fn followed(&self, daemon: &Running) {
        daemon.until(3 * DEADLINE, "the files follow the rows", || async { self.files().await == self.refs().await }).await;
    }

    /// Drains the queue: status 0, and nothing is lost or left.
    async fn drained(&self) {
        self.rowbound().run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
        let (files, refs) = (self.files().await, self.refs().await);
        let leaked: Vec<_> = files.difference(&refs).collect();
        let lost: Vec<_> = refs.difference(&files).collect();
        assert!(leaked.is_empty() && lost.is_empty(), "leaked (file, no row): {leaked:?}\nlost (row, no file): {lost:?}");
    }

    async fn ends(&self, daemon: Running) {
        daemon.terminate();
        daemon.wait(DEADLINE).await.expect(0);
    }
}

/// More files than a batch of SQLite has, where nothing is leased and a bucket's moves wait for their second check: one `collect` takes them all.
#[tokio::test(flavor = "multi_thread")]
async fn s3_one_collect_on_sqlite_takes_more_than_a_batch() {
    let shop = Shop::open(S3Kind::S3sFs, Backend::Sqlite, |s| s).await;
    shop.put_docs((0..1_200).map(|n| format!("{n}.jpg"))).await;
    shop.world.db.exec("delete from doc").await;
    shop.rowbound().run(&["collect"]).await.expect(0);
    let ledger = shop.world.own_table("ledger");
    assert_eq!(shop.files().await.len(), 0);
    assert_eq!(shop.world.count(&ledger).await, 1_200, "each once");
}

/// Many files go, in several requests; what lies beside the prefix, and what rows reference, stays.
async fn follows_rows(kind: S3Kind, backend: Backend) {
    let shop = Shop::open(kind, backend, |s| s).await;
    shop.bucket.put("beside.txt", b"not ours").await;
    shop.bucket.put("mediaX/1.jpg", b"not ours").await;
    shop.put_docs((0..1_200).map(|n| format!("2026/11/{:02}/{n}.jpg", n % 30))).await;
    shop.world.db.exec("delete from doc where id % 10 <> 0").await;
    shop.world.db.exec("update doc set file = '' where id % 20 = 0").await;
    shop.drained().await;
    assert_eq!(shop.files().await.len(), 60);
    assert_eq!(shop.bucket.get("beside.txt").await.as_deref(), Some(&b"not ours"[..]));
    assert_eq!(shop.bucket.get("mediaX/1.jpg").await.as_deref(), Some(&b"not ours"[..]));
    shop.rowbound().run(&["detach"]).await.expect(0);
    assert_eq!(shop.bucket.keys(&format!("{PREFIX}.rowbound/")).await, [""; 0], "detach leaves nothing of ours");
}

/// Keys that a file system would take for others.
const NO_PATHS: [&str; 8] = ["a//b.jpg", "./x.jpg", "../x.jpg", "d/./y.jpg", "d/../x.jpg", "/abs.jpg", "//abs.jpg", "folder/"];

/// Those others.
const THEIR_NEIGHBOURS: [&str; 6] = ["a/b.jpg", "x.jpg", "d/y.jpg", "abs.jpg", "folder", "folder/1.jpg"];

/// Keys that S3 allows are names like any other: each goes with its row, comes back, and is found by a sweep; what a file system would take for it stays. So does
/// an orphan that a row may mean by another spelling, under which nothing lies.
async fn every_key_is_a_name(prefix: &'static str) {
    let server = S3Server::start(S3Kind::Moto);
    let bucket = server.bucket().await;
    let location = bucket.location(prefix);
    let trash = Trash::Keep(Duration::from_secs(86_400));
    let shop = Shop::attached(server, bucket, Backend::Sqlite, |plan| StoragePlan { location, ..plan }.trash(trash)).await;
    let files = async || -> BTreeSet<String> {
        let keys = shop.bucket.keys(prefix).await;
        keys.iter().map(|key| key[prefix.len()..].to_owned()).filter(|name| !name.starts_with(".rowbound/")).collect()
    };
    for name in NO_PATHS.iter().chain(&THEIR_NEIGHBOURS) {
        shop.bucket.put(&format!("{prefix}{name}"), name.as_bytes()).await;
        shop.world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    let all: BTreeSet<String> = NO_PATHS.iter().chain(&THEIR_NEIGHBOURS).map(|name| (*name).to_owned()).collect();
    let neighbours: BTreeSet<String> = THEIR_NEIGHBOURS.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(files().await, all, "the server keeps them apart");
    // A referenced one stays, however its value is spelled elsewhere.
    shop.world.db.exec("insert into doc (file) values ('a//b.jpg')").await;
    shop.world.db.exec("delete from doc where file = 'a//b.jpg' and id > 8").await;
    shop.rowbound().run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert_eq!(files().await, all);

    let quoted: Vec<_> = NO_PATHS.iter().map(|name| format!("'{name}'")).collect();
    shop.world.db.exec(&format!("delete from doc where file in ({})", quoted.join(", "))).await;
    shop.rowbound().run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    assert_eq!(files().await, neighbours);
    for name in NO_PATHS {
        assert_eq!(shop.world.outcomes(name).await.last().map(String::as_str), Some("trashed"), "{name}");
        let told = shop.rowbound().run(&["explain", name]).await.expect(0);
        assert!(told.stdout.contains("it waits in the trash"), "{name}: {}", told.stdout);
        shop.rowbound().run(&["restore", name]).await.expect(0);
        assert_eq!(shop.bucket.get(&format!("{prefix}{name}")).await.as_deref(), Some(name.as_bytes()));
    }
    assert_eq!(files().await, all);

    // Without rows they are orphans; but for what a console shows as a folder, and for what a row may mean by another spelling.
    for (key, value) in [("/meant.jpg", "meant.jpg"), ("deep/plain.jpg", "/deep/plain.jpg")] {
        shop.bucket.put(&format!("{prefix}{key}"), b"x").await;
        shop.world.db.exec(&format!("insert into doc (file) values ('{value}')")).await;
    }
    let swept = shop.rowbound().run(&["sweep", "--delete", "--max-share", "100%", "--format", "json"]).await;
    assert_eq!(swept.json()["storages"][0]["orphans"]["files"], 7, "{}{}", swept.stdout, swept.stderr);
    assert_eq!(swept.json()["storages"][0]["mentioned"]["files"], 2, "{}", swept.stdout);
    assert_eq!(swept.json()["storages"][0]["dangling"], 2, "{}", swept.stdout);
    shop.rowbound().run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
    let left: BTreeSet<String> = neighbours.iter().cloned().chain(["folder/", "/meant.jpg", "deep/plain.jpg"].map(str::to_owned)).collect();
    assert_eq!(files().await, left);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_no_paths_are_names_on_moto() {
    every_key_is_a_name(PREFIX).await;
    every_key_is_a_name("").await;
}

/// A service that takes `a//b` for `a/b` (here: files of a folder) is seen through when it is attached, and such names are left alone.
#[tokio::test(flavor = "multi_thread")]
async fn keys_that_a_service_mistakes_are_refused_on_s3s_fs() {
    let shop = Shop::open(S3Kind::S3sFs, Backend::Sqlite, |s| s).await;
    let attached = shop.rowbound().run(&["attach", "--format", "json"]).await.expect(0).json();
    assert_eq!(attached["proved"]["default"]["exact"], false, "{attached:#}");
    shop.put("a/b.jpg").await;
    shop.world.db.exec("insert into doc (file) values ('a/b.jpg'), ('a//b.jpg'), ('./a/b.jpg')").await;
    shop.world.db.exec("delete from doc where file <> 'a/b.jpg'").await;
    shop.rowbound().run(&["collect", "--retry-now"]).await.expect(1);
    assert_eq!(shop.files().await.len(), 1, "the file of another row was deleted");
    for name in ["a//b.jpg", "./a/b.jpg"] {
        assert_eq!(shop.world.outcomes(name).await, ["refused"], "{name}");
    }
    assert_eq!(shop.bucket.keys(&format!("{PREFIX}.rowbound/probe")).await, [""; 0], "attaching leaves nothing of its trials");
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_files_follow_rows_on_s3s_fs() {
    follows_rows(S3Kind::S3sFs, Backend::Sqlite).await;
    follows_rows(S3Kind::S3sFs, Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_files_follow_rows_on_moto() {
    follows_rows(S3Kind::Moto, Backend::Mariadb).await;
}

/// django-storages' S3Storage with its defaults overwrites: a row is deleted and made again under the same name while the collector runs. The grace
/// covers for a server that cannot delete on a condition.
async fn django_overwrites(kind: S3Kind, grace: Duration, names: u32, rounds: u32) {
    let server = S3Server::start(kind);
    let bucket = server.bucket().await;
    let location = bucket.location(PREFIX);
    let change = |s: StoragePlan| StoragePlan { location, ..s }.grace(grace).min_age(Duration::from_secs(5)).trash(Trash::Off);
    let mut shop = Shop::attached(server, bucket, Backend::Sqlite, change).await;
    shop.rowbound().run(&["detach"]).await.expect(0);
    shop.world.db.exec("drop table doc").await;
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/django");
    let python = here.join("../../../../.venv/bin/python");
    assert!(python.exists(), "there is no Python with Django in .venv: run `make test`, or scripts/django-venv");
    let mut django = Command::new(python);
    django
        .current_dir(&here)
        .env("DJANGO_SETTINGS_MODULE", "settings")
        .env("DJANGO_DATABASE", shop.world.db.url())
        .env("DJANGO_BUCKET", shop.bucket.name())
        .env("DJANGO_PREFIX", PREFIX.trim_end_matches('/'))
        .env("DJANGO_ENDPOINT", shop.server.endpoint())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUNBUFFERED", "1")
        .envs(shop.server.env())
        .kill_on_drop(true);
    let mut migrate = Command::from(clone(django.as_std()));
    let migrated = migrate.args(["-m", "django", "migrate", "--verbosity", "0"]).output().await.expect("cannot run Python");
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    shop.world.bindings = vec![rowbound::Binding::name("blog_document.file", "default").expect("a column")];
    shop.rowbound().run(&["attach"]).await.expect(0);

    let mut app = django
        .args(["overwrite.py", &names.to_string(), &rounds.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start Python");
    let mut lines = BufReader::new(app.stdout.take().expect("stdout is piped")).lines();
    assert_eq!(lines.next_line().await.expect("cannot read from the application").as_deref(), Some("ready"));
    let daemon = shop.daemon().await;
    app.stdin.take().expect("stdin is piped").write_all(b"go\n").await.expect("the application does not read");
    let line = lines.next_line().await.expect("cannot read from the application").unwrap_or_default();
    let done: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
    println!("{kind}: {done}");
    assert_eq!(done["errors"], serde_json::json!([]));
    assert_eq!(done["lost"], serde_json::json!([]), "{}", daemon.said());
    assert_eq!(done["rounds"], names * rounds);
    assert_eq!(shop.files().await, shop.refs().await);
    assert_eq!(shop.files().await.len(), names as usize);
    // The rows go for good: so do the files.
    shop.world.db.exec("delete from blog_document").await;
    shop.followed(&daemon).await;
    assert!(shop.files().await.is_empty());
    shop.ends(daemon).await;
}

/// `std::process::Command` cannot be cloned; what these two share is program, folder and environment.
fn clone(of: &std::process::Command) -> std::process::Command {
    let mut command = std::process::Command::new(of.get_program());
    command.envs(of.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if let Some(folder) = of.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn django_overwrites_a_released_name_on_moto() {
    django_overwrites(S3Kind::Moto, Duration::ZERO, 20, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn django_overwrites_a_released_name_on_s3s_fs() {
    django_overwrites(S3Kind::S3sFs, Duration::from_secs(3), 20, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn soak_django_overwrites_a_thousand_times() {
    django_overwrites(S3Kind::Moto, Duration::ZERO, 40, 25).await;
    django_overwrites(S3Kind::S3sFs, Duration::from_secs(3), 40, 25).await;
}

/// The server is down for a while: nothing is believed to be gone, and everything is done afterwards.
async fn server_down(time: Duration) {
    let shop = Shop::open(S3Kind::S3sFs, Backend::Postgres, |s| s).await;
    shop.put_docs((0..200).map(|n| format!("{n}.jpg"))).await;
    let daemon = shop.daemon().await;
    shop.server.kill();
    shop.world.db.exec("delete from doc where id % 2 = 0").await;
    daemon.until(DEADLINE, "the daemon says that the storage is away", || async { daemon.said().contains("ERROR") }).await;
    let status = shop.rowbound().run(&["status", "--format", "json"]).await;
    assert_eq!(status.json()["storages"][0]["reachable"], false, "{}", status.stdout);
    assert_eq!(status.json()["storages"][0]["backlog"]["total"], 100, "no candidate is believed to be missing");
    assert_eq!(shop.rowbound().run(&["collect"]).await.code, Some(3));
    let back = Instant::now() + time;
    daemon.until(time + DEADLINE, "the time is over", || async { Instant::now() > back }).await;
    shop.server.start_again();
    shop.followed(&daemon).await;
    shop.ends(daemon).await;
    shop.drained().await;
    assert_eq!(shop.files().await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_server_down_for_seconds() {
    server_down(Duration::from_secs(3)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn soak_s3_server_down_for_two_minutes() {
    server_down(Duration::from_secs(120)).await;
}

/// Two workers on one bucket, one of them killed at random moments, while the application goes on.
async fn workers_killed(backend: Backend, kills: u32) {
    let shop = Shop::open(S3Kind::S3sFs, backend, |s| s).await;
    let rowbound = shop.rowbound();
    let start = || rowbound.spawn(&["run", "--poll", "20ms", "--lease", "2s"]);
    let steady = start();
    let mut victim = start();
    let mut next = 0;
    for _ in 0..kills {
        shop.put_docs((next..next + 60).map(|n| format!("{}/{n}.jpg", n % 7))).await;
        next += 60;
        shop.world.db.exec("delete from doc where id % 3 <> 0").await;
        let moment = Duration::from_millis(rand::rng().random_range(0..60));
        let end = Instant::now() + moment;
        victim.until(DEADLINE, "its moment", || async { Instant::now() >= end }).await;
        victim.kill();
        drop(victim);
        victim = start();
    }
    shop.followed(&steady).await;
    shop.ends(victim).await;
    shop.ends(steady).await;
    shop.drained().await;
    println!("{backend:?}: {kills} kills, {next} files, {} left", shop.files().await.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_workers_killed_at_random() {
    workers_killed(Backend::Postgres, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "minutes: make soak"]
async fn soak_s3_workers_killed_a_hundred_times() {
    workers_killed(Backend::Postgres, 100).await;
    workers_killed(Backend::Mariadb, 100).await;
}

/// Killed between two steps of the trash itself: nothing is lost, every deleted file can be brought back, and after the retention nothing is left of it,
/// neither a copy nor a version nor a manifest.
async fn killed_at_every_point_of_the_trash(versions: bool, backend: Backend) {
    let points: &[&str] =
        if versions { &["announced", "remove-one", "removed"] } else { &["announced", "copied", "remove-one", "removed"] };
    let server = S3Server::start(S3Kind::Moto);
    let bucket = if versions { server.versioned_bucket().await } else { server.bucket().await };
    let location = bucket.location(PREFIX);
    let keep = Trash::Keep(Duration::from_secs(3600));
    let mut shop = Shop::attached(server, bucket, backend, |s| StoragePlan { location, trash: keep, ..s }).await;
    let rowbound = shop.rowbound();
    let mut gone = Vec::new();
    for (round, at) in points.iter().zip([1, 2].iter().cycle()).map(|(point, n)| format!("{point}:{n}")).enumerate() {
        // Two batches, so that each point is passed twice.
        let name = |n: u32| format!("{round}/{n}.jpg");
        shop.put_docs((0..8).map(name)).await;
        shop.world.db.exec(&format!("delete from doc where file like '{round}/%' and file not like '%/7.jpg'")).await;
        gone.extend((0..7).map(name));
        let killed = rowbound.clone().env("ROWBOUND_CRASH_AT", &at);
        let output = killed.spawn(&["run", "--poll", "20ms", "--lease", "3s", "--batch", "4"]).wait(DEADLINE).await;
        assert_eq!(output.signal, Some(9), "{at} was never passed: {}", output.stderr);
    }
    rowbound.run(&["collect", "--retry-now", "--wait", "60s", "--lease", "1s"]).await.expect(0);
    shop.drained().await;
    // One of each kill comes back, and is named again; the others' time is over.
    for name in gone.iter().step_by(7) {
        rowbound.run(&["restore", name]).await.expect(0);
        shop.world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
        assert_eq!(shop.bucket.get(&format!("{PREFIX}{name}")).await.as_deref(), Some(name.as_bytes()), "{name}");
    }
    shop.world = shop.world.storage(|s| s.trash(Trash::Keep(Duration::from_secs(1))));
    shop.rowbound().run(&["attach"]).await.expect(0);
    let empty = || async {
        shop.rowbound().run(&["collect", "--retry-now", "--wait", "60s"]).await.expect(0);
        // The manifest of a batch that may still be under way stays for an hour.
        let mut own = shop.bucket.keys(&format!("{PREFIX}.rowbound/")).await;
        own.retain(|key| !key.ends_with(".json"));
        let refs = shop.refs().await;
        let hidden = match versions {
            true => shop
                .bucket
                .versions(PREFIX)
                .await
                .into_iter()
                .filter(|v| v.key.ends_with(".jpg") && !refs.contains(&v.key[PREFIX.len()..]))
                .count(),
            false => 0,
        };
        own.is_empty() && hidden == 0
    };
    wait_until(3 * DEADLINE, "nothing is left in the trash", empty).await;
    assert_eq!(shop.files().await, shop.refs().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_in_a_bucket_s_trash_of_versions_on_moto() {
    killed_at_every_point_of_the_trash(true, Backend::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_in_a_bucket_s_trash_of_copies_on_moto() {
    killed_at_every_point_of_the_trash(false, Backend::Sqlite).await;
}

/// An object that was uploaded in parts has the time at which that began: a release may lie between its begin and its end.
#[tokio::test(flavor = "multi_thread")]
async fn s3_an_upload_in_parts_waits_until_it_was_seen_unchanged() {
    let shop =
        Shop::open(S3Kind::Moto, Backend::Sqlite, |s| s.grace(Duration::ZERO).min_age(Duration::from_secs(3600)).trash(Trash::Off)).await;
    let (client, bucket, key) = (shop.bucket.client(), shop.bucket.name(), format!("{PREFIX}a.jpg"));
    let begun = client.create_multipart_upload().bucket(bucket).key(&key).send().await.expect("an upload");
    let id = begun.upload_id().expect("an id");
    shop.world.grown().await;
    shop.world.db.exec("insert into doc (file) values ('a.jpg')").await;
    shop.world.db.exec("delete from doc").await;
    let body = aws_sdk_s3::primitives::ByteStream::from_static(b"its last part");
    let part = client.upload_part().bucket(bucket).key(&key).upload_id(id).part_number(1).body(body).send().await.expect("a part");
    let part = aws_sdk_s3::types::CompletedPart::builder().part_number(1).set_e_tag(part.e_tag).build();
    let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder().parts(part).build();
    client.complete_multipart_upload().bucket(bucket).key(&key).upload_id(id).multipart_upload(parts).send().await.expect("its end");

    let said = shop.rowbound().run(&["collect"]).await.expect(1).stdout;
    let why =
        "a.jpg: it was uploaded in parts, and S3 tells when that began, not when it ended: waits until it was seen unchanged for min_age";
    assert!(said.contains(why), "{said}");
    assert_eq!(shop.files().await.len(), 1);
    shop.world.pretend(Duration::from_secs(3600)).await;
    shop.rowbound().run(&["collect"]).await.expect(0);
    assert!(shop.files().await.is_empty());
}

/// A shop whose collector reaches the server through a proxy that fails as it is told; the application does not.
async fn behind(backend: Backend) -> (Shop, FaultProxy) {
    let server = S3Server::start(S3Kind::S3sFs);
    let proxy = FaultProxy::to_s3(&server);
    let bucket = server.bucket().await;
    let location = bucket.location_at(&proxy.endpoint(), PREFIX);
    let shop = Shop::attached(server, bucket, backend, |s| StoragePlan { location, ..s }).await;
    (shop, proxy)
}

/// SQLite has one writer at a time. It was the collector for as long as a bucket took to delete, and where the bucket had a trash the collector waited for itself.
#[tokio::test(flavor = "multi_thread")]
async fn s3_a_slow_bucket_keeps_no_writer_of_sqlite_out() {
    let (shop, proxy) = behind(Backend::Sqlite).await;
    shop.put_docs((0..10).map(|n| format!("{n}.jpg"))).await;
    shop.world.db.exec("delete from doc where id > 1").await;
    proxy.rule(Rule::new(Fault::Hold).on([Ask::Delete, Ask::DeleteMany]));
    let collector = shop.rowbound().spawn(&["collect"]);
    proxy.held(1).await;
    // It gives up after five seconds.
    shop.world.db.exec("insert into doc (file) values ('written meanwhile.jpg')").await;
    shop.put("written meanwhile.jpg").await;
    proxy.release();
    collector.wait(DEADLINE).await.expect(0);
    assert_eq!(shop.files().await, shop.refs().await);
    assert_eq!(shop.files().await.len(), 2);
}

/// A service that never answers hangs who asks it, and nobody else: files of another storage go and are erased, a hook hears of them, and capture is put back.
#[tokio::test(flavor = "multi_thread")]
async fn s3_a_service_that_hangs_delays_nothing_else() {
    let server = S3Server::start(S3Kind::S3sFs);
    let (proxy, bucket) = (FaultProxy::to_s3(&server), server.bucket().await);
    let location = bucket.location_at(&proxy.endpoint(), PREFIX);
    let world = World::new(Backend::Postgres).await.with_docs().await.storage(|s| StoragePlan { location, ..s });
    let (local, heard) = (world.folder().join("local"), world.folder().join("heard"));
    std::fs::create_dir(&local).expect("cannot make a folder");
    let world = world.another(StoragePlan::folder("local", &local).trash(Trash::Off)).await;
    let log = Call::Command(format!("echo $ROWBOUND_NAME $ROWBOUND_OUTCOME >> {}", heard.display()));
    let shop = Shop { world: world.hook(Hook { name: "log".into(), ..Hook::new(log) }), server, bucket };
    shop.rowbound().run(&["attach"]).await.expect(0);
    let db = &shop.world.db;
    shop.put_docs(["a.jpg".to_owned()].into_iter()).await;
    for n in 0..5 {
        std::fs::write(local.join(format!("{n}.jpg")), "x").expect("cannot write");
        db.exec(&format!("insert into local (file) values ('{n}.jpg')")).await;
    }
    let daemon = shop.daemon().await;
    proxy.rule(Rule::new(Fault::Hold));
    db.exec("delete from doc").await;
    proxy.held(1).await;

    // Its requests are given up after a minute.
    let soon = DEADLINE / 2;
    for n in 0..5 {
        db.exec(&format!("delete from local where file = '{n}.jpg'")).await;
        daemon.until(soon, "a file of the other storage goes", || async { !local.join(format!("{n}.jpg")).exists() }).await;
        let erased = format!("{n}.jpg erased\n");
        let told = || async { std::fs::read_to_string(&heard).is_ok_and(|text| text.contains(&erased)) };
        daemon.until(soon, "it is erased, and heard of", told).await;
    }
    let triggers = db.triggers().await;
    db.drop_triggers(&triggers).await;
    daemon.until(soon, "capture is put back", || async { db.triggers().await == triggers }).await;

    assert!(shop.files().await.contains("a.jpg"));
    proxy.release();
    daemon.until(3 * DEADLINE, "the service's own goes", || async { shop.files().await.is_empty() }).await;
    shop.ends(daemon).await;
}

/// Whatever goes wrong on the way, at the end nothing is lost, nothing is left, and the ledger has told of no deletion that was none.
async fn troubled(rules: impl Fn(&FaultProxy)) -> Shop {
    let (shop, proxy) = behind(Backend::Sqlite).await;
    shop.put_docs((0..600).map(|n| format!("{}/{n}.jpg", n % 5))).await;
    let daemon = shop.daemon().await;
    rules(&proxy);
    shop.world.db.exec("delete from doc where id % 3 <> 0").await;
    shop.followed(&daemon).await;
    shop.ends(daemon).await;
    proxy.clear();
    shop.drained().await;
    assert_eq!(shop.files().await.len(), 200);
    let told = shop.rowbound().run(&["history", "--format", "json", "--outcome", "erased", "--limit", "10000"]).await.expect(0);
    let told: Vec<String> = told.json().as_array().expect("a list of entries").iter().map(|e| e["name"].to_string()).collect();
    let once: BTreeSet<&String> = told.iter().collect();
    assert_eq!(once.len(), told.len(), "a deletion was reported twice");
    shop
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_every_third_request_is_refused() {
    troubled(|proxy| proxy.rule(Rule::new(Fault::Answer(503)).every(3))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_connections_break_in_a_deletion() {
    troubled(|proxy| {
        proxy.rule(Rule::new(Fault::CutAmid).on([Ask::DeleteMany]).times(2));
        proxy.rule(Rule::new(Fault::CutAfter).on([Ask::DeleteMany]).times(2));
        proxy.rule(Rule::new(Fault::CutBefore).on([Ask::DeleteMany]).times(2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_answers_break_off() {
    troubled(|proxy| {
        proxy.rule(Rule::new(Fault::Truncate(100)).on([Ask::DeleteMany, Ask::List]).times(4));
        proxy.rule(Rule::new(Fault::Answer(500)).every(5));
    })
    .await;
}

/// One key of a batch is refused: its candidate stays and says why, the others are done, and the exit status tells.
#[tokio::test(flavor = "multi_thread")]
async fn s3_one_key_of_a_batch_is_refused() {
    let (shop, proxy) = behind(Backend::Postgres).await;
    shop.put_docs((0..100).map(|n| format!("{n}.jpg"))).await;
    proxy.rule(Rule::new(Fault::FailKeys(vec![format!("{PREFIX}7.jpg")], "AccessDenied".into())));
    shop.world.db.exec("delete from doc where id <= 50").await;
    let end = shop.rowbound().run(&["collect"]).await.expect(1);
    assert!(end.stdout.contains("7.jpg") || end.stderr.contains("7.jpg"), "{}{}", end.stdout, end.stderr);
    let files = shop.files().await;
    assert!(files.contains("7.jpg") && files.len() == 51, "{files:?}");
    let status = shop.rowbound().run(&["status", "--format", "json"]).await.expect(1).json();
    let backlog = &status["storages"][0]["backlog"];
    assert_eq!((&backlog["total"], &backlog["failing"]), (&1.into(), &1.into()), "{backlog}");
    assert!(backlog["sample"][0]["note"].to_string().contains("AccessDenied"), "{backlog}");
    proxy.clear();
    shop.drained().await;
}

/// A credential that may read and list but not delete: everything stays, and both exit status and `status` say why.
#[tokio::test(flavor = "multi_thread")]
async fn s3_without_the_right_to_delete() {
    let (shop, proxy) = behind(Backend::Mariadb).await;
    shop.put_docs((0..20).map(|n| format!("{n}.jpg"))).await;
    proxy.rule(Rule::new(Fault::Answer(403)).on([Ask::Delete, Ask::DeleteMany]));
    shop.world.db.exec("delete from doc").await;
    let end = shop.rowbound().run(&["collect"]).await.expect(1);
    assert!((end.stdout + &end.stderr).contains("s3:DeleteObject"), "the missing right is named");
    assert_eq!(shop.files().await.len(), 20);
    let status = shop.rowbound().run(&["status"]).await.expect(1);
    assert!(status.stdout.contains("s3:DeleteObject"), "{}", status.stdout);
    // A storage that cannot be deleted from cannot be attached either.
    let attach = shop.rowbound().run(&["attach"]).await;
    assert_eq!(attach.code, Some(2), "{}{}", attach.stdout, attach.stderr);
    proxy.clear();
    shop.drained().await;
    assert!(shop.files().await.is_empty());
}

/// What a file is besides its bytes, as readers of the bucket see it.
async fn seen(bucket: &S3Bucket, key: &str) -> (Option<String>, Option<String>, Vec<(String, String)>, Vec<String>) {
    let client = bucket.client();
    let head = client.head_object().bucket(bucket.name()).key(key).send().await.expect("it is there");
    let tags = client.get_object_tagging().bucket(bucket.name()).key(key).send().await.expect("tags");
    let access = client.get_object_acl().bucket(bucket.name()).key(key).send().await.expect("an access list");
    let mut tags: Vec<_> = tags.tag_set().iter().map(|tag| (tag.key().to_owned(), tag.value().to_owned())).collect();
    tags.sort_unstable();
    let grant = |g: &aws_sdk_s3::types::Grant| {
        let to = g.grantee().and_then(|to| to.uri().or(to.id())).unwrap_or_default().to_owned();
        format!("{} {to}", g.permission().map(|p| p.as_str().to_owned()).unwrap_or_default())
    };
    let mut access: Vec<_> = access.grants().iter().map(grant).collect();
    access.sort_unstable();
    (head.storage_class().map(|class| class.as_str().to_owned()), head.content_type().map(str::to_owned), tags, access)
}

/// A public file of a cheaper class, with tags, comes back from the trash as it was.
async fn comes_back_as_it_was(server: S3Server, bucket: S3Bucket) {
    let location = bucket.location(PREFIX);
    let change = |plan: StoragePlan| StoragePlan { location, ..plan }.trash(Trash::Keep(Duration::from_secs(86_400)));
    let shop = Shop::attached(server, bucket, Backend::Sqlite, change).await;
    let (bucket, names) = (&shop.bucket, ["public.jpg", "plain.jpg"]);
    for name in names {
        let put = bucket.client().put_object().bucket(bucket.name()).key(format!("{PREFIX}{name}")).body(name.as_bytes().to_vec().into());
        let put = match name {
            "public.jpg" => put
                .content_type("image/jpeg")
                .storage_class(aws_sdk_s3::types::StorageClass::StandardIa)
                .tagging("team=blog&keep=long")
                .acl(aws_sdk_s3::types::ObjectCannedAcl::PublicRead),
            _ => put,
        };
        put.send().await.expect("put");
        shop.world.db.exec(&format!("insert into doc (file) values ('{name}')")).await;
    }
    let mut was = Vec::new();
    for name in names {
        was.push(seen(bucket, &format!("{PREFIX}{name}")).await);
    }
    assert_eq!((was[0].0.as_deref(), was[0].2.len(), was[0].3.len()), (Some("STANDARD_IA"), 2, 2), "{was:?}");
    shop.world.db.exec("delete from doc").await;
    shop.rowbound().run(&["collect"]).await.expect(0);
    assert!(shop.files().await.is_empty());
    for key in bucket.keys(&format!("{PREFIX}.rowbound/copies/")).await {
        let access = seen(bucket, &key).await.3;
        assert!(access.len() == 1 && access[0].starts_with("FULL_CONTROL"), "nobody reads what is in the trash: {access:?}");
    }
    shop.rowbound().run(&["restore", "--all", "--yes"]).await.expect(0);
    for (name, was) in names.into_iter().zip(was) {
        assert_eq!(seen(bucket, &format!("{PREFIX}{name}")).await, was, "{name}");
        assert_eq!(bucket.get(&format!("{PREFIX}{name}")).await.as_deref(), Some(name.as_bytes()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_file_comes_back_from_copies_as_it_was_on_moto() {
    let server = S3Server::start(S3Kind::Moto);
    let bucket = server.bucket().await;
    comes_back_as_it_was(server, bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_a_file_comes_back_from_versions_as_it_was_on_moto() {
    let server = S3Server::start(S3Kind::Moto);
    let bucket = server.versioned_bucket().await;
    comes_back_as_it_was(server, bucket).await;
}

/// Where access lists cannot be kept, `attach` says so.
#[tokio::test(flavor = "multi_thread")]
async fn s3_a_service_without_access_lists_is_told_of_at_attach() {
    for (kind, text) in [(S3Kind::S3sFs, true), (S3Kind::Moto, false)] {
        let shop = Shop::open(kind, Backend::Sqlite, |plan| plan.trash(Trash::Keep(Duration::from_secs(86_400)))).await;
        let attached = shop.rowbound().run(&["attach"]).await.expect(0);
        assert_eq!(attached.stdout.contains("access lists (ACLs) cannot be kept here"), text, "{}", attached.stdout);
        shop.put_docs(["a.jpg".to_owned()].into_iter()).await;
        shop.world.db.exec("delete from doc").await;
        shop.rowbound().run(&["collect"]).await.expect(0);
        shop.rowbound().run(&["restore", "a.jpg"]).await.expect(0);
        assert_eq!(shop.files().await, ["a.jpg".to_owned()].into());
    }
}

/// Where access lists are turned off they can be read, and not written. Some services answer with anything but one. And what an earlier version attached was not
/// tried. In each case no file's access list is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn s3_access_lists_that_cannot_be_kept_are_not_asked_for_on_moto() {
    let server = S3Server::start(S3Kind::Moto);
    let proxy = FaultProxy::to_s3(&server);
    let bucket = server.bucket().await;
    let location = bucket.location_at(&proxy.endpoint(), PREFIX);
    let change = |s: StoragePlan| StoragePlan { location, ..s }.trash(Trash::Keep(Duration::from_secs(86_400)));
    let shop = Shop::attached(server, bucket, Backend::Sqlite, change).await;
    let marker = format!("{PREFIX}.rowbound/storage.json");
    let off = Rule::new(Fault::Answer(403)).on([Ask::PutAccess]);
    let strange = Rule::new(Fault::Answer(200)).on([Ask::Get]).path("?acl");
    for (turn, rule) in [Some(off), Some(strange), None].into_iter().enumerate() {
        let tried = rule.is_some();
        if let Some(rule) = rule {
            proxy.rule(rule);
            let attached = shop.rowbound().run(&["attach"]).await.expect(0);
            assert!(attached.stdout.contains("access lists (ACLs) cannot be kept here"), "{turn}: {}", attached.stdout);
            proxy.clear();
        } else {
            let mut text: serde_json::Value = serde_json::from_slice(&shop.bucket.get(&marker).await.expect("a marker")).expect("JSON");
            text["proved"].as_object_mut().expect("what was tried").remove("access");
            shop.bucket.put(&marker, text.to_string().as_bytes()).await;
        }
        proxy.rule(Rule::new(Fault::Answer(503)).on([Ask::Get]).path("?acl"));
        let name = format!("{turn}-{tried}.jpg");
        shop.put_docs([name.clone()].into_iter()).await;
        shop.world.db.exec("delete from doc").await;
        shop.rowbound().run(&["collect"]).await.expect(0);
        assert!(!shop.files().await.contains(&name), "{turn}");
        shop.rowbound().run(&["restore", &name]).await.expect(0);
        assert!(shop.files().await.contains(&name), "{turn}");
        proxy.clear();
    }
}

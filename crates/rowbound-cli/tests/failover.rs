//! The database goes back to an earlier moment: a standby that was behind becomes the primary, a backup is put in place, a volume is set back. Rows are there
//! again whose files were collected, and the ledger knows nothing of it. The files come back by themselves, and `status` says so.

use std::{path::Path, process::Command, time::Duration};

use rowbound::{StoragePlan, Trash};
use rowbound_testkit::{App, Backend, OwnServer, Rowbound, TestDb, World, wait_until};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(120);
const DAY: Duration = Duration::from_secs(86_400);

/// Three files, of which none was released yet; a worker has been here.
async fn world(db: TestDb) -> (World, Rowbound) {
    let world = World::with(db).with_docs().await.storage(|s: StoragePlan| s.trash(Trash::Keep(DAY)));
    let rowbound = Rowbound::new(BINARY, &world);
    rowbound.run(&["attach"]).await.expect(0);
    for name in ["a.jpg", "b.jpg", "c.jpg"] {
        world.put_doc(name).await;
    }
    rowbound.run(&["collect"]).await.expect(0);
    (world, rowbound)
}

/// `a.jpg` is collected, and the ledger knows it.
async fn lose_a(world: &World, rowbound: &Rowbound) {
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["b.jpg", "c.jpg"]);
    assert_eq!(world.outcomes("a.jpg").await, ["trashed"]);
    world.db.close_app().await;
}

/// `status` says what happened, and when.
async fn is_told(rowbound: &Rowbound, args: &[&str]) {
    let status = rowbound.run(&[&["status", "--format", "json"], args].concat()).await.json();
    let rewound = &status["storages"][0]["rewound"];
    assert!(rewound["came_back"] == 1 && rewound["stay"] == 0 && rewound["at"].is_string(), "{status:#}");
    let text = rowbound.run(&[&["status"], args].concat()).await.stdout;
    assert!(text.contains("the database followed another history") && text.contains("1 file came back from the trash"), "{text}");
}

fn shell(command: &str) {
    let done = Command::new("sh").args(["-ec", command]).output().expect("a shell");
    assert!(done.status.success(), "{command}\n{}", String::from_utf8_lossy(&done.stderr));
}

/// A backup of the SQLite file. Returns the file.
async fn back_up(world: &World) -> String {
    let file = world.db.url().strip_prefix("sqlite:").expect("a file").to_owned();
    world.db.exec(&format!("vacuum into '{file}.backup'")).await;
    file
}

/// Puts the backup in the file's place.
async fn put_back(world: &World, file: &str, how: &str) {
    world.db.close_app().await;
    shell(&format!("rm -f '{file}-wal' '{file}-shm'; {how}"));
}

/// A backup of the file takes its place.
async fn a_backup_put_in_place(how: impl Fn(&str) -> String) {
    let (world, rowbound) = world(TestDb::new(Backend::Sqlite).await).await;
    let file = back_up(&world).await;
    lose_a(&world, &rowbound).await;
    put_back(&world, &file, &how(&file)).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    world.assert_files_follow_rows().await;
    is_told(&rowbound, &[]).await;
    // Once: what goes afterwards stays gone.
    world.db.exec("delete from doc where file = 'b.jpg'").await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "c.jpg"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_put_in_place_brings_files_back_on_sqlite() {
    a_backup_put_in_place(|file| format!("mv '{file}.backup' '{file}'")).await;
}

/// Many file systems give the new file the number of the one that has just gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_with_the_number_of_the_lost_file_brings_files_back_on_sqlite() {
    a_backup_put_in_place(|file| format!("rm '{file}'; cp '{file}.backup' '{file}'")).await;
}

/// Names were used anew in the time that is lost. The row of before means the first file that was moved since, and not the last. Where another file has the name
/// a person decides.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_of_before_gets_the_file_of_before() {
    let (world, rowbound) = world(TestDb::new(Backend::Sqlite).await).await;
    let file = back_up(&world).await;
    lose_a(&world, &rowbound).await;
    world.put_file("a.jpg", b"another");
    world.db.exec("insert into doc (file) values ('a.jpg')").await;
    world.db.exec("delete from doc where file = 'c.jpg'").await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg"]);
    world.put_file("c.jpg", b"another");
    world.db.exec("insert into doc (file) values ('c.jpg')").await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    rowbound.run(&["collect", "--wait", "60s"]).await.expect(0);
    assert_eq!(world.files(), ["b.jpg", "c.jpg"]);
    assert_eq!(world.outcomes("a.jpg").await, ["trashed", "trashed"]);
    put_back(&world, &file, &format!("mv '{file}.backup' '{file}'")).await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    assert_eq!(world.holds("a.jpg"), "a.jpg", "the second upload is not what the row means");
    assert_eq!(world.holds("c.jpg"), "another", "nothing is overwritten");
    let status = rowbound.run(&["status", "--format", "json"]).await.json();
    let rewound = &status["storages"][0]["rewound"];
    assert!(rewound["came_back"] == 1 && rewound["stay"] == 1, "{status:#}");
}

/// Amazon Aurora says nothing of its log unless it is written for logical replication, and the trash was never looked at there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_tells_nothing_of_its_log_keeps_its_trash_on_postgres() {
    let (world, rowbound) = world(TestDb::new(Backend::Postgres).await).await;
    // In this database alone. A function of the server's own cannot be replaced, but another one can have its name.
    world.db.exec("alter function pg_catalog.pg_current_wal_insert_lsn() rename to pg_current_wal_insert_lsn_of_before").await;
    world
        .db
        .exec(
            "create function pg_catalog.pg_current_wal_insert_lsn() returns pg_lsn language plpgsql as $$
             begin raise exception using errcode = '55000', message = 'wal_level must be set to logical'; end $$",
        )
        .await;
    lose_a(&world, &rowbound).await;
    world.db.exec("insert into doc (file) values ('a.jpg')").await;
    rowbound.run(&["collect"]).await.expect(0);
    assert!(world.is_there("a.jpg"), "what was moved is checked again");
}

/// A dump is restored into another database of the server, which is adopted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_adopted_copy_from_before_brings_files_back_on_postgres() {
    let (world, rowbound) = world(TestDb::new(Backend::Postgres).await).await;
    let copy = world.db.copy().await;
    lose_a(&world, &rowbound).await;
    let id = world.db.query_strings("select record ->> 'id' from rowbound.installation").await.remove(0).expect("an id");
    let at = ["--database", copy.url()];
    // Nothing tells that the original is gone: the server of a physical copy says the same of itself.
    let refused = rowbound.run(&[&["attach", "--adopt"][..], &at].concat()).await.expect(4);
    assert!(refused.stderr.contains(&format!("--adopt --forget-installation {id}")), "{}", refused.stderr);
    rowbound.run(&[&["attach", "--adopt", "--forget-installation", &id][..], &at].concat()).await.expect(0);
    rowbound.run(&[&["collect"][..], &at].concat()).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    is_told(&rowbound, &at).await;
}

async fn data_folder(own: &OwnServer) -> String {
    let mut root = App::at(&own.server().url).await;
    let sql = if own.server().backend == Backend::Postgres { "show data_directory" } else { "select trim(trailing '/' from @@datadir)" };
    let folder = root.query_strings(sql).await.remove(0).expect("a folder");
    root.close().await;
    folder
}

/// A standby that did not have everything becomes the primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_standby_that_was_behind_brings_files_back_on_postgres_own_server() {
    let (primary, standby) = (OwnServer::start(Backend::Postgres), OwnServer::start(Backend::Postgres));
    let (world, rowbound) = world(TestDb::on(primary.server()).await).await;
    let folder = data_folder(&standby).await;
    standby.stop();
    let bin = "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)";
    shell(&format!(
        "rm -rf '{folder}'; {bin}/pg_basebackup -d '{}' -D '{folder}' -c fast -X stream -R; chown -R --reference='{}' '{folder}'; chmod 700 '{folder}'",
        primary.server().url,
        Path::new(&folder).parent().expect("a folder").display(),
    ));
    // It has the backup, and hears nothing of what comes after.
    lose_a(&world, &rowbound).await;
    primary.stop();
    standby.start_again();
    let mut root = App::at(&standby.server().url).await;
    root.query_strings("select pg_promote()").await;
    root.close().await;
    let url = standby.server().database_url(&world.db.name());
    let at = ["--database", &*url];
    rowbound.run(&[&["collect"][..], &at].concat()).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    is_told(&rowbound, &at).await;
    rowbound.run(&[&["sweep"][..], &at].concat()).await.expect(0);
}

/// The same of a MariaDB replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_that_was_behind_brings_files_back_on_mariadb_own_server() {
    let primary = OwnServer::mariadb_with("--log-bin=log --server-id=1");
    let replica = OwnServer::mariadb_with("--log-bin=log --server-id=2");
    let mut on_replica = App::at(&replica.server().url).await;
    let port = primary.server().url.rsplit_once(':').expect("a port").1.trim_end_matches('/').to_owned();
    on_replica
        .exec(&format!(
            "change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'root', master_password = 'rowbound', master_use_gtid = slave_pos; start slave"
        ))
        .await;
    let (world, rowbound) = world(TestDb::on(primary.server()).await).await;
    let (name, mut on_primary) = (world.db.name(), App::at(&primary.server().url).await);
    let at = on_primary.query_strings("select @@gtid_binlog_pos").await.remove(0).expect("a position");
    let caught_up = on_replica.query_strings(&format!("select master_gtid_wait('{at}', 60)")).await;
    assert_eq!(caught_up, [Some("0".to_owned())]);
    on_replica.exec("stop slave; reset slave all").await;
    lose_a(&world, &rowbound).await;
    on_primary.close().await;
    primary.stop();
    let url = replica.server().database_url(&name);
    let at = ["--database", &*url];
    rowbound.run(&[&["collect"][..], &at].concat()).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    is_told(&rowbound, &at).await;
    rowbound.run(&[&["sweep"][..], &at].concat()).await.expect(0);
    on_replica.close().await;
}

/// Point-in-time recovery: a base backup, and the log up to a moment before the row went.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_recovered_to_a_moment_brings_files_back_on_postgres_own_server() {
    let own = OwnServer::start(Backend::Postgres);
    let (world, rowbound) = world(TestDb::on(own.server()).await).await;
    let folder = data_folder(&own).await;
    let bin = "$(ls -d /usr/lib/postgresql/*/bin | sort -V | tail -n 1)";
    shell(&format!("{bin}/pg_basebackup -d '{}' -D '{folder}.backup' -c fast -X stream", own.server().url));
    // What the backup does not have, and the log does.
    world.db.exec("insert into doc (file) values ('b.jpg')").await;
    world.db.query_strings("select pg_create_restore_point('before')").await;
    lose_a(&world, &rowbound).await;
    own.stop();
    shell(&format!(
        "mv '{folder}' '{folder}.lost'; mv '{folder}.backup' '{folder}'; touch '{folder}/recovery.signal'
         echo \"restore_command = 'cp {folder}.lost/pg_wal/%f %p'\" >> '{folder}/postgresql.auto.conf'
         echo \"recovery_target_name = 'before'\" >> '{folder}/postgresql.auto.conf'
         echo \"recovery_target_action = 'promote'\" >> '{folder}/postgresql.auto.conf'
         chown -R --reference='{folder}.lost' '{folder}'; chmod 700 '{folder}'"
    ));
    own.start_again();
    wait_until(DEADLINE, "the recovery ends", async || {
        let mut root = App::at(&own.server().url).await;
        let ended = root.query_strings("select 1 where not pg_is_in_recovery()").await.len() == 1;
        root.close().await;
        ended
    })
    .await;
    rowbound.run(&["collect"]).await.expect(0);
    assert_eq!(world.files(), ["a.jpg", "b.jpg", "c.jpg"]);
    assert_eq!(world.db.query_strings("select file from doc").await.len(), 4, "the log was read up to the moment");
    is_told(&rowbound, &[]).await;
}

/// The server's volume is set back, under a worker that goes on.
async fn set_back(backend: Backend) {
    let own = OwnServer::start(backend);
    let (world, rowbound) = world(TestDb::on(own.server()).await).await;
    let folder = data_folder(&own).await;
    world.db.close_app().await;
    own.stop();
    shell(&format!("cp -a '{folder}' '{folder}.snapshot'"));
    own.start_again();
    let run = rowbound.spawn(&["run", "--poll", "50ms"]);
    run.wait_for_line("collecting", DEADLINE).await;
    world.db.exec("delete from doc where file = 'a.jpg'").await;
    run.until(DEADLINE, "the file is collected", async || world.outcomes("a.jpg").await == ["trashed"]).await;
    // How far the log had come is known as of the last look at the trash.
    let checked = async || rowbound.run(&["status", "--format", "json"]).await.json()["storages"][0]["checked"].clone();
    let before = checked().await;
    run.until(DEADLINE, "the trash was looked at since", async || checked().await != before).await;
    world.db.close_app().await;
    own.stop();
    shell(&format!("rm -rf '{folder}'; mv '{folder}.snapshot' '{folder}'"));
    own.start_again();
    run.until(DEADLINE, "the file comes back", async || world.is_there("a.jpg")).await;
    run.terminate();
    run.wait(DEADLINE).await.expect(0);
    wait_until(DEADLINE, "the rows are those of before", async || world.refs().await.len() == 3).await;
    world.assert_files_follow_rows().await;
    is_told(&rowbound, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a worker looks every 20 s: run it with --run-ignored all"]
async fn soak_a_volume_that_is_set_back_brings_files_back_on_postgres_own_server() {
    set_back(Backend::Postgres).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a worker looks every 20 s: run it with --run-ignored all"]
async fn soak_a_volume_that_is_set_back_brings_files_back_on_mariadb_own_server() {
    set_back(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a worker looks every 20 s: run it with --run-ignored all"]
async fn soak_a_volume_that_is_set_back_brings_files_back_on_mysql_own_server() {
    set_back(Backend::Mysql).await;
}

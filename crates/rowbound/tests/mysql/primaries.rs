//! Servers of which others take writes too: replicas, two primaries, a Galera cluster, a group. Each is real.

use std::time::Duration;

use rowbound::{
    Kind,
    database::{self, Database, Options},
};
use rowbound_testkit::{App, Backend, OwnServer, TestDb};

use super::until;

async fn open(url: &str) -> rowbound::Result<std::sync::Arc<dyn Database>> {
    database::open(url, &Options { connect_timeout: Duration::from_secs(5), ..Options::default() }).await
}

/// The URL of the database that every server has.
fn system(server: &OwnServer) -> String {
    server.server().database_url("mysql")
}

async fn refused(url: &str, kind: Kind, why: &str) {
    let e = open(url).await.expect_err(why);
    assert!(e.kind() == kind && e.full().contains(why) && e.hint_text().is_some(), "{}", e.full());
}

fn port(server: &OwnServer) -> &str {
    server.server().url.rsplit_once(':').expect("a port").1.trim_end_matches('/')
}

/// Lets `replica` take over what `source` writes.
async fn follow(replica: &OwnServer, source: &OwnServer) {
    let mut root = App::at(&replica.server().url).await;
    let port = port(source);
    match replica.server().backend {
        Backend::Mariadb => {
            root.exec(&format!(
                "change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'root', master_password = 'rowbound', master_use_gtid = slave_pos; start slave"
            ))
            .await;
        }
        _ => {
            root.exec(&format!(
                "change replication source to source_host = '127.0.0.1', source_port = {port}, source_user = 'root', source_password = 'rowbound', get_source_public_key = 1; start replica"
            ))
            .await;
        }
    }
    root.close().await;
}

async fn two(backend: Backend) -> (OwnServer, OwnServer) {
    let start = |id: u32| match backend {
        Backend::Mariadb => OwnServer::mariadb_with(&format!("--log-bin=log --server-id={id}")),
        _ => OwnServer::mysql_with(&format!("--server-id={id} --mysqlx=0")),
    };
    (start(1), start(2))
}

/// A replica is behind: a reference that was committed on its primary may not have arrived. Two primaries that copy from each other are two replicas.
async fn a_replica(backend: Backend) {
    let (source, replica) = two(backend).await;
    let db = open(&system(&replica)).await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.open_transactions().await.unwrap_or_else(|e| panic!("{}", e.full()));
    follow(&replica, &source).await;
    let why = "takes over what another one writes";
    // What creates the users of the source arrives here, too, and until then it may be another error.
    let is_refused = async |server: &OwnServer| {
        let said = |e: rowbound::Error| e.kind() == Kind::DatabaseUnreachable && e.full().contains(why) && e.hint_text().is_some();
        open(&system(server)).await.is_err_and(said)
    };
    until("the replica is refused", async || is_refused(&replica).await).await;
    // A process that was there before learns of it before it deletes anything.
    let e = db.open_transactions().await.expect_err(why);
    assert!(e.full().contains(why), "{}", e.full());
    open(&system(&source)).await.unwrap_or_else(|e| panic!("{}", e.full())).close().await;
    follow(&source, &replica).await;
    until("the other primary is refused", async || is_refused(&source).await).await;
    db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_own_server_that_is_a_replica_is_refused() {
    a_replica(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_own_server_that_is_a_replica_is_refused() {
    a_replica(Backend::Mysql).await;
}

/// A server that was started over damaged pages passes over what it cannot read.
async fn damaged(backend: Backend) {
    let server = OwnServer::start(backend);
    server.restart_with("--innodb-force-recovery=1");
    refused(&system(&server), Kind::Config, "damaged pages").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_own_server_that_reads_over_damaged_pages_is_refused() {
    damaged(Backend::Mariadb).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_own_server_that_reads_over_damaged_pages_is_refused() {
    damaged(Backend::Mysql).await;
}

/// Debian's `galera-4`, which comes with MariaDB: a cluster of one node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_own_server_in_a_galera_cluster_is_refused() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let node = format!("127.0.0.1:{port}");
    let server = OwnServer::mariadb_with(&format!(
        "--wsrep-on=ON --wsrep-provider=/usr/lib/galera/libgalera_smm.so --wsrep-cluster-address=gcomm:// --binlog-format=ROW \
         --innodb-autoinc-lock-mode=2 --wsrep-node-address={node} --wsrep-provider-options=gmcast.listen_addr=tcp://{node}"
    ));
    refused(&system(&server), Kind::Config, "a node of a Galera cluster").await;
}

/// A group of one member. With a single primary it is used on that; where every member takes writes it is refused, also when it becomes so later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_own_server_in_a_group_is_used_only_as_its_single_primary() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let server = OwnServer::mysql_with(&format!(
        "--performance-schema=ON --server-id=1 --gtid-mode=ON --enforce-gtid-consistency=ON --plugin-load-add=group_replication.so \
         --group-replication-group-name=aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa --group-replication-local-address=127.0.0.1:{port} \
         --group-replication-start-on-boot=OFF"
    ));
    let mut root = App::at(&server.server().url).await;
    root.exec("set global group_replication_bootstrap_group = ON; start group_replication").await;
    let member = "select member_state from performance_schema.replication_group_members";
    let state = tokio::sync::Mutex::new(root);
    let is_online = async || state.lock().await.query_strings(member).await == [Some("ONLINE".to_owned())];
    until("the member is online", is_online).await;
    let test = TestDb::on(server.server()).await;
    let db = open(test.url()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    db.open_transactions().await.unwrap_or_else(|e| panic!("{}", e.full()));
    state.lock().await.query_strings("select group_replication_switch_to_multi_primary_mode()").await;
    let why = "a group replication group in multi-primary mode";
    refused(test.url(), Kind::Config, why).await;
    let e = db.open_transactions().await.expect_err(why);
    assert!(e.full().contains(why), "{}", e.full());
    db.close().await;
}

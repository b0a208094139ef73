//! MySQL and MariaDB as their users run them: by a socket, with TLS, with accounts of few rights, and with settings under which capture would not work. What is
//! tested is that Rowbound works there, or says why it does not while the application goes on.

use std::{process::Command, sync::Arc};

use rowbound::{
    Kind,
    capture::Bound,
    database::{Database, Options, Queue, Schema, mysql::Mysql},
    queue::Outcome,
};
use rowbound_testkit::{Backend, OwnServer};
use sqlx::{Connection, MySqlConnection, MySqlPool};

use super::{Own, bound, claim, exec, on, record, settled, settlement, url};

const PASSWORD: &str = "aA1!secret";

/// A certificate authority, and what it signed for the server at 127.0.0.1 and for a client, in a folder that the server can read.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let folder = tempfile::Builder::new().prefix("rowbound-tls.").tempdir_in("/tmp").unwrap();
        let script = "set -e
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=rowbound-test-ca -keyout ca-key.pem -out ca.pem
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stranger -keyout other-key.pem -out other.pem
            for who in server client; do
                openssl req -newkey rsa:2048 -nodes -subj /CN=$who -keyout $who-key.pem -out $who.csr
                printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE' >$who.ext
                openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile $who.ext -out $who.pem
            done
            chmod 755 . && chmod 644 *";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output().expect("sh");
        assert!(made.status.success(), "openssl is needed: {}", String::from_utf8_lossy(&made.stderr));
        Certificates(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn server_options(&self) -> String {
        format!("--ssl-ca={} --ssl-cert={} --ssl-key={}", self.path("ca.pem"), self.path("server.pem"), self.path("server-key.pem"))
    }
}

fn own_server(backend: Backend, options: &str) -> OwnServer {
    if backend == Backend::Mariadb { OwnServer::mariadb_with(options) } else { OwnServer::mysql_with(options) }
}

/// Everything that needs a connection, by this URL: attach, a candidate, its settlement, the barrier; and beside an application's pool.
async fn works(own: &mut Own, url: &str) {
    let db = Mysql::open(url, &Options::default()).await.unwrap_or_else(|e| panic!("{url}: {}", e.full()));
    db.install(&bound(&["t.f"]), &record()).await.unwrap_or_else(|e| panic!("{url}: {}", e.full()));
    own.exec("insert into t (id, f) values (1, 'a'); delete from t").await;
    let claimed = db.claim(&claim("w", 10)).await.unwrap();
    assert_eq!(claimed.len(), 1, "{url}");
    let settlement = settlement("w", claimed.iter().map(|c| settled(c, Outcome::Kept)).collect(), vec![]);
    assert_eq!(db.settle(&settlement, None).await.unwrap(), 1, "{url}");
    db.open_transactions().await.unwrap();
    db.close().await;
    let pool = MySqlPool::connect(url).await.unwrap();
    let db = Mysql::beside(&pool, &Options::default()).await.unwrap_or_else(|e| panic!("beside {url}: {}", e.full()));
    assert!(db.claim(&claim("w", 10)).await.unwrap().is_empty());
    db.close().await;
    pool.close().await;
}

/// Default settings by a Unix socket once ended in "Broken pipe".
async fn sockets_and_tls(mut own: Own, certificates: &Certificates) -> Own {
    own.exec("create table t (id int primary key, f varchar(50))").await;
    own.exec(&format!(
        "create user 'sock'@'localhost' identified by '{PASSWORD}'; grant all on *.* to 'sock'@'localhost' with grant option;
         create user 'tls'@'127.0.0.1' identified by '{PASSWORD}' require x509; grant all on *.* to 'tls'@'127.0.0.1' with grant option"
    ))
    .await;
    let socket = own.column("select @@socket").await.remove(0);
    let by_socket = format!("mysql://sock:{}@localhost/{}?socket={socket}", "aA1%21secret", own.name);
    works(&mut own, &by_socket).await;
    works(&mut own, &format!("{by_socket}&ssl-mode=required")).await;
    let tcp = own.url();
    let ca = certificates.path("ca.pem");
    for options in
        ["ssl-mode=required".to_owned(), format!("ssl-mode=verify_ca&ssl-ca={ca}"), format!("ssl-mode=verify_identity&ssl-ca={ca}")]
    {
        works(&mut own, &format!("{tcp}?{options}")).await;
    }
    // A certificate that nobody we trust has signed, and one for another name.
    let port = tcp.rsplit_once('/').unwrap().0.rsplit_once(':').unwrap().1.to_owned();
    let elsewhere = tcp.replace(&format!("127.0.0.1:{port}"), &format!("localhost:{port}"));
    for (url, options) in [
        (&tcp, format!("ssl-mode=verify_ca&ssl-ca={}", certificates.path("other.pem"))),
        (&tcp, "ssl-mode=verify_ca".to_owned()),
        (&elsewhere, format!("ssl-mode=verify_identity&ssl-ca={ca}")),
    ] {
        let e = Mysql::open(&format!("{url}?{options}"), &Options::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{options}: {}", e.full());
        assert!(e.hint_text().unwrap().contains("`ssl-ca`"), "{options}: {}", e.full());
    }
    // An account that asks for a certificate of its own.
    let mine = url(&own.server, Some(("tls", "aA1%21secret")), &own.name);
    let e = Mysql::open(&mine, &Options::default()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Permission, "{}", e.full());
    let (cert, key) = (certificates.path("client.pem"), certificates.path("client-key.pem"));
    works(&mut own, &format!("{mine}?ssl-mode=verify_ca&ssl-ca={ca}&ssl-cert={cert}&ssl-key={key}")).await;
    let e = Mysql::open(&format!("{mine}?ssl-mode=verified"), &Options::default()).await.unwrap_err();
    assert_eq!(e.kind(), Kind::Config, "{}", e.full());
    // The account of whoever runs this, without a password.
    let me = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap().trim().to_owned();
    let by_name = if own.backend == Backend::Mariadb {
        format!("create or replace user '{me}'@'localhost' identified via unix_socket")
    } else {
        own.exec("install plugin auth_socket soname 'auth_socket.so'").await;
        format!("drop user if exists '{me}'@'localhost'; create user '{me}'@'localhost' identified with auth_socket")
    };
    own.exec(&format!("{by_name}; grant all on *.* to '{me}'@'localhost' with grant option")).await;
    let by_name = format!("mysql://{me}@localhost/{}?socket={socket}", own.name);
    works(&mut own, &by_name).await;
    own
}

/// MySQL's default account, without TLS: the server lets it in only while it remembers an earlier login.
async fn a_login_without_tls(mut own: Own) -> Own {
    own.exec(&format!(
        "create user 'cached'@'127.0.0.1' identified by '{PASSWORD}'; grant all on *.* to 'cached'@'127.0.0.1' with grant option"
    ))
    .await;
    own.exec("create table t (id int primary key, f varchar(50))").await;
    let safe = url(&own.server, Some(("cached", "aA1%21secret")), &own.name);
    let bare = format!("{safe}?ssl-mode=disabled");
    let e = Mysql::open(&bare, &Options::default()).await.unwrap_err();
    assert!(e.kind() == Kind::Config && e.full().contains("without TLS"), "{}", e.full());
    let db = Mysql::open(&safe, &Options::default()).await.unwrap();
    let unsafe_login = |warnings: &[String]| warnings.iter().any(|w| w.contains("no TLS") && w.contains("caching_sha2_password"));
    assert!(!unsafe_login(&db.inspect(&bound(&["t.f"])).await.unwrap().warnings));
    // Now the server remembers it.
    let db = Mysql::open(&bare, &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let seen = db.inspect(&bound(&["t.f"])).await.unwrap();
    assert!(unsafe_login(&seen.warnings), "{:?}", seen.warnings);
    own
}

fn by_socket_and_with_tls(backend: Backend) {
    let certificates = Certificates::make();
    let server = own_server(backend, &certificates.server_options());
    on(server.server(), |own| sockets_and_tls(own, &certificates));
    if backend == Backend::Mysql {
        on(server.server(), a_login_without_tls);
    }
}

#[test]
fn mariadb_own_server_by_socket_and_with_tls() {
    by_socket_and_with_tls(Backend::Mariadb);
}

#[test]
fn mysql_own_server_by_socket_and_with_tls() {
    by_socket_and_with_tls(Backend::Mysql);
}

// -- rights -------------------------------------------------------------------------------------------------------------------------

const TABLES: &str = "create table up (id int primary key);
    create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade)";

/// An account of that name with these rights, each without its `TO`, where DB stands for the test's database; and its URL.
async fn account(own: &mut Own, name: &str, grants: &[&str]) -> String {
    let who = format!("'{name}'@'127.0.0.1'");
    own.exec(&format!("drop user if exists {who}; create user {who} identified by '{PASSWORD}'")).await;
    for grant in grants {
        let (what, option) = grant.split_once(" with ").map_or((*grant, String::new()), |(what, option)| (what, format!(" with {option}")));
        own.exec(&format!("grant {} to {who}{option}", what.replace("DB", &own.name))).await;
    }
    url(&own.server, Some((name, "aA1%21secret")), &own.name)
}

async fn open(url: &str) -> Arc<dyn Database> {
    Arc::new(Mysql::open(url, &Options::default()).await.unwrap_or_else(|e| panic!("{}", e.full())))
}

/// As `rowbound attach` does: a look, then the change.
async fn attach(db: &dyn Database, bound: &[Bound]) -> rowbound::Result<()> {
    db.inspect(bound).await?;
    db.install(bound, &record()).await.map(drop)
}

/// Writes of an application's account, on the table and on its ancestor: whatever `attach` said, they work.
async fn application_writes(own: &mut Own) {
    let app = account(own, "app", &["select, insert, update, delete on DB.*"]).await;
    let mut app = MySqlConnection::connect(&app).await.unwrap();
    exec(
        &mut app,
        "insert into up values (1); insert into t values (1, 1, 'cascaded'), (2, null, 'updated'), (3, null, 'deleted');
         update t set f = 'new' where id = 2; delete from t where id in (2, 3); delete from up",
    )
    .await;
    app.close().await.unwrap();
}

const CAPTURED: [&str; 4] = ["cascade 1 cascaded", "delete 1 deleted", "delete 1 new", "update 1 updated"];

/// With `partial_revokes` the `_` of a database's name is no wildcard, so a grant that escapes it was for no database at all: every write of
/// the application failed (error 1142).
async fn partial_revokes(mut own: Own) -> Own {
    assert!(own.name.contains('_'));
    own.exec(TABLES).await;
    let db = own.open().await;
    let bound = bound(&["t.f"]);
    attach(&*db, &bound).await.unwrap();
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    assert_eq!(db.inspect(&bound).await.unwrap().broken, Vec::<String>::new());
    own.exec("set global partial_revokes = on").await;
    // What was granted before is for nobody now, and it is said.
    let broken = db.inspect(&bound).await.unwrap().broken;
    assert!(broken.iter().any(|b| b.contains("lacks TRIGGER") && b.contains("1142")), "{broken:?}");
    attach(&*db, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    assert_eq!(db.inspect(&bound).await.unwrap().broken, Vec::<String>::new());
    assert_eq!(db.script(&bound).await.unwrap(), Vec::<String>::new());
    // The account is dropped by hand: as bad, and mended as well.
    own.exec(&format!("drop user 'rowbound_{}'@'localhost'", own.name)).await;
    let broken = db.inspect(&bound).await.unwrap().broken;
    assert!(broken.iter().any(|b| b.contains("1449")), "{broken:?}");
    attach(&*db, &bound).await.unwrap();
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    // A right on everything, but for this database: seen before anything is changed.
    db.remove().await.unwrap();
    let partly = account(&mut own, "partly", &["select, insert, update, delete, create, drop, trigger, process, lock tables on *.*"]).await;
    own.exec(&format!("revoke trigger on {}.* from 'partly'@'127.0.0.1'", own.name)).await;
    let e = attach(&*open(&partly).await, &bound).await.unwrap_err();
    assert!(e.kind() == Kind::Permission && e.hint_text().unwrap().contains("TRIGGER ON"), "{}", e.full());
    own.exec("drop user 'partly'@'127.0.0.1'; set global partial_revokes = off").await;
    own
}

/// Rights that come through a role may not hold within a trigger: `attach` proves it, before a trigger stands that could fail a write.
async fn rights_through_a_role(mut own: Own) -> Own {
    own.exec(TABLES).await;
    let poor = account(&mut own, "member", &["process on *.*"]).await;
    own.exec(&format!(
        "create role crew; grant select, insert, update, delete, create, drop, trigger, lock tables on {}.* to crew; grant crew to 'member'@'127.0.0.1'",
        own.name
    ))
    .await;
    own.exec(if own.backend == Backend::Mariadb {
        "set default role crew for 'member'@'127.0.0.1'"
    } else {
        "set default role crew to 'member'@'127.0.0.1'"
    })
    .await;
    let db = open(&poor).await;
    let done = attach(&*db, &bound(&["t.f"])).await;
    application_writes(&mut own).await;
    match done {
        Ok(()) => assert_eq!(own.released().await, CAPTURED),
        Err(e) => {
            assert!(e.kind() == Kind::Permission && e.full().contains("every write to a bound table would fail"), "{}", e.full());
            let left = own.column("select trigger_name from information_schema.triggers where trigger_schema = database()").await;
            assert_eq!(left, ["rowbound_identity"], "no trigger stands on a table of the application");
        }
    }
    own.exec("drop role crew; drop user 'member'@'127.0.0.1'").await;
    own
}

/// The account of the warning: it may make accounts and give its rights, and not read the server's own tables.
async fn an_account_that_may_make_accounts(mut own: Own) -> Own {
    own.exec(TABLES).await;
    let definer = if own.backend == Backend::Mariadb { "set user" } else { "set_any_definer" };
    let rights = "select, insert, update, delete, create, drop, trigger, lock tables on DB.*";
    let grants = [&*format!("create user, {definer}, process on *.*"), &*format!("{rights} with grant option")];
    let maker = account(&mut own, "maker", &grants).await;
    let db = open(&maker).await;
    let bound = bound(&["t.f"]);
    attach(&*db, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let account_of_theirs = format!("rowbound_{}@localhost", own.name);
    let definers =
        "select distinct definer from information_schema.triggers where trigger_schema = database() and event_object_table in ('t', 'up')";
    assert_eq!(own.column(definers).await, std::slice::from_ref(&account_of_theirs));
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    assert_eq!(db.script(&bound).await.unwrap(), Vec::<String>::new(), "nothing is to be done a second time");
    attach(&*db, &bound).await.unwrap();
    // Who may make accounts, but not give these rights, makes none.
    db.remove().await.unwrap();
    own.exec(&format!("drop user if exists 'rowbound_{}'@'localhost'", own.name)).await;
    let grants = [&*format!("create user, {definer}, process on *.* with grant option"), rights];
    let maker = account(&mut own, "maker", &grants).await;
    let db = open(&maker).await;
    let seen = db.inspect(&bound).await.unwrap();
    assert!(seen.warnings.iter().any(|w| w.contains("1449") && w.contains("WITH GRANT OPTION")), "{:?}", seen.warnings);
    attach(&*db, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    assert_eq!(own.column(definers).await, ["maker@127.0.0.1"]);
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    // An account that may takes over, and the trigger's account with it.
    attach(&*own.open().await, &bound).await.unwrap();
    assert_eq!(own.column(definers).await, [account_of_theirs]);
    own.exec("drop user 'maker'@'127.0.0.1'").await;
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    own
}

/// The definer needs TRIGGER on Rowbound's own database for the proof alone, where no table of the application lies in it: it is not said that writes fail.
async fn a_right_that_only_the_proof_needs(mut own: Own) -> Own {
    let other = format!("{}_b", own.name);
    own.exec(&format!("create database {other}; create table {other}.t (id int primary key, f varchar(50))")).await;
    let db = own.open().await;
    let bound = bound(&[&format!("{other}.t.f")]);
    attach(&*db, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let escaped = own.name.replace('_', "\\_");
    own.exec(&format!("revoke trigger on `{escaped}`.* from 'rowbound_{}'@'localhost'", own.name)).await;
    assert_eq!(db.inspect(&bound).await.unwrap().broken, Vec::<String>::new());
    own.exec(&format!("insert into {other}.t values (1, 'a'); delete from {other}.t")).await;
    assert_eq!(own.released().await, ["delete 1 a"]);
    own.exec(&format!("drop database {other}")).await;
    own
}

/// Rules for passwords, which once broke `attach` half-way.
async fn rules_for_passwords(mut own: Own) -> Own {
    own.exec(TABLES).await;
    own.exec(if own.backend == Backend::Mariadb {
        "install soname 'simple_password_check';
         set global simple_password_check_minimal_length = 100; set global simple_password_check_digits = 20;
         set global simple_password_check_letters_same_case = 20; set global simple_password_check_other_characters = 20"
    } else {
        "install component 'file://component_validate_password'; set global validate_password.length = 100;
         set global validate_password.policy = 'STRONG'; set global validate_password.mixed_case_count = 20;
         set global validate_password.number_count = 20; set global validate_password.special_char_count = 20"
    })
    .await;
    let e = sqlx::raw_sql("create user 'weak'@'localhost' identified by 'aA1!secret'").execute(&mut own.admin).await.unwrap_err();
    assert!(e.to_string().contains("policy"), "{e}");
    attach(&*own.open().await, &bound(&["t.f"])).await.unwrap_or_else(|e| panic!("{}", e.full()));
    own.exec(if own.backend == Backend::Mariadb {
        "uninstall soname 'simple_password_check'"
    } else {
        "uninstall component 'file://component_validate_password'"
    })
    .await;
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    own
}

/// MySQL replaces a trigger under a lock, for which it asks for a right of its own.
async fn a_trigger_is_replaced(mut own: Own) -> Own {
    own.exec(TABLES).await;
    let rights = "select, insert, update, delete, create, drop, trigger on DB.*";
    let keeper = account(&mut own, "keeper", &["process on *.*", rights]).await;
    let db = open(&keeper).await;
    let bound = bound(&["t.f"]);
    attach(&*db, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let trigger = own
        .column("select trigger_name from information_schema.triggers where trigger_schema = database() and event_object_table = 't' and event_manipulation = 'UPDATE'")
        .await
        .remove(0);
    own.exec(&format!("drop trigger {trigger}; create trigger {trigger} after update on t for each row begin end")).await;
    if own.backend == Backend::Mysql {
        let e = attach(&*db, &bound).await.unwrap_err();
        let hint = e.hint_text().unwrap();
        assert!(e.kind() == Kind::Permission && hint.starts_with(&format!("GRANT LOCK TABLES ON `{}`.*", own.name)), "{}", e.full());
        own.exec(&format!("grant lock tables on {}.* to 'keeper'@'127.0.0.1'", own.name)).await;
        db.close().await;
    }
    attach(&*open(&keeper).await, &bound).await.unwrap_or_else(|e| panic!("{}", e.full()));
    application_writes(&mut own).await;
    assert_eq!(own.released().await, CAPTURED);
    own.exec("drop user 'keeper'@'127.0.0.1'").await;
    own
}

// -- settings -----------------------------------------------------------------------------------------------------------------------

/// InnoDB does not write under READ COMMITTED then, so nothing would ever be claimed.
async fn statements_in_the_binary_log(mut own: Own) -> Own {
    own.exec(TABLES).await;
    let (db, bound, _) = own.attach(&["t.f"]).await;
    db.close().await;
    own.exec("set global binlog_format = 'STATEMENT'").await;
    let db = own.open().await;
    let e = db.inspect(&bound).await.unwrap_err();
    assert!(e.kind() == Kind::Config && e.to_string().contains("binlog_format = STATEMENT"), "{}", e.full());
    assert!(e.hint_text().unwrap().contains("1665") && e.hint_text().unwrap().contains("SET GLOBAL binlog_format"), "{}", e.full());
    // What was attached before loses nothing, and says why it stops.
    application_writes(&mut own).await;
    let e = db.claim(&claim("w", 10)).await.unwrap_err();
    assert!(e.hint_text().is_some_and(|hint| hint.contains("SET GLOBAL binlog_format")), "{}", e.full());
    db.close().await;
    own.exec("set global binlog_format = 'ROW'").await;
    let db = own.open().await;
    db.inspect(&bound).await.unwrap();
    assert_eq!(db.claim(&claim("w", 10)).await.unwrap().len(), 4);
    own
}

/// A server that takes no writes is a replica, as a rule: its rows may be older than the files.
async fn no_writes(mut own: Own) -> Own {
    own.exec(TABLES).await;
    let (db, ..) = own.attach(&["t.f"]).await;
    application_writes(&mut own).await;
    let poor = account(&mut own, "poor", &["select, insert, update, delete on DB.*", "process on *.*"]).await;
    let poor = open(&poor).await;
    assert!(poor.claim(&claim("other", 1)).await.unwrap().len() == 1);
    own.exec(if own.backend == Backend::Mariadb { "set global read_only = on" } else { "set global super_read_only = on" }).await;
    let e = Mysql::open(&own.url(), &Options::default()).await.unwrap_err();
    assert!(e.kind() == Kind::DatabaseUnreachable && e.hint_text().unwrap().contains("primary"), "{}", e.full());
    // A process that was there before learns of it before it deletes anything.
    let e = db.open_transactions().await.unwrap_err();
    assert!(e.kind() == Kind::DatabaseUnreachable && e.full().contains("takes no writes"), "{}", e.full());
    let e = poor.claim(&claim("other", 1)).await.unwrap_err();
    assert!(e.kind() == Kind::DatabaseUnreachable && e.hint_text().unwrap().contains("primary"), "{}", e.full());
    own.exec(if own.backend == Backend::Mariadb {
        "set global read_only = off"
    } else {
        "set global super_read_only = off; set global read_only = off"
    })
    .await;
    assert_eq!(db.claim(&claim("w", 10)).await.unwrap().len(), 3);
    own.exec("drop user 'poor'@'127.0.0.1'").await;
    own
}

fn rights_and_settings(backend: Backend) {
    let server = own_server(
        backend,
        if backend == Backend::Mariadb { "--log-bin --binlog-format=ROW --log-bin-trust-function-creators=1" } else { "" },
    );
    let server = server.server();
    if backend == Backend::Mysql {
        on(server, partial_revokes);
    }
    on(server, rights_through_a_role);
    on(server, an_account_that_may_make_accounts);
    on(server, a_right_that_only_the_proof_needs);
    on(server, rules_for_passwords);
    on(server, a_trigger_is_replaced);
    on(server, statements_in_the_binary_log);
    on(server, no_writes);
}

#[test]
fn mariadb_own_server_with_few_rights_and_odd_settings() {
    rights_and_settings(Backend::Mariadb);
}

#[test]
fn mysql_own_server_with_few_rights_and_odd_settings() {
    rights_and_settings(Backend::Mysql);
}

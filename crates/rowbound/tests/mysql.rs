//! MariaDB and MySQL: what capture records, what it must never do to the application, and the queue's promises.
//!
//! Every test runs on both, as `mariadb::..` and `mysql::..`, and has a database of its own there.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rowbound::{
    Binding, FileName, Kind,
    binding::{Column, Reading, Search},
    capture::{Bound, Installation},
    database::{ColumnSearch, Database, Options, Schema, mysql::Mysql},
    ledger::{Filter, NewEntry},
    queue::{Announce, Candidate, Claim, Decision, Outcome, PutBack, Settlement},
};
use rowbound_testkit::{Backend, OwnServer, Server};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};

/// Makes two tests of each: one on MariaDB, one on MySQL.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod mariadb { $(#[test] fn $name() { super::$name(&super::Server::from_env(super::Backend::Mariadb)) })* }
        mod mysql { $(#[test] fn $name() { super::$name(&super::Server::from_env(super::Backend::Mysql)) })* }
    };
}

on_both! {
    every_way_to_lose_a_row_or_a_value_is_captured
    names_that_a_collation_takes_for_equal_are_captured
    cascades_over_three_levels_and_two_paths_are_captured
    rows_that_point_at_their_own_table_are_captured_even_in_a_circle
    keys_that_change_or_null_a_file_column_are_captured
    children_that_others_committed_after_the_deleting_transaction_began_are_captured
    odd_names_identifiers_and_other_databases_are_captured
    renamed_dropped_and_altered_columns_never_fail_a_write_and_leave_the_others_captured
    a_missing_queue_never_fails_a_write_and_shows_as_drift
    an_application_without_any_right_on_the_queue_is_captured
    the_application_sees_its_own_ids_and_warnings_only
    a_long_delete_of_an_ancestor_does_not_hold_up_others
    claim_and_settlement_never_block_a_delete
    ancestors_make_no_deadlocks
    statements_that_use_the_children_themselves_are_captured
    an_index_that_went_away_fails_no_write
    json_columns_are_captured_and_read
    detach_leaves_the_schema_as_it_was
    a_repeated_attach_waits_for_no_lock_and_changes_nothing
    attach_gives_up_on_a_busy_table_and_lets_the_application_pass_meanwhile
    attach_repairs_a_lost_an_altered_and_a_swapped_trigger
    a_restored_dump_has_another_identity
    what_cannot_be_bound_is_refused_and_what_is_blind_is_listed
    an_engine_whose_transactions_nobody_shows_is_refused
    who_cannot_be_reached_and_who_may_not_enter_are_told_apart
    claims_are_disjoint_and_a_lease_that_ran_out_is_taken_over
    what_is_put_back_waits_and_what_is_announced_is_not_taken_early
    the_ledger_keeps_what_was_decided
    a_hundred_thousand_candidates_are_settled_in_seconds
    a_check_finds_every_reference_whatever_the_column_can_hold
    a_check_finds_odd_spellings_of_urls
    a_check_sees_what_was_committed_just_before_and_refuses_on_drift
    a_snapshot_of_many_tables_is_quick
    a_transaction_that_began_just_before_is_never_missed_while_others_poll
    a_stale_list_of_transactions_is_never_taken_for_a_fresh_one
    a_transaction_is_known_until_it_ends_through_its_first_write_and_through_xa
    many_looks_at_once_are_answered_together
    nobody_keeps_us_out_by_a_lock_of_that_name
    another_attach_is_waited_for_and_a_stranger_is_not
}

/// A database of one test, dropped at its end.
struct Own {
    backend: Backend,
    server: String,
    name: String,
    admin: MySqlConnection,
}

fn url(server: &str, user: Option<(&str, &str)>, database: &str) -> String {
    let start = server.find("://").unwrap() + 3;
    let end = server[start..].find('/').map_or(server.len(), |i| start + i);
    let host = server[start..end].rsplit_once('@').map_or(&server[start..end], |(_, host)| host);
    match user {
        Some((user, password)) => format!("{}{user}:{password}@{host}/{database}", &server[..start]),
        None => format!("{}/{database}", &server[..end]),
    }
}

/// Runs a test on a fresh database of the server.
fn on<F: Future<Output = Own>>(server: &Server, test: impl Fn(Own) -> F) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (backend, server) = (server.backend, server.url.replacen("mariadb://", "mysql://", 1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let name = format!("rbt_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    runtime.block_on(async {
        let mut admin = MySqlConnection::connect(&url(&server, None, "")).await.unwrap();
        exec(&mut admin, &format!("drop database if exists {name}; create database {name} character set utf8mb4; use {name}")).await;
        let mut own = test(Own { backend, server: server.clone(), name: name.clone(), admin }).await;
        exec(&mut own.admin, &format!("drop user if exists 'rowbound_{name}'@'localhost'; drop database {name}")).await;
    });
}

async fn exec(conn: &mut MySqlConnection, sql: &str) {
    if let Err(e) = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(conn).await {
        panic!("{e}\n{sql}");
    }
}

async fn column(conn: &mut MySqlConnection, sql: &str) -> Vec<String> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(conn).await.unwrap_or_else(|e| panic!("{e}\n{sql}"));
    rows.iter()
        .map(|r| r.try_get_unchecked::<Option<Vec<u8>>, _>(0).unwrap())
        .map(|v| v.map_or("NULL".into(), |v| String::from_utf8_lossy(&v).into_owned()))
        .collect()
}

impl Own {
    fn url(&self) -> String {
        url(&self.server, None, &self.name)
    }

    async fn exec(&mut self, sql: &str) {
        exec(&mut self.admin, sql).await;
    }

    async fn column(&mut self, sql: &str) -> Vec<String> {
        column(&mut self.admin, sql).await
    }

    /// Makes an account named like the database. Two hosts, because an anonymous account at localhost would come before `%`.
    async fn make_user(&mut self) -> String {
        for host in ["%", "localhost"] {
            self.exec(&format!("create user '{}'@'{host}' identified by 'aA1!secret'", self.name)).await;
        }
        self.name.clone()
    }

    async fn grant(&mut self, what: &str) {
        for host in ["%", "localhost"] {
            self.exec(&format!("grant {what} to '{}'@'{host}'", self.name)).await;
        }
    }

    async fn drop_user(&mut self) {
        self.exec(&format!("drop user '{0}'@'%', '{0}'@'localhost'", self.name)).await;
    }

    async fn connect(&self) -> MySqlConnection {
        MySqlConnection::connect(&self.url()).await.unwrap()
    }

    async fn open(&self) -> Arc<dyn Database> {
        Arc::new(Mysql::open(&self.url(), &Options::default()).await.unwrap())
    }

    /// Attaches these columns, numbered from 1.
    async fn attach(&self, columns: &[&str]) -> (Arc<dyn Database>, Vec<Bound>, Installation) {
        let db = self.open().await;
        let bound = bound(columns);
        let record = db.install(&bound, &record()).await.unwrap();
        (db, bound, record)
    }

    /// What capture recorded since the last call: `event binding value`, sorted.
    async fn released(&mut self) -> Vec<String> {
        let mut found = self.column("select concat(event, ' ', binding, ' ', convert(value using utf8mb4)) from rowbound_candidate").await;
        self.exec("delete from rowbound_candidate").await;
        found.sort();
        found
    }
}

fn bound(columns: &[&str]) -> Vec<Bound> {
    columns.iter().zip(1..).map(|(c, id)| Bound { id, binding: Binding::name(c, "default").unwrap() }).collect()
}

fn record() -> Installation {
    Installation { version: 1, attached_at: Timestamp::UNIX_EPOCH, ..Installation::new("i", "") }
}

fn claim(owner: &str, limit: u32) -> Claim {
    Claim {
        storage: "default".into(),
        bindings: vec![1, 2, 3],
        grace: Duration::ZERO,
        limit,
        owner: owner.into(),
        lease: Duration::from_secs(60),
        not_due_too: false,
        counted: false,
    }
}

fn settled(c: &Candidate, outcome: Outcome) -> Decision {
    Decision { id: c.id, outcome, name: None, size: None, place: None, note: None }
}

fn settlement(owner: &str, settled: Vec<Decision>, back: Vec<PutBack>) -> Settlement {
    Settlement { owner: owner.into(), storage: "default".into(), settled, empty: Vec::new(), back, derived: Vec::new(), opened: Vec::new() }
}

fn search(column: &str, values: &[&str]) -> ColumnSearch {
    ColumnSearch {
        binding: 1,
        column: Column::parse(column).unwrap(),
        search: Search { values: values.iter().map(|v| v.to_string()).collect(), ..Search::default() },
        query: None,
    }
}

/// Waits for a condition, at most 20 s.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::task::yield_now().await;
    }
}

// -- what is captured ---------------------------------------------------------------------------------------------------------------

fn every_way_to_lose_a_row_or_a_value_is_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table t (id int primary key, u int unique, f varchar(100), other int);
             create table x (id int primary key, tid int);
             create view v as select * from t;
             insert into t values (1, 1, 'a', 0), (2, 2, 'b', 0), (3, 3, 'c', 0), (4, 4, 'd', 0), (5, 5, 'e', 0), (6, 6, 'f', 0), (7, 7, 'g', 0), (8, 8, 'h', 0), (9, 9, 'i', 0);
             insert into x values (1, 5), (2, 6)",
        )
        .await;
        own.attach(&["t.f"]).await;
        for (sql, want) in [
            ("update t set f = f, other = 1", vec![]),
            ("delete from t where id = 1", vec!["delete 1 a"]),
            ("update t set f = 'b2' where id = 2", vec!["update 1 b"]),
            ("update t set f = null where id = 2", vec!["update 1 b2"]),
            ("replace into t values (3, 3, 'c2', 0)", vec!["delete 1 c"]),
            ("replace into t values (30, 3, 'c3', 0)", vec!["delete 1 c2"]),
            ("insert into t values (4, 4, 'x', 0) on duplicate key update f = 'd2'", vec!["update 1 d"]),
            ("delete t, x from t join x on x.tid = t.id where t.id = 5", vec!["delete 1 e"]),
            ("update t join x on x.tid = t.id set t.f = 'f2', x.tid = 0 where t.id = 6", vec!["update 1 f"]),
            ("delete from v where id = 7", vec!["delete 1 g"]),
            ("begin; delete from t where id = 8; rollback", vec![]),
            ("begin; delete from t where id = 8; savepoint s; delete from t where id = 9; rollback to s; commit", vec!["delete 1 h"]),
            ("delete from t", vec!["delete 1 c3", "delete 1 d2", "delete 1 f2", "delete 1 i"]),
        ] {
            own.exec(sql).await;
            assert_eq!(own.released().await, want, "{sql}");
        }
        own
    });
}

fn names_that_a_collation_takes_for_equal_are_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(100) collate utf8mb4_general_ci)").await;
        own.attach(&["t.f"]).await;
        for (was, is, want) in [
            ("'a.jpg'", "'A.jpg'", vec!["update 1 a.jpg"]),
            ("'a'", "'a '", vec!["update 1 a"]),
            ("'é'", "'e'", vec!["update 1 é"]),
            ("''", "'x'", vec![]),
            ("null", "'x'", vec![]),
            ("'  '", "'x'", vec!["update 1   "]),
            ("'x'", "'x'", vec![]),
        ] {
            own.exec(&format!("replace into t values (1, {was})")).await;
            own.released().await;
            own.exec(&format!("update t set f = {is} where id = 1")).await;
            assert_eq!(own.released().await, want, "{was} -> {is}");
        }
        own
    });
}

fn cascades_over_three_levels_and_two_paths_are_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table org (id int primary key);
             create table team (id int primary key, org int, logo varchar(50), foreign key (org) references org (id) on delete cascade);
             create table page (id int primary key, team int, org int, foreign key (team) references team (id) on delete cascade,
                foreign key (org) references org (id) on delete cascade);
             create table image (a int, b int, page int, f varchar(50), primary key (a, b), foreign key (page) references page (id) on delete cascade);
             insert into org values (1), (2), (3); insert into team values (1, 1, 'logo1'), (2, 2, 'logo2'), (3, 3, 'logo3');
             insert into page values (1, 1, null), (2, null, 1), (3, 2, 2), (4, 3, null);
             insert into image values (1, 1, 1, 'i1'), (1, 2, 2, 'i2'), (1, 3, 3, 'i3'), (1, 4, 4, 'i4'), (1, 5, 4, ''), (1, 6, 4, null)",
        )
        .await;
        own.attach(&["image.f", "team.logo"]).await;
        own.exec("delete from org where id = 1").await;
        let keys = own.column("select `key` from rowbound_candidate where binding = 1 order by `key`").await;
        assert_eq!(keys.iter().map(|k| k.replace(' ', "")).collect::<Vec<_>>(), ["[1,1]", "[1,2]"]);
        assert_eq!(own.released().await, ["cascade 1 i1", "cascade 1 i2", "cascade 2 logo1"]);
        // With its own foreign keys MySQL reaches a page by one of its two keys only, with triggers or without: the row dangles, and keeps its file.
        let left = own.column("select f from image order by f").await;
        let dangling = own.backend == Backend::Mysql
            && own
                .column("select variable_value from performance_schema.global_variables where variable_name = 'innodb_native_foreign_keys'")
                .await
                == ["OFF"];
        assert_eq!(left, if dangling { vec!["NULL", "", "i2", "i3", "i4"] } else { vec!["NULL", "", "i3", "i4"] });
        own.exec("replace into org values (2)").await;
        // By both paths: more than enough is fine, nothing may be missing.
        assert_eq!(own.released().await, ["cascade 1 i3", "cascade 1 i3", "cascade 2 logo2"]);
        own.exec("insert into org values (8); insert into team values (8, 8, 'logo8'); insert into page values (8, 8, 8); insert into image values (8, 8, 8, 'i8')").await;
        own.exec("delete org, team, image from org join team on team.org = org.id join page on page.team = team.id join image on image.page = page.id where org.id = 8").await;
        let several = own.released().await;
        assert!(["i8", "logo8"].iter().all(|name| several.iter().any(|is| is.ends_with(name))), "{several:?}");
        own.exec("insert into org values (7) on duplicate key update id = 7; insert into team values (7, 7, 'x'); update org join team on team.org = org.id set team.logo = 'y', org.id = org.id where org.id = 7").await;
        assert_eq!(own.released().await, ["update 2 x"]);
        own.exec("delete from team where id = 3").await;
        assert_eq!(own.released().await, ["cascade 1 i4", "delete 2 logo3"]);
        // A cascade that another key forbids deletes nothing, and records nothing.
        own.exec(
            "create table guard (page int, foreign key (page) references page (id)); insert into org values (9);
             insert into page values (9, null, 9); insert into image values (9, 9, 9, 'i9'); insert into guard values (9)",
        )
        .await;
        assert!(sqlx::raw_sql("delete from org where id = 9").execute(&mut own.admin).await.is_err());
        assert!(own.released().await.is_empty());
        own
    });
}

fn rows_that_point_at_their_own_table_are_captured_even_in_a_circle(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table site (id int primary key);
             create table page (id int primary key, parent int, site int, f varchar(50), foreign key (parent) references page (id) on delete cascade,
                foreign key (site) references site (id) on delete cascade);
             insert into site values (1); insert into page values (1, null, null, 'p1'), (2, 1, null, 'p2'), (3, 2, null, 'p3'), (4, null, null, 'p4'),
                (10, null, 1, 's1'), (11, 10, null, 's2'), (12, 11, null, 's3'), (20, null, null, 'c1'), (21, 20, null, 'c2');
             update page set parent = 21 where id = 20;
             create table a (id int primary key, b varchar(20), f varchar(50));
             create table b (id varchar(20) primary key, a int, foreign key (a) references a (id) on delete cascade);
             alter table a add foreign key (b) references b (id) on delete cascade;
             insert into a values (1, null, 'a1'); insert into b values ('x', 1); insert into a values (2, 'x', 'a2'); insert into b values ('y', 2);
             insert into a values (3, 'y', 'a3')",
        )
        .await;
        own.attach(&["page.f", "a.f"]).await;
        own.exec("delete from page where id = 1").await;
        assert_eq!(own.released().await, ["cascade 1 p2", "cascade 1 p3", "delete 1 p1"]);
        own.exec("delete from site where id = 1").await;
        assert_eq!(own.released().await, ["cascade 1 s1", "cascade 1 s2", "cascade 1 s3"]);
        own.exec("delete from page where id = 20").await;
        let circle = own.released().await;
        assert!(["cascade 1 c2", "delete 1 c1"].iter().all(|want| circle.iter().any(|is| is == want)), "{circle:?}");
        assert_eq!(own.column("select f from page").await, ["p4"]);
        own.exec("delete from b where id = 'x'").await;
        assert_eq!(own.released().await, ["cascade 2 a2", "cascade 2 a3"]);
        own.exec("delete from a where id = 1").await;
        assert_eq!(own.released().await, ["delete 2 a1"]);
        own
    });
}

fn keys_that_change_or_null_a_file_column_are_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table blob_ (digest varchar(50) primary key, note int);
             create table link (id int primary key, f varchar(50), foreign key (f) references blob_ (digest) on update cascade on delete set null);
             create table base (a int, d varchar(50), primary key (a, d));
             create table middle (a int, d varchar(50), n int, primary key (a, d), foreign key (a, d) references base (a, d) on update cascade on delete cascade);
             create table leaf (id int primary key, a int, f varchar(50), foreign key (a, f) references middle (a, d) on update cascade on delete set null);
             insert into blob_ values ('x', 0), ('y', 0), ('z', 0); insert into link values (1, 'x'), (2, 'y'), (3, 'z');
             insert into base values (1, 'm'), (2, 'n'), (3, 'o'); insert into middle values (1, 'm', 0), (2, 'n', 0), (3, 'o', 0);
             insert into leaf values (1, 1, 'm'), (2, 2, 'n'), (3, 3, 'o')",
        )
        .await;
        own.attach(&["link.f", "leaf.f"]).await;
        for (sql, want) in [
            ("update blob_ set note = 1", vec![]),
            ("update blob_ set digest = 'x2' where digest = 'x'", vec!["cascade 1 x"]),
            ("delete from blob_ where digest = 'y'", vec!["cascade 1 y"]),
            ("insert into blob_ values ('z', 0) on duplicate key update digest = 'z2'", vec!["cascade 1 z"]),
            ("update base set d = 'm2' where a = 1", vec!["cascade 2 m"]),
            ("delete from base where a = 2", vec!["cascade 2 n"]),
            ("update middle set n = 1 where a = 3", vec![]),
            ("delete from middle where a = 3", vec!["cascade 2 o"]),
        ] {
            own.exec(sql).await;
            assert_eq!(own.released().await, want, "{sql}");
        }
        assert_eq!(own.column("select f from link order by id").await, ["x2", "NULL", "z2"]);
        assert_eq!(own.column("select f from leaf order by id").await, ["m2", "NULL", "NULL"]);
        own
    });
}

fn children_that_others_committed_after_the_deleting_transaction_began_are_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key);
             create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade);
             create table tree (id int primary key, up int, parent int, f varchar(50), foreign key (up) references up (id) on delete cascade,
                foreign key (parent) references tree (id) on delete cascade);
             insert into up values (1), (2); insert into t values (1, 1, 'a'); insert into tree values (1, 2, null, 'r')",
        )
        .await;
        own.attach(&["t.f", "tree.f"]).await;
        own.exec("set session transaction isolation level repeatable read; begin").await;
        assert_eq!(own.column("select f from t").await, ["a"]);
        let mut other = own.connect().await;
        exec(
            &mut other,
            "insert into t values (2, 1, 'later'); insert into tree values (2, 2, null, 'r2'), (3, null, 2, 'r3'), (4, null, 3, 'r4')",
        )
        .await;
        own.exec("delete from up; commit").await;
        assert_eq!(own.column("select f from t union select f from tree").await, Vec::<String>::new());
        assert_eq!(own.released().await, ["cascade 1 a", "cascade 1 later", "cascade 2 r", "cascade 2 r2", "cascade 2 r3", "cascade 2 r4"]);
        own
    });
}

fn odd_names_identifiers_and_other_databases_are_captured(server: &Server) {
    on(server, |mut own| async {
        let other = format!("{}_o`ther", own.name);
        let quoted = other.replace('`', "``");
        own.exec(&format!(
            "drop database if exists `{quoted}`; create database `{quoted}`; create table `{quoted}`.`t``1` (`i d` int primary key, `f``x` text character set utf8mb4);
             create table `{quoted}`.up (id int primary key); alter table `{quoted}`.`t``1` add up int, add foreign key (up) references `{quoted}`.up (id) on delete cascade;
             create table t (f varchar(2000) character set utf8mb4)"
        ))
        .await;
        let (db, bound, record) = own.attach(&[&format!("{other}.t`1.f`x"), "t.f"]).await;
        let long = "é".repeat(2_500);
        for name in ["😀", "a\nb", "blank ", " ", "e\u{301}", "it's \\ \"quoted\"", &long] {
            sqlx::query(AssertSqlSafe(format!("insert into `{quoted}`.`t``1` values (1, ?, null)")))
                .bind(name)
                .execute(&mut own.admin)
                .await
                .unwrap();
            own.exec(&format!("delete from `{quoted}`.`t``1`")).await;
            let claimed = db.claim(&claim("w", 10)).await.unwrap();
            assert_eq!(claimed.len(), 1);
            assert_eq!((claimed[0].value.as_slice(), claimed[0].key.as_deref(), claimed[0].binding), (name.as_bytes(), Some("1"), Some(1)));
            db.settle(&settlement("w", vec![settled(&claimed[0], Outcome::Missing)], vec![]), None).await.unwrap();
            assert_eq!(db.history(&Filter { limit: Some(1), ..Filter::default() }).await.unwrap()[0].name, name);
        }
        own.exec(&format!(
            "insert into `{quoted}`.up values (1); insert into `{quoted}`.`t``1` values (7, 'deep', 1); delete from `{quoted}`.up"
        ))
        .await;
        own.exec("insert into t values ('plain'); delete from t").await;
        assert_eq!(own.released().await, ["cascade 1 deep", "delete 2 plain"]);
        assert_eq!(db.check(&bound, &record.snapshot, &[search(&format!("{other}.t`1.f`x"), &["x"])]).await.unwrap().found, []);
        db.remove().await.unwrap();
        own.exec(&format!("insert into `{quoted}`.`t``1` values (8, 'x', null); drop database `{quoted}`")).await;
        own
    });
}

// -- what it must never do to the application ---------------------------------------------------------------------------------------

fn renamed_dropped_and_altered_columns_never_fail_a_write_and_leave_the_others_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key);
             create table t (id int primary key, up int, f varchar(50), g varchar(50), foreign key (up) references up (id) on delete cascade);
             insert into up values (1), (2), (3), (4), (5); insert into t values (1, 1, 'f1', 'g1'), (2, 2, 'f2', 'g2'), (3, 3, 'f3', 'g3'), (4, 4, 'f4', 'g4'), (5, 5, 'f5', 'g5'), (6, null, 'f6', 'g6')",
        )
        .await;
        let (db, bound, record) = own.attach(&["t.f", "t.g"]).await;
        own.exec("alter table t rename column f to ff").await;
        own.exec("update t set g = 'g1b' where id = 1; delete from t where id = 1").await;
        assert_eq!(own.released().await, ["delete 2 g1b", "update 2 g1"]);
        own.exec("delete from up where id = 2").await;
        assert_eq!(own.released().await, ["cascade 2 g2"]);
        own.exec("alter table t drop column ff, modify g varchar(200) character set latin1").await;
        own.exec("delete from t where id = 3; delete from up where id = 4").await;
        assert_eq!(own.released().await, ["cascade 2 g4", "delete 2 g3"]);
        // The key too.
        own.exec("alter table t rename column id to pk").await;
        own.exec("delete from t where pk = 6").await;
        assert_eq!(own.column("select `key` from rowbound_candidate").await, ["NULL"]);
        assert_eq!(own.released().await, ["delete 2 g6"]);
        // The whole table: its parent's trigger names it no more.
        own.exec("rename table t to t2; delete from up where id = 5").await;
        own.exec("insert into t2 values (9, null, 'z'); update t2 set g = 'zz'; drop table t2; delete from up").await;
        let drift: Vec<_> = record.snapshot.drift(&db.snapshot(&bound).await.unwrap()).iter().map(ToString::to_string).collect();
        assert!(drift.contains(&"column t.f is gone".to_owned()), "{drift:?}");
        let e = db.check(&bound, &record.snapshot, &[search("t.f", &["x"])]).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Drift);
        own
    });
}

fn a_missing_queue_never_fails_a_write_and_shows_as_drift(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50)); insert into t values (1, 'a')").await;
        let (db, bound, record) = own.attach(&["t.f"]).await;
        own.exec("drop table rowbound_candidate; delete from t").await;
        let drift = record.snapshot.drift(&db.snapshot(&bound).await.unwrap());
        assert_eq!(drift.iter().map(ToString::to_string).collect::<Vec<_>>(), ["table rowbound_candidate is gone"]);
        own
    });
}

fn an_application_without_any_right_on_the_queue_is_captured(server: &Server) {
    on(server, |mut own| async {
        let user = own.make_user().await;
        own.exec(
            "create table up (id int primary key); create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade);
             insert into up values (1); insert into t values (1, null, 'a'), (2, 1, 'b')",
        )
        .await;
        own.grant(&format!("select, insert, update, delete on {user}.t")).await;
        own.grant(&format!("select, delete on {user}.up")).await;
        own.attach(&["t.f"]).await;
        let definers = own.column("select distinct definer from information_schema.triggers where trigger_schema = database() and trigger_name <> 'rowbound_identity'").await;
        assert_eq!(definers, [format!("rowbound_{user}@localhost")]);
        let mut app = MySqlConnection::connect(&url(&own.server, Some((&user, "aA1!secret")), &own.name)).await.unwrap();
        exec(&mut app, "delete from t where id = 1; delete from up").await;
        assert!(sqlx::raw_sql("select * from rowbound_candidate").execute(&mut app).await.is_err());
        assert_eq!(own.released().await, ["cascade 1 b", "delete 1 a"]);
        own.drop_user().await;
        own
    });
}

fn the_application_sees_its_own_ids_and_warnings_only(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int auto_increment primary key, u int unique, f varchar(50))").await;
        own.attach(&["t.f"]).await;
        own.exec("insert into t (u, f) values (1, 'a'); insert into t (u, f) values (2, 'b')").await;
        own.exec("update t set f = 'c' where id = 2; delete from t where id = 1").await;
        assert_eq!(own.column("select last_insert_id()").await, ["2"]);
        assert!(own.column("show warnings").await.is_empty());
        own
    });
}

fn a_long_delete_of_an_ancestor_does_not_hold_up_others(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key); create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade);
             insert into up values (1), (2); insert into t values (1, 1, 'a'), (2, 2, 'b'), (3, null, 'c');
             create function crawl(x int) returns int deterministic return sleep(if(x = 2, 6, 0.1)) + x",
        )
        .await;
        own.attach(&["t.f"]).await;
        // One statement that goes on after its first row: under innodb_autoinc_lock_mode = 1 an INSERT .. SELECT would keep the queue's AUTO-INC lock.
        let mut slow = own.connect().await;
        let id = column(&mut slow, "select connection_id()").await.remove(0);
        let long = tokio::spawn(async move { exec(&mut slow, "delete from up where crawl(id) > 0 or id = 2").await });
        let mut watch = own.connect().await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while column(&mut watch, &format!("select 1 from information_schema.processlist where id = {id} and state like '%sleep%' and exists (select 1 from rowbound_candidate)")).await.is_empty() {
            // The candidate is not committed: look past it.
            exec(&mut watch, "set session transaction isolation level read uncommitted").await;
            if long.is_finished() {
                break;
            }
            assert!(Instant::now() < deadline);
        }
        assert!(!long.is_finished(), "the statement ended before it could be looked at");
        own.exec("set session innodb_lock_wait_timeout = 1; delete from t where id = 3").await;
        assert!(!long.is_finished(), "the other delete waited");
        long.await.unwrap();
        own
    });
}

fn claim_and_settlement_never_block_a_delete(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table t (id int primary key, f varchar(50)); insert into t values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd'), (5, 'e')",
        )
        .await;
        let (db, ..) = own.attach(&["t.f"]).await;
        own.exec("delete from t where id in (1, 2)").await;
        // The statements of a claim and of a settlement, held open, by hand.
        let mut worker = own.connect().await;
        exec(&mut worker, "set session transaction isolation level read committed; begin").await;
        column(&mut worker, "select id from rowbound_candidate where binding = 1 and released_at <= utc_timestamp(6) order by id limit 100 for update skip locked").await;
        own.exec("set session innodb_lock_wait_timeout = 1; delete from t where id = 3").await;
        exec(&mut worker, "update rowbound_candidate set owner = 'w', due_at = utc_timestamp(6)").await;
        own.exec("delete from t where id = 4").await;
        exec(&mut worker, "delete from rowbound_candidate where owner = 'w'").await;
        own.exec("delete from t where id = 5").await;
        exec(&mut worker, "commit").await;
        // And the true ones against a delete that is not committed.
        own.exec("insert into t values (6, 'f'); begin; delete from t where id = 6").await;
        let claimed = db.claim(&claim("w", 100)).await.unwrap();
        assert_eq!(
            db.settle(&settlement("w", claimed.iter().map(|c| settled(c, Outcome::Kept)).collect(), vec![]), None).await.unwrap(),
            claimed.len() as u64
        );
        own.exec("commit").await;
        assert_eq!(own.released().await, ["delete 1 f"]);
        own
    });
}

/// A statement that works on a table itself lets no trigger lock it for writing (error 1442): then it is read with a shared lock.
fn statements_that_use_the_children_themselves_are_captured(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key, n int);
             create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade);
             create table tree (id int primary key, up int, parent int, f varchar(50), foreign key (up) references up (id) on delete cascade,
                foreign key (parent) references tree (id) on delete cascade);
             insert into up values (1, 1), (2, 2), (3, 3), (4, 4), (5, 5); insert into t values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, 'd');
             insert into tree values (1, 5, null, 'r1'), (2, null, 1, 'r2'), (3, null, 2, 'r3'), (4, null, null, 's1'), (5, null, 4, 's2')",
        )
        .await;
        own.attach(&["t.f", "tree.f"]).await;
        own.exec("delete up, t from up join t on t.up = up.id where up.id = 1").await;
        let both = own.released().await;
        assert!(both.iter().all(|r| r.ends_with(" 1 a")) && !both.is_empty(), "{both:?}");
        own.exec("delete from up where id in (select up from t where f = 'b')").await;
        assert_eq!(own.released().await, ["cascade 1 b"]);
        own.exec("update up join t on t.up = up.id set up.n = 0, t.f = 'cc' where up.id = 3; delete up from up join t on t.up = up.id where t.f = 'cc'").await;
        assert_eq!(own.released().await, ["cascade 1 cc", "update 1 c"]);
        own.exec("replace into up (id, n) select id + 3, 9 from t where false; replace into up (id, n) select up, 9 from t where id = 4")
            .await;
        assert_eq!(own.released().await, ["cascade 1 d"]);
        // Its own table can be read with a shared lock only, and what lies below with the other.
        own.exec("delete from up where id = 5").await;
        assert_eq!(own.released().await, ["cascade 2 r1", "cascade 2 r2", "cascade 2 r3"]);
        own.exec("delete from tree where id = 4").await;
        assert_eq!(own.released().await, ["cascade 2 s2", "delete 2 s1"]);
        let warnings = sqlx::raw_sql("show warnings").fetch_all(&mut own.admin).await.unwrap();
        assert!(warnings.is_empty(), "the application sees {} warnings", warnings.len());
        own
    });
}

/// Triggers name the index by which they find the children.
fn an_index_that_went_away_fails_no_write(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key);
             create table t (id int primary key, up int, f varchar(50), constraint by_up foreign key (up) references up (id) on delete cascade);
             create table n (up int, id int, f varchar(50), primary key (up, id), foreign key (up) references up (id) on delete cascade);
             insert into up values (1), (2), (3); insert into t values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'); insert into n values (1, 1, 'n')",
        )
        .await;
        let (db, bound, _) = own.attach(&["t.f", "n.f"]).await;
        let named = "select action_statement from information_schema.triggers where event_object_table = 'up' and event_manipulation = 'DELETE' and trigger_schema = database()";
        let body = own.column(named).await.remove(0);
        assert!(body.contains("force index (`by_up`)") && body.contains("force index (`PRIMARY`)"), "{body}");
        own.exec("delete from up where id = 1").await;
        assert_eq!(own.released().await, ["cascade 1 a", "cascade 2 n"]);
        // Another one of the same column takes its place.
        own.exec("create index another on t (up)").await;
        if own
            .column("select index_name from information_schema.statistics where table_schema = database() and table_name = 't'")
            .await
            .iter()
            .any(|i| i == "by_up")
        {
            own.exec("alter table t drop index by_up").await;
        }
        own.exec("delete from up where id = 2").await;
        assert_eq!(own.released().await, ["cascade 1 b"]);
        db.install(&bound, &record()).await.unwrap();
        assert!(own.column(named).await[0].contains("force index (`another`)"), "{:?}", own.column(named).await);
        own.exec("delete from up where id = 3").await;
        assert_eq!(own.released().await, ["cascade 1 c"]);
        own
    });
}

/// Every JSONField of Django on MySQL is a column of that type.
fn json_columns_are_captured_and_read(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key);
             create table t (id int primary key, up int, j json, g json, n int, foreign key (up) references up (id) on delete cascade);
             insert into up values (1); insert into t values (1, 1, '[\"a.jpg\", \"é 😀.jpg\"]', '{\"html\": \"<img src=/m/b.jpg>\"}', 0),
                 (2, null, '[\"a.jpg\"]', null, 0), (3, null, '[]', 'null', 0)",
        )
        .await;
        let db = own.open().await;
        let kinds = [Binding::json("t.j", "default", "$[*]").unwrap(), Binding::text("t.g", "default", ["/m/"]).unwrap()];
        let bound: Vec<Bound> = kinds.into_iter().zip(1..).map(|(binding, id)| Bound { id, binding }).collect();
        if own.backend == Backend::Mysql {
            let e = db.inspect(&[Bound { id: 1, binding: Binding::name("t.j", "default").unwrap() }]).await.unwrap_err();
            assert!(e.kind() == Kind::Schema && e.hint_text().unwrap().contains("kind = \"json\""), "{}", e.full());
        }
        db.inspect(&bound).await.unwrap();
        let record = db.install(&bound, &record()).await.unwrap();
        own.exec("update t set n = 1; update t set j = j, g = g").await;
        assert_eq!(own.released().await, Vec::<String>::new());
        own.exec("update t set j = json_array_append(j, '$', 'c.jpg') where id = 2").await;
        assert_eq!(own.released().await, ["update 1 [\"a.jpg\"]"]);
        own.exec("update t set j = null where id = 3").await;
        assert_eq!(own.released().await, ["update 1 []"]);
        let names: Vec<FileName> = ["a.jpg", "é 😀.jpg", "b.jpg", "none.jpg"].iter().map(|n| FileName::parse(n).unwrap()).collect();
        let searches: Vec<_> = bound
            .iter()
            .map(|b| ColumnSearch { binding: b.id, column: b.binding.column.clone(), search: b.binding.search(&names), query: None })
            .collect();
        let found = async || {
            let found = db.check(&bound, &record.snapshot, &searches).await.unwrap().found;
            let mut found: Vec<_> = found.iter().map(|f| format!("{} {}", f.binding, String::from_utf8_lossy(&f.value))).collect();
            found.sort();
            found
        };
        assert_eq!(found().await, ["1 a.jpg", "1 é 😀.jpg", "2 b.jpg"]);
        let holders = db.holders(&searches, 10).await.unwrap();
        assert!(holders.iter().any(|h| h.binding == 2 && h.key.as_deref() == Some("1")), "{holders:?}");
        own.exec("delete from up").await;
        let released = own.released().await;
        assert!(released.len() == 2 && released[0].contains("é 😀.jpg") && released[1].contains("/m/b.jpg"), "{released:?}");
        assert_eq!(found().await, ["1 a.jpg"]);
        own.exec("delete from t where id = 2").await;
        assert_eq!(own.released().await.len(), 1);
        // Another type under the same name is another column.
        own.exec("alter table t modify j longtext").await;
        let drift = record.snapshot.drift(&db.snapshot(&bound).await.unwrap());
        assert!(!drift.is_empty());
        own
    });
}

// -- attach and detach --------------------------------------------------------------------------------------------------------------

/// How a client program of the server is called.
fn program(own: &Own, name: &str) -> std::process::Command {
    let url = own.url();
    let (user, rest) = url.strip_prefix("mysql://").unwrap().rsplit_once('/').unwrap().0.rsplit_once('@').unwrap();
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (host, port) = rest.split_once(':').unwrap_or((rest, "3306"));
    let mut command = std::process::Command::new(name);
    command.args(["--protocol=tcp", "-h", host, "-P", port, "-u", user]).arg(format!("--password={password}"));
    command
}

fn dump(own: &Own) -> String {
    let output = program(own, "mysqldump")
        .args(["--no-data", "--triggers", "--routines", "--skip-dump-date", &own.name])
        .output()
        .expect("mysqldump is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn client(own: &Own, sql: &str) {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, sql.as_bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let output = program(own, "mysql").arg(&own.name).stdin(file).output().expect("mysql is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn detach_leaves_the_schema_as_it_was(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table up (id int primary key); create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade);
             create trigger theirs after delete on t for each row set @x = 1; insert into t values (1, null, 'a')",
        )
        .await;
        let before = dump(&own);
        let (db, bound, _) = own.attach(&["t.f"]).await;
        assert_ne!(dump(&own), before);
        own.exec("delete from t").await;
        assert!(!db.remove_script().await.unwrap().is_empty());
        db.remove().await.unwrap();
        assert_eq!(dump(&own), before);
        let account = format!("show grants for 'rowbound_{}'@'localhost'", own.name);
        assert!(sqlx::raw_sql(AssertSqlSafe(account)).execute(&mut own.admin).await.is_err(), "the account is gone too");
        assert_eq!(db.remove_script().await.unwrap(), Vec::<String>::new());
        db.remove().await.unwrap();
        assert_eq!(db.installation().await.unwrap(), None);
        // And the script, run by hand, is the same as install.
        for statement in db.script(&bound).await.unwrap() {
            own.exec(&statement).await;
        }
        assert_eq!(db.script(&bound).await.unwrap(), Vec::<String>::new());
        own
    });
}

fn a_repeated_attach_waits_for_no_lock_and_changes_nothing(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table up (id int primary key); create table t (id int primary key, up int, f varchar(50), foreign key (up) references up (id) on delete cascade)").await;
        let (db, bound, first) = own.attach(&["t.f"]).await;
        let identity = db.identity().await.unwrap();
        let mut app = own.connect().await;
        exec(&mut app, "lock tables t write, up write").await;
        let started = Instant::now();
        let again = db.install(&bound, &record()).await.unwrap();
        assert_eq!(again.snapshot, first.snapshot);
        assert!(started.elapsed() < Duration::from_secs(30));
        assert_eq!(db.installation().await.unwrap(), Some(again));
        assert_eq!(db.identity().await.unwrap(), identity);
        own
    });
}

fn attach_gives_up_on_a_busy_table_and_lets_the_application_pass_meanwhile(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50)); insert into t values (1, 'a'), (2, 'b')").await;
        let options = Options { lock_timeout: Duration::from_millis(100), lock_patience: Duration::from_secs(6), ..Options::default() };
        let db = Mysql::open(&own.url(), &options).await.unwrap();
        let mut idle = own.connect().await;
        exec(&mut idle, "begin; select * from t").await;
        let (bindings, record_) = (bound(&["t.f"]), record());
        let e = tokio::join!(db.install(&bindings, &record_), async {
            let mut app = own.connect().await;
            for _ in 0..20 {
                let started = Instant::now();
                exec(&mut app, "update t set f = f where id = 2").await;
                assert!(started.elapsed() < Duration::from_secs(4), "the application waited {:?}", started.elapsed());
            }
        })
        .0
        .unwrap_err();
        assert_eq!(e.kind(), Kind::Busy, "{}", e.full());
        assert_eq!(db.installation().await.unwrap(), None);
        exec(&mut idle, "commit").await;
        db.install(&bound(&["t.f"]), &record()).await.unwrap();
        own.exec("delete from t").await;
        assert_eq!(own.released().await, ["delete 1 a", "delete 1 b"]);
        own
    });
}

fn attach_repairs_a_lost_an_altered_and_a_swapped_trigger(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50)); create table s (id int primary key, g varchar(50))").await;
        let (db, bound, first) = own.attach(&["t.f", "s.g"]).await;
        let triggers = own.column("select trigger_name from information_schema.triggers where trigger_schema = database() and event_object_table = 't' order by 1").await;
        assert_eq!(triggers.len(), 2);
        own.exec(&format!(
            "drop trigger {}; drop trigger {}; create trigger {} after update on t for each row begin end",
            triggers[0], triggers[1], triggers[1]
        ))
        .await;
        assert_eq!(first.snapshot.drift(&db.snapshot(&bound).await.unwrap()).len(), 2);
        assert_eq!(db.install(&bound, &record()).await.unwrap().snapshot, first.snapshot);
        own.exec("create table new like t; rename table t to t_old, new to t").await;
        db.install(&bound, &record()).await.unwrap();
        assert_eq!(db.snapshot(&bound).await.unwrap(), first.snapshot);
        own.exec("insert into t values (1, 'x'); delete from t; insert into t_old values (1, 'y'); delete from t_old").await;
        assert_eq!(own.released().await, ["delete 1 x"]);
        // A binding that left the plan loses its triggers.
        db.install(&bound[..1], &record()).await.unwrap();
        own.exec("insert into s values (1, 'x'); delete from s").await;
        assert!(own.released().await.is_empty());
        own
    });
}

fn a_restored_dump_has_another_identity(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        let was = db.identity().await.unwrap();
        assert_eq!(own.open().await.identity().await.unwrap(), was);
        own.exec("alter table rowbound_installation engine = innodb").await;
        assert_eq!(db.identity().await.unwrap(), was, "a rebuilt table is the same database");
        // A true restore, under the same name.
        let text = dump(&own);
        // MariaDB keeps a trigger's statement as it was written. With the database's name in it, a dump that is restored elsewhere changes this database.
        let made_in = |what: &str| text.to_lowercase().contains(&format!("{what} `{}`.", own.name));
        assert!(!made_in("trigger") && !made_in(" on"), "{text}");
        own.exec("drop table rowbound_installation, rowbound_candidate, rowbound_ledger, t").await;
        client(&own, &text);
        assert_eq!(own.column("select count(*) from information_schema.triggers where trigger_schema = database()").await, ["3"]);
        assert_ne!(db.identity().await.unwrap(), was);
        own
    });
}

fn what_cannot_be_bound_is_refused_and_what_is_blind_is_listed(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table t (id int primary key, f varchar(50), b binary(20), n int); create view v as select * from t;
             create table m (id int primary key, f varchar(50)) engine = myisam",
        )
        .await;
        let db = own.open().await;
        for (column, kind) in
            [("t.nope", Kind::Schema), ("nope.f", Kind::Schema), ("v.f", Kind::Schema), ("t.b", Kind::Schema), ("t.n", Kind::Schema)]
        {
            let e = db.inspect(&bound(&[column])).await.unwrap_err();
            assert_eq!(e.kind(), kind, "{column}: {}", e.full());
            assert!(e.to_string().contains(column), "{e}");
        }
        if own.backend == Backend::Mysql {
            let e = db.inspect(&bound(&["t.f", "m.f"])).await.unwrap_err();
            assert!(e.kind() == Kind::Schema && e.to_string().contains("m.f") && e.full().contains("1785"), "{}", e.full());
            own.exec("alter table m engine = InnoDB").await;
        }
        let found = db.inspect(&bound(&["t.f", "m.f"])).await.unwrap();
        let rollback = (own.backend == Backend::Mariadb).then_some("ROLLBACK");
        for event in ["TRUNCATE", "DROP TABLE", "RENAME TABLE"].into_iter().chain(rollback) {
            assert!(found.blind.iter().any(|b| b.event.starts_with(event)), "{event}");
        }
        assert_eq!(found.warnings.iter().any(|w| w.contains("MyISAM")), own.backend == Backend::Mariadb);
        // An account with too few rights is told which.
        let user = own.make_user().await;
        own.grant(&format!("select, insert on {user}.*")).await;
        let poor = Mysql::open(&url(&own.server, Some((&user, "aA1!secret")), &own.name), &Options::default()).await.unwrap();
        let e = poor.inspect(&bound(&["t.f"])).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Permission);
        assert!(e.hint_text().unwrap().starts_with(&format!("GRANT PROCESS ON *.* TO '{user}'@'")), "{:?}", e.hint_text());
        assert_eq!(poor.open_transactions().await.unwrap_err().kind(), Kind::Permission);
        own.grant("process on *.*").await;
        let e = poor.inspect(&bound(&["t.f"])).await.unwrap_err();
        assert!(
            e.hint_text().unwrap().contains(&format!("UPDATE, DELETE, CREATE, DROP, TRIGGER ON `{user}`.*")),
            "{}",
            e.hint_text().unwrap()
        );
        // With them, but without the right to make accounts, triggers run as that account.
        own.grant(&format!("update, delete, create, drop, trigger on {user}.*")).await;
        // A session keeps the rights on its database that it had when it began.
        poor.close().await;
        let poor = Mysql::open(&url(&own.server, Some((&user, "aA1!secret")), &own.name), &Options::default()).await.unwrap();
        let found = poor.inspect(&bound(&["t.f"])).await.unwrap();
        assert!(found.warnings.iter().any(|w| w.contains("1449")), "{:?}", found.warnings);
        poor.install(&bound(&["t.f"]), &record()).await.unwrap();
        own.exec("insert into t (id, f) values (1, 'a'); delete from t").await;
        assert_eq!(own.released().await, ["delete 1 a"]);
        // Where an earlier version made the tables they are to be altered, which is asked for only then.
        own.exec("alter table rowbound_candidate drop column waits").await;
        let e = poor.inspect(&bound(&["t.f"])).await.unwrap_err();
        assert!(e.kind() == Kind::Permission && e.hint_text().unwrap().starts_with(&format!("GRANT ALTER ON `{user}`.*")), "{}", e.full());
        own.grant(&format!("alter on {user}.*")).await;
        poor.close().await;
        let poor = Mysql::open(&url(&own.server, Some((&user, "aA1!secret")), &own.name), &Options::default()).await.unwrap();
        poor.inspect(&bound(&["t.f"])).await.unwrap();
        poor.install(&bound(&["t.f"]), &record()).await.unwrap();
        own.exec("insert into t (id, f) values (1, 'a'); delete from t").await;
        assert_eq!(own.released().await, ["delete 1 a"]);
        // An attach by an account that may replaces the definer, once.
        db.install(&bound(&["t.f"]), &record()).await.unwrap();
        own.drop_user().await;
        own.exec("insert into t (id, f) values (1, 'a'); delete from t").await;
        assert_eq!(own.released().await, ["delete 1 a"]);
        own
    });
}

fn who_cannot_be_reached_and_who_may_not_enter_are_told_apart(server: &Server) {
    on(server, |own| async {
        let e = Mysql::open("mysql://x:y@127.0.0.1:1/z", &Options::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::DatabaseUnreachable);
        let e = Mysql::open(&url(&own.server, Some(("nobody", "wrong")), &own.name), &Options::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Permission);
        assert!(!e.full().contains("wrong"), "{}", e.full());
        let e = Mysql::open(&url(&own.server, None, ""), &Options::default()).await.unwrap_err();
        assert_eq!(e.kind(), Kind::Config);
        own
    });
}

// -- the queue ----------------------------------------------------------------------------------------------------------------------

fn claims_are_disjoint_and_a_lease_that_ran_out_is_taken_over(server: &Server) {
    on(server, |mut own| async {
        let (db, ..) = {
            own.exec("create table t (f varchar(50))").await;
            own.attach(&["t.f"]).await
        };
        own.exec("insert into t select concat('n', a.n * 100 + b.n) from (select 0 n union select 1 union select 2 union select 3) a, (select 1 n union select 2 union select 3 union select 4 union select 5) b; delete from t").await;
        let (one, two) = (claim("one", 12), claim("two", 12));
        let (a, b) = tokio::join!(db.claim(&one), db.claim(&two));
        let (a, b) = (a.unwrap(), b.unwrap());
        let mut ids: Vec<_> = a.iter().chain(&b).map(|c| c.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!((ids.len(), a.len() + b.len()), (20, 20));
        assert!(db.claim(&claim("three", 12)).await.unwrap().is_empty());
        let wait = db.next_due(&claim("three", 1)).await.unwrap().unwrap();
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(60), "{wait:?}");
        // A live lease is not taken early; one that ran out is.
        assert!(db.claim(&Claim { not_due_too: true, ..claim("three", 100) }).await.unwrap().is_empty());
        own.exec("update rowbound_candidate set due_at = utc_timestamp(6) where owner = 'one'").await;
        assert_eq!(db.next_due(&claim("three", 1)).await.unwrap(), Some(Duration::ZERO));
        let c = db.claim(&claim("three", 100)).await.unwrap();
        assert_eq!(c.len(), a.len());
        // The first worker comes back late: nothing of its batch is its own any more.
        let late = settlement("one", a.iter().map(|c| settled(c, Outcome::Erased)).collect(), a.iter().map(|c| back(c, 1)).collect());
        assert_eq!(db.settle(&late, None).await.unwrap(), 0);
        assert!(db.history(&Filter::default()).await.unwrap().is_empty());
        assert_eq!(
            db.settle(&settlement("three", c.iter().map(|c| settled(c, Outcome::Erased)).collect(), vec![]), None).await.unwrap(),
            c.len() as u64
        );
        own
    });
}

fn back(c: &Candidate, seconds: u64) -> PutBack {
    PutBack { id: c.id, wait: Duration::from_secs(seconds), attempts: c.attempts + 1, note: "the disk 💾 is 'full'".into(), waits: None }
}

fn what_is_put_back_waits_and_what_is_announced_is_not_taken_early(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (f varchar(50)); insert into t values ('a')").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        assert_eq!(db.next_due(&claim("w", 1)).await.unwrap(), None);
        own.exec("delete from t").await;
        let slow = Claim { grace: Duration::from_secs(100), ..claim("w", 10) };
        assert!(db.claim(&slow).await.unwrap().is_empty());
        let wait = db.next_due(&slow).await.unwrap().unwrap();
        assert!(wait > Duration::from_secs(80) && wait <= Duration::from_secs(100), "{wait:?}");
        let claimed = db.claim(&claim("w", 10)).await.unwrap();
        let ago = Timestamp::now().duration_since(claimed[0].released_at);
        assert!(ago.as_secs().abs() < 60, "the time of release is UTC: {ago:?}");
        assert_eq!(db.settle(&settlement("w", vec![], vec![back(&claimed[0], 1_000)]), None).await.unwrap(), 0);
        assert!(db.claim(&claim("w", 10)).await.unwrap().is_empty());
        let waiting = db.waiting(&["a".into(), "b".into()]).await.unwrap();
        assert_eq!((waiting.len(), waiting[0].attempts, waiting[0].note.as_deref()), (1, 1, Some("the disk 💾 is 'full'")));
        assert!(db.waiting(&["A".into(), "a ".into()]).await.unwrap().is_empty());
        db.announce(&[Announce {
            storage: "default".into(),
            name: FileName::parse("up 😀").unwrap(),
            event: "stage",
            wait: Duration::from_secs(500),
        }])
        .await
        .unwrap();
        let backlog = db.backlog(&claim("w", 10)).await.unwrap();
        assert_eq!((backlog.total, backlog.due, backlog.failing, backlog.sample.len()), (2, 0, 1, 1));
        let early = db.claim(&Claim { not_due_too: true, ..claim("w", 10) }).await.unwrap();
        assert_eq!(early.len(), 1);
        assert_eq!((early[0].attempts, early[0].value.as_slice()), (1, b"a".as_slice()));
        // Another storage's are not this one's.
        let other = Claim { storage: "other".into(), bindings: vec![], ..claim("w", 10) };
        assert_eq!(db.backlog(&other).await.unwrap().total, 0);
        own
    });
}

fn the_ledger_keeps_what_was_decided(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table t (id int primary key, f varbinary(50)); insert into t values (7, 'https://x/a%20b'), (8, 0xff00), (9, 'p')",
        )
        .await;
        let (db, ..) = own.attach(&["t.f"]).await;
        own.exec("delete from t").await;
        let c = db.claim(&claim("w", 10)).await.unwrap();
        assert_eq!(c[1].value, [0xff, 0]);
        let s = vec![
            Decision {
                name: Some("a b 😀".into()),
                size: Some(u64::MAX >> 1),
                place: Some("2026/ü".into()),
                note: Some("why 'not' \\".into()),
                ..settled(&c[0], Outcome::Trashed)
            },
            settled(&c[1], Outcome::Refused),
        ];
        assert_eq!(db.settle(&settlement("w", s, vec![back(&c[2], 5)]), None).await.unwrap(), 2);
        db.enter(&[NewEntry {
            storage: "default".into(),
            name: "p ".into(),
            outcome: Outcome::Purged,
            event: "trash",
            size: Some(3),
            place: None,
            note: None,
        }])
        .await
        .unwrap();
        let all = db.history(&Filter::default()).await.unwrap();
        assert_eq!(all.len(), 3);
        let first = &all[2];
        assert_eq!(
            (first.name.as_str(), first.key.as_deref(), first.binding, first.event.as_str()),
            ("a b 😀", Some("7"), Some(1), "delete")
        );
        assert_eq!(
            (first.outcome, first.size, first.place.as_deref(), first.note.as_deref()),
            (Outcome::Trashed, Some(u64::MAX >> 1), Some("2026/ü"), Some("why 'not' \\"))
        );
        assert!(first.released_at.unwrap() <= first.at);
        assert_eq!(all[0].name, "p ");
        let of = |filter: Filter| {
            let db = db.clone();
            async move { db.history(&filter).await }
        };
        assert_eq!(of(Filter { name: Some("p".into()), ..Filter::default() }).await.unwrap().len(), 0);
        assert_eq!(of(Filter { name: Some("p ".into()), storage: Some("default".into()), ..Filter::default() }).await.unwrap().len(), 1);
        assert_eq!(of(Filter { outcomes: vec![Outcome::Refused, Outcome::Kept], ..Filter::default() }).await.unwrap().len(), 1);
        assert_eq!(of(Filter { since: Some(first.at), limit: Some(2), ..Filter::default() }).await.unwrap().len(), 2);
        assert_eq!(of(Filter { since: Some(Timestamp::now() + Duration::from_secs(3600)), ..Filter::default() }).await.unwrap().len(), 0);
        let totals = db.totals(None).await.unwrap();
        assert_eq!(
            totals.iter().map(|t| (t.outcome, t.count, t.bytes)).collect::<Vec<_>>(),
            [(Outcome::Purged, 1, 3), (Outcome::Refused, 1, 0), (Outcome::Trashed, 1, u64::MAX >> 1)]
        );
        assert!(
            sqlx::raw_sql("insert into rowbound_ledger (at, storage, name, event, outcome) values (now(), 's', 'n', 'e', 'gone')")
                .execute(&mut own.admin)
                .await
                .is_err()
        );
        own
    });
}

fn a_hundred_thousand_candidates_are_settled_in_seconds(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (f varchar(100))").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        own.exec("set session /*M! max_recursive_iterations = 100000 */ /*!80000 cte_max_recursion_depth = 100000 */").await;
        own.exec(
            "insert into rowbound_candidate (binding, value, `key`, event, released_at)
             with recursive n (i) as (select 1 union all select i + 1 from n where i < 100000)
             select 1, concat('uploads/2026/11/21/', left(sha2(i, 256), 32), '.jpg'), i, 'delete', utc_timestamp(6) from n",
        )
        .await;
        let (mut claiming, mut settling, mut count) = (Duration::ZERO, Duration::ZERO, 0);
        loop {
            let started = Instant::now();
            let claimed = db.claim(&claim("w", 4_000)).await.unwrap();
            claiming += started.elapsed();
            if claimed.is_empty() {
                break;
            }
            let outcome = |c: &Candidate| Decision {
                size: Some(12_345),
                place: Some(format!("2026-11-21/{}", c.id)),
                ..settled(c, Outcome::Trashed)
            };
            let batch = settlement("w", claimed.iter().map(outcome).collect(), vec![]);
            let started = Instant::now();
            count += db.settle(&batch, None).await.unwrap();
            settling += started.elapsed();
        }
        assert_eq!(count, 100_000);
        println!("settled 100,000: claims {claiming:?}, settlements {settling:?}");
        assert!(settling < Duration::from_secs(60), "{settling:?}");
        assert_eq!(db.totals(None).await.unwrap()[0].count, 100_000);
        own
    });
}

// -- references ---------------------------------------------------------------------------------------------------------------------

fn a_check_finds_every_reference_whatever_the_column_can_hold(server: &Server) {
    on(server, |mut own| async {
        own.exec(
            "create table c (id int primary key, a varchar(100) character set utf8mb4 collate utf8mb4_general_ci, b varchar(100) character set latin1 collate latin1_german1_ci,
                d varbinary(100), e text character set utf8mb3, g char(20) character set ascii collate ascii_bin, h varchar(100) character set utf16, key (a), key (b));
             insert into c values (1, 'é.jpg', 'é.jpg', 'é.jpg', 'é.jpg', 'e.jpg', 'é.jpg'), (2, 'A.JPG', 'A.JPG', 'A.JPG', 'A.JPG', 'A.JPG', 'A.JPG'), (3, 'é.jpg', null, '', '', '', ''), (4, '😀', null, '😀', null, null, '😀')",
        )
        .await;
        let columns = ["c.a", "c.b", "c.d", "c.e", "c.g", "c.h"];
        let (db, bound, record) = own.attach(&columns).await;
        let mut names: Vec<String> = (0..5_000).map(|i| format!("none/{i}")).collect();
        names.extend(["é.jpg", "e.jpg", "A.JPG", "😀"].map(String::from));
        let refs: Vec<&str> = names.iter().map(String::as_str).collect();
        for (column, want) in columns.iter().zip([
            vec!["é.jpg", "A.JPG", "😀"],
            vec!["é.jpg", "A.JPG"],
            vec!["é.jpg", "A.JPG", "😀"],
            vec!["é.jpg", "A.JPG"],
            vec!["e.jpg", "A.JPG"],
            vec!["é.jpg", "A.JPG", "😀"],
        ]) {
            let found = db.check(&bound, &record.snapshot, &[search(column, &refs)]).await.unwrap().found;
            let mut values: Vec<_> = found.iter().map(|f| String::from_utf8(f.value.clone()).unwrap()).collect();
            values.sort();
            let mut want: Vec<_> = want.into_iter().map(String::from).collect();
            want.sort();
            assert_eq!(values, want, "{column}");
        }
        // A collation's equals come with it, and none of them hides another.
        own.exec("insert into c (id, a) values (5, 'a.jpg'), (6, 'a.jpg '), (7, 'A.jpg')").await;
        let found = db.check(&bound, &record.snapshot, &[search("c.a", &["a.jpg"])]).await.unwrap().found;
        assert!(
            ["a.jpg", "a.jpg ", "A.jpg", "A.JPG"].iter().all(|v| v.ends_with(' ') || found.iter().any(|f| f.value == v.as_bytes())),
            "{found:?}"
        );
        let holders = db.holders(&[search("c.a", &["😀", "é.jpg"])], 2).await.unwrap();
        assert_eq!(holders.len(), 2);
        assert!(holders.iter().all(|h| h.key.is_some()));
        own
    });
}

fn a_check_finds_odd_spellings_of_urls(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (f varchar(100), g varbinary(100)); insert into t values ('/m_/a%20b', '/m_/a?x'), ('/m_/a#1', '/m_/plain'), ('/mx/a%20b', '/other/%20'), ('/m_/plain', null), ('/m_/a%20b', null)").await;
        let (db, bound, record) = own.attach(&["t.f", "t.g"]).await;
        // Under no prefix a path may mean the file all the same.
        for (column, want) in [("t.f", vec!["/m_/a#1", "/m_/a%20b", "/m_/plain", "/mx/a%20b"]), ("t.g", vec!["/m_/a?x"])] {
            let mut search = search(column, &["/m_/plain"]);
            if column == "t.g" {
                search.search.values.clear();
            }
            let prefixes = vec!["/m_/".to_owned(), "/none|/😀".to_owned()];
            let urls = Binding::name(column, "default").unwrap().reading(Reading::Url { prefixes });
            search.search.non_plain = urls.search(&["a b", "a", "plain"].map(|n| FileName::parse(n).unwrap())).non_plain;
            let mut found: Vec<_> = db
                .check(&bound, &record.snapshot, &[search])
                .await
                .unwrap()
                .found
                .into_iter()
                .map(|f| String::from_utf8(f.value).unwrap())
                .collect();
            found.sort();
            assert_eq!(found, want);
        }
        own
    });
}

fn a_check_sees_what_was_committed_just_before_and_refuses_on_drift(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (f varchar(50))").await;
        let (db, bound, record) = own.attach(&["t.f"]).await;
        let one = [search("t.f", &["a"])];
        assert!(db.check(&bound, &record.snapshot, &one).await.unwrap().found.is_empty());
        own.exec("begin; insert into t values ('a')").await;
        assert!(db.check(&bound, &record.snapshot, &one).await.unwrap().found.is_empty());
        own.exec("commit").await;
        let checked = db.check(&bound, &record.snapshot, &one).await.unwrap();
        assert_eq!((checked.found.len(), checked.lock.is_none()), (1, true));
        let trigger = own.column("select trigger_name from information_schema.triggers where trigger_schema = database() and event_object_table = 't' limit 1").await;
        own.exec(&format!("drop trigger {}", trigger[0])).await;
        assert_eq!(db.check(&bound, &record.snapshot, &one).await.unwrap_err().kind(), Kind::Drift);
        own
    });
}

fn a_snapshot_of_many_tables_is_quick(server: &Server) {
    on(server, |mut own| async {
        let mut sql = String::from("create table t0 (id int primary key, f varchar(50));");
        for i in 1..12 {
            sql.push_str(&format!(
                "create table t{i} (id int primary key, up int, f varchar(50), foreign key (up) references t{} (id) on delete cascade);",
                i - 1
            ));
        }
        own.exec(&sql).await;
        let columns: Vec<_> = (0..12).map(|i| format!("t{i}.f")).collect();
        let columns: Vec<_> = columns.iter().map(String::as_str).collect();
        let (db, bound, _) = own.attach(&columns).await;
        let mut best = Duration::MAX;
        for _ in 0..20 {
            let started = Instant::now();
            db.snapshot(&bound).await.unwrap();
            best = best.min(started.elapsed());
        }
        println!("snapshot of 12 tables with 11 cascades: {best:?}");
        assert!(best < Duration::from_millis(500), "{best:?}");
        own
    });
}

// -- open transactions --------------------------------------------------------------------------------------------------------------

fn a_transaction_that_began_just_before_is_never_missed_while_others_poll(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        let second = own.open().await;
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let polling = tokio::spawn({
            let stop = stop.clone();
            async move {
                let mut looks = 0;
                while !stop.load(Ordering::Relaxed) {
                    second.open_transactions().await.unwrap();
                    looks += 1;
                }
                looks
            }
        });
        for i in 0..15 {
            let mut app = own.connect().await;
            let me = column(&mut app, "select connection_id()").await.remove(0);
            exec(&mut app, &format!("begin; insert into t values ({i}, 'x')")).await;
            let open = db.open_transactions().await.unwrap();
            assert!(open.iter().any(|t| t.key.starts_with(&format!("connection {me} "))), "{open:?}");
            exec(&mut app, "rollback").await;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(polling.await.unwrap() > 0);
        own
    });
}

fn a_stale_list_of_transactions_is_never_taken_for_a_fresh_one(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        // A monitor that keeps the server's list old for a second.
        let mut monitor = own.connect().await;
        column(&mut monitor, "select count(*) from information_schema.innodb_trx").await;
        let mut app = own.connect().await;
        let me = column(&mut app, "select connection_id()").await.remove(0);
        let monitoring = tokio::spawn(async move {
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                column(&mut monitor, "select count(*) from information_schema.innodb_trx").await;
            }
        });
        exec(&mut app, "begin; insert into t values (1, 'x')").await;
        let open = db.open_transactions().await.unwrap();
        assert!(open.iter().any(|t| t.key.starts_with(&format!("connection {me} "))), "{open:?}");
        monitoring.await.unwrap();
        own
    });
}

fn a_transaction_is_known_until_it_ends_through_its_first_write_and_through_xa(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50)); insert into t values (1, 'a')").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        let mut app = own.connect().await;
        let me = column(&mut app, "select connection_id()").await.remove(0);
        let xid = own.name.clone();
        exec(&mut app, &format!("xa start '{xid}'; select * from t")).await;
        let mine = |open: Vec<rowbound::database::OpenTransaction>| -> Vec<String> {
            open.into_iter().map(|t| t.key).filter(|k| k.starts_with(&format!("connection {me} "))).collect()
        };
        let reading = mine(db.open_transactions().await.unwrap());
        assert_eq!(reading.len(), 1, "it has read and nothing else");
        exec(&mut app, "insert into t values (2, 'b')").await;
        assert_eq!(mine(db.open_transactions().await.unwrap()), reading);
        exec(&mut app, &format!("xa end '{xid}'; xa prepare '{xid}'")).await;
        app.close().await.unwrap();
        assert_eq!(mine(db.open_transactions().await.unwrap()), reading, "prepared, without its connection");
        own.exec(&format!("xa commit '{xid}'")).await;
        until("the end of the transaction", || async { mine(db.open_transactions().await.unwrap()).is_empty() }).await;
        // Our own sessions are not among them.
        let open = db.open_transactions().await.unwrap();
        assert!(open.iter().all(|t| !t.description.contains("rowbound ")), "{open:?}");
        own
    });
}

/// Workers of one server share what it says of its open transactions; no lock decides whose turn it is.
fn many_looks_at_once_are_answered_together(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let mut app = own.connect().await;
        let me = column(&mut app, "select connection_id()").await.remove(0);
        exec(&mut app, "begin; insert into t values (1, 'x')").await;
        let mut workers = Vec::new();
        for _ in 0..12 {
            workers.push(own.open().await);
        }
        let began = Instant::now();
        for _ in 0..3 {
            let looks = workers.iter().map(|db| {
                let db = db.clone();
                tokio::spawn(async move { db.open_transactions().await })
            });
            for look in looks.collect::<Vec<_>>() {
                let open = look.await.unwrap().unwrap_or_else(|e| panic!("{}", e.full()));
                assert!(open.iter().any(|t| t.key.starts_with(&format!("connection {me} "))), "{open:?}");
                // Those who look too have nothing open that could be waited for.
                assert!(open.iter().all(|t| !t.description.contains("rowbound ")), "{open:?}");
            }
        }
        println!("3 times 12 looks: {:?}", began.elapsed());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        own
    });
}

/// A look at open transactions once waited for a lock by name: a worker that was stopped, or any account, kept it from every Rowbound of the server.
fn nobody_keeps_us_out_by_a_lock_of_that_name(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let mut stranger = own.connect().await;
        assert_eq!(column(&mut stranger, "select get_lock('rowbound_innodb_trx', 0)").await, ["1"]);
        let (db, ..) = own.attach(&["t.f"]).await;
        let began = Instant::now();
        db.open_transactions().await.unwrap_or_else(|e| panic!("{}", e.full()));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        own
    });
}

/// Two attaches at once take turns by a lock by name, because DDL knows no transactions. Another account that holds it is passed by.
fn another_attach_is_waited_for_and_a_stranger_is_not(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (id int primary key, f varchar(50))").await;
        let hash = own.name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
        let lock = format!("select get_lock('rowbound.{hash:016x}', 0)");
        let user = own.make_user().await;
        own.grant(&format!("select on {}.*", own.name)).await;
        let mut stranger = MySqlConnection::connect(&url(&own.server, Some((&user, "aA1!secret")), &own.name)).await.unwrap();
        assert_eq!(column(&mut stranger, &lock).await, ["1"]);
        let (db, bound, record) = own.attach(&["t.f"]).await;
        stranger.close().await.unwrap();

        let mut other = own.connect().await;
        until("the lock is free", async || {
            let mut other = own.connect().await;
            let is = column(&mut other, &lock.replace("get_lock", "is_free_lock").replace(", 0", "")).await.remove(0);
            is == "1"
        })
        .await;
        assert_eq!(column(&mut other, &lock).await, ["1"]);
        let hasty: Arc<dyn Database> =
            Arc::new(Mysql::open(&own.url(), &Options { lock_patience: Duration::from_millis(300), ..Options::default() }).await.unwrap());
        assert_eq!(hasty.install(&bound, &record).await.unwrap_err().kind(), Kind::Busy);
        other.close().await.unwrap();
        db.install(&bound, &record).await.unwrap();
        own.drop_user().await;
        own
    });
}

/// The barrier reads InnoDB's list. RocksDB's, Spider's or NDB's transactions are not in it, nor what is written into the tables of a MERGE.
fn an_engine_whose_transactions_nobody_shows_is_refused(server: &Server) {
    on(server, |mut own| async {
        own.exec("create table t (f varchar(50)) engine = MyISAM; create table m (f varchar(50)) engine = MERGE union = (t)").await;
        let db = own.open().await;
        let e = db.inspect(&bound(&["m.f"])).await.unwrap_err();
        assert!(
            e.kind() == Kind::Schema && e.full().to_lowercase().contains("mrg_myisam") && e.hint_text().unwrap().contains("InnoDB"),
            "{}",
            e.full()
        );
        own
    });
}

/// What a check saw must be on disk before a file goes: after a crash the row of a deletion that was only in memory is back.
fn what_was_seen_is_on_disk(backend: Backend) {
    let options = "--innodb-flush-log-at-trx-commit=0 --innodb-flush-log-at-timeout=2 --innodb-flush-method=fsync";
    let server = if backend == Backend::Mariadb { OwnServer::mariadb_with(options) } else { OwnServer::mysql_with(options) };
    on(server.server(), |mut own| async {
        own.exec("create table t (id int auto_increment primary key, f varchar(50))").await;
        let (db, ..) = own.attach(&["t.f"]).await;
        let log = "show global status where variable_name in
            ('Innodb_lsn_current', 'Innodb_lsn_flushed', 'Innodb_redo_log_current_lsn', 'Innodb_redo_log_flushed_to_disk_lsn')";
        let mut look = own.connect().await;
        let mut lsn = async || {
            let rows = sqlx::raw_sql(log).fetch_all(&mut look).await.unwrap();
            let of = |word: &str| {
                let row = rows.iter().find(|r| r.try_get_unchecked::<String, _>(0).unwrap().to_lowercase().contains(word)).unwrap();
                row.try_get_unchecked::<String, _>(1).unwrap().parse::<u64>().unwrap()
            };
            (of("current"), of("flushed"))
        };
        let mut behind = 0;
        for n in 0..3 {
            own.exec(&format!("insert into t (f) values ('{n}.jpg')")).await;
            own.exec("delete from t").await;
            let (wanted, there) = lsn().await;
            behind += u32::from(there < wanted);
            db.flushed().await.unwrap_or_else(|e| panic!("{}", e.full()));
            assert!(lsn().await.1 >= wanted);
        }
        assert!(behind > 0, "this test is only worth something if the server takes its time");
        own
    });
}

#[test]
fn mariadb_own_server_has_written_what_a_check_saw() {
    what_was_seen_is_on_disk(Backend::Mariadb);
}

#[test]
fn mysql_own_server_has_written_what_a_check_saw() {
    what_was_seen_is_on_disk(Backend::Mysql);
}

/// MySQL's other flavour: foreign keys as InnoDB itself carries them out, no binary log, no GTID.
#[test]
fn mysql_own_server_with_native_foreign_keys_captures_cascades() {
    let own = OwnServer::mysql_with("--innodb-native-foreign-keys=ON --skip-log-bin --gtid-mode=OFF --enforce-gtid-consistency=OFF");
    for test in [
        cascades_over_three_levels_and_two_paths_are_captured,
        rows_that_point_at_their_own_table_are_captured_even_in_a_circle,
        keys_that_change_or_null_a_file_column_are_captured,
        children_that_others_committed_after_the_deleting_transaction_began_are_captured,
        an_application_without_any_right_on_the_queue_is_captured,
        claim_and_settlement_never_block_a_delete,
        the_ledger_keeps_what_was_decided,
        ancestors_make_no_deadlocks,
        statements_that_use_the_children_themselves_are_captured,
        json_columns_are_captured_and_read,
    ] {
        test(own.server());
    }
}

// -- what a session of ours is ------------------------------------------------------------------------------------------------------

/// With servers of their own, because server-wide settings hold for every other test too.
#[path = "mysql/sessions.rs"]
mod sessions;

#[path = "mysql/servers.rs"]
mod servers;

#[path = "mysql/deadlocks.rs"]
mod deadlocks;
use deadlocks::ancestors_make_no_deadlocks;

// -- of which others take writes too ------------------------------------------------------------------------------------------------

#[path = "mysql/primaries.rs"]
mod primaries;

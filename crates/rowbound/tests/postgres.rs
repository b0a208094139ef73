//! PostgreSQL beyond the common suite: locks, rights, row security, partitions, both bodies of the triggers, the barrier, and what
//! a check must not miss.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use rowbound::{
    Binding, Kind,
    binding::{Body, Search},
    capture::{Bound, Snapshot},
    database::{ColumnSearch, Columns, Database, OpenTransaction, Options, Schema, postgres::Postgres},
    ledger::Filter,
    queue::{Candidate, Outcome, PutBack},
};
use rowbound_testkit::{
    App, Backend, OwnServer, TestDb,
    database_suite::{Attached, DEADLINE, Fixture, equal, fresh_record, number, ok, refused, settle_all},
    wait_until,
};

/// A fresh database, and `setup` run in it.
async fn fixture(setup: &str) -> Fixture {
    let db = TestDb::new(Backend::Postgres).await;
    db.exec(setup).await;
    Fixture::new(db)
}

fn name(column: &str) -> Binding {
    ok(Binding::name(column, "default"))
}

fn bound(columns: &[&str]) -> Vec<Bound> {
    number(columns.iter().map(|c| name(c)).collect())
}

const DOC: &str = "create table doc (id int primary key, file text, title text);
    insert into doc values (1, 'a.jpg', 'x'), (2, 'b.jpg', 'x'), (3, 'c.jpg', 'x')";

const PARTITIONED: &str = "create table doc (id int, region int, file text, primary key (id, region)) partition by list (region);
    create table doc1 partition of doc for values in (1);
    insert into doc values (1, 1, 'a.jpg'), (2, 1, 'b.jpg')";

/// Runs a statement and insists on what it releases.
async fn lets_go(f: &Fixture, a: &Attached, sql: &str, values: &[&str]) {
    f.db.exec(sql).await;
    assert_eq!(a.values().await, values, "{sql}");
}

fn said(was: &Snapshot, now: &Snapshot) -> Vec<String> {
    was.drift(now).iter().map(ToString::to_string).collect()
}

async fn definitions(f: &Fixture) -> Vec<String> {
    let sql = "select pg_get_triggerdef(oid) from pg_trigger where tgname like 'rowbound%'";
    f.db.query_strings(sql).await.into_iter().flatten().collect()
}

async fn by_statement(f: &Fixture) -> bool {
    definitions(f).await.iter().any(|d| d.contains("REFERENCING OLD TABLE"))
}

/// A role for the engine that has the rights given and no others. `drop` it before the test's end.
struct Role {
    name: String,
    url: String,
}

impl Role {
    async fn new(f: &Fixture, grants: &[&str]) -> Role {
        let name = format!("rbe_{:08x}", rand::random::<u32>());
        f.db.exec(&format!("create role {name} login")).await;
        let (before, host) = f.db.url().split_once('@').expect("a URL with a user");
        let scheme = before.split_once("://").expect("a URL").0;
        let role = Role { url: format!("{scheme}://{name}@{host}"), name };
        for grant in grants {
            role.grant(f, grant).await;
        }
        role
    }

    async fn grant(&self, f: &Fixture, grant: &str) {
        f.db.exec(&format!("{grant} to {}", self.name)).await;
    }

    async fn open(&self) -> Postgres {
        ok(Postgres::open(&self.url, &hasty(Duration::from_secs(5))).await)
    }

    async fn drop(self, f: &Fixture) {
        f.db.exec(&format!("drop owned by {0} cascade; drop role {0}", self.name)).await;
    }
}

fn hasty(patience: Duration) -> Options {
    Options { lock_timeout: Duration::from_millis(100), lock_patience: patience, ..Options::default() }
}

mod locks {
    use super::*;

    /// "rowbound" in ASCII was once the number of the lock by which one attach at a time works, and everybody may take any number.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_strangers_advisory_lock_keeps_no_attach() {
        let f = fixture(DOC).await;
        let mut stranger = f.db.app().await;
        stranger.query_strings("select pg_advisory_lock(8245940707399134820)").await;
        let db = f.open_with(hasty(Duration::from_millis(300))).await;
        let bound = bound(&["doc.file"]);
        let record = ok(db.install(&bound, &fresh_record(&*db, &bound).await).await);
        // A table of ours is what it holds now, and what another attach holds it waits for.
        let mut other = f.db.app().await;
        other.exec("begin; lock table rowbound.installation in share row exclusive mode").await;
        let e = refused(db.install(&bound, &record).await, "another attach");
        assert!(e.kind() == Kind::Busy && e.full().contains("another attach or detach"), "{}", e.full());
        other.rollback().await;
        ok(db.install(&bound, &record).await);
        stranger.close().await;
    }

    /// Of several that attach at once for the first time each ends well, one after another.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn several_first_attaches_at_once_take_turns() {
        let f = fixture(DOC).await;
        let mut all = Vec::new();
        for _ in 0..4 {
            let db = f.open().await;
            all.push(tokio::spawn(async move {
                let bound = bound(&["doc.file"]);
                let record = fresh_record(&*db, &bound).await;
                db.install(&bound, &record).await.map(|record| (db, record))
            }));
        }
        for one in all {
            let (db, record) = ok(one.await.unwrap());
            assert_eq!(ok(db.snapshot(&bound(&["doc.file"])).await), record.snapshot);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_repeated_attach_takes_no_lock_on_the_tables() {
        for fast in [false, true] {
            let f = fixture(&format!("{DOC}; create table p (file text) partition by list (file); create table p1 partition of p default"))
                .await;
            let body = if fast { Body::Fast } else { Body::Tolerant };
            let a = f.attach_bindings(vec![name("doc.file").body(body), name("p.file").body(body)]).await;
            let mut app = f.db.app().await;
            app.exec("begin; lock table doc, p in access exclusive mode").await;
            let db = f.open_with(hasty(Duration::from_millis(1))).await;
            ok(db.inspect(&a.bound).await);
            assert_eq!(ok(db.script(&a.bound).await), Vec::<String>::new());
            let again = ok(db.install(&a.bound, &a.record).await);
            assert_eq!(again.snapshot, a.record.snapshot);
            app.rollback().await;
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_attach_that_must_wait_lets_the_application_pass_and_names_who_it_waits_for() {
        let f = fixture(DOC).await;
        let mut holder = f.db.app().await;
        holder.exec("begin; update doc set title = 'held' where id = 1").await;
        let pid = holder.query_strings("select pg_backend_pid()").await[0].clone().unwrap();
        let db = f.open_with(hasty(Duration::from_secs(6))).await;
        let wanted = bound(&["doc.file"]);
        let record = fresh_record(&*db, &wanted).await;

        let done = Arc::new(AtomicBool::new(false));
        let mut app = f.db.app().await;
        let writer = tokio::spawn({
            let done = done.clone();
            async move {
                let mut longest = Duration::ZERO;
                let mut n = 0;
                while !done.load(Relaxed) {
                    let began = Instant::now();
                    app.exec("update doc set title = 'y' where id = 2").await;
                    longest = longest.max(began.elapsed());
                    n += 1;
                }
                (longest, n)
            }
        });
        let e = refused(db.install(&wanted, &record).await, "a writer holds the table");
        done.store(true, Relaxed);
        let (longest, n) = writer.await.unwrap();
        assert_eq!(e.kind(), Kind::Busy);
        assert!(e.full().contains(&format!("pid {pid}")), "{}", e.full());
        assert!(n > 1 && longest < Duration::from_secs(3), "{n} writes, one waited {longest:?}");
        assert_eq!(ok(db.installation().await), None);
        holder.rollback().await;
        ok(db.install(&wanted, &record).await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_attach_gets_its_lock_as_soon_as_the_holder_ends() {
        let f = fixture(DOC).await;
        let mut holder = f.db.app().await;
        holder.exec("begin; update doc set title = 'held' where id = 1").await;
        let db = f.open_with(hasty(DEADLINE)).await;
        let wanted = bound(&["doc.file"]);
        let record = fresh_record(&*db, &wanted).await;
        let install = tokio::spawn(async move { db.install(&wanted, &record).await.map(drop) });
        wait_until(DEADLINE, "attach waits for a lock", async || {
            let n = f.db.query_strings("select 1 from pg_locks where not granted and mode = 'ShareRowExclusiveLock'").await;
            !n.is_empty()
        })
        .await;
        holder.commit().await;
        ok(install.await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn two_attaches_at_once_both_end_well() {
        let f = fixture(DOC).await;
        let (one, two) = (f.open().await, f.open().await);
        let wanted = bound(&["doc.file"]);
        let record = fresh_record(&*one, &wanted).await;
        let (a, b) = tokio::join!(one.install(&wanted, &record), two.install(&wanted, &record));
        assert_eq!(ok(a).snapshot, ok(b).snapshot);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_check_behind_a_migration_is_busy_and_not_blind() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        let mut migration = f.db.app().await;
        migration.exec("begin; alter table doc rename column file to picture").await;
        let e = refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await, "a migration holds the table");
        assert_eq!(e.kind(), Kind::Busy, "{}", e.full());
        migration.commit().await;
        let e = refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await, "the column is gone");
        assert_eq!(e.kind(), Kind::Drift, "{}", e.full());
    }
}

mod install {
    use super::*;

    fn pg_dump(url: &str) -> String {
        let out = Command::new("pg_dump").args(["--schema-only", url]).output().expect("pg_dump is not installed");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        // A fence against injected psql commands, with a random word.
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict")).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn after_detach_the_dump_of_the_schema_is_what_it_was() {
        let f = fixture(&format!(
            "{PARTITIONED}; create table page (id int primary key, a text, b varchar(100)); create table scan () inherits (page);
             create schema other; create table other.\"My Table\" (\"Weird\"\"col\" text)"
        ))
        .await;
        let before = pg_dump(f.db.url());
        let columns = ["doc.file", "page.a", "page.b", "other.\"My Table\".\"Weird\"\"col\""];
        let a = f.attach(&columns).await;
        assert_ne!(pg_dump(f.db.url()), before);
        f.db.exec("truncate doc; delete from page; create table doc2 partition of doc for values in (2); drop table doc2").await;
        ok(a.database.remove().await);
        assert_eq!(pg_dump(f.db.url()), before);
        assert_eq!(ok(a.database.remove_script().await), Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn detach_drops_nothing_that_is_not_ours() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("create table rowbound.mine (id int)").await;
        let schema = f.db.schema().await;
        refused(a.database.remove().await, "somebody's table lies in our schema");
        assert_eq!(f.db.schema().await, schema, "all or nothing");
        f.db.exec("drop table rowbound.mine").await;
        ok(a.database.remove().await);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_trigger_of_somebody_else_is_never_replaced() {
        let f = fixture(DOC).await;
        f.db.exec(
            "create function theirs() returns trigger language plpgsql as 'begin return null; end';
             create trigger rowbound_delete after delete on doc for each row execute function theirs()",
        )
        .await;
        let db = f.open().await;
        let wanted = bound(&["doc.file"]);
        let schema = f.db.schema().await;
        let record = fresh_record(&*db, &wanted).await;
        refused(db.install(&wanted, &record).await, "the name is taken");
        assert_eq!(f.db.schema().await, schema);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_spelled_in_two_ways_has_one_set_of_triggers() {
        let f = fixture("create table doc (id int primary key, a text, b text); insert into doc values (1, 'a.jpg', 'b.jpg')").await;
        let a = f.attach(&["doc.a", "public.doc.b"]).await;
        assert_eq!(f.db.triggers().await.len(), 3);
        lets_go(&f, &a, "delete from doc", &["a.jpg", "b.jpg"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_unqualified_table_is_the_one_of_the_roles_search_path() {
        let f =
            fixture("create schema app; create table app.doc (id int primary key, file text); create table public.doc (file text)").await;
        f.db.exec(&format!("alter database {} set search_path = app, public", f.db.name())).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("insert into public.doc values ('p.jpg'); delete from public.doc").await;
        lets_go(&f, &a, "insert into app.doc values (1, 'a.jpg'); delete from app.doc", &["a.jpg"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_changes_in_the_plan_changes_the_triggers() {
        let f = fixture(&format!("{DOC}; create table page (id int primary key, file text)")).await;
        let a = f.attach(&["doc.file", "page.file"]).await;
        // Other body, other storage; page left the plan.
        let wanted = vec![Bound { id: 1, binding: ok(Binding::name("doc.file", "other")).body(Body::Fast) }];
        let record = ok(a.database.install(&wanted, &a.record).await);
        assert!(f.db.triggers().await.iter().all(|(_, table)| table == "doc"));
        f.db.exec("delete from doc where id = 1").await;
        let mut claim = a.claim();
        claim.storage = "other".into();
        assert_eq!(ok(a.database.claim(&claim).await).len(), 1);
        assert_eq!(said(&record.snapshot, &ok(a.database.snapshot(&wanted).await)), Vec::<String>::new());
        let back = ok(a.database.install(&a.bound, &record).await);
        assert_eq!(said(&a.record.snapshot, &back.snapshot), Vec::<String>::new());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_script_says_every_statement_and_then_none() {
        let f = fixture(DOC).await;
        let db = f.open().await;
        let wanted = bound(&["doc.file"]);
        let script = ok(db.script(&wanted).await);
        assert!(script.iter().any(|s| s.contains("create schema rowbound")) && script.iter().any(|s| s.contains("enable always")));
        for statement in &script {
            f.db.exec(statement).await;
        }
        assert_eq!(ok(db.script(&wanted).await), Vec::<String>::new());
    }
}

mod schema {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn inspect_refuses_what_triggers_cannot_see_and_says_what_to_do() {
        let f = fixture(
            "create extension file_fdw; create server s foreign data wrapper file_fdw;
             create table doc (id int primary key, file text, n int, tags text[], j jsonb);
             create foreign table foreign_doc (file text) server s options (filename '/dev/null');
             create materialized view seen as select file from doc; create view shown as select file from doc;
             create table parent (file text); create table child (extra text) inherits (parent)",
        )
        .await;
        let db = f.open().await;
        for (columns, word) in [
            (&["shown.file"][..], "view"),
            (&["seen.file"], "materialized view"),
            (&["foreign_doc.file"], "foreign table"),
            (&["doc.n"], "integer"),
            (&["doc.tags"], "text[]"),
            (&["doc.j"], "jsonb"),
            (&["doc.picture"], "no such column"),
            (&["docs.file"], "no such table"),
            (&["DOC.file"], "no such table"),
            (&["parent.file", "child.extra"], "below the other"),
        ] {
            let e = refused(db.inspect(&bound(columns)).await, word);
            assert_eq!(e.kind(), Kind::Schema, "{columns:?}");
            assert!(e.full().contains(word), "{columns:?}: {}", e.full());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn every_type_of_text_is_captured_and_found() {
        let f = fixture(
            "create extension citext; create schema ext; create domain file_path as varchar(200) check (value <> 'no'); create domain deep as file_path;
             create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table doc (id int primary key, t text, v varchar(300), c char(20), i citext, d deep, n text collate folded);
             create index on doc (i)",
        )
        .await;
        let columns = ["doc.t", "doc.v", "doc.c", "doc.i", "doc.d", "doc.n"];
        let a = f.attach(&columns).await;
        f.db.exec("insert into doc values (1, 'T.jpg', 'V.jpg', 'C.jpg', 'I.jpg', 'D.jpg', 'N.jpg')").await;
        let found = a.found(&["T.jpg", "V.jpg", "C.jpg", "I.jpg", "D.jpg", "N.jpg", "X.jpg"]).await;
        assert_eq!(found, ["C.jpg", "D.jpg", "I.jpg", "N.jpg", "T.jpg", "V.jpg"]);
        // More than equal may come back, less never: the caller compares bytes.
        for folded in a.found(&["i.jpg", "n.jpg", "t.jpg"]).await {
            assert!(folded == "I.jpg" || folded == "N.jpg", "{folded}");
        }
        // Only the case changes: other bytes, another file.
        lets_go(&f, &a, "update doc set i = 'i.jpg', n = 'n.jpg', c = 'C.jpg   '", &["I.jpg", "N.jpg"]).await;
        lets_go(&f, &a, "delete from doc", &["C.jpg", "D.jpg", "T.jpg", "V.jpg", "i.jpg", "n.jpg"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_name_of_5_kb_passes_every_step() {
        // A btree on names would make the application's own DELETE fail: an entry has at most 2704 bytes.
        let long: String = (0..5_000).map(|i| char::from(b'a' + (i * 7919 % 26) as u8)).collect();
        let f = fixture("create table doc (file text primary key using index tablespace pg_default)").await;
        f.db.exec("alter table doc drop constraint doc_pkey").await;
        let a = f.attach(&["doc.file"]).await;
        for drop in ["delete from doc", "truncate doc", "update doc set file = ''"] {
            f.db.exec(&format!("insert into doc values ('{long}')")).await;
            assert_eq!(a.found(&[&long]).await, [long.as_str()]);
            lets_go(&f, &a, drop, &[&long]).await;
        }
        let filter = Filter { name: Some(long.clone()), ..Filter::default() };
        assert_eq!(ok(a.database.history(&filter).await).len(), 3);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn odd_identifiers_and_values_reach_no_parser() {
        let f = fixture(
            r#"create schema "S.1"; create table "S.1"."My ""Table' \ $rowbound$" ("Weird""col" text, "k'1" int, "k\2 %s" text, primary key ("k'1", "k\2 %s"));"#,
        )
        .await;
        let table = r#""S.1"."My ""Table' \ $rowbound$""#;
        let binding = ok(Binding::name(&format!(r#"{table}."Weird""col""#), "sto'rage \\ $x$"));
        for body in [Body::Tolerant, Body::Fast] {
            let a = f.attach_bindings(vec![binding.clone().body(body)]).await;
            let mut claim = a.claim();
            claim.storage = binding.storage.clone();
            f.db.exec(&format!(r#"insert into {table} values ('it''s \ "a" 😀.jpg ', 1, 'x'), (E'a\nb\t%', 2, 'y'), ('c', 3, 'z')"#)).await;
            assert_eq!(a.found(&["it's \\ \"a\" 😀.jpg ", "a\nb\t%"]).await.len(), 2);
            f.db.exec(&format!(
                r#"set standard_conforming_strings = off; update {table} set "Weird""col" = null where "k'1" = 1; delete from {table} where "k'1" = 2; truncate {table}; reset standard_conforming_strings"#
            ))
            .await;
            let got = ok(a.database.claim(&claim).await);
            let got: Vec<_> =
                got.iter().map(|c| (String::from_utf8(c.value.clone()).unwrap(), c.key.clone().unwrap(), &*c.event)).collect();
            let want =
                [("it's \\ \"a\" 😀.jpg ", "[1, \"x\"]", "update"), ("a\nb\t%", "[2, \"y\"]", "delete"), ("c", "[3, \"z\"]", "truncate")];
            assert_eq!(got.iter().map(|(v, k, e)| (v.as_str(), k.as_str(), *e)).collect::<Vec<_>>(), want);
            ok(a.database.remove().await);
        }
    }

    /// The rows that a statement of the queue handles, those that it throws away too, added up over its plan. `params` are SQL, in order.
    async fn handled(f: &Fixture, statement: &str, params: &[&str]) -> u64 {
        let mut sql: String = statement.lines().filter(|l| !l.trim_start().starts_with("--")).collect::<Vec<_>>().join("\n");
        for (n, param) in params.iter().enumerate().rev() {
            sql = sql.replace(&format!("${}", n + 1), param);
        }
        assert!(!sql.contains('$'), "a parameter has no value: {sql}");
        let plan = f.db.query_strings(&format!("explain (analyze, timing off) {sql}")).await;
        let after = |line: &str, word: &str| -> Option<u64> {
            let digits = line.split_once(word)?.1.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
            digits.parse().ok()
        };
        let (mut sum, mut loops, mut nodes) = (0, 0, 0);
        for line in plan.iter().flatten() {
            if let (Some(rows), Some(times)) = (after(line, "(actual rows="), after(line, " loops=")) {
                (sum, loops, nodes) = (sum + rows * times, times, nodes + 1);
            } else if line.contains("Rows Removed by") {
                sum += after(line, ":").expect("a count") * loops;
            }
        }
        assert!(nodes > 1, "{plan:?}");
        sum
    }

    /// Statistics gathered while nothing was claimed said that no candidate has an owner, and a batch of 4000 took 6 s instead of 60 ms to settle:
    /// every candidate was compared with every decision, 64 million times. Only in a big queue, where that plan seems to cost next to nothing more.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_queues_statements_handle_a_row_a_few_times_whatever_the_statistics_say() {
        const WAITING: u64 = 100_000;
        const BATCH: usize = 4_000;
        let sql = |file: &str| {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/database/postgres/").to_owned() + file;
            std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
        };
        for statistics in ["vacuum analyze rowbound.candidate", "select 'none'"] {
            let f = fixture("create table doc (id int primary key, file text)").await;
            let a = f.attach(&["doc.file"]).await;
            f.db.exec("alter table rowbound.candidate set (autovacuum_enabled = off)").await;
            f.db.exec(&format!("insert into doc select n, repeat('x', 400) || n from generate_series(1, {WAITING}) n")).await;
            f.db.exec("delete from doc").await;
            // Another storage's, and older.
            f.db.exec("insert into rowbound.candidate (storage, value, event, released_at) select 'other', value, event, 'epoch' from rowbound.candidate").await;
            f.db.exec(statistics).await;

            let read =
                handled(&f, &sql("claim.sql"), &["'default'", "0", "100", "'suite'", "600000000", "false", "4294967296::int8"]).await;
            assert!(read < 100 * 20, "{statistics}: a claim of 100 handled {read} rows");
            let read = handled(&f, &sql("next_due.sql"), &["'default'", "0", "false"]).await;
            assert!(read < 20, "{statistics}: {read} rows to know when the next is due");

            let mut claim = a.claim();
            claim.limit = 4 * BATCH as u32;
            let claimed = ok(a.database.claim(&claim).await);
            assert_eq!(claimed.len(), 4 * BATCH);
            let array = |some: &[Candidate], what: &dyn Fn(&Candidate) -> String, of: &str| {
                format!("'{{{}}}'::{of}[]", some.iter().map(what).collect::<Vec<_>>().join(","))
            };
            let id = |c: &Candidate| c.id.to_string();
            let all = |text: &'static str| move |_: &Candidate| text.to_owned();
            // Every row of the table once, if it must be, and no product of two numbers.
            let bound = 4 * WAITING;
            let ids = array(&claimed[..BATCH], &id, "int8");
            for (file, length) in [("confirm.sql", "300000000"), ("confirm_renew.sql", "600000000")] {
                let read = handled(&f, &sql(file), &["'suite'", &ids, length]).await;
                assert!(read < bound, "{statistics}: {file}: {read} rows for {BATCH}");
            }
            let some = &claimed[..BATCH];
            let (ids, words) = (array(some, &id, "int8"), array(some, &all("kept"), "text"));
            let (texts, sizes) = (array(some, &all("null"), "text"), array(some, &all("null"), "int8"));
            let read = handled(&f, &sql("settle.sql"), &["'suite'", "'default'", &ids, &words, &texts, &sizes, &texts, &texts]).await;
            assert!(read < bound, "{statistics}: {read} rows to settle {BATCH}");
            let some = &claimed[BATCH..2 * BATCH];
            let (ids, waits) = (array(some, &id, "int8"), array(some, &all("60000000"), "int8"));
            let (flags, notes) = (array(some, &all("true"), "bool"), array(some, &all("x"), "text"));
            let own = array(some, &all("null"), "text");
            let read = handled(&f, &sql("put_back.sql"), &["'suite'", &ids, &waits, &flags, &notes, "'{}'", &own]).await;
            assert!(read < bound, "{statistics}: {read} rows to put {BATCH} back");
            // And that was the real thing.
            assert_eq!(f.db.query_strings("select count(*)::text from rowbound.ledger").await, [Some(BATCH.to_string())]);
            assert_eq!(
                f.db.query_strings("select count(*)::text from rowbound.candidate where attempts = 1 and owner is null").await,
                [Some(BATCH.to_string())]
            );
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_that_took_the_name_is_another_column() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("alter table doc rename to old; create table doc (like old including all)").await;
        let drift = said(&a.record.snapshot, &a.snapshot().await);
        assert!(drift.contains(&"column doc.file was altered".to_owned()), "nobody repairs this without asking: {drift:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_column_that_took_the_name_is_another_column() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("alter table doc rename column file to old; alter table doc add column file text").await;
        assert_eq!(said(&a.record.snapshot, &a.snapshot().await), ["column doc.file was altered"]);
        let e = refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await, "drift");
        assert!(e.kind() == Kind::Drift && e.full().contains("doc.file"), "{}", e.full());
    }
}

mod bodies {
    use super::*;

    /// Sessions that fired the triggers before a migration keep plans of the old columns.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn migrations_never_fail_the_application_not_even_in_old_sessions() {
        // A child makes all triggers row triggers; without one DELETE has a statement trigger.
        for child in ["", "create table scan () inherits (doc);"] {
            for (ddl, captured) in [
                ("alter table doc alter column file type varchar(500)", true),
                ("alter table doc alter column file type citext", true),
                ("alter table doc alter column file type char(40)", true),
                ("alter table doc alter column id type bigint", true),
                ("alter table doc alter column id type text", true),
                ("alter table doc rename column id to nr; alter table doc add column id int", true),
                ("alter table doc add column more text default 'x'; alter table doc drop column title", true),
                ("alter table doc rename to doc2; create view doc as select * from doc2", true),
                ("alter table doc rename column file to picture", false),
                ("alter table doc drop column file cascade", false),
                ("alter table doc alter column file type jsonb using to_jsonb(file)", false),
            ] {
                let f = fixture(&format!("create extension citext; {DOC}; {child}")).await;
                f.db.exec("insert into doc select n, n || '.jpg', 'x' from generate_series(10, 20) n").await;
                let a = f.attach(&["doc.file"]).await;
                let mut old = f.db.app().await;
                old.exec("update doc set file = file || 'x' where id < 12; delete from doc where id in (13, 14)").await;
                a.released().await;
                f.db.exec(ddl).await;
                let mut new = f.db.app().await;
                for (app, n) in [(&mut old, 15), (&mut new, 17)] {
                    let file = match ddl {
                        d if d.contains("picture") => "picture = picture || 'y'",
                        d if d.contains("drop column file") => "",
                        d if d.contains("jsonb") => "file = '5'",
                        _ => "file = file || 'y'",
                    };
                    let key = if ddl.contains("nr") { "nr" } else { "id" };
                    let which = format!("{key}::text = '{n}'");
                    if !file.is_empty() {
                        app.exec(&format!("update doc set {file} where {which}")).await;
                    }
                    app.exec(&format!("delete from doc where {which}; delete from doc where {key}::text = '{}'", n + 1)).await;
                    let got = a.values().await;
                    if captured {
                        let want = [format!("{n}.jpg"), format!("{n}.jpgy"), format!("{}.jpg", n + 1)];
                        assert_eq!(got, want, "{ddl} {child}");
                    }
                }
                let table = if ddl.contains("doc2") { "doc2" } else { "doc" };
                old.exec(&format!("truncate {table}")).await;
                let concerns_us = !ddl.contains("more") && !ddl.contains("column id type");
                assert_eq!(!said(&a.record.snapshot, &a.snapshot().await).is_empty(), concerns_us, "{ddl}");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn fast_triggers_capture_the_same() {
        let f = fixture(
            "create table top (id int primary key); create table doc (id int primary key, top int references top on delete cascade, file text, other text,
                title text);
             insert into top values (1), (2);
             insert into doc select n, 1 + n % 2, n || '.jpg', n || '.png', 'x' from generate_series(1, 12) n",
        )
        .await;
        let a = f.attach_bindings(vec![name("doc.file").body(Body::Fast), name("doc.other").body(Body::Fast)]).await;
        assert!(definitions(&f).await.iter().any(|d| d.contains("UPDATE OF file, other") && d.contains("WHEN")));
        lets_go(&f, &a, "update doc set title = 'y'", &[]).await;
        lets_go(&f, &a, "update doc set file = file, other = other", &[]).await;
        lets_go(&f, &a, "update doc set file = 'A' where id = 1", &["1.jpg"]).await;
        lets_go(&f, &a, "update doc set file = 'a', other = null where id = 1", &["1.png", "A"]).await;
        lets_go(&f, &a, "insert into doc values (2, 1) on conflict (id) do update set file = 'u'", &["2.jpg"]).await;
        lets_go(
            &f,
            &a,
            "merge into doc using (values (3), (4)) v(id) on doc.id = v.id when matched and v.id = 3 then delete when matched then update set file = ''",
            &["3.jpg", "3.png", "4.jpg"],
        )
        .await;
        lets_go(&f, &a, "delete from doc where id = 5", &["5.jpg", "5.png"]).await;
        lets_go(&f, &a, "begin; delete from doc; rollback", &[]).await;
        f.db.exec("delete from top where id = 1").await;
        let lost = ["10.jpg", "10.png", "12.jpg", "12.png", "2.png", "4.png", "6.jpg", "6.png", "8.jpg", "8.png", "u"];
        assert_eq!(a.values().await, lost);
        f.db.exec("truncate top cascade").await;
        assert_eq!(a.values().await, ["11.jpg", "11.png", "7.jpg", "7.png", "9.jpg", "9.png", "a"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn fast_triggers_miss_nothing_that_a_before_trigger_or_an_expression_changes() {
        let f = fixture(
            "create table doc (id int primary key, base text, file text, made text generated always as ('x/' || base) stored);
             insert into doc values (1, 'b', 'a.jpg'), (2, 'b', 'b.jpg')",
        )
        .await;
        let a = f.attach_bindings(vec![name("doc.file").body(Body::Fast)]).await;
        f.db.exec(
            "create function meddle() returns trigger language plpgsql as 'begin new.file := new.base || ''.jpg''; return new; end';
             create trigger meddle before update on doc for each row execute function meddle()",
        )
        .await;
        assert_eq!(said(&a.record.snapshot, &a.snapshot().await), ["before-update triggers on doc is new"]);
        ok(a.database.install(&a.bound, &a.record).await);
        lets_go(&f, &a, "update doc set base = 'c' where id = 1", &["a.jpg"]).await;
        f.db.exec("drop trigger meddle on doc").await;
        let made = vec![Bound { id: 2, binding: name("doc.made").body(Body::Fast) }];
        ok(a.database.install(&made, &a.record).await);
        lets_go(&f, &a, "update doc set base = 'd' where id = 1", &["x/c"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_tolerant_column_makes_all_of_a_table_tolerant() {
        let f = fixture("create table doc (a text, b text)").await;
        f.attach_bindings(vec![name("doc.a").body(Body::Fast), name("doc.b")]).await;
        assert!(definitions(&f).await.iter().all(|d| !d.contains("UPDATE OF")));
        f.db.exec("alter table doc alter column a type varchar(10); alter table doc drop column b cascade").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn capture_costs_the_application_no_transaction_id_of_its_own() {
        for setup in [DOC.to_owned(), format!("{DOC}; create table scan () inherits (doc)")] {
            let f = fixture(&setup).await;
            f.attach(&["doc.file"]).await;
            let mut app = f.db.app().await;
            let xid = "select pg_current_xact_id()::text";
            // Other tests work on the same server: the least of some. A thousand rows twice would be far more.
            let mut least = u64::MAX;
            for _ in 0..5 {
                f.db.exec("delete from doc; insert into doc select n, n || '.jpg', 'x' from generate_series(10, 1000) n").await;
                let before: u64 = app.query_strings(xid).await[0].as_ref().unwrap().parse().unwrap();
                app.exec("begin; update doc set file = file || 'x'; delete from doc; commit").await;
                let after: u64 = app.query_strings(xid).await[0].as_ref().unwrap().parse().unwrap();
                least = least.min(after - before);
            }
            assert!(least < 1000, "{least} transaction ids");
        }
    }
}

mod partitions {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn later_and_attached_partitions_are_noticed_and_repaired() {
        let f = fixture(PARTITIONED).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec(
            "create table doc2 partition of doc for values in (2); insert into doc values (3, 2, 'c.jpg');
             create table doc3 (like doc including all); insert into doc3 values (4, 3, 'd.jpg'); alter table doc attach partition doc3 for values in (3)",
        )
        .await;
        let drift = said(&a.record.snapshot, &a.snapshot().await);
        assert!(drift.contains(&"table doc was altered".to_owned()), "{drift:?}");
        assert!(drift.iter().all(|d| !d.starts_with("column")), "the collector repairs this itself: {drift:?}");
        lets_go(&f, &a, "begin; truncate doc; rollback", &[]).await;
        lets_go(&f, &a, "begin; set local session_replication_role = replica; delete from doc2; commit", &["c.jpg"]).await;
        let repaired = ok(a.database.install(&a.bound, &a.record).await);
        lets_go(&f, &a, "truncate doc3", &["d.jpg"]).await;
        f.db.exec("alter table doc3 disable trigger all; alter table doc3 enable trigger all").await;
        let drift = said(&repaired.snapshot, &a.snapshot().await);
        assert_eq!(drift.len(), 3, "each of the three lost ALWAYS: {drift:?}");
        let again = ok(a.database.install(&a.bound, &repaired).await);
        assert_eq!(again.snapshot, repaired.snapshot);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn truncate_through_the_parent_captures_partitions_that_came_later() {
        let f = fixture(PARTITIONED).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec(
            "create table doc2 partition of doc for values in (2, 3) partition by list (id); create table doc2a partition of doc2 default;
             insert into doc values (3, 2, 'c.jpg')",
        )
        .await;
        lets_go(&f, &a, "truncate doc", &["a.jpg", "b.jpg", "c.jpg"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_partition_that_was_detached_stops_deletion_until_a_person_attaches() {
        let f = fixture(PARTITIONED).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("alter table doc detach partition doc1").await;
        let drift = said(&a.record.snapshot, &a.snapshot().await);
        assert!(drift.iter().any(|d| d.starts_with("column of doc in public.doc1, which was detached")), "{drift:?}");
        let e = refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await, "a.jpg stands in doc1");
        assert_eq!(e.kind(), Kind::Drift);
        ok(a.database.install(&a.bound, &a.record).await);
        assert!(f.db.triggers().await.iter().all(|(_, table)| table == "doc"));
        // A dropped one is no question.
        f.db.exec("create table doc2 partition of doc for values in (2)").await;
        let record = ok(a.database.install(&a.bound, &a.record).await);
        f.db.exec("drop table doc2").await;
        let drift = said(&record.snapshot, &a.snapshot().await);
        assert!(!drift.is_empty() && drift.iter().all(|d| !d.starts_with("column")), "{drift:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_table_that_gets_a_child_or_a_parent_gets_row_triggers() {
        let f = fixture("create table doc (id int primary key, file text); insert into doc values (1, 'a.jpg')").await;
        let a = f.attach(&["doc.file"]).await;
        assert!(by_statement(&f).await);
        f.db.exec("create table scan () inherits (doc); insert into scan values (2, 'b.jpg')").await;
        let record = ok(a.database.install(&a.bound, &a.record).await);
        assert!(!by_statement(&f).await);
        lets_go(&f, &a, "delete from only scan", &["b.jpg"]).await;
        lets_go(&f, &a, "truncate doc", &["a.jpg"]).await;
        f.db.exec("drop table scan; create table above (id int not null, file text) partition by list (id)").await;
        assert_eq!(ok(a.database.install(&a.bound, &record).await).snapshot, a.record.snapshot, "and back");
        f.db.exec("alter table above attach partition doc default").await;
        assert!(said(&a.record.snapshot, &a.snapshot().await).contains(&"table doc was altered".to_owned()));
        ok(a.database.install(&a.bound, &record).await);
        lets_go(&f, &a, "insert into above values (3, 'c.jpg'); delete from above", &["c.jpg"]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn references_in_partitions_and_children_count() {
        let f = fixture(&format!(
            "{PARTITIONED}; create table page (file text); create table scan () inherits (page); create table scan2 () inherits (scan);
             insert into scan2 values ('s.jpg')"
        ))
        .await;
        let a = f.attach(&["doc.file", "page.file"]).await;
        assert_eq!(a.found(&["a.jpg", "s.jpg", "x.jpg"]).await, ["a.jpg", "s.jpg"]);
        let search: Vec<_> = a.search(&["s.jpg"]);
        assert_eq!(ok(a.database.holders(&search, 5).await).len(), 1);
    }
}

mod rights {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn inspect_names_the_grant_that_is_missing() {
        let f = fixture("create schema app; create table app.doc (id int primary key, file text)").await;
        let role = Role::new(&f, &[]).await;
        let db = role.open().await;
        let wanted = bound(&["app.doc.file"]);
        for (hint, grant) in [
            ("GRANT USAGE ON SCHEMA \"app\"", "grant usage on schema app"),
            ("GRANT SELECT, TRIGGER ON \"app\".\"doc\"", "grant select on app.doc"),
            ("GRANT SELECT, TRIGGER ON \"app\".\"doc\"", "grant trigger on app.doc"),
            ("GRANT CREATE ON DATABASE", &format!("grant create on database {}", f.db.name())),
        ] {
            let e = refused(db.inspect(&wanted).await, hint);
            assert_eq!(e.kind(), Kind::Permission, "{}", e.full());
            assert!(e.hint_text().is_some_and(|h| h.contains(hint) && h.contains(&role.name)), "{:?}", e.hint_text());
            role.grant(&f, grant).await;
        }
        let seen = ok(db.inspect(&wanted).await);
        assert!(seen.blind.iter().any(|b| b.event == "session_replication_role = replica"), "{:?}", seen.blind);
        assert!(!seen.warnings.is_empty());
        db.close().await;
        role.drop(&f).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_collector_that_does_not_own_the_tables_installs_checks_and_removes() {
        let f =
            fixture(&format!("{DOC}; create table p (file text) partition by list (file); create table p1 partition of p default")).await;
        let before = f.db.schema().await;
        let role = Role::new(
            &f,
            &["grant select, trigger on doc, p, p1", "grant usage on schema public", &format!("grant create on database {}", f.db.name())],
        )
        .await;
        let database: Arc<dyn Database> = Arc::new(role.open().await);
        let wanted = bound(&["doc.file", "p.file"]);
        let record = fresh_record(&*database, &wanted).await;
        let record = ok(database.install(&wanted, &record).await);
        assert_eq!(ok(database.script(&wanted).await), Vec::<String>::new());
        let a = Attached { database, bound: wanted, record };
        let mut app = f.db.app_with(&["grant insert, update, delete, select, truncate on doc"]).await.unwrap();
        app.exec("update doc set file = 'z.jpg' where id = 1; delete from doc where id = 2; truncate doc").await;
        assert_eq!(a.values().await, ["a.jpg", "b.jpg", "c.jpg", "z.jpg"]);
        f.db.exec("insert into p values ('p.jpg')").await;
        assert_eq!(a.found(&["p.jpg"]).await, ["p.jpg"]);
        // Another body: replaced without owning the table.
        let fast = vec![Bound { id: 1, binding: name("doc.file").body(Body::Fast) }];
        ok(a.database.install(&fast, &a.record).await);
        assert!(definitions(&f).await.iter().any(|d| d.contains("UPDATE OF")));
        assert!(f.db.triggers().await.iter().all(|(_, table)| table == "doc"));
        ok(a.database.remove().await);
        assert_eq!(f.db.schema().await, before);
        a.database.close().await;
        app.close().await;
        role.drop(&f).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_right_taken_away_never_fails_the_application() {
        let f = fixture(DOC).await;
        let role = Role::new(&f, &["grant select, trigger on doc", &format!("grant create on database {}", f.db.name())]).await;
        let database: Arc<dyn Database> = Arc::new(role.open().await);
        let wanted = bound(&["doc.file"]);
        let record = fresh_record(&*database, &wanted).await;
        let record = ok(database.install(&wanted, &record).await);
        f.db.exec(&format!("revoke all on doc from {}", role.name)).await;
        f.db.exec("delete from doc where id = 1; update doc set file = 'x' where id = 2; truncate doc").await;
        let a = Attached { database, bound: wanted, record };
        assert_eq!(a.values().await, ["a.jpg", "b.jpg"], "what TRUNCATE took is the sweep's");
        let e = refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["c.jpg"])).await, "nothing may be read");
        assert_eq!(e.kind(), Kind::Permission, "{}", e.full());
        a.database.close().await;
        role.drop(&f).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn row_security_is_an_error_and_never_fewer_rows() {
        let f = fixture(DOC).await;
        let role = Role::new(&f, &["grant select, trigger on doc", &format!("grant create on database {}", f.db.name())]).await;
        let database: Arc<dyn Database> = Arc::new(role.open().await);
        let wanted = bound(&["doc.file"]);
        let record = fresh_record(&*database, &wanted).await;
        let record = ok(database.install(&wanted, &record).await);
        f.db.exec("alter table doc enable row level security; create policy none on doc using (id > 1)").await;
        let now = ok(database.snapshot(&wanted).await);
        assert_eq!(said(&record.snapshot, &now), ["table doc was altered"]);
        let a = Attached { database, bound: wanted, record };
        for (what, e) in [
            ("inspect", refused(a.database.inspect(&a.bound).await, "row security")),
            ("install", refused(a.database.install(&a.bound, &a.record).await, "row security")),
            // Even if the record had been renewed.
            ("check", refused(a.database.check(&a.bound, &now, &a.search(&["a.jpg"])).await, "row security")),
            ("holders", refused(a.database.holders(&a.search(&["a.jpg"]), 1).await, "row security")),
        ] {
            assert_eq!(e.kind(), Kind::Permission, "{what}: {}", e.full());
            assert!(e.hint_text().is_some(), "{what}");
        }
        let mut app = f.db.app_with(&["grant all on doc"]).await.unwrap();
        app.exec("delete from doc where id = 2; truncate doc").await;
        assert_eq!(a.values().await, ["b.jpg"]);
        f.db.exec(&format!("alter role {} bypassrls", role.name)).await;
        let again: Arc<dyn Database> = Arc::new(role.open().await);
        f.db.exec("insert into doc values (1, 'a.jpg', 'x')").await;
        let b = Attached { record: ok(again.install(&a.bound, &a.record).await), database: again, bound: a.bound.clone() };
        assert_eq!(b.found(&["a.jpg"]).await, ["a.jpg"]);
        b.database.close().await;
        a.database.close().await;
        app.close().await;
        role.drop(&f).await;
    }
}

mod barrier {
    use super::*;

    /// Of the sessions of which something is known. One that begins has a transaction of its own before it says in which database it is, and counts
    /// for that moment, here too when it is a neighbour's on this server.
    async fn keys(db: &dyn Database) -> Vec<String> {
        let known = |t: &OpenTransaction| t.who.role.is_some();
        ok(db.open_transactions().await).into_iter().filter(known).map(|t| t.key).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_unprivileged_collector_sees_everybody() {
        let f = fixture(DOC).await;
        let role = Role::new(&f, &[&format!("grant create on database {}", f.db.name())]).await;
        let db = role.open().await;
        assert_eq!(keys(&db).await, Vec::<String>::new());

        let mut reader = f.db.app().await; // idle in a transaction, nothing read yet: it may hold a name in its hands
        reader.begin().await;
        let mut writer = f.db.app_with(&["grant insert on doc"]).await.unwrap();
        writer.exec("begin; insert into doc values (9, 'n.jpg')").await;
        let mut prepared = f.db.app().await;
        prepared.exec(&format!("begin; insert into doc values (8, 'p.jpg'); prepare transaction '{}'", f.db.name())).await;
        let mut named = f.db.app().await; // called as we are
        named.exec("set application_name = 'rowbound'; begin").await;
        let mut alike = App::at(&format!("{}?application_name=rowbound", role.url)).await; // and of our role
        alike.begin().await;
        let other = fixture("").await; // in another database
        let mut elsewhere = other.db.app().await;
        elsewhere.begin().await;
        let mut idle = f.db.app().await;
        idle.exec("select 1").await;

        let open = keys(&db).await;
        assert_eq!(open.len(), 5, "{:?}", ok(db.open_transactions().await));
        // The next transaction of the same session is another one.
        reader.exec("commit; begin").await;
        let now = keys(&db).await;
        assert_eq!((now.len(), now.iter().filter(|k| open.contains(k)).count()), (5, 4));
        writer.rollback().await;
        named.rollback().await;
        alike.rollback().await;
        alike.close().await;
        reader.rollback().await;
        assert_eq!(keys(&db).await.len(), 1);
        prepared.exec(&format!("commit prepared '{}'", f.db.name())).await;
        assert_eq!(keys(&db).await, Vec::<String>::new());
        elsewhere.rollback().await;
        db.close().await;
        writer.close().await;
        role.drop(&f).await;
    }

    /// Under READ COMMITTED, a row that moves a name from a column not read yet to one read already is missed in both.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_name_that_moves_between_columns_is_found_at_every_moment() {
        let f = fixture("create table a (file text); create table b (file text); insert into a values ('moving.jpg')").await;
        let a = f.attach(&["a.file", "b.file"]).await;
        let done = Arc::new(AtomicBool::new(false));
        let mut app = f.db.app().await;
        let mover = tokio::spawn({
            let done = done.clone();
            async move {
                while !done.load(Relaxed) {
                    app.exec("with m as (delete from a returning file) insert into b select * from m").await;
                    app.exec("with m as (delete from b returning file) insert into a select * from m").await;
                }
            }
        });
        let search = a.search(&["moving.jpg"]);
        for n in 0..400 {
            let checked = ok(a.database.check(&a.bound, &a.record.snapshot, &search).await);
            assert_eq!(checked.found.len(), 1, "missed by check {n}");
        }
        done.store(true, Relaxed);
        mover.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn urls_are_found_under_any_collation() {
        let f = fixture(
            "create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create table doc (file text collate folded, plain varchar(100));
             insert into doc values ('/m/a%20b.jpg', '/m/a b.jpg?v=1'), ('/m/c.jpg', '/n/a%20b.jpg'), ('/M/x%20y', '/m/z#')",
        )
        .await;
        let url = |c| ok(Binding::url(c, "default", "/m/"));
        let a = f.attach_bindings(vec![url("doc.file"), url("doc.plain")]).await;
        // Under no prefix a path may mean the file all the same.
        assert_eq!(a.found(&["a b.jpg"]).await, ["/m/a b.jpg?v=1", "/m/a%20b.jpg", "/n/a%20b.jpg"]);
    }

    /// After an upgrade of the C library or ICU a btree on text may miss rows that stand there.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_index_whose_collation_changed_is_not_trusted() {
        let f = fixture(
            "create table doc (id int primary key, file text collate \"und-x-icu\"); create table none (like doc);
             insert into doc select n, n || '.jpg' from generate_series(1, 50000) n;
             create index doc_file on doc (file); create index none_file on none (file); analyze doc",
        )
        .await;
        // The index as it would be if it found nothing: it reads another, empty one's file.
        f.db.exec("update pg_class set relfilenode = pg_relation_filenode('none_file') where relname = 'doc_file'").await;
        let a = f.attach(&["doc.file"]).await;
        assert!(a.found(&["7.jpg"]).await.is_empty(), "this test is only worth something if the index is used");
        assert!(ok(a.database.inspect(&a.bound).await).warnings.is_empty());
        f.db.exec("update pg_collation set collversion = '1' where collname = 'und-x-icu'").await;
        assert_eq!(a.found(&["7.jpg"]).await, ["7.jpg"]);
        assert_eq!(ok(a.database.holders(&a.search(&["7.jpg"]), 5).await).len(), 1);
        let warnings = ok(a.database.inspect(&a.bound).await).warnings;
        assert!(warnings.iter().any(|w| w.contains("reindex")), "{warnings:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn values_with_nul_spoil_no_search() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        let search = |values: &[&str]| ColumnSearch {
            search: Search { values: values.iter().map(|v| (*v).to_owned()).collect(), ..Search::default() },
            ..equal(&a.bound[0], &[])
        };
        let checked = ok(a.database.check(&a.bound, &a.record.snapshot, &[search(&["a\0.jpg", "a.jpg"])]).await);
        assert_eq!(checked.found.len(), 1);
        assert!(ok(a.database.waiting(&["a\0".into()]).await).is_empty());
        assert!(ok(a.database.history(&Filter { name: Some("a\0".into()), ..Filter::default() }).await).is_empty());
    }
}

mod settings {
    use super::*;

    /// `put` of an application's own role: row level security shows it some rows, and to those it writes.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_role_that_sees_some_rows_writes_those() {
        let f = fixture(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("alter table doc enable row level security; create policy those_above on doc using (id > 1)").await;
        let role = Role::new(&f, &["grant select, update on doc"]).await;
        let db = role.open().await;
        let (column, new) = (&a.bound[0].binding.column, rowbound_testkit::World::file_name("new.jpg"));
        assert!(ok(db.has_row(column, "2").await) && !ok(db.has_row(column, "1").await));
        assert!(ok(db.assign(column, "2", &new).await) && !ok(db.assign(column, "1", &new).await));
        assert_eq!(a.values().await, ["b.jpg"]);
        db.close().await;
        role.drop(&f).await;
    }

    /// Made for requests. A check may read a whole table, and one that is cut short is cut short for ever.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_roles_statement_timeout_does_not_hold_for_ours() {
        let f = fixture(DOC).await;
        let role = Role::new(&f, &["grant pg_read_all_stats", "grant select, trigger on doc"]).await;
        f.db.exec(&format!("grant create on database {} to {}", f.db.name(), role.name)).await;
        f.db.exec(&format!("alter role {} set statement_timeout = '150ms'", role.name)).await;
        let db = role.open().await;
        let slow = Binding::query("slow", "default", "select file from public.doc, pg_sleep(0.4) where id = 1");
        let bound = number(vec![name("doc.file"), slow]);
        ok(db.inspect(&bound).await);
        let record = ok(db.install(&bound, &fresh_record(&db, &bound).await).await);
        let names = [rowbound_testkit::World::file_name("a.jpg")];
        let searches: Vec<_> = bound.iter().map(|b| ColumnSearch::of(b, &names)).collect();
        assert_eq!(ok(db.check(&bound, &record.snapshot, &searches).await).found.len(), 2);
        ok(db.remove().await);
        db.close().await;
        role.drop(&f).await;
    }
}

mod own_server {
    use super::*;

    async fn data_directory(db: &TestDb) -> std::path::PathBuf {
        db.query_strings("show data_directory").await[0].clone().expect("a path").into()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_standby_is_refused_when_opening_and_by_every_later_step() {
        let own = OwnServer::start(Backend::Postgres);
        let f = Fixture::new(TestDb::on(own.server()).await);
        f.db.exec(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("delete from doc where id = 1").await;
        let identity = ok(a.database.identity().await);
        let data = data_directory(&f.db).await;
        let admin = f.db.app().await;
        admin.close().await;
        own.stop();
        std::fs::write(data.join("standby.signal"), "").expect("cannot make a standby of the server");
        own.start_again();
        let e = refused(f.try_open().await, "a standby");
        assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{}", e.full());
        assert!(e.full().contains("standby"), "{}", e.full());
        // The process that was connected before comes back to a standby.
        for e in [
            refused(a.database.claim(&a.claim()).await, "a standby"),
            refused(a.database.check(&a.bound, &a.record.snapshot, &a.search(&["a.jpg"])).await, "a standby"),
        ] {
            assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{}", e.full());
        }
        own.stop();
        std::fs::remove_file(data.join("standby.signal")).unwrap();
        own.start_again();
        assert_eq!(ok(a.database.identity().await), identity, "a restart is no copy");
        assert_eq!(a.values().await, ["a.jpg"]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_is_down_is_unreachable_and_the_collector_comes_back() {
        let own = OwnServer::start(Backend::Postgres);
        let f = Fixture::new(TestDb::on(own.server()).await);
        f.db.exec(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        let quick = f.open_with(Options { connect_timeout: Duration::from_secs(1), ..Options::default() }).await;
        own.kill();
        for db in [&quick, &quick] {
            let e = refused(db.claim(&a.claim()).await, "nobody is there");
            assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{}", e.full());
        }
        let e = refused(f.try_open().await, "nobody is there");
        assert_eq!(e.kind(), Kind::DatabaseUnreachable, "{}", e.full());
        own.start_again();
        wait_until(DEADLINE, "the pool connects again", async || quick.claim(&a.claim()).await.is_ok()).await;
    }

    /// What a check saw must be on disk before a file goes: after a crash the row of a deletion that was only in memory is back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_seen_is_durable_before_a_claim_or_a_check_returns() {
        let own = OwnServer::start(Backend::Postgres);
        let f = Fixture::new(TestDb::on(own.server()).await);
        f.db.exec(DOC).await;
        let a = f.attach(&["doc.file"]).await;
        // The writer that would flush soon anyway sleeps; roles, too, may have chosen not to wait.
        f.db.exec("alter system set wal_writer_delay = '10s'").await;
        f.db.exec("alter system set wal_writer_flush_after = '1GB'").await;
        f.db.exec("alter system set synchronous_commit = off").await;
        own.restart();
        let mut app = f.db.app().await;
        for n in 1..=2 {
            app.exec(&format!("delete from doc where id = {n}")).await;
            let at = app.query_strings("select pg_current_wal_insert_lsn()").await[0].clone().unwrap();
            if n == 1 {
                assert_eq!(ok(a.database.claim(&a.claim()).await).len(), 1);
            } else {
                assert!(a.found(&["b.jpg"]).await.is_empty());
            }
            let flushed = app.query_strings(&format!("select pg_current_wal_flush_lsn() >= '{at}'")).await;
            assert_eq!(flushed, [Some("t".to_owned())], "step {n}");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changes_that_a_subscription_applies_are_captured() {
        let own = OwnServer::start(Backend::Postgres);
        let (source, f) = (TestDb::on(own.server()).await, Fixture::new(TestDb::on(own.server()).await));
        source.exec("alter system set wal_level = logical").await;
        own.restart();
        let (source_app, mut app) = (source.app().await, f.db.app().await);
        drop(source_app);
        let mut from = source.app().await;
        from.exec("create table doc (id int primary key, file text); insert into doc values (1, 'a.jpg'), (2, 'b.jpg'), (3, 'c.jpg')")
            .await;
        from.exec("create publication pub for table doc").await;
        from.query_strings("select pg_create_logical_replication_slot('sub', 'pgoutput')").await;
        app.exec("create table doc (id int primary key, file text)").await;
        app.exec(&format!(
            "create subscription sub connection '{}' publication pub with (create_slot = false, slot_name = 'sub')",
            source.url()
        ))
        .await;
        wait_until(DEADLINE, "the rows are copied", async || f.db.app().await.query_strings("select id from doc").await.len() == 3).await;
        let a = f.attach(&["doc.file"]).await;
        assert!(!by_statement(&f).await, "applied changes fire no statement triggers");
        from.exec("delete from doc where id = 1").await;
        from.exec("update doc set file = 'z.jpg' where id = 2").await;
        from.exec("truncate doc").await;
        let mut seen = Vec::new();
        let claim = a.claim();
        wait_until(DEADLINE, "the changes are applied", async || f.db.app().await.query_strings("select id from doc").await.is_empty())
            .await;
        seen.extend(ok(a.database.claim(&claim).await));
        ok(a.database.settle(&settle_all(&seen, Outcome::Kept), None).await);
        let mut values: Vec<_> = seen.iter().map(|c| String::from_utf8_lossy(&c.value).into_owned()).collect();
        values.sort();
        assert_eq!(values, ["a.jpg", "b.jpg", "c.jpg", "z.jpg"]);
        app.exec("alter subscription sub disable").await;
        app.exec("alter subscription sub set (slot_name = none)").await;
        app.exec("drop subscription sub").await;
        wait_until(DEADLINE, "the slot is free", async || {
            source.app().await.try_exec("select pg_drop_replication_slot('sub')").await.is_ok()
        })
        .await;
        from.close().await;
        app.close().await;
    }

    /// Debezium's default, and that of blue/green deployments: every table is published, ours too. A claim was refused for ever then, because nothing told the
    /// queue's rows apart; and a subscriber stops at the first row of a table that it does not have.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_publication_of_all_tables_stops_nobody() {
        let own = OwnServer::start(Backend::Postgres);
        let (f, subscriber) = (Fixture::new(TestDb::on(own.server()).await), TestDb::on(own.server()).await);
        f.db.exec("alter system set wal_level = logical").await;
        f.db.close_app().await;
        own.restart();
        f.db.exec(DOC).await;
        f.db.exec("create publication everything for all tables").await;
        f.db.query_strings("select pg_create_logical_replication_slot('sub', 'pgoutput')").await;
        subscriber.exec("create table doc (id int primary key, file text, title text)").await;
        let subscribe = format!(
            "create subscription sub connection '{}' publication everything with (create_slot = false, slot_name = 'sub')",
            f.db.url()
        );
        subscriber.exec(&subscribe).await;
        let rows = async || subscriber.query_strings("select id from doc order by id").await.len();
        wait_until(DEADLINE, "the rows are copied", async || rows().await == 3).await;

        let a = f.attach(&["doc.file"]).await;
        let warnings = ok(a.database.inspect(&a.bound).await).warnings;
        assert!(warnings.iter().any(|w| w.contains("publication \"everything\"") && w.contains("#logical-replication")), "{warnings:?}");
        f.db.exec("delete from doc where id = 1; update doc set file = 'z.jpg' where id = 2").await;
        let claimed = ok(a.database.claim(&a.claim()).await);
        assert_eq!(claimed.len(), 2);
        let (settled, back) = claimed.split_at(1);
        let mut settlement = settle_all(settled, Outcome::Kept);
        settlement.back = back
            .iter()
            .map(|c| PutBack { id: c.id, wait: Duration::ZERO, attempts: c.attempts + 1, note: "later".into(), waits: None })
            .collect();
        ok(a.database.settle(&settlement, None).await);
        f.db.exec("delete from doc where id = 3; truncate doc").await;

        // The recipe of docs/databases.md: the subscriber waits at our first row, and goes on when it has our tables.
        let errors = "select 1 from pg_stat_subscription_stats where subname = 'sub' and apply_error_count > 0";
        wait_until(DEADLINE, "the subscriber stops", async || !subscriber.query_strings(errors).await.is_empty()).await;
        assert_eq!(rows().await, 3);
        let schema = Command::new("sh")
            .args([
                "-c",
                "pg_dump --schema-only --schema=rowbound --no-owner --no-privileges \"$1\" | psql -q -v ON_ERROR_STOP=1 \"$2\"",
                "sh",
            ])
            .args([f.db.url(), subscriber.url()])
            .output()
            .expect("sh");
        assert!(schema.status.success(), "{}", String::from_utf8_lossy(&schema.stderr));
        wait_until(DEADLINE, "the subscriber goes on", async || rows().await == 0).await;
        let ours = subscriber.query_strings("select id from rowbound.candidate").await;
        assert!(ours.is_empty(), "what it is not subscribed to is not copied: {ours:?}");

        // What an earlier version made has no identity: it is said, and mended.
        f.db.exec("alter table rowbound.candidate replica identity default; insert into doc values (9, 'y.jpg'); delete from doc").await;
        let e = refused(a.database.claim(&a.claim()).await, "nothing tells a row");
        assert!(e.hint_text().is_some_and(|hint| hint.contains("rowbound attach")), "{}", e.full());
        let again = f.attach(&["doc.file"]).await;
        assert!(again.values().await.contains(&"y.jpg".to_owned()));

        subscriber.exec("alter subscription sub disable").await;
        subscriber.exec("alter subscription sub set (slot_name = none)").await;
        subscriber.exec("drop subscription sub").await;
        wait_until(DEADLINE, "the slot is free", async || {
            f.db.app().await.try_exec("select pg_drop_replication_slot('sub')").await.is_ok()
        })
        .await;
    }
}

mod speed {
    use super::*;

    /// Measured on two busy cores: 100,000 candidates in about 2 s. The limit only catches what grows with the square.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_hundred_thousand_candidates_pass_in_seconds() {
        let f = fixture("create table doc (id int primary key, file text)").await;
        f.db.exec("insert into doc select n, '2026/11/' || md5(n::text) || '.jpg' from generate_series(1, 200000) n").await;
        let a = f.attach(&["doc.file"]).await;
        f.db.exec("delete from doc where id > 100000").await;
        let mut claim = a.claim();
        claim.limit = 4_000;
        let (mut total, mut times) = (0, [Duration::ZERO; 3]);
        loop {
            let began = Instant::now();
            let got = ok(a.database.claim(&claim).await);
            times[0] += began.elapsed();
            if got.is_empty() {
                break;
            }
            let values: Vec<_> = got.iter().map(|c| String::from_utf8(c.value.clone()).unwrap()).collect();
            let search = [ColumnSearch { search: Search { values, ..Search::default() }, ..equal(&a.bound[0], &[]) }];
            let began = Instant::now();
            assert_eq!(ok(a.database.check(&a.bound, &a.record.snapshot, &search).await).found, []);
            times[1] += began.elapsed();
            let began = Instant::now();
            total += ok(a.database.settle(&settle_all(&got, Outcome::Erased), None).await);
            times[2] += began.elapsed();
        }
        eprintln!("claim, check, settle: {times:?}");
        assert_eq!(total, 100_000);
        assert!(times.iter().sum::<Duration>() < Duration::from_secs(60), "{times:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_snapshot_takes_milliseconds() {
        let f = fixture(PARTITIONED).await;
        for n in 2..30 {
            f.db.exec(&format!("create table doc{n} partition of doc for values in ({n})")).await;
        }
        f.db.exec("create table t1 (f text); create table t2 (f text); create table t3 (f text)").await;
        let a = f.attach(&["doc.file", "t1.f", "t2.f", "t3.f"]).await;
        let mut times = Vec::new();
        for _ in 0..30 {
            let began = Instant::now();
            assert_eq!(a.snapshot().await, a.record.snapshot);
            times.push(began.elapsed());
        }
        times.sort();
        eprintln!("a snapshot of 4 tables with 29 partitions: {:?} (median)", times[15]);
        assert!(times[15] < Duration::from_millis(500), "{times:?}");
    }
}

// -- what a session of ours is ------------------------------------------------------------------------------------------------------

#[path = "postgres/sessions.rs"]
mod sessions;

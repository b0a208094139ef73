//! Deadlocks of an application: sessions that delete and insert parents, beside sessions that update the children. The triggers of an ancestor read the children
//! with the lock that the foreign key takes next. With a shared lock, as it once was, there were 1,331 in 25,659 updates on MariaDB, and none without capture.
//! One case is left: updates by the foreign key's index under READ COMMITTED, see docs/databases.md.
//!
//! Sessions run stored procedures: a client's round trips would leave the rows alone most of the time.

use std::fmt;

use rowbound_testkit::{Backend, Server};
use sqlx::Connection;

use super::{Own, column, exec, on};

/// What the sessions do.
#[derive(Debug, Clone, Copy)]
struct Workload {
    name: &'static str,
    /// Tables and rows of the parents 1 to 6.
    schema: &'static str,
    /// What is bound.
    bind: &'static [&'static str],
    /// One transaction of a session with the parent `s`, which is 1, 2 or 3.
    parents: &'static str,
    /// One transaction of a session with the child of the parent `s`.
    children: &'static str,
    /// Every session that updates has the child of parent 1.
    one_child: bool,
}

const SCHEMA: &str = "create table up (id int primary key);
    create table t (id int primary key auto_increment, up int, f varchar(50), n int not null default 0, constraint by_up foreign key (up) references up (id) on delete cascade);
    insert into up values (1), (2), (3), (4), (5), (6);
    insert into t (id, up, f) values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, 'd'), (5, 5, 'e'), (6, 6, 'f')";
const REPLACE: &str = "delete from up where id = s; insert into up values (s); insert into t (id, up, f) values (s, s, 'x');";
const UPDATE: &str = "update t set n = n + 1 where id = s;";

/// Their updates find the child by its own key.
const BY_KEY: [Workload; 4] = [
    Workload {
        name: "three update the same child",
        schema: SCHEMA,
        bind: &["t.f"],
        parents: REPLACE,
        children: UPDATE,
        one_child: true,
    },
    Workload { name: "each updates a child of its own", schema: SCHEMA, bind: &["t.f"], parents: REPLACE, children: UPDATE, one_child: false },
    Workload {
        name: "the child of a child",
        schema: "create table up (id int primary key);
            create table middle (id int primary key, up int, foreign key (up) references up (id) on delete cascade);
            create table t (id int primary key, middle int, f varchar(50), n int not null default 0, foreign key (middle) references middle (id) on delete cascade);
            insert into up values (1), (2), (3), (4); insert into middle values (1, 1), (2, 2), (3, 3), (4, 4);
            insert into t (id, middle, f) values (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c'), (4, 4, 'd')",
        bind: &["t.f"],
        parents: "delete from up where id = s; insert into up values (s); insert into middle values (s, s); insert into t (id, middle, f) values (s, s, 'x');",
        children: UPDATE,
        one_child: false,
    },
    Workload {
        name: "a key that is set to NULL",
        schema: "create table file (name varchar(50) primary key);
            create table t (id int primary key, f varchar(50), n int not null default 0, foreign key (f) references file (name) on delete set null on update cascade);
            insert into file values ('1'), ('2'), ('3'), ('4'); insert into t (id, f) values (1, '1'), (2, '2'), (3, '3'), (4, '4')",
        bind: &["t.f"],
        parents: "delete from file where name = cast(s as char); insert into file values (cast(s as char)); update t set f = cast(s as char) where id = s;",
        children: UPDATE,
        one_child: false,
    },
];

/// Their updates find the children by the foreign key, as their deletes do.
const BY_PARENT: [Workload; 2] = [
    Workload {
        name: "children are found by their parent",
        schema: SCHEMA,
        bind: &["t.f"],
        parents: "delete from up where id = s; insert into up values (s); insert into t (up, f) values (s, 'x');",
        children: "update t force index (by_up) set n = n + 1 where up = s;",
        one_child: false,
    },
    Workload {
        name: "two parents in one transaction",
        schema: SCHEMA,
        bind: &["t.f"],
        parents: "delete from up where id = s; insert into up values (s); insert into t (up, f) values (s, 'x');
            delete from up where id = s + 3; insert into up values (s + 3); insert into t (up, f) values (s + 3, 'x');",
        children: "update t force index (by_up) set n = n + 1 where up = s;",
        one_child: false,
    },
];

/// How the parents' rows are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Capture {
    Detached,
    Attached,
    /// As `Attached`, but the ancestors' triggers read the children with a shared lock, by whatever index, as they once did.
    Shared,
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Deadlocks {
    parents: u64,
    children: u64,
}

impl fmt::Display for Deadlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (deletes of parents {}, updates of children {})", self.parents + self.children, self.parents, self.children)
    }
}

/// Puts another lock into the triggers of ancestors.
async fn share_locks(own: &mut Own) {
    let mut read = Vec::new();
    for column in ["trigger_name", "concat(action_timing, ' ', event_manipulation)", "event_object_table", "action_statement"] {
        let sql = format!(
            "select {column} from information_schema.triggers where trigger_schema = database() and trigger_name like 'rowbound|_b%' escape '|' \
             order by trigger_name"
        );
        read.push(own.column(&sql).await);
    }
    assert!(!read[0].is_empty(), "no ancestor has a trigger");
    for (i, name) in read[0].iter().enumerate() {
        let mut body = read[3][i].replace("select straight_join ", "select ").replace(" for update", " lock in share mode");
        while let Some(from) = body.find(" force index (") {
            let to = from + body[from..].find(')').unwrap();
            body.replace_range(from..=to, "");
        }
        own.exec(&format!("drop trigger `{name}`")).await;
        own.exec(&format!("create trigger `{name}` {} on `{}` for each row {body}", read[1][i], read[2][i])).await;
    }
}

/// Three sessions with parents, `rounds` transactions each, and three with children, three times as many.
async fn run(own: &mut Own, w: &Workload, isolation: &str, rounds: u32, capture: Capture) -> Deadlocks {
    let tables =
        own.column("select table_name from information_schema.tables where table_schema = database() and table_type = 'BASE TABLE'").await;
    let tables: Vec<_> = tables.iter().map(|t| format!("`{t}`")).collect();
    own.exec("set foreign_key_checks = 0").await;
    if !tables.is_empty() {
        own.exec(&format!("drop table {}", tables.join(", "))).await;
    }
    own.exec("set foreign_key_checks = 1; drop procedure if exists parents; drop procedure if exists children").await;
    own.exec(w.schema).await;
    for (name, body) in [("parents", w.parents), ("children", w.children)] {
        own.exec(&format!(
            "create procedure {name} (s int, rounds int) begin
                 declare i int default 0; declare deadlocks int default 0;
                 while i < rounds do
                     begin
                         declare exit handler for 1213 begin rollback; set deadlocks = deadlocks + 1; end;
                         start transaction; {body} commit;
                     end;
                     set i = i + 1;
                 end while;
                 select deadlocks;
             end"
        ))
        .await;
    }
    if capture != Capture::Detached {
        own.attach(w.bind).await;
    }
    if capture == Capture::Shared {
        share_locks(own).await;
    }
    let mut sessions = Vec::new();
    for s in 1..=3 {
        for (name, s, rounds) in [("parents", s, rounds), ("children", if w.one_child { 1 } else { s }, 3 * rounds)] {
            let mut conn = own.connect().await;
            exec(&mut conn, &format!("set session transaction isolation level {isolation}")).await;
            sessions.push((
                name,
                tokio::spawn(async move {
                    let found = column(&mut conn, &format!("call {name}({s}, {rounds})")).await;
                    conn.close().await.unwrap();
                    found[0].parse::<u64>().unwrap()
                }),
            ));
        }
    }
    let mut deadlocks = Deadlocks::default();
    for (name, session) in sessions {
        let found = session.await.unwrap();
        *(if name == "parents" { &mut deadlocks.parents } else { &mut deadlocks.children }) += found;
    }
    if capture != Capture::Detached {
        let released = own.column("select count(*) from rowbound_candidate").await[0].parse::<u64>().unwrap();
        let deleted = u64::from(rounds) * 3 - deadlocks.parents;
        assert!(released >= deleted, "{}: {deleted} parents were deleted, {released} names released", w.name);
    }
    deadlocks
}

/// 4,500 transactions of each workload: no more than one in a hundred.
pub(super) fn ancestors_make_no_deadlocks(server: &Server) {
    on(server, |mut own| async {
        for (workloads, isolations) in
            [(&BY_KEY[..], &["repeatable read", "read committed"][..]), (&BY_PARENT[..], &["repeatable read"][..])]
        {
            for (w, isolation) in workloads.iter().flat_map(|w| isolations.iter().map(move |i| (w, i))) {
                let deadlocks = run(&mut own, w, isolation, 375, Capture::Attached).await;
                println!("{}, {isolation}: {deadlocks}", w.name);
                // Without capture there is hardly one; a shared lock had one in twenty transactions. The long run compares.
                assert!(deadlocks.parents + deadlocks.children <= 45, "{}, {isolation}: {deadlocks}", w.name);
            }
        }
        own
    });
}

/// Six runs with each kind of capture, in turns: how many deadlocks each had.
async fn six_runs<const N: usize>(own: &mut Own, w: &Workload, isolation: &str, kinds: [Capture; N]) -> [u64; N] {
    let mut counts = [const { Vec::new() }; N];
    for _ in 0..6 {
        for (capture, counts) in kinds.into_iter().zip(&mut counts) {
            let deadlocks = run(own, w, isolation, 3_000, capture).await;
            counts.push(deadlocks.parents + deadlocks.children);
        }
    }
    for (capture, counts) in kinds.iter().zip(&counts) {
        println!("{}, {isolation}, {}, {capture:?}: {counts:?} in 36,000 transactions", own.backend, w.name);
    }
    counts.map(|counts| counts.iter().sum())
}

/// The whole: every workload under both isolations, attached and not attached.
fn with_and_without_capture(backend: Backend) {
    on(&Server::from_env(backend), |mut own| async {
        let mut worse = Vec::new();
        for w in BY_KEY.iter().chain(&BY_PARENT) {
            for isolation in ["repeatable read", "read committed"] {
                let [plain, attached] = six_runs(&mut own, w, isolation, [Capture::Detached, Capture::Attached]).await;
                // Updates that go by the foreign key's index under READ COMMITTED have deadlocks with the cascade itself: see docs/databases.md.
                if attached > plain && !(isolation == "read committed" && w.children.contains("by_up")) {
                    worse.push(format!("{isolation}, {}: {plain} not attached, {attached} attached", w.name));
                }
            }
        }
        assert!(worse.is_empty(), "{worse:#?}");
        own
    });
}

#[test]
#[ignore = "soak"]
fn soak_deadlocks_with_and_without_capture_on_mariadb() {
    with_and_without_capture(Backend::Mariadb);
}

#[test]
#[ignore = "soak"]
fn soak_deadlocks_with_and_without_capture_on_mysql() {
    with_and_without_capture(Backend::Mysql);
}

/// Measures, and insists on nothing: what the lock of the foreign key costs under READ COMMITTED, and what a shared one would.
#[test]
#[ignore = "soak"]
fn soak_deadlocks_with_a_shared_lock_on_mariadb() {
    on(&Server::from_env(Backend::Mariadb), |mut own| async {
        for w in BY_KEY.iter().chain(&BY_PARENT) {
            six_runs(&mut own, w, "read committed", [Capture::Attached, Capture::Shared]).await;
        }
        own
    });
}

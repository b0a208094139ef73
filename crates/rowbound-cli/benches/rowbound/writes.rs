//! What capture costs the application: its deletes and updates with and without triggers, on tables that are otherwise the same.

use std::time::{Duration, Instant};

use rowbound::{Binding, binding::Body, database::Dialect};
use rowbound_testkit::{App, Backend, Journal, OwnServer, TestDb, World};
use sqlx::AssertSqlSafe;

use crate::{
    Options,
    measure::{Table, median, ratio, time},
    rows,
    settle::rowbound,
};

/// The tables: without triggers, with the default triggers, with those of `capture = "fast"`.
const TABLES: [&str; 3] = ["plain", "tolerant", "fast"];

/// Own transactions of one side before the other side's turn comes.
const BLOCK: u64 = 100;

/// A database with the three tables; two of them are bound.
async fn world(db: TestDb) -> World {
    let id = db.backend().id_column();
    for table in TABLES {
        db.exec(&format!("create table {table} (id {id}, file varchar(255), title varchar(255))")).await;
    }
    let bound = |table: &str, body| Binding::name(&format!("{table}.file"), "default").expect("a column").body(body);
    let world = World::with(db).bind(bound("tolerant", Body::Tolerant)).bind(bound("fast", Body::Fast));
    rowbound(&["attach"], &world.write_config());
    world
}

/// Rows to begin with: every table the same, and no candidates.
async fn refill(world: &World, count: u64) {
    for table in TABLES {
        empty(&world.db, table).await;
        rows::fill(&world.db, table, count).await;
    }
    empty(&world.db, if world.db.dialect() == Dialect::Postgres { "rowbound.candidate" } else { "rowbound_candidate" }).await;
    rows::settle_server(&world.db).await;
}

async fn empty(db: &TestDb, table: &str) {
    db.exec(&if db.dialect() == Dialect::Sqlite { format!("delete from {table}") } else { format!("truncate table {table}") }).await;
}

/// A prepared statement for one row, in a transaction of its own.
async fn one(app: &mut App, sql: &str, id: i64) {
    let sql = AssertSqlSafe(sql.to_owned());
    let done = match app {
        App::Sqlite(c) => sqlx::query(sql).bind(id).execute(&mut **c).await.map(drop),
        App::Postgres(c) => sqlx::query(sql).bind(id).execute(&mut **c).await.map(drop),
        App::Mysql(c) => sqlx::query(sql).bind(id).execute(&mut **c).await.map(drop),
    };
    done.expect("the application's statement failed");
}

/// The time of a statement on one row, for each table: the median over blocks that alternate.
async fn singly(world: &World, count: u64, sql: impl Fn(&str) -> String) -> [Duration; 3] {
    let mut app = world.db.app().await;
    let statements = TABLES.map(sql);
    let ids: Vec<Vec<i64>> = {
        let mut all = Vec::new();
        for table in TABLES {
            let ids = app.query_strings(&format!("select id from {table} order by id limit {count}")).await;
            all.push(ids.into_iter().flatten().map(|id| id.parse().expect("a number")).collect());
        }
        all
    };
    let mut blocks: [Vec<Duration>; 3] = Default::default();
    for (round, start) in (0..count as usize).step_by(BLOCK as usize).enumerate() {
        for turn in 0..3 {
            // Whose turn is first changes, so that nobody is always the one after somebody's checkpoint.
            let t = (turn + round) % 3;
            let started = Instant::now();
            for id in &ids[t][start..(start + BLOCK as usize).min(ids[t].len())] {
                one(&mut app, &statements[t], *id).await;
            }
            blocks[t].push(started.elapsed() / BLOCK as u32);
        }
    }
    app.close().await;
    blocks.map(median)
}

/// The databases with and without waiting for the disk at each commit, in words.
async fn durabilities(options: &Options) -> Vec<(String, World, u64, Option<OwnServer>)> {
    let mut all = Vec::new();
    for backend in &options.backends {
        let few = 3_000.min(options.rows);
        let many = 20_000.min(options.rows);
        match backend {
            Backend::Sqlite => {
                all.push(("SQLite, WAL, synchronous=full".to_owned(), world(TestDb::sqlite(Journal::Wal).await).await, few, None));
                all.push(("SQLite, rollback journal".to_owned(), world(TestDb::sqlite(Journal::Rollback).await).await, few / 3, None));
            }
            _ => {
                let server = OwnServer::durable(*backend);
                let db = TestDb::on(server.server()).await;
                all.push((format!("{backend}, defaults (flush)"), world(db).await, few, Some(server)));
                all.push((format!("{backend}, commits not flushed"), world(TestDb::new(*backend).await).await, many, None));
            }
        }
    }
    all
}

const HEAD: [&str; 6] = ["", "plain", "tolerant", "ratio", "fast", "ratio"];

fn row(table: &Table, what: &str, [plain, tolerant, fast]: [Duration; 3]) {
    table.row(&[what.to_owned(), time(plain), time(tolerant), ratio(tolerant, plain), time(fast), ratio(fast, plain)]);
}

/// One row at a time.
pub async fn delete(options: &Options) {
    let table = Table::begin("delete: one row, in a transaction of its own, with and without capture", &HEAD);
    for (what, world, count, server) in durabilities(options).await {
        refill(&world, count).await;
        let times = singly(&world, count, |table| statement(&world, &format!("delete from {table} where id = "))).await;
        row(&table, &what, times);
        drop(world);
        drop(server);
    }
    println!("  goal: 1.15x");
}

/// One row's statement with the database's own placeholder.
fn statement(world: &World, begin: &str) -> String {
    format!("{begin}{}", if world.db.dialect() == Dialect::Postgres { "$1" } else { "?" })
}

/// One statement per table on all rows, in rounds that alternate.
async fn at_once(world: &World, rounds: usize, mut sql: impl FnMut(&str) -> String, again: Option<u64>) -> [Duration; 3] {
    let mut times: [Vec<Duration>; 3] = Default::default();
    let mut app = world.db.app().await;
    for round in 0..rounds {
        if let Some(count) = again {
            refill(world, count).await;
        }
        for turn in 0..3 {
            let t = (turn + round) % 3;
            let statement = sql(TABLES[t]);
            let started = Instant::now();
            app.exec(&statement).await;
            times[t].push(started.elapsed());
        }
        if again.is_none() {
            rows::settle_server(&world.db).await;
        }
    }
    app.close().await;
    times.map(median)
}

/// All rows in one statement.
pub async fn bulk(options: &Options) {
    let table = Table::begin(&format!("bulk: {} rows deleted by one statement", options.rows), &HEAD);
    for backend in &options.backends {
        let world = world(TestDb::new(*backend).await).await;
        // With a condition: without one SQLite empties a table that has no trigger in one go, which no other database does.
        let all = |t: &str| format!("delete from {t} where id > 0");
        row(&table, &backend.to_string(), at_once(&world, options.rounds, all, Some(options.rows)).await);
    }
    println!("  goal on PostgreSQL: 5x");
}

/// Updates that leave the file alone.
pub async fn update(options: &Options) {
    let table = Table::begin("update: another column than the file's", &HEAD);
    for backend in &options.backends {
        let world = world(TestDb::new(*backend).await).await;
        refill(&world, options.rows).await;
        let mut n = 0;
        let set = |t: &str| {
            n += 1;
            format!("update {t} set title = 'title {n}'")
        };
        let times = at_once(&world, options.rounds + 2, set, None).await;
        row(&table, &format!("{backend}, {} rows at once", options.rows), times);
        let times =
            singly(&world, 10_000.min(options.rows), |t| statement(&world, &format!("update {t} set title = 'new' where id = "))).await;
        row(&table, &format!("{backend}, one row, not flushed"), times);
    }
    println!("  goal with `fast`: 1.05x");
}

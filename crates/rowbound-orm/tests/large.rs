//! Many rows with their signals, in less than 100 MB.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rowbound_orm::{PostDelete, PreDelete, QueryDelete};
use rowbound_testkit::{Backend, TestDb};
use sea_orm::{ConnectionTrait, Database, EntityTrait, PaginatorTrait, Schema};

mod parent {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "large_parent")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub title: String,
    }
}

mod child {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "large_child")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub parent_id: i32,
        pub image: String,
        #[sea_orm(belongs_to, from = "parent_id", to = "id", on_delete = "Cascade")]
        pub parent: HasOne<super::parent::Entity>,
    }
}

static SENT: AtomicU64 = AtomicU64::new(0);

/// The most memory that this process had, in bytes: `VmHWM` of proc(5).
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc(5)");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// 10 to the power of `digits` rows.
async fn deletes(backend: Backend, digits: usize) {
    let rows = 10_u64.pow(digits as u32);
    let kept = TestDb::new(backend).await;
    let db = Database::connect(kept.url()).await.expect("the database");
    let schema = Schema::new(db.get_database_backend());
    for create in [schema.create_table_from_entity(parent::Entity), schema.create_table_from_entity(child::Entity)] {
        db.execute(&create).await.expect("a table");
    }
    // Without it each parent that goes would have the database read all children.
    db.execute_unprepared("create index by_parent on large_child (parent_id)").await.expect("an index");
    // One parent has all children: what goes with a single row is no less than what a query finds.
    // Out of digits: a recursive query has limits that differ.
    let digit = "(select 0 union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 \
                 union all select 6 union all select 7 union all select 8 union all select 9)";
    let digits =
        ["a", "b", "c", "d", "e"][..digits].iter().map(|name| format!("{digit} as {name}")).collect::<Vec<_>>().join(" cross join ");
    let count = |table: &str, columns: &str, values: &str| format!("insert into {table} ({columns}) select {values} from {digits}");
    db.execute_unprepared(&count("large_parent", "title", "'a title of some length, as titles are'")).await.expect("parents");
    db.execute_unprepared(&count("large_child", "parent_id, image", "1, '2026/11/26/photo_of_some_length.jpg'")).await.expect("children");
    PreDelete::connect::<parent::Entity>(|_, _| Box::pin(async { sent() }));
    PostDelete::connect::<parent::Entity>(|_, _| Box::pin(async { sent() }));
    PreDelete::connect::<child::Entity>(|_, _| Box::pin(async { sent() }));
    PostDelete::connect::<child::Entity>(|_, _| Box::pin(async { sent() }));
    let deleted = parent::Entity::find().delete(&db).await.expect("a delete");
    assert_eq!((deleted.of::<parent::Entity>(), deleted.of::<child::Entity>()), (rows, rows));
    assert_eq!(SENT.load(Relaxed), 4 * rows);
    assert_eq!(child::Entity::find().count(&db).await.expect("a count"), 0);
    let peak = peak();
    println!("{backend}: {rows} rows and {rows} that go with one of them, all with signals: {:.1} MB", peak as f64 / 1e6);
    assert!(peak < 100_000_000, "{peak} bytes");
}

fn sent() -> Result<(), rowbound_orm::BoxError> {
    SENT.fetch_add(1, Relaxed);
    Ok(())
}

macro_rules! on {
    ($($module:ident $backend:ident $digits:literal),*) => { $(
        mod $module {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn many_rows_with_signals_take_less_than_100_mb() {
                deletes(Backend::$backend, $digits).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            #[ignore = "soak"]
            async fn soak_a_hundred_thousand_rows_with_signals_take_less_than_100_mb() {
                deletes(Backend::$backend, 5).await;
            }
        }
    )* };
}

on!(sqlite Sqlite 5, postgres Postgres 5, mariadb Mariadb 4, mysql Mysql 4);

//! `select.delete(&db)` beside the bare SQL, in turn, on each database: `make bench-orm`.
//!
//! 100,000 rows that nothing refers to; 20,000 rows with five rows each that go with them, which the bare SQL leaves to the database's cascade. Without listeners, then with. Tables are made anew for
//! each round and not counted; the figure is the median of the rounds, and the ratio that of the medians.

use std::time::{Duration, Instant};

use rowbound_orm::{PostDelete, PreDelete, QueryDelete};
use rowbound_testkit::{Backend, TestDb};
use sea_orm::{ColumnTrait, ConnectionTrait, Database, DatabaseConnection, DbBackend, EntityTrait, QueryFilter, Schema};

const ROUNDS: usize = 9;

mod leaf {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "leaf")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub kind: i32,
        pub image: String,
    }
}

mod parent {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "parent")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub kind: i32,
    }
}

mod child {
    use rowbound_orm::Signals;
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel, Signals)]
    #[sea_orm(table_name = "child")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub parent_id: i32,
        pub image: String,
        #[sea_orm(belongs_to, from = "parent_id", to = "id", on_delete = "Cascade")]
        pub parent: HasOne<super::parent::Entity>,
    }
}

/// The tables as new, with rows and what the planner knows of them: neither side finds what the other left.
async fn fill(db: &DatabaseConnection) {
    let schema = Schema::new(db.get_database_backend());
    for table in ["child", "parent", "leaf"] {
        db.execute_unprepared(&format!("drop table if exists {table}")).await.expect("no table");
    }
    for create in [
        schema.create_table_from_entity(leaf::Entity),
        schema.create_table_from_entity(parent::Entity),
        schema.create_table_from_entity(child::Entity),
    ] {
        db.execute(&create).await.expect("a table");
    }
    let digit = "(select 0 d union all select 1 union all select 2 union all select 3 union all select 4 union all select 5 \
                 union all select 6 union all select 7 union all select 8 union all select 9)";
    let numbers = |digits: &[&str]| digits.iter().map(|name| format!("{digit} as {name}")).collect::<Vec<_>>().join(" cross join ");
    let analyze = if db.get_database_backend() == DbBackend::MySql { "analyze table" } else { "analyze" };
    for sql in [
        "create index by_parent on child (parent_id)".to_owned(),
        format!("insert into leaf (kind, image) select 1, '2026/11/26/photo.jpg' from {}", numbers(&["a", "b", "c", "d", "e"])),
        format!("insert into parent (kind) select 1 from {} where e.d < 2", numbers(&["a", "b", "c", "d", "e"])),
        format!(
            "insert into child (parent_id, image) select p.id, '2026/11/26/photo.jpg' from parent as p cross join {digit} as n where n.d < 5"
        ),
        format!("{analyze} leaf"),
        format!("{analyze} parent"),
        format!("{analyze} child"),
    ] {
        db.execute_unprepared(&sql).await.expect("rows");
    }
}

async fn timed(work: impl Future<Output = u64>) -> Duration {
    let began = Instant::now();
    assert!(work.await > 0);
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

async fn bench(backend: Backend) {
    let kept = TestDb::new(backend).await;
    let db = Database::connect(kept.url()).await.expect("the database");
    let bare =
        async |table: &str| db.execute_unprepared(&format!("delete from {table} where kind = 1")).await.expect("a delete").rows_affected();
    let leaves = async || leaf::Entity::find().filter(leaf::Column::Kind.eq(1)).delete(&db).await.expect("a delete").total();
    let parents = async || parent::Entity::find().filter(parent::Column::Kind.eq(1)).delete(&db).await.expect("a delete").total();
    let mut times: [Vec<Duration>; 4] = Default::default();
    for round in 0..2 * ROUNDS {
        fill(&db).await;
        // Who goes first in one round goes second in the next.
        if (round + round / 2) % 2 == 0 {
            times[0].push(timed(bare("leaf")).await);
            times[1].push(timed(bare("parent")).await);
        } else {
            times[2].push(timed(leaves()).await);
            times[3].push(timed(parents()).await);
        }
    }
    let [bare_leaf, bare_parent, our_leaf, our_parent] = times.map(median);
    let ms = |seconds: f64| seconds * 1e3;
    println!(
        "{backend}: 100,000 rows: bare SQL {:.0} ms, select.delete {:.0} ms, ratio {:.2}",
        ms(bare_leaf),
        ms(our_leaf),
        our_leaf / bare_leaf
    );
    println!(
        "{backend}: 20,000 rows with 5 each: bare SQL {:.0} ms, select.delete {:.0} ms, ratio {:.2}",
        ms(bare_parent),
        ms(our_parent),
        our_parent / bare_parent
    );
    let connections = [
        PreDelete::connect::<leaf::Entity>(|_, _| Box::pin(async { Ok(()) })),
        PostDelete::connect::<leaf::Entity>(|_, _| Box::pin(async { Ok(()) })),
        PreDelete::connect::<child::Entity>(|_, _| Box::pin(async { Ok(()) })),
        PostDelete::connect::<child::Entity>(|_, _| Box::pin(async { Ok(()) })),
    ];
    fill(&db).await;
    let (leaf, parent) = (timed(leaves()).await.as_secs_f64(), timed(parents()).await.as_secs_f64());
    println!(
        "{backend}: with PreDelete and PostDelete: {:.0} ms ({:.1} x), {:.0} ms ({:.1} x)",
        ms(leaf),
        leaf / bare_leaf,
        ms(parent),
        parent / bare_parent
    );
    for connection in connections {
        connection.disconnect();
    }
}

#[tokio::main]
async fn main() {
    for backend in Backend::all() {
        bench(backend).await;
    }
}

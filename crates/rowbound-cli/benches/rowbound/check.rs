//! What looking for references costs where many rows stay: one batch of names against a big table, with and without an index.

use std::time::{Duration, Instant};

use rowbound::{
    FileName,
    binding::Depth,
    database::{self, Dialect, Options as Connect},
    references::{self, CheckDepth},
};
use rowbound_testkit::{TestDb, World};

use crate::{
    Options, floor,
    measure::{Table, median, time},
    rows,
    settle::rowbound,
};

/// Names of a batch: the default.
const BATCH: u64 = 4_000;

/// Times of one check of names that no row holds, which is the usual answer and the dearest.
pub async fn check(options: &Options) {
    let count = options.rows * 10;
    let table = Table::begin(
        &format!("check: {BATCH} names in a column of {count} rows"),
        &["", "no index", "every value", "index", "other spellings", "every value"],
    );
    for backend in &options.backends {
        let world = World::with(TestDb::new(*backend).await).with_docs().await;
        rows::fill(&world.db, "doc", count).await;
        rows::settle_server(&world.db).await;
        rowbound(&["attach"], &world.write_config());
        let without = batch(&world, count, options.rounds, Depth::Plain).await;
        let whole = batch(&world, count, options.rounds, Depth::Whole).await;
        world.db.exec("create index doc_file on doc (file)").await;
        if backend.dialect() == Dialect::Postgres {
            world.db.exec("analyze doc").await;
        }
        let mut row = vec![backend.to_string(), time(without), time(whole)];
        for depth in [Depth::Plain, Depth::Spelled, Depth::Whole] {
            row.push(time(batch(&world, count, options.rounds, depth).await));
        }
        table.row(&row);
    }
}

async fn batch(world: &World, above: u64, rounds: usize, depth: Depth) -> Duration {
    let plan = world.plan();
    let db = database::open(&plan.database, &Connect::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
    let mut record = db.installation().await.unwrap_or_else(|e| panic!("{}", e.full())).expect("attached");
    let check = if depth == Depth::Whole { CheckDepth::Whole } else { CheckDepth::Surveyed };
    record.values.values_mut().for_each(|seen| seen.depth = depth);
    let bound = rowbound::attach::number(&plan, &record.bindings);
    let mut times = Vec::new();
    for round in 0..rounds as u64 + 1 {
        let names: Vec<FileName> = (0..BATCH).map(|n| World::file_name(&floor::name(above + round * BATCH + n))).collect();
        let started = Instant::now();
        let found =
            references::find(db.as_ref(), &bound, &record, "default", &names, check).await.unwrap_or_else(|e| panic!("{}", e.full()));
        times.push(started.elapsed());
        drop(found.lock);
        assert!(found.held.is_empty(), "nobody holds these names");
    }
    db.close().await;
    median(times.into_iter().skip(1))
}

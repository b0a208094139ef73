//! What `attach` does once and a running collector each minute: all values of a bound column, and a sample of every other one.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rowbound::{
    attach::{number, open_storages},
    database::{self, Options as Connect},
    evidence::{self, Limits, values::values},
};
use rowbound_testkit::{TestDb, World};

use crate::{
    Options, elsewhere,
    measure::{Table, median, mib, run, time},
    rows,
};

/// Prints the table.
pub async fn survey(options: &Options) {
    let count = options.rows * 10;
    let table = Table::begin(
        &format!("survey: a bound column of {count} names, and {count} rows of text that nobody bound"),
        &["", "values of the bound column", "sample of the others", "first attach", "peak RSS"],
    );
    for backend in &options.backends {
        let world = World::with(TestDb::new(*backend).await).with_docs().await;
        rows::fill(&world.db, "doc", count).await;
        elsewhere::texts(&world.db, count).await;
        rows::settle_server(&world.db).await;
        let mut command = Command::new(env!("CARGO_BIN_EXE_rowbound"));
        command.args(["attach", "--config"]).arg(world.write_config()).env_remove("DATABASE_URL");
        let (attach, _) = run(&mut command, &[0]);
        let plan = world.plan();
        let db = database::open(&plan.database, &Connect::default()).await.unwrap_or_else(|e| panic!("{}", e.full()));
        let record = db.installation().await.unwrap_or_else(|e| panic!("{}", e.full())).expect("attached");
        let bound = number(&plan, &record.bindings);
        let storages = open_storages(&plan).unwrap_or_else(|e| panic!("{}", e.full()));
        storages.iter().for_each(|(name, storage)| storage.expect(&record.storages[name]));
        let (mut looked, mut sampled) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let began = Instant::now();
            let seen = values(db.as_ref(), &bound[0], Duration::from_secs(600)).await.unwrap_or_else(|e| panic!("{}", e.full()));
            assert_eq!((seen.values, seen.complete), (count, true));
            looked.push(began.elapsed());
            let began = Instant::now();
            let limits = Limits { values: 100, time: Duration::from_secs(600) };
            let survey = evidence::survey(db.as_ref(), &storages, limits, |c| c.is(&bound[0].binding.column)).await;
            assert!(survey.unwrap_or_else(|e| panic!("{}", e.full())).looked > 0);
            sampled.push(began.elapsed());
        }
        db.close().await;
        table.row(&[backend.to_string(), time(median(looked)), time(median(sampled)), time(attach.wall), mib(attach.rss)]);
    }
}

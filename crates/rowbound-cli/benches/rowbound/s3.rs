//! Objects on a local S3 server: `rowbound collect` from its start to its end beside boto3, one by one as django-storages does and in bulk.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::StreamExt;
use rowbound_testkit::{
    Backend, TestDb, World,
    s3::{S3Bucket, S3Kind, S3Server},
};

use crate::{
    Options,
    django::venv,
    floor,
    measure::{Cost, Table, mib, middle, ratio, run, time},
    rows,
    settle::collect_command,
};

/// Prints a table for each server.
pub async fn s3(options: &Options) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(python) = venv(here) else { return };
    let count = options.rows / 10;
    // One by one takes long and is a straight line: a tenth of the objects tells.
    let singly = (count / 10).max(1);
    // moto is written for tests of behaviour: it would be measured instead of us.
    let kinds = S3Kind::here().into_iter().filter(|kind| *kind != S3Kind::Moto);
    for kind in kinds {
        let server = S3Server::start(kind);
        let table = Table::begin(
            &format!("s3: {count} objects on {kind} over loopback"),
            &["", "wall", "each", "one by one", "bulk", "CPU", "peak RSS"],
        );
        let mut costs: [Vec<(u64, Cost)>; 3] = Default::default();
        let mut ours: Vec<Vec<(u64, Cost)>> = vec![Vec::new(); options.backends.len()];
        for _ in 0..options.rounds {
            costs[0].push((singly, boto(&server, here, &python, "one", singly).await));
            costs[1].push((count, boto(&server, here, &python, "bulk", count).await));
            costs[2].push((count, boto(&server, here, &python, "look", count).await));
            for (i, backend) in options.backends.iter().enumerate() {
                ours[i].push((count, collect(&server, *backend, count).await));
            }
        }
        let each = |costs: &[(u64, Cost)]| {
            let middle = middle(&costs.iter().map(|(_, cost)| *cost).collect::<Vec<_>>());
            (middle, middle.wall.div_f64(costs[0].0 as f64))
        };
        let (one, bulk) = (each(&costs[0]).1, each(&costs[1]).1);
        let row = |what: &str, costs: &[(u64, Cost)]| {
            let (cost, per) = each(costs);
            table.row(&[what.to_owned(), time(cost.wall), time(per), ratio(per, one), ratio(per, bulk), time(cost.cpu), mib(cost.rss)]);
        };
        row(&format!("boto3, one by one ({singly} objects)"), &costs[0]);
        row("boto3, delete_objects", &costs[1]);
        row("boto3, the same after two listings", &costs[2]);
        for (backend, costs) in options.backends.iter().zip(&ours) {
            row(&format!("Rowbound, {backend}"), costs);
        }
    }
    println!(
        "  goal: 0.05 of one by one, 0.50 of bulk. CPU is the client's, without the server's; Rowbound's wall is that of the whole process."
    );
}

async fn fill(bucket: &S3Bucket, prefix: &str, count: u64) -> Vec<String> {
    let keys: Vec<String> = (0..count).map(|n| format!("{prefix}{}", floor::name(n))).collect();
    futures_util::stream::iter(&keys).for_each_concurrent(32, |key| bucket.put(key, b"0123456789abcdef")).await;
    keys
}

async fn boto(server: &S3Server, here: &Path, python: &Path, way: &str, count: u64) -> Cost {
    let bucket = server.bucket().await;
    let keys = fill(&bucket, "", count).await;
    let mut child = Command::new(python)
        .arg(here.join("benches/rowbound/s3/delete.py"))
        .args([bucket.name(), &server.endpoint(), way])
        .envs(server.env())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot start Python");
    child.stdin.take().expect("stdin is piped").write_all(keys.join("\n").as_bytes()).expect("Python does not read");
    let out = child.wait_with_output().expect("cannot wait for our child");
    assert!(out.status.success(), "delete.py ended with {}", out.status);
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut seconds = said.split_whitespace().map(|s| Duration::from_secs_f64(s.parse().expect("delete.py prints seconds")));
    let mut next = || seconds.next().expect("delete.py prints two numbers");
    let cost = Cost { wall: next(), cpu: next(), rss: 0 };
    assert!(bucket.keys("").await.is_empty(), "objects are left");
    cost
}

async fn collect(server: &S3Server, backend: Backend, count: u64) -> Cost {
    let bucket = server.bucket().await;
    let location = bucket.location("media/");
    let world = World::with(TestDb::new(backend).await).with_docs().await.storage(|s| rowbound::StoragePlan { location, ..s });
    fill(&bucket, "media/", count).await;
    rows::fill(&world.db, "doc", count).await;
    let config = world.write_config();
    let mut attach = Command::new(env!("CARGO_BIN_EXE_rowbound"));
    run(attach.arg("attach").arg("--config").arg(&config).env_remove("DATABASE_URL").envs(server.env()), &[0]);
    world.db.exec("delete from doc").await;
    rows::settle_server(&world.db).await;
    let (cost, said) = run(collect_command(&config).envs(server.env()), &[0]);
    let left = bucket.keys("media/").await;
    assert!(left.iter().all(|key| key.starts_with("media/.rowbound/")), "{} objects are left\n{said}", left.len());
    cost
}

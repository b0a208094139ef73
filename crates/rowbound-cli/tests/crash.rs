//! The real binary is killed by SIGKILL at every named point between two steps, and at random moments, under an application
//! that goes on writing. At the end: no file lost, no file left, no candidate stuck.

use std::time::Duration;

use rand::Rng;
use rowbound::{
    Trash,
    crash::{ERASURE_POINTS, ordinary},
};
use rowbound_testkit::{Backend, Rowbound, World, Writer};

const BINARY: &str = env!("CARGO_BIN_EXE_rowbound");
const DEADLINE: Duration = Duration::from_secs(60);

/// A short one, so that what a killed worker held is free again within the test.
const LEASE: Duration = Duration::from_secs(1);

/// Traces with one line changed, which the model must refuse.
const MUTANTS: u64 = 20;

async fn world(backend: Backend, trash: Trash) -> World {
    World::new(backend).await.with_docs().await.storage(|s| s.trash(trash).min_age(Duration::from_secs(5))).traced(LEASE)
}

/// Kills at every point `rounds` times, and `random` times at a random moment; returns how many processes were killed.
async fn killed(backend: Backend, rounds: u64, random: u64) -> u64 {
    let world = world(backend, Trash::Keep(Duration::from_secs(2))).await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let writer = Writer::start(&world, "w", 0, Duration::from_millis(1)).await;
    let mut kills = 0;
    let run = ["run", "--lease", "1s", "--poll", "50ms"];

    for round in 0..rounds {
        for point in ordinary(backend == Backend::Sqlite).chain(ERASURE_POINTS) {
            // Another passage of the point each round.
            let at = format!("{point}:{}", 1 + round % 4);
            println!("killing at {at}");
            let output = Rowbound::new(BINARY, &world).env("ROWBOUND_CRASH_AT", &at).spawn(&run).wait(DEADLINE).await;
            assert_eq!(output.signal, Some(9), "{at} was never passed: {}", output.stderr);
            kills += 1;
        }
    }
    for _ in 0..random {
        let running = Rowbound::new(BINARY, &world).spawn(&run);
        let after = rand::rng().random_range(0..150);
        running.wait_for_line("collecting", DEADLINE).await;
        // The moment is the test's subject, not something waited for.
        tokio::time::sleep(Duration::from_millis(after)).await;
        running.kill();
        running.wait(DEADLINE).await;
        kills += 1;
    }

    let written = writer.stop().await;
    let end = Rowbound::new(BINARY, &world).run(&["collect", "--wait", "90s", "--lease", "20s"]).await;
    written.assert_nothing_lost(&world);
    end.expect(0);
    world.assert_files_follow_rows().await;
    world.assert_trace_allowed(MUTANTS);
    println!("{backend:?}: {kills} kills, {} operations, {} names released", written.operations, written.released);
    kills
}

/// The same without a trash: what is erased is erased.
async fn killed_erasing(backend: Backend, random: u64) {
    let world = world(backend, Trash::Off).await;
    Rowbound::new(BINARY, &world).run(&["attach"]).await.expect(0);
    let writer = Writer::start(&world, "w", 0, Duration::from_millis(1)).await;
    for n in 0..random {
        let point =
            ["claimed", "checked", "remove-one", "removed", "settling", "settled", "erasure-noted", "purge-one", "purging"][n as usize % 9];
        let output = Rowbound::new(BINARY, &world)
            .env("ROWBOUND_CRASH_AT", point)
            .env("ROWBOUND_HOLD", "1000")
            .spawn(&["run", "--lease", "1s", "--poll", "50ms"])
            .wait(DEADLINE)
            .await;
        assert_eq!(output.signal, Some(9), "{point} was never passed: {}", output.stderr);
    }
    let written = writer.stop().await;
    let end = Rowbound::new(BINARY, &world).env("ROWBOUND_HOLD", "1000").run(&["collect", "--wait", "90s", "--lease", "20s"]).await;
    written.assert_nothing_lost(&world);
    end.expect(0);
    world.assert_files_follow_rows().await;
    world.assert_trace_allowed(MUTANTS);
}

macro_rules! on {
    ($($module:ident $backend:ident),*) => { $(
        mod $module {
            use super::*;

            /// Shrine, CarrierWave, Laravel Media Library or unused-media: the old file exists until the job has run; the source is
            /// already gone.
            #[tokio::test(flavor = "multi_thread")]
            async fn crash_at_every_point_and_at_random_moments() {
                killed(Backend::$backend, 1, 8).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn crash_while_erasing() {
                killed_erasing(Backend::$backend, 12).await;
            }

            /// At least 300 kills.
            #[tokio::test(flavor = "multi_thread")]
            #[ignore = "soak"]
            async fn soak_crash() {
                let kills = killed(Backend::$backend, 15, 160).await;
                assert!(kills >= 300);
            }
        }
    )* };
}

on!(sqlite Sqlite, postgres Postgres, mariadb Mariadb, mysql Mysql);

//! Attach and detach: everything in one transaction, locks waited for shortly and tried again.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{
    fault::{failed, is_there_already},
    record, snapshot, tables,
    triggers::{self, Step},
};
use crate::{
    capture::{Bound, Installation},
    clock, crash,
    database::{Options, unchanged},
    error::{Error, Kind, Result},
};

/// What is done under the install lock.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    /// The last: what must stand, where that matters.
    Install(&'a [Bound], &'a Installation, Option<Option<&'a Installation>>),
    Remove,
}

/// Runs `job` until its locks are had. Between two tries everything is released, so that those who queued behind us pass.
pub(super) async fn patiently(pool: &PgPool, options: &Options, job: Job<'_>) -> Result<Option<Installation>> {
    let until = clock::deadline(options.lock_patience);
    let mut pause = Duration::from_millis(50);
    loop {
        let mut touched = Vec::new();
        let error = match attempt(pool, options, job, &mut touched).await {
            Err(e) if e.kind() == Kind::Busy => e,
            other => return other,
        };
        if Instant::now() + pause >= until {
            return Err(match blockers(pool, &touched).await? {
                blockers if blockers.is_empty() => error,
                blockers => error.with("held by", blockers.join("; ")),
            }
            .hint("nothing was changed; wait for that session, end it, or try again at a quieter time"));
        }
        tokio::time::sleep(pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

async fn attempt(pool: &PgPool, options: &Options, job: Job<'_>, touched: &mut Vec<i64>) -> Result<Option<Installation>> {
    let mut tx = pool.begin_with("begin isolation level read committed").await.map_err(|e| failed("cannot begin a transaction", e))?;
    match work(&mut tx, options, job, touched).await {
        Ok(record) => {
            crash::point("attach-step");
            tx.commit().await.map(|()| record).map_err(|e| failed("cannot commit", e))
        }
        Err(e) => {
            // At once, not when the connection comes round: the application waits for our locks.
            // If that fails, the connection is gone, and the server rolls back by itself.
            let _ = tx.rollback().await;
            Err(e)
        }
    }
}

async fn work(conn: &mut PgConnection, options: &Options, job: Job<'_>, touched: &mut Vec<i64>) -> Result<Option<Installation>> {
    let first = alone(&mut *conn, options).await?;
    let ours = triggers::ours(&mut *conn).await?;
    let steps = match job {
        Job::Install(bound, ..) => triggers::install_steps(&tables::tables(&mut *conn, bound).await?, &ours),
        Job::Remove => triggers::remove_steps(&ours),
    };
    *touched = steps.iter().filter_map(|s| s.locks).collect();
    if let Err(e) = run_steps(&mut *conn, &steps, options.lock_timeout).await {
        return Err(match first && e.was_there {
            true => at_work().because(e.error),
            false => e.error,
        });
    }
    let record = match job {
        Job::Install(bound, record, before) => {
            let record = Installation { snapshot: snapshot::read(&mut *conn, bound).await?, ..record.clone() };
            crash::point("attach-step");
            let expect = |standing: Option<&str>| before.map_or(Ok(()), |before| unchanged(standing, before));
            Some(record::store(&mut *conn, &record, expect).await?)
        }
        Job::Remove => None,
    };
    Ok(record)
}

fn at_work() -> Error {
    Error::new(Kind::Busy, "another attach or detach is at work on this database")
}

/// Takes the right to be the only one that attaches or detaches here. It is a lock on a table of ours: nobody who may not write there can keep it from us, and
/// the server takes it from a process that was stopped (`idle_in_transaction_session_timeout`). `true`: there is no such table yet, and of several
/// the one that makes the schema is the one.
async fn alone(conn: &mut PgConnection, options: &Options) -> Result<bool> {
    let there: bool = sqlx::query_scalar(
        "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'rowbound' and c.relname = 'installation')",
    )
    .fetch_one(&mut *conn)
    .await
    .map_err(|e| failed("cannot look for the installation", e))?;
    if !there {
        return Ok(true);
    }
    let wait = options.lock_timeout.as_millis().clamp(1, 1 << 30);
    // Those who only read the record, with a lock or without one, goes on.
    let sql = format!("set local lock_timeout = {wait}; lock table rowbound.installation in share row exclusive mode");
    match sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await.map_err(|e| failed("cannot lock the installation", e)) {
        Ok(_) => Ok(false),
        // Held; or gone with the detach that held it.
        Err(e) if matches!(e.kind(), Kind::Busy | Kind::Schema) => Err(at_work().because(e)),
        Err(e) => Err(e),
    }
}

/// Who holds locks on these tables, as far as we may see it.
async fn blockers(pool: &PgPool, touched: &[i64]) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "with recursive family(oid) as (
             select t::oid from unnest($1::int8[]) as t union select i.inhrelid from family f join pg_inherits i on i.inhparent = f.oid
         )
         select distinct concat_ws(', ', 'pid ' || l.pid, 'role ' || a.usename, a.state, 'query ' || left(a.query, 200),
             (select 'prepared transaction ' || p.gid from pg_prepared_xacts p where l.virtualtransaction = '-1/' || p.transaction limit 1))
         from pg_locks l
         join family f on f.oid = l.relation
         left join pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'relation' and l.granted and l.mode <> 'AccessShareLock' and l.pid is distinct from pg_backend_pid()
             and l.database = (select oid from pg_database where datname = current_database())
         limit 3",
    )
    .bind(touched)
    .fetch_all(pool)
    .await
    .map_err(|e| failed("cannot see who holds the tables", e))
}

/// Runs statements. From the first lock on a table of the application to the last, waiting takes at most `budget` in all:
/// those who queue behind us wait no longer.
async fn run_steps(tx: &mut PgConnection, steps: &[Step], budget: Duration) -> std::result::Result<(), Stopped> {
    let mut began: Option<Instant> = None;
    for step in steps {
        let wait = match step.locks {
            Some(_) => budget.saturating_sub(began.get_or_insert_with(Instant::now).elapsed()),
            None => budget,
        };
        // Zero would mean for ever.
        let sql = format!("set local lock_timeout = {}; {}", wait.as_millis().clamp(1, 1 << 30), step.sql);
        crash::point("attach-step");
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.map_err(|e| Stopped {
            was_there: is_there_already(&e),
            error: failed("a statement failed", e).with("statement", &step.sql),
        })?;
    }
    Ok(())
}

/// Why the steps ended early.
struct Stopped {
    /// What the statement makes was there already.
    was_there: bool,
    error: Error,
}

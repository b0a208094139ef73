//! Attach and detach: everything in one transaction, locks waited for shortly and tried again.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use super::{
    fault::failed,
    snapshot_of, store, tables,
    triggers::{self, Step},
};
use crate::{
    capture::{Bound, Installation},
    clock, crash,
    database::{Options, unchanged},
    error::{Error, Kind, Result},
};

/// "rowbound" in ASCII: the advisory lock that lets one attach or detach work at a time.
const INSTALL_LOCK: i64 = 0x726f_7762_6f75_6e64;

/// What is done under the install lock.
#[derive(Clone, Copy)]
pub(super) enum Job<'a> {
    /// The last: what must stand, where that matters.
    Install(&'a [Bound], &'a Installation, Option<Option<&'a Installation>>),
    Remove,
}

/// Runs `job` until its locks are had. Between two tries everything is released, so that whoever queued behind us passes.
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
    let (alone,): (bool,) = sqlx::query_as("select pg_try_advisory_xact_lock($1)")
        .bind(INSTALL_LOCK)
        .fetch_one(&mut *conn)
        .await
        .map_err(|e| failed("cannot take the install lock", e))?;
    if !alone {
        return Err(Error::new(Kind::Busy, "another attach or detach is at work on this database"));
    }
    let ours = triggers::ours(&mut *conn).await?;
    let steps = match job {
        Job::Install(bound, ..) => triggers::install_steps(&tables::tables(&mut *conn, bound).await?, &ours),
        Job::Remove => triggers::remove_steps(&ours),
    };
    *touched = steps.iter().filter_map(|s| s.locks).collect();
    run_steps(&mut *conn, &steps, options.lock_timeout).await?;
    let record = match job {
        Job::Install(bound, record, before) => {
            let record = Installation { snapshot: snapshot_of(&mut *conn, bound).await?, ..record.clone() };
            crash::point("attach-step");
            let expect = |standing: Option<&str>| before.map_or(Ok(()), |before| unchanged(standing, before));
            Some(store(&mut *conn, &record, expect).await?)
        }
        Job::Remove => None,
    };
    Ok(record)
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
/// whoever queues behind us waits no longer.
async fn run_steps(tx: &mut PgConnection, steps: &[Step], budget: Duration) -> Result<()> {
    let mut began: Option<Instant> = None;
    for step in steps {
        let wait = match step.locks {
            Some(_) => budget.saturating_sub(began.get_or_insert_with(Instant::now).elapsed()),
            None => budget,
        };
        // Zero would mean for ever.
        let sql = format!("set local lock_timeout = {}; {}", wait.as_millis().clamp(1, 1 << 30), step.sql);
        crash::point("attach-step");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut *tx)
            .await
            .map_err(|e| failed("a statement failed", e).with("statement", &step.sql))?;
    }
    Ok(())
}

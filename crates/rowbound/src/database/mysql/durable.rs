//! The log is on disk. With `innodb_flush_log_at_trx_commit` at 0 or 2 the server writes it about once a second, and for a moment a commit may be seen that is not
//! there yet: after a crash its rows are as before.
//!
//! In: nothing. Out: the promise that everything committed before is there. No account needs a right for it.

use std::time::{Duration, Instant};

use sqlx::MySqlConnection;

use super::{Mysql, fault, text};
use crate::error::{Error, Kind, Result, Retry};

/// How long the server may take; the default of `innodb_flush_log_at_timeout` is a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two looks, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// See [`super::Database::flushed`].
pub(super) async fn flushed(db: &Mysql) -> Result<()> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let (until, mut pause) = (Instant::now() + PATIENCE, PAUSE.0);
    let (wanted, mut there) = log(&mut conn).await?;
    if there < wanted {
        take_along(&mut conn).await;
        there = log(&mut conn).await?.1;
    }
    if there < wanted && never_syncs(&mut conn).await? {
        return Ok(());
    }
    while there < wanted {
        if Instant::now() > until {
            return Err(Error::new(
                Kind::Busy,
                "the server does not write its log to the disk: what it has committed could be gone after a crash",
            )
            .retry(Retry::Later)
            .hint("set innodb_flush_log_at_trx_commit = 1, or innodb_flush_log_at_timeout to a second or two"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
        there = log(&mut conn).await?.1;
    }
    Ok(())
}

/// Writes something of our own. With `innodb_flush_log_at_trx_commit` at 1 its commit takes to the disk what stands before it in the log; what the server itself
/// writes in between would wait for the next second.
async fn take_along(conn: &mut MySqlConnection) {
    // No storage has an empty name.
    let sql = "insert into rowbound_upkeep (storage, `until`, record) values ('', utc_timestamp(6), '{}')
        on duplicate key update `until` = utc_timestamp(6)";
    if let Err(e) = sqlx::raw_sql(sql).execute(conn).await {
        tracing::debug!(error = %e, "nothing of our own could be written: the server's log is waited for");
    }
}

/// Whether the server was told never to wait for the disk. What it has committed is with the system then, and MariaDB counts it as there a second later only.
async fn never_syncs(conn: &mut MySqlConnection) -> Result<bool> {
    let method = sqlx::raw_sql("show global variables like 'innodb_flush_method'").fetch_optional(conn).await.map_err(fault)?;
    Ok(method.map(|row| text(&row, 1)).transpose()?.is_some_and(|method| method.eq_ignore_ascii_case("nosync")))
}

/// How long the log is, and how much of it is on disk. MySQL before 8.0.30 does not tell: then nothing is waited for, and what its settings promise holds.
/// So it is where a server tells one of the two only.
async fn log(conn: &mut MySqlConnection) -> Result<(u64, u64)> {
    let ask = "show global status where variable_name in
        ('Innodb_lsn_current', 'Innodb_lsn_flushed', 'Innodb_redo_log_current_lsn', 'Innodb_redo_log_flushed_to_disk_lsn')";
    let rows = sqlx::raw_sql(ask).fetch_all(conn).await.map_err(fault)?;
    Ok(both(rows.iter().map(|row| Ok((text(row, 0)?, text(row, 1)?))).collect::<Result<_>>()?))
}

/// Both sides of the log, from their names and values; nothing of either if one is missing.
fn both(told: Vec<(String, String)>) -> (u64, u64) {
    let (mut all, mut there) = (0, 0);
    for (name, value) in told {
        let lsn = value.parse().unwrap_or(0);
        match name.to_ascii_lowercase().contains("current") {
            true => all = lsn,
            false => there = lsn,
        }
    }
    if all == 0 || there == 0 { (0, 0) } else { (all, there) }
}

#[cfg(test)]
mod tests {
    use super::both;

    /// It once waited for ten seconds, and then refused every batch.
    #[test]
    fn a_server_that_tells_one_side_of_its_log_is_not_waited_for() {
        let told = |told: &[(&str, &str)]| both(told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let (all, there) = (("Innodb_lsn_current", "17"), ("Innodb_lsn_flushed", "16"));
        assert_eq!(told(&[all, there]), (17, 16));
        for one in [&[all][..], &[there], &[], &[all, (there.0, "")], &[all, (there.0, "0")], &[(all.0, "n/a"), there]] {
            assert_eq!(told(one), (0, 0), "{one:?}");
        }
    }
}

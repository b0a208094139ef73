//! Followers and what they have yet to hear.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{
    Mysql, fault, int, interval, maybe_text, micros, moment,
    queue::cut,
    record::{entry_columns, entry_row, outcome},
    text,
    values::hex,
};
use crate::{
    delivery::{Failing, Pending, Receipt, Registered, Turn, words},
    error::{Error, Kind, Result},
    queue::Outcome,
};

/// A mark for the ledger rows of this transaction, if anybody follows. The followers' rows stay locked, so that none is forgotten before its end.
pub(super) async fn mark(conn: &mut MySqlConnection) -> Result<Option<String>> {
    let followers = sqlx::query("select id from rowbound_follower lock in share mode").fetch_all(conn).await.map_err(fault)?;
    Ok((!followers.is_empty()).then(|| format!("{:016x}", rand::random::<u64>())))
}

/// Writes the deliveries of what has entered the ledger under this mark, from the entry `first` on.
pub(super) async fn tell(conn: &mut MySqlConnection, mark: &str, first: u64) -> Result<()> {
    sqlx::query(include_str!("deliver_entries.sql")).bind(first).bind(mark).execute(conn).await.map_err(fault)?;
    Ok(())
}

/// See [`super::Database::follow`].
pub(super) async fn follow(db: &Mysql, name: &str, outcomes: &[Outcome]) -> Result<()> {
    let words = words(outcomes);
    let stands = sqlx::query("select 1 from rowbound_follower where name = ? and outcomes = ?")
        .bind(name)
        .bind(&words)
        .fetch_optional(db.pool())
        .await
        .map_err(fault)?;
    if stands.is_none() {
        sqlx::query(
            "insert into rowbound_follower (name, since, outcomes) values (?, utc_timestamp(6), ?) on duplicate key update outcomes = ?",
        )
        .bind(name)
        .bind(&words)
        .bind(&words)
        .execute(db.pool())
        .await
        .map_err(fault)?;
    }
    Ok(())
}

/// See [`super::Database::unfollow`].
pub(super) async fn unfollow(db: &Mysql, name: &str) -> Result<Option<u64>> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    // Waits for the settlements that have locked its row; what they wrote for it is there for the last statement.
    let row = sqlx::query("select id from rowbound_follower where name = ? for update")
        .bind(name)
        .fetch_optional(&mut *tx)
        .await
        .map_err(fault)?;
    let Some(id) = row.map(|row| int(&row, 0)).transpose()? else { return Ok(None) };
    sqlx::query("delete from rowbound_follower where id = ?").bind(id).execute(&mut *tx).await.map_err(fault)?;
    let gone = sqlx::query("delete from rowbound_delivery where follower = ?").bind(id).execute(&mut *tx).await.map_err(fault)?;
    tx.commit().await.map_err(fault)?;
    Ok(Some(gone.rows_affected()))
}

/// See [`super::Database::followers`].
pub(super) async fn followers(db: &Mysql) -> Result<Vec<Registered>> {
    // The oldest entry is the one with the smallest number.
    let sql = format!(
        "select f.id, f.name, f.outcomes, {}, w.waiting, w.due, w.failing, timestampdiff(second, l.at, utc_timestamp(6)), \
                timestampdiff(second, w.overdue, utc_timestamp(6)) \
         from rowbound_follower f \
         left join (select follower, count(*) as waiting, cast(sum(due_at <= utc_timestamp(6)) as signed) as due, \
                    cast(sum(attempts > 0) as signed) as failing, min(entry) as oldest, \
                    min(if(due_at <= utc_timestamp(6), due_at, null)) as overdue \
                    from rowbound_delivery group by follower) w on w.follower = f.id \
         left join rowbound_ledger l on l.id = w.oldest \
         order by f.name",
        micros("f.since")
    );
    let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(db.pool()).await.map_err(fault)?;
    let mut followers = Vec::with_capacity(rows.len());
    for row in &rows {
        use sqlx::Row;
        let maybe = |column: usize| row.try_get_unchecked::<Option<i64>, _>(column).map_err(fault);
        let seconds = |column| Ok(maybe(column)?.map(|s| u64::try_from(s).unwrap_or(0)));
        let count = |column| Ok::<_, Error>(u64::try_from(maybe(column)?.unwrap_or(0)).unwrap_or(0));
        let failing = count(6)?;
        let sample = match failing {
            0 => Vec::new(),
            _ => {
                let sql = format!(
                    "select d.entry, l.storage, l.name, {}, d.attempts, d.note from rowbound_delivery d \
                     left join rowbound_ledger l on l.id = d.entry where d.follower = ? and d.attempts > 0 order by d.entry limit 10",
                    micros("d.due_at")
                );
                sqlx::query(AssertSqlSafe(sql)).bind(int(row, 0)?).fetch_all(db.pool()).await.map_err(fault)?
            }
        };
        followers.push(Registered {
            name: text(row, 1)?,
            outcomes: text(row, 2)?.split(',').map(outcome).collect::<Result<_>>()?,
            since: moment(row, 3)?.ok_or_else(|| Error::new(Kind::Database, "a follower has no time"))?,
            waiting: count(4)?,
            due: count(5)?,
            failing,
            oldest_seconds: seconds(7)?,
            overdue_seconds: seconds(8)?,
            sample: sample
                .iter()
                .map(|row| {
                    Ok(Failing {
                        entry: int(row, 0)?,
                        storage: maybe_text(row, 1)?,
                        name: maybe_text(row, 2)?,
                        due_at: moment(row, 3)?.ok_or_else(|| Error::new(Kind::Database, "a delivery has no time"))?,
                        attempts: u32::try_from(int(row, 4)?).unwrap_or(0),
                        note: maybe_text(row, 5)?,
                    })
                })
                .collect::<Result<_>>()?,
        });
    }
    Ok(followers)
}

async fn number(conn: &mut MySqlConnection, follower: &str) -> Result<Option<i64>> {
    let row = sqlx::query("select id from rowbound_follower where name = ?").bind(follower).fetch_optional(conn).await.map_err(fault)?;
    row.map(|row| int(&row, 0)).transpose()
}

/// See [`super::Database::take_turn`]. What is due is looked for without locks; whoever writes his lease first has it.
pub(super) async fn take_turn(db: &Mysql, turn: &Turn) -> Result<Vec<Pending>> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let Some(follower) = number(&mut conn, &turn.follower).await? else { return Ok(Vec::new()) };
    let rows = sqlx::query(include_str!("deliver_due.sql")).bind(follower).bind(turn.limit).fetch_all(&mut *conn).await.map_err(fault)?;
    let due = rows.iter().map(|row| int(row, 0)).collect::<Result<Vec<_>>>()?;
    if due.is_empty() {
        return Ok(Vec::new());
    }
    let list = serde_json::json!(due).to_string();
    sqlx::query(include_str!("deliver_lease.sql"))
        .bind(&list)
        .bind(follower)
        .bind(interval(turn.lease))
        .bind(&turn.owner)
        .execute(&mut *conn)
        .await
        .map_err(fault)?;
    let due = due.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let sql = format!("select entry, attempts from rowbound_delivery where follower = ? and owner = ? and entry in ({due}) order by entry");
    let held =
        sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(follower).bind(&turn.owner).fetch_all(&mut *conn).await.map_err(fault)?;
    let sql = format!("select {} from rowbound_ledger where id in ({due})", entry_columns());
    let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await.map_err(fault)?;
    let mut entries: HashMap<i64, _> = rows.iter().map(|row| entry_row(row).map(|e| (e.id, e))).collect::<Result<_>>()?;
    held.iter()
        .map(|row| {
            let id = int(row, 0)?;
            Ok(Pending { id, attempts: u32::try_from(int(row, 1)?).unwrap_or(0), entry: entries.remove(&id) })
        })
        .collect()
}

/// See [`super::Database::prolong`].
pub(super) async fn prolong(db: &Mysql, turn: &Turn, entries: &[i64]) -> Result<()> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let Some(follower) = number(&mut conn, &turn.follower).await? else { return Ok(()) };
    sqlx::query(include_str!("deliver_prolong.sql"))
        .bind(serde_json::json!(entries).to_string())
        .bind(follower)
        .bind(interval(turn.lease))
        .bind(&turn.owner)
        .execute(&mut *conn)
        .await
        .map_err(fault)?;
    Ok(())
}

/// See [`super::Database::acknowledge`].
pub(super) async fn acknowledge(db: &Mysql, receipt: &Receipt) -> Result<u64> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    let Some(follower) = number(&mut tx, &receipt.follower).await? else { return Ok(0) };
    let mut gone = 0;
    if !receipt.delivered.is_empty() {
        gone = sqlx::query(include_str!("deliver_gone.sql"))
            .bind(serde_json::json!(receipt.delivered).to_string())
            .bind(follower)
            .bind(&receipt.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?
            .rows_affected();
    }
    if !receipt.again.is_empty() {
        let again = receipt.again.iter().map(|a| {
            let error = a.error.as_deref().map(|e| hex(cut(e).as_bytes()));
            serde_json::json!({ "entry": a.id, "wait": interval(a.wait), "failed": i32::from(error.is_some()), "error": error.unwrap_or_default() })
        });
        sqlx::query(include_str!("deliver_again.sql"))
            .bind(serde_json::Value::Array(again.collect()).to_string())
            .bind(follower)
            .bind(&receipt.owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
    }
    tx.commit().await.map_err(fault)?;
    Ok(gone)
}

/// See [`super::Database::hasten`].
pub(super) async fn hasten(db: &Mysql, follower: &str) -> Result<u64> {
    let mut conn = db.pool().acquire().await.map_err(fault)?;
    let Some(follower) = number(&mut conn, follower).await? else { return Ok(0) };
    let done = sqlx::query(
        "update rowbound_delivery set due_at = utc_timestamp(6) where follower = ? and owner is null and due_at > utc_timestamp(6)",
    )
    .bind(follower)
    .execute(&mut *conn)
    .await
    .map_err(fault)?;
    Ok(done.rows_affected())
}

//! The ledger, who keeps a storage's trash, and what is known of it.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, MySqlConnection};

use super::{
    Mysql, deliver, fault, int, interval, marks, micros, moment,
    rows::{cut, entry_columns, entry_row, outcome, size},
    text,
    values::{blob, chars, insert, lists, or_null},
};
use crate::{
    database::{Forgotten, Ledger, Schema, Shadowed, read_upkeep, write_upkeep},
    error::{Error, Kind, Result},
    ledger::{Entry, Filter, NewEntry, Timeline, Total, Upkeep},
    name::FileName,
    queue::{CAME_BACK, Outcome},
};

#[async_trait]
impl Ledger for Mysql {
    async fn enter(&self, entries: &[NewEntry]) -> Result<()> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        enter_in(&mut tx, entries).await?;
        tx.commit().await.map_err(fault)
    }

    async fn history(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let mut sql = format!("select {} from rowbound_ledger where true", entry_columns());
        if filter.storage.is_some() {
            sql.push_str(" and storage = ?");
        }
        if filter.name.is_some() {
            sql.push_str(" and name = ?");
        }
        if !filter.outcomes.is_empty() {
            sql.push_str(&format!(" and outcome in ({})", marks(filter.outcomes.len())));
        }
        if filter.since.is_some() {
            sql.push_str(" and at >= '1970-01-01' + interval ? microsecond");
        }
        if filter.before.is_some() {
            sql.push_str(" and id < ?");
        }
        sql.push_str(" order by id desc");
        if let Some(limit) = filter.limit {
            sql.push_str(&format!(" limit {limit}"));
        }
        let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        if let Some(storage) = &filter.storage {
            query = query.bind(storage);
        }
        if let Some(name) = &filter.name {
            query = query.bind(name.as_bytes());
        }
        for outcome in &filter.outcomes {
            query = query.bind(outcome.word());
        }
        if let Some(since) = filter.since {
            query = query.bind(since.as_microsecond());
        }
        if let Some(before) = filter.before {
            query = query.bind(before);
        }
        let rows = query.fetch_all(self.pool()).await.map_err(fault)?;
        rows.iter().map(entry_row).collect()
    }

    async fn totals(&self, since: Option<Timestamp>) -> Result<Vec<Total>> {
        let sql = format!(
            "select storage, outcome, count(*), cast(coalesce(sum(size), 0) as unsigned) from rowbound_ledger {} \
             group by storage, outcome order by storage, outcome",
            if since.is_some() { "where at >= '1970-01-01' + interval ? microsecond" } else { "" }
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if let Some(since) = since {
            query = query.bind(since.as_microsecond());
        }
        let rows = query.fetch_all(self.pool()).await.map_err(fault)?;
        rows.iter()
            .map(|row| {
                Ok(Total {
                    storage: text(row, 0)?,
                    outcome: outcome(&text(row, 1)?)?,
                    count: u64::try_from(int(row, 2)?).unwrap_or(0),
                    bytes: size(row, 3)?.unwrap_or(0),
                })
            })
            .collect()
    }

    async fn shadowed(&self, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
        let after = if since.is_some() { "and at >= '1970-01-01' + interval ? microsecond" } else { "" };
        let sql = format!(
            "select count(*), cast(coalesce(sum(l.size), 0) as unsigned), {} from rowbound_ledger l join \
             (select max(id) as latest, min(at) as first from rowbound_ledger where binding = ? and outcome = 'shadow' {after} \
              group by storage, name) files on files.latest = l.id",
            micros("min(files.first)")
        );
        let mut query = sqlx::query(AssertSqlSafe(sql)).bind(binding);
        if let Some(since) = since {
            query = query.bind(since.as_microsecond());
        }
        let row = query.fetch_one(self.pool()).await.map_err(fault)?;
        Ok(Shadowed { files: u64::try_from(int(&row, 0)?).unwrap_or(0), bytes: size(&row, 1)?.unwrap_or(0), oldest: moment(&row, 2)? })
    }

    async fn in_places(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
        let mut found = Vec::new();
        for list in lists(names.iter().map(|name| blob(name.as_str().as_bytes())), 900) {
            let sql = format!(
                "select id, place, outcome from rowbound_ledger where storage = ? and name in ({list}) \
                 and at >= '1970-01-01' + interval ? microsecond and place is not null and outcome <> 'duplicate'"
            );
            let ask = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(storage).bind(since.as_microsecond());
            for row in ask.fetch_all(self.pool()).await.map_err(fault)? {
                found.push((int(&row, 0)?, text(&row, 1)?, outcome(&text(&row, 2)?)?));
            }
        }
        found.sort_by_key(|(id, ..)| *id);
        Ok(found.into_iter().map(|(_, place, outcome)| (place, outcome)).collect())
    }

    async fn came_back(&self, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
        let mut found = Vec::new();
        for list in lists(names.iter().map(|name| blob(name.as_str().as_bytes())), 900) {
            let sql = format!(
                "select name, {} from rowbound_ledger where storage = ? and name in ({list}) \
                 and at >= '1970-01-01' + interval ? microsecond and (outcome = 'restored' or outcome = 'kept' and note = ?) group by name",
                micros("max(at)")
            );
            let ask = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(storage).bind(since.as_microsecond()).bind(CAME_BACK);
            for row in ask.fetch_all(self.pool()).await.map_err(fault)? {
                let at = moment(&row, 1)?.ok_or_else(|| Error::new(Kind::Database, "a ledger entry has no time"))?;
                found.push((text(&row, 0)?, at));
            }
        }
        Ok(found)
    }

    /// Nothing that happens between the two statements makes an entry needed again, and the second locks no gap.
    async fn forget_entries(&self, before: Timestamp, after: i64, limit: u32) -> Result<Forgotten> {
        let page = sqlx::query(include_str!("forget.sql"))
            .persistent(false)
            .bind(before.as_microsecond())
            .bind(before.as_microsecond())
            .bind(after)
            .bind(limit)
            .fetch_all(self.pool())
            .await
            .map_err(fault)?;
        let (mut gone, mut old, mut last) = (Vec::new(), false, None);
        for row in &page {
            let id = int(row, 0)?;
            old |= int(row, 1)? != 0;
            if int(row, 2)? != 0 {
                gone.push(id);
            }
            last = Some(id);
        }
        let mut removed = 0;
        if !gone.is_empty() {
            removed = sqlx::query(
                "delete l from json_table(?, '$[*]' columns (id bigint path '$')) j \
                 straight_join rowbound_ledger l force index (primary) on l.id = j.id",
            )
            .bind(serde_json::json!(gone).to_string())
            .execute(self.pool())
            .await
            .map_err(fault)?
            .rows_affected();
        }
        Ok(Forgotten { removed, next: last.filter(|_| old && page.len() == limit as usize) })
    }

    async fn keep(&self, storage: &str, owner: &str, lease: Duration) -> Result<Option<Upkeep>> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let done = match lease.is_zero() {
            true => {
                sqlx::query("update rowbound_upkeep set owner = null, `until` = utc_timestamp(6) where storage = ? and owner = ?")
                    .bind(storage)
                    .bind(owner)
                    .execute(&mut *tx)
                    .await
            }
            false => {
                sqlx::query(
                    "update rowbound_upkeep set owner = ?, `until` = utc_timestamp(6) + interval ? microsecond \
                     where storage = ? and (owner is null or owner = ? or `until` <= utc_timestamp(6))",
                )
                .bind(owner)
                .bind(interval(lease))
                .bind(storage)
                .bind(owner)
                .execute(&mut *tx)
                .await
            }
        };
        if done.map_err(fault)?.rows_affected() > 0 {
            let upkeep = read(&mut tx, storage).await?;
            tx.commit().await.map_err(fault)?;
            return Ok(upkeep);
        }
        tx.rollback().await.map_err(fault)?;
        if lease.is_zero() {
            return Ok(None);
        }
        // Another's, or nobody's yet. After the UPDATE and not before it: two that had found the row there would both hold a lock on it, and wait for
        // each other.
        let nothing = Upkeep::default();
        let made = sqlx::query(
            "insert ignore into rowbound_upkeep (storage, owner, `until`, record) values (?, ?, utc_timestamp(6) + interval ? microsecond, ?)",
        )
        .bind(storage)
        .bind(owner)
        .bind(interval(lease))
        .bind(write_upkeep(storage, &nothing)?)
        .execute(self.pool())
        .await
        .map_err(fault)?;
        Ok((made.rows_affected() > 0).then_some(nothing))
    }

    async fn kept(&self, storage: &str, owner: &str, upkeep: &Upkeep, entries: &[NewEntry]) -> Result<bool> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        // The row stays locked until the transaction's end: nobody else takes it before the entries are in.
        let done = sqlx::query("update rowbound_upkeep set record = ? where storage = ? and owner = ? and `until` > utc_timestamp(6)")
            .bind(write_upkeep(storage, upkeep)?)
            .bind(storage)
            .bind(owner)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        if done.rows_affected() == 0 {
            tx.rollback().await.map_err(fault)?;
            return Ok(false);
        }
        if !entries.is_empty() {
            enter_in(&mut tx, entries).await?;
        }
        tx.commit().await.map_err(fault)?;
        Ok(true)
    }

    async fn upkeep(&self, storage: &str) -> Result<Option<Upkeep>> {
        read(&mut *self.pool().acquire().await.map_err(fault)?, storage).await
    }

    /// Which server it is, and how long its redo log has become. A failover leads to another server; a server that was set back has a shorter log, which a process
    /// that was there before notices. `server_uuid` is MySQL's. MariaDB's `server_uid`, since 10.6.16, is made of a network card's address and the port, which
    /// containers may have in common; servers that copy from each other have different numbers.
    async fn timeline(&self) -> Result<Timeline> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let ask = "show global variables where variable_name in ('server_uuid', 'server_uid', 'server_id', 'hostname', 'port')";
        let rows = sqlx::raw_sql(ask).fetch_all(&mut *conn).await.map_err(fault)?;
        let told = rows.iter().map(|row| Ok((text(row, 0)?.to_lowercase(), text(row, 1)?))).collect::<Result<BTreeMap<_, _>>>()?;
        let names: &[&str] = match ["server_uuid", "server_uid"].iter().find(|name| told.get(**name).is_some_and(|id| !id.is_empty())) {
            Some(&"server_uuid") => &["server_uuid"],
            Some(_) => &["server_uid", "server_id"],
            None => &["server_id", "hostname", "port"],
        };
        let id = names.iter().map(|name| told.get(*name).map_or("", String::as_str)).collect::<Vec<_>>().join(" ");
        let ask = "show global status where variable_name in ('Innodb_lsn_current', 'Innodb_redo_log_current_lsn')";
        let rows = sqlx::raw_sql(ask).fetch_all(&mut *conn).await.map_err(fault)?;
        let position = rows.first().map(|row| text(row, 1)).transpose()?;
        drop(conn);
        let told = Timeline { id: format!("server {id}"), position: position.and_then(|lsn| lsn.parse().ok()).unwrap_or(0) };
        Ok(told.of(&self.identity().await?))
    }
}

/// Writes entries in the caller's transaction.
async fn enter_in(conn: &mut MySqlConnection, entries: &[NewEntry]) -> Result<()> {
    let mark = deliver::mark(conn).await?;
    let rows = entries.iter().map(|entry| {
        format!(
            "(utc_timestamp(6), {}, {}, {}, {}, {}, {}, {}, {})",
            chars(&entry.storage),
            blob(entry.name.as_bytes()),
            chars(entry.event),
            chars(entry.outcome.word()),
            or_null(entry.size.map(|size| size.to_string())),
            or_null(entry.place.as_deref().map(chars)),
            or_null(entry.note.as_deref().map(|note| chars(&cut(note)))),
            or_null(mark.as_deref().map(chars))
        )
    });
    let first = insert(conn, "rowbound_ledger (at, storage, name, event, outcome, size, place, note, owner)", rows).await?;
    if let Some(mark) = mark {
        deliver::tell(conn, &mark, first).await?;
    }
    Ok(())
}

/// What is known of a trash, as its row says it.
async fn read(conn: &mut MySqlConnection, storage: &str) -> Result<Option<Upkeep>> {
    let row =
        sqlx::query("select record from rowbound_upkeep where storage = ?").bind(storage).fetch_optional(conn).await.map_err(fault)?;
    row.map(|row| read_upkeep(storage, &text(&row, 0)?)).transpose()
}

//! References: found, never overlooked.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Row, SqliteConnection};

use super::{
    Sqlite, WriteLock,
    fault::failed,
    json,
    tables::table,
    triggers::{self, ident},
};
use crate::{
    capture::{Bound, Snapshot},
    database::{Checked, ColumnSearch, Found, Hold, Holder, drifted},
    error::{Error, Kind, Result},
};

pub(super) async fn check(db: &Sqlite, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<Checked> {
    // A first look without the lock: if nobody commits between it and the lock, it is the truth, and a long scan of a column
    // without an index has kept no writer waiting. Only when others commit all the time is the scan repeated under the lock.
    let mut connection = db.acquire().await?;
    let version = "PRAGMA data_version";
    for last in [false, false, true] {
        let before: i64 = sqlx::query_scalar(version).fetch_one(&mut *connection).await.map_err(failed("check"))?;
        let started = Instant::now();
        let mut found = find(&mut connection, searches).await?;
        let took = started.elapsed();
        let mut lock = WriteLock::take(connection).await?;
        let after: i64 = sqlx::query_scalar(version).fetch_one(lock.connection()).await.map_err(failed("check"))?;
        if before != after {
            if !last && took > Duration::from_millis(20) {
                connection = lock.end("ROLLBACK").await?;
                continue;
            }
            found = find(lock.connection(), searches).await?;
        }
        let now = db.snapshot_on(lock.connection(), bound).await?;
        if now != *snapshot {
            return Err(drifted(&snapshot.drift(&now)));
        }
        return Ok(Checked { found, hold: Some(Hold(Box::new(lock))) });
    }
    unreachable!("the last round returns")
}

pub(super) async fn holders(db: &Sqlite, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
    let mut connection = db.acquire().await?;
    let mut holders = Vec::new();
    for s in searches {
        let Some(table) = table(&mut connection, &s.column.table).await? else {
            return Err(Error::new(Kind::Schema, "the bound table does not exist").with("binding", &s.column));
        };
        let f = ident(&s.column.column);
        let sql = format!(
            "SELECT {}, CAST(t.{f} AS BLOB) FROM {} AS t WHERE t.{f} COLLATE BINARY IN \
             (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1)) \
             OR EXISTS (SELECT 1 FROM json_each(?2) AS p WHERE substr(CAST(t.{f} AS TEXT), 1, length(p.value)) = p.value \
             AND (instr(t.{f}, '%') OR instr(t.{f}, '?') OR instr(t.{f}, '#'))) LIMIT ?3",
            triggers::key(&table, "t."),
            ident(&table.name),
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(json(&s.search.values)?)
            .bind(json(&s.search.odd_under)?)
            .bind(limit)
            .fetch_all(&mut *connection)
            .await
            .map_err(|e| failed("explain")(e).with("binding", &s.column))?;
        holders.extend(rows.into_iter().map(|r| Holder {
            binding: s.binding,
            key: r.get(0),
            value: String::from_utf8_lossy(&r.get::<Vec<u8>, _>(1)).into_owned(),
        }));
    }
    Ok(holders)
}

async fn find(connection: &mut SqliteConnection, searches: &[ColumnSearch]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for s in searches {
        let (t, f) = (ident(&s.column.table), ident(&s.column.column));
        let place = |e: sqlx::Error| failed("check")(e).with("binding", &s.column);
        if !s.search.values.is_empty() {
            // Qualified, because SQLite silently reads an unqualified "missing_column" as a string. As text and as blob, because
            // the two are never equal. BINARY, so that the answer does not depend on a collation only the application has.
            let sql = format!(
                "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE t.{f} COLLATE BINARY IN \
                 (SELECT value FROM json_each(?1) UNION ALL SELECT CAST(value AS BLOB) FROM json_each(?1))"
            );
            let values = json(&s.search.values)?;
            let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(values).fetch(&mut *connection);
            while let Some(value) = rows.try_next().await.map_err(place)? {
                found.push(Found { binding: s.binding, value });
            }
        }
        for prefix in &s.search.odd_under {
            let sql = format!(
                "SELECT CAST(t.{f} AS BLOB) FROM {t} AS t WHERE substr(CAST(t.{f} AS TEXT), 1, length(?1)) = ?1 \
                 AND (instr(t.{f}, '%') OR instr(t.{f}, '?') OR instr(t.{f}, '#'))"
            );
            let mut rows = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(prefix).fetch(&mut *connection);
            while let Some(value) = rows.try_next().await.map_err(place)? {
                found.push(Found { binding: s.binding, value });
            }
        }
    }
    Ok(found)
}

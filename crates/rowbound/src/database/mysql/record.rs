//! The ledger: entries that no candidate stands behind, and what `history` and `status` read.

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, MySqlConnection, Row};

use super::{
    Mysql, deliver, fault, int, marks, maybe_text, micros, moment,
    queue::{binding, cut},
    text,
    values::{blob, chars, insert, lists, or_null},
};
use crate::{
    database::Shadowed,
    error::{Error, Kind, Result},
    ledger::{Entry, Filter, NewEntry, Total},
    name::FileName,
    queue::{CAME_BACK, Outcome},
};

/// See [`super::Database::enter`].
pub(super) async fn enter(db: &Mysql, entries: &[NewEntry]) -> Result<()> {
    let mut tx = db.pool().begin().await.map_err(fault)?;
    enter_in(&mut tx, entries).await?;
    tx.commit().await.map_err(fault)
}

/// The same in the caller's transaction.
pub(super) async fn enter_in(conn: &mut MySqlConnection, entries: &[NewEntry]) -> Result<()> {
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

pub(super) fn outcome(word: &str) -> Result<Outcome> {
    Outcome::from_word(word).ok_or_else(|| {
        Error::new(Kind::Database, "the ledger holds an outcome that this version does not know")
            .with("outcome", word)
            .hint("upgrade this program")
    })
}

fn size(row: &sqlx::mysql::MySqlRow, column: usize) -> Result<Option<u64>> {
    row.try_get_unchecked::<Option<u64>, _>(column).map_err(fault)
}

/// See [`super::Database::history`].
pub(super) async fn history(db: &Mysql, filter: &Filter) -> Result<Vec<Entry>> {
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
    let rows = query.fetch_all(db.pool()).await.map_err(fault)?;
    rows.iter().map(entry_row).collect()
}

/// The columns that [`entry_row`] reads.
pub(super) fn entry_columns() -> String {
    format!("id, {}, storage, binding, name, `key`, event, {}, outcome, size, place, note", micros("at"), micros("released_at"))
}

pub(super) fn entry_row(row: &sqlx::mysql::MySqlRow) -> Result<Entry> {
    Ok(Entry {
        id: int(row, 0)?,
        at: moment(row, 1)?.ok_or_else(|| Error::new(Kind::Database, "a ledger entry has no time"))?,
        storage: text(row, 2)?,
        binding: binding(row, 3)?,
        name: text(row, 4)?,
        key: maybe_text(row, 5)?,
        event: text(row, 6)?,
        released_at: moment(row, 7)?,
        outcome: outcome(&text(row, 8)?)?,
        size: size(row, 9)?,
        place: maybe_text(row, 10)?,
        note: maybe_text(row, 11)?,
    })
}

/// See [`super::Database::in_places`].
pub(super) async fn in_places(db: &Mysql, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Outcome)>> {
    let mut found = Vec::new();
    for list in lists(names.iter().map(|name| blob(name.as_str().as_bytes())), 900) {
        let sql = format!(
            "select id, place, outcome from rowbound_ledger where storage = ? and name in ({list}) \
             and at >= '1970-01-01' + interval ? microsecond and place is not null and outcome <> 'duplicate'"
        );
        let ask = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(storage).bind(since.as_microsecond());
        for row in ask.fetch_all(db.pool()).await.map_err(fault)? {
            found.push((int(&row, 0)?, text(&row, 1)?, outcome(&text(&row, 2)?)?));
        }
    }
    found.sort_by_key(|(id, ..)| *id);
    Ok(found.into_iter().map(|(_, place, outcome)| (place, outcome)).collect())
}

/// See [`super::Database::came_back`].
pub(super) async fn came_back(db: &Mysql, storage: &str, names: &[FileName], since: Timestamp) -> Result<Vec<(String, Timestamp)>> {
    let mut found = Vec::new();
    for list in lists(names.iter().map(|name| blob(name.as_str().as_bytes())), 900) {
        let sql = format!(
            "select name, {} from rowbound_ledger where storage = ? and name in ({list}) \
             and at >= '1970-01-01' + interval ? microsecond and (outcome = 'restored' or outcome = 'kept' and note = ?) group by name",
            micros("max(at)")
        );
        let ask = sqlx::query(AssertSqlSafe(sql)).persistent(false).bind(storage).bind(since.as_microsecond()).bind(CAME_BACK);
        for row in ask.fetch_all(db.pool()).await.map_err(fault)? {
            let at = moment(&row, 1)?.ok_or_else(|| Error::new(Kind::Database, "a ledger entry has no time"))?;
            found.push((text(&row, 0)?, at));
        }
    }
    Ok(found)
}

/// See [`super::Database::totals`].
pub(super) async fn totals(db: &Mysql, since: Option<Timestamp>) -> Result<Vec<Total>> {
    let sql = format!(
        "select storage, outcome, count(*), cast(coalesce(sum(size), 0) as unsigned) from rowbound_ledger {} \
         group by storage, outcome order by storage, outcome",
        if since.is_some() { "where at >= '1970-01-01' + interval ? microsecond" } else { "" }
    );
    let mut query = sqlx::query(AssertSqlSafe(sql));
    if let Some(since) = since {
        query = query.bind(since.as_microsecond());
    }
    let rows = query.fetch_all(db.pool()).await.map_err(fault)?;
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

/// See [`super::Database::shadowed`].
pub(super) async fn shadowed(db: &Mysql, binding: i32, since: Option<Timestamp>) -> Result<Shadowed> {
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
    let row = query.fetch_one(db.pool()).await.map_err(fault)?;
    Ok(Shadowed { files: u64::try_from(int(&row, 0)?).unwrap_or(0), bytes: size(&row, 1)?.unwrap_or(0), oldest: moment(&row, 2)? })
}

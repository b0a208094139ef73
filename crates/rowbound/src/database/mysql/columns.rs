//! References: which rows reference a file, and who holds them.
//!
//! In: searches. Out: values and rows. The names stand on the column's side of one `IN` per column, so that an index serves where there is one and a
//! single scan does where there is none. Nothing is compared here for good: collations find too much, and the caller compares bytes.

use std::collections::HashSet;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, Row};

use super::{
    Mysql,
    catalog::{Catalog, Class},
    fault,
    grants::Grants,
    maybe_text, quote,
    rows::QUERIED,
    scan, snapshot, survey, text,
    triggers::{key, only, value},
    values::{blob, chars},
    whole,
};
use crate::{
    binding::{self, Column, Held, NonPlain, ODD, Search},
    capture::{Bound, Snapshot},
    database::{
        CheckResult, ColumnScan, ColumnSearch, Columns, FoundValue, Holder, Values, as_table, drifted, is_uuid, no_key,
        survey::{Sample, TextColumn},
    },
    error::{Error, Kind, Result},
    name::FileName,
};

/// How a statement of a check begins: see `watch`.
const CHECKS: &str = "/* rowbound check */";

#[async_trait]
impl Columns for Mysql {
    /// One read view for all columns: under READ COMMITTED, a row that moves a name from a column not yet read to one
    /// already read would be missed in both. The searches come first and take metadata locks, which keep every DDL on their tables out until the end; so
    /// the snapshot that follows is that of the tables that were searched.
    async fn check(&self, bound: &[Bound], snapshot: &Snapshot, searches: &[ColumnSearch]) -> Result<CheckResult> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        sqlx::raw_sql("set transaction isolation level repeatable read").execute(&mut *conn).await.map_err(fault)?;
        // Read only, and marked as ours: no barrier of another worker waits for it.
        let mut tx = conn.begin_with("start transaction with consistent snapshot, read only").await.map_err(fault)?;
        let mut found = Vec::new();
        let mut failed = None;
        for search in searches {
            if let Err(e) = look(self, &mut tx, snapshot, search, &mut found).await {
                failed = Some(e.with("binding", &search.column));
                break;
            }
        }
        if failed.as_ref().is_some_and(|e| e.kind() == Kind::DatabaseUnreachable) {
            return Err(failed.expect("it was just seen"));
        }
        let now = snapshot::read(&mut tx, self, bound).await?;
        tx.rollback().await.map_err(fault)?;
        let drift = snapshot.drift(&now);
        if !drift.is_empty() {
            return Err(drifted(&drift));
        }
        failed.map_or(Ok(CheckResult { found, lock: None }), Err)
    }

    async fn holders(&self, searches: &[ColumnSearch], limit: u32) -> Result<Vec<Holder>> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let mut out = Vec::new();
        for search in searches {
            let mut some = Vec::new();
            let take = |name: &FileName, key, how| {
                some.push(Holder { binding: search.binding, key, value: name.to_string(), mentioned: how == Held::Mentioned });
                some.len() < limit as usize
            };
            if let (Some(query), Some(scan)) = (&search.query, &search.search.scan) {
                read_all(&mut conn, format!("{} select {QUERIED}, null from q where n is not null", as_table(query)), scan, take).await?;
                out.append(&mut some);
                continue;
            }
            // As a binding, so that the catalog is read for its table.
            let mut binding = crate::binding::Binding::name("t.c", "")?;
            binding.column = search.column.clone();
            let catalog = Catalog::load(&mut conn, &self.database, &[Bound { id: search.binding, binding }], &self.known).await?;
            let in_context = |e: Error| e.with("column", &search.column);
            let (name, table) = catalog.table_of(&search.column).ok_or_else(|| {
                in_context(Error::new(Kind::Schema, "a bound table does not exist").hint("`rowbound status` says what is not as attached"))
            })?;
            let column = table.column(&search.column.column).ok_or_else(|| {
                in_context(Error::new(Kind::Schema, "a bound column does not exist").hint("`rowbound status` says what is not as attached"))
            })?;
            let key = key("t", table).unwrap_or_else(|| "null".to_owned());
            if let Some(scan) = &search.search.scan {
                let value = value("t", &column.name, &column.class);
                let (table, f) = (format!("{}.{}", quote(&name.schema), quote(&name.table)), quote(&column.name));
                let only = only("t", &search.search.only);
                let sql = format!("select cast({value} as binary), {key} from {table} t where t.{f} is not null{only}");
                read_all(&mut conn, sql, scan, take).await.map_err(in_context)?;
                out.append(&mut some);
                continue;
            }
            let mut left = limit as usize;
            for condition in conditions(&search.search, &column.name, &column.class, self.flavor.in_list()) {
                let sql = format!(
                    "select {key}, cast({} as binary) from {}.{} t where {condition} limit {left}",
                    value("t", &column.name, &column.class),
                    quote(&name.schema),
                    quote(&name.table)
                );
                let rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_all(&mut *conn).await.map_err(fault).map_err(in_context)?;
                for row in &rows {
                    out.push(Holder { binding: search.binding, key: maybe_text(row, 0)?, value: text(row, 1)?, mentioned: false });
                }
                left -= rows.len().min(left);
                if left == 0 {
                    break;
                }
            }
            let Some(odd) = search.search.non_plain.as_ref().filter(|_| left > 0) else { continue };
            let known: HashSet<(Option<String>, String)> =
                out.iter().filter(|h| h.binding == search.binding).map(|h| (h.key.clone(), h.value.clone())).collect();
            let sql = format!(
                "select {key}, cast({} as binary) from {}.{} t where {}",
                value("t", &column.name, &column.class),
                quote(&name.schema),
                quote(&name.table),
                is_odd(&search.search, odd, &column.name, &column.class)
            );
            let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut *conn);
            while left > 0
                && let Some(row) = rows.try_next().await.map_err(fault).map_err(in_context)?
            {
                let wanted = super::bytes(&row, 1)?.is_some_and(|value| odd.wants(&value));
                let one = (maybe_text(&row, 0)?, text(&row, 1)?);
                if wanted && !known.contains(&one) {
                    out.push(Holder { binding: search.binding, key: one.0, value: one.1, mentioned: false });
                    left -= 1;
                }
            }
        }
        Ok(out)
    }

    async fn scan(&self, scan: &ColumnScan) -> Result<Values> {
        scan::scan(self, scan).await
    }

    async fn text_columns(&self) -> Result<Vec<TextColumn>> {
        survey::text_columns(self).await
    }

    /// The right without which `information_schema` leaves tables out: it shows only those on which the account has some right.
    async fn hides_tables(&self) -> Result<Option<String>> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let grants = Grants::own(&mut conn).await?;
        Ok((!grants.on("SELECT", &self.database, "")).then(|| format!("SELECT ON {}.*", quote(&self.database))))
    }

    async fn sample(&self, column: &TextColumn, limit: usize) -> Result<Sample> {
        survey::sample(self, column, limit).await
    }

    async fn values(&self, column: &TextColumn) -> Result<Values> {
        whole::values(self, column).await
    }

    async fn beside(&self, column: &TextColumn, other: &Column, values: &[String], limit: usize) -> Result<Vec<String>> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        let list = values.iter().map(|v| blob(v.as_bytes())).collect::<Vec<_>>().join(", ");
        let (f, o) = (quote(&column.column.column), quote(&other.column));
        let value = if whole::is_bytes(column) { "f".to_owned() } else { "cast(convert(f using utf8mb4) as binary)".to_owned() };
        let sql = format!(
            "distinct cast(o as char) from (select t.{o} as o, t.{f} as f from {}.{} t limit 100000) s where {value} in ({list}) and o is not null limit {limit}",
            quote(&column.schema),
            quote(&column.column.table)
        );
        let rows = survey::bounded(self, &mut conn, &sql).await.map_err(|e| fault(e).with("column", &column.column))?;
        rows.iter().map(|row| text(row, 0)).collect()
    }

    async fn has_row(&self, column: &Column, key: &str) -> Result<bool> {
        let error = |e| fault(e).with("column", column).with("key", key);
        let mut connection = self.pool().acquire().await.map_err(error)?;
        let (table, find) = by_key(&mut connection, column, key).await?;
        let there = sqlx::query(AssertSqlSafe(format!("select 1 from {table} where {find}")));
        Ok(there.bind(key).bind(key).fetch_optional(&mut *connection).await.map_err(error)?.is_some())
    }

    async fn assign(&self, column: &Column, key: &str, name: &FileName) -> Result<bool> {
        let error = |e| fault(e).with("column", column).with("key", key);
        let mut tx = self.pool().begin().await.map_err(error)?;
        let (table, find) = by_key(&mut tx, column, key).await?;
        let there = sqlx::query(AssertSqlSafe(format!("select 1 from {table} where {find} for update")));
        let there = there.bind(key).bind(key).fetch_optional(&mut *tx).await.map_err(error)?.is_some();
        let set = sqlx::query(AssertSqlSafe(format!("update {table} set {} = ? where {find}", quote(&column.column))));
        set.bind(name.as_str()).bind(key).bind(key).execute(&mut *tx).await.map_err(error)?;
        tx.commit().await.map_err(error)?;
        // Not what the update says: it counts only rows that have another value now.
        Ok(there)
    }
}

/// A name as a literal that compares with the column: in the column's own character set, because a name with characters that it cannot hold
/// would be an error (1267, "illegal mix of collations"). Those become `?`, which finds too much at worst.
///
/// A literal and not a parameter: see `values`.
fn literal(class: &Class, name: &str) -> String {
    match class {
        Class::Text { charset, .. } if charset == "utf8mb4" => chars(name),
        Class::Uuid => chars(name),
        Class::Text { charset, collation } => format!("convert({} using {charset}) collate {collation}", chars(name)),
        _ => blob(name.as_bytes()),
    }
}

/// Conditions for one column, each of at most `at_once` values.
fn conditions(search: &Search, column: &str, class: &Class, at_once: usize) -> Vec<String> {
    let column = format!("t.{}", quote(column));
    let only = only("t", &search.only);
    let mut out = Vec::new();
    // What is no UUID is none of such a column.
    let fits = |v: &&String| *class != Class::Uuid || is_uuid(v);
    let values: Vec<&String> = search.values.iter().filter(fits).collect();
    for values in values.chunks(at_once) {
        let values: Vec<_> = values.iter().map(|v| literal(class, v)).collect();
        out.push(format!("{column} in ({}){only}", values.join(", ")));
    }
    out
}

/// The condition that a value is not plain. Asked of its bytes, each as a character, so that no collation and no broken text is in the way.
fn is_odd(search: &Search, odd: &NonPlain, column: &str, class: &Class) -> String {
    let bytes = format!("cast({} as binary)", value("t", column, class));
    let rest = |bytes: &str| format!("convert({bytes} using latin1) regexp {}", chars(ODD));
    let mut cases = String::new();
    for prefix in odd.prefixes() {
        let (p, length) = (blob(prefix.as_bytes()), prefix.len());
        let behind = rest(&format!("substr({bytes}, {})", length + 1));
        cases.push_str(&format!(" when left({bytes}, {length}) = {p} then {behind}"));
    }
    let other = if odd.bare() { rest(&bytes) } else { "1".to_owned() };
    let odd = if cases.is_empty() { other } else { format!("case{cases} else {other} end") };
    format!("length(t.{}) > 0 and {odd}{}", quote(column), only("t", &search.only))
}

fn table_of(db: &Mysql, search: &ColumnSearch) -> String {
    format!("{}.{}", quote(search.column.schema.as_deref().unwrap_or(&db.database)), quote(&search.column.table))
}

/// Reads every value of what is searched, one after another, and hands over each name that it holds with the row's key, until `take` says no.
async fn read_all(
    conn: &mut MySqlConnection,
    sql: String,
    scan: &binding::Scan,
    mut take: impl FnMut(&FileName, Option<String>, Held) -> bool + Send,
) -> Result<()> {
    let mut rows = sqlx::raw_sql(AssertSqlSafe(format!("{CHECKS} {sql}"))).fetch(conn);
    let mut go_on = true;
    while let Some(row) = rows.try_next().await.map_err(fault)? {
        let value = super::handed_over(&row, 0)?;
        let key = maybe_text(&row, 1)?;
        let mut seen = HashSet::new();
        scan.held(&value, |name, how| {
            if go_on && seen.insert(name.clone()) {
                go_on = take(name, key.clone(), how);
            }
        });
        if !go_on {
            break;
        }
    }
    Ok(())
}

async fn look(
    db: &Mysql,
    conn: &mut MySqlConnection,
    expected: &Snapshot,
    search: &ColumnSearch,
    found: &mut Vec<FoundValue>,
) -> Result<()> {
    let mut names = HashSet::new();
    let take = |name: &FileName, _, _| {
        names.insert(name.clone());
        true
    };
    if let (Some(query), Some(scan)) = (&search.query, &search.search.scan) {
        read_all(conn, format!("{} select {QUERIED}, null from q where n is not null", as_table(query)), scan, take).await?;
        found.extend(names.into_iter().map(|n| FoundValue { binding: search.binding, value: n.as_str().into() }));
        return Ok(());
    }
    let class = snapshot::class(expected, &search.column)
        // A JSON document is never equal to a name: it is read whole, or not at all.
        .filter(|c| !matches!(c, Class::Other(_)) && (*c != Class::Json || search.search.scan.is_some()))
        .ok_or_else(|| Error::new(Kind::Schema, "a bound column is not among those that were attached").hint("run `rowbound attach`"))?;
    // Distinct as bytes: a name that a million rows share comes once, and none that a collation takes for it is lost.
    let value = format!("cast({} as binary)", value("t", &search.column.column, &class));
    if let Some(scan) = search.search.scan.as_ref().filter(|s| !s.is_empty()) {
        let (f, only) = (quote(&search.column.column), only("t", &search.search.only));
        let sql = format!("select {value}, null from {} t where t.{f} is not null{only}", table_of(db, search));
        read_all(conn, sql, scan, take).await?;
        found.extend(names.into_iter().map(|n| FoundValue { binding: search.binding, value: n.as_str().into() }));
        return Ok(());
    }
    let mut seen = HashSet::new();
    for condition in conditions(&search.search, &search.column.column, &class, db.flavor.in_list()) {
        let sql = format!("{CHECKS} select distinct {value} from {} t where {condition}", table_of(db, search));
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(&mut *conn);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            if let Some(bytes) = super::bytes(&row, 0)?
                && seen.insert(bytes.clone())
            {
                found.push(FoundValue { binding: search.binding, value: bytes });
            }
        }
    }
    if let Some(odd) = &search.search.non_plain {
        let condition = is_odd(&search.search, odd, &search.column.column, &class);
        let sql = format!("{CHECKS} select {value} from {} t where {condition}", table_of(db, search));
        let mut rows = sqlx::raw_sql(AssertSqlSafe(sql)).fetch(conn);
        while let Some(row) = rows.try_next().await.map_err(fault)? {
            if let Some(bytes) = super::bytes(&row, 0)?
                && !seen.contains(&bytes)
                && odd.wants(&bytes)
            {
                seen.insert(bytes.clone());
                found.push(FoundValue { binding: search.binding, value: bytes });
            }
        }
    }
    Ok(())
}

/// The column's table, and the condition that its key is `?`, twice: as a number `1x` would be 1.
async fn by_key(connection: &mut MySqlConnection, column: &Column, key: &str) -> Result<(String, String)> {
    let error = |e| fault(e).with("column", column).with("key", key);
    let keys = sqlx::query(
        "select cast(column_name as binary) from information_schema.key_column_usage \
         where table_schema = coalesce(?, database()) and table_name = ? and constraint_name = 'PRIMARY' order by ordinal_position",
    )
    .bind(&column.schema)
    .bind(&column.table)
    .fetch_all(connection)
    .await
    .map_err(error)?;
    let keys: Vec<Vec<u8>> = keys.iter().map(|row| row.try_get_unchecked(0)).collect::<sqlx::Result<_>>().map_err(error)?;
    let [one] = keys.as_slice() else { return Err(no_key(column)) };
    let table: Vec<_> = column.schema.iter().chain([&column.table]).map(|part| quote(part)).collect();
    let key = quote(&String::from_utf8_lossy(one));
    Ok((table.join("."), format!("{key} = ? and cast({key} as char) = ?")))
}

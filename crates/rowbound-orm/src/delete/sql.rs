//! The conditions of a delete, as SQL.
//!
//! In: columns and keys. Out: conditions and statements that SQLite, PostgreSQL, MySQL and MariaDB read. Promise: statements have few forms, and no more values than a
//! database takes; MySQL reads no table that it changes.

use sea_orm::{
    Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, Iterable, PrimaryKeyToColumn, QueryFilter, QuerySelect, QueryTrait, Select,
    Statement,
    sea_query::{DynIden, Expr, ExprTrait, Query, QueryBuilder, SelectStatement, SqliteQueryBuilder, TableRef, ValueTuple},
};

#[cfg(feature = "postgres")]
use sea_orm::{
    Value,
    sea_query::{ArrayType, extension::postgres::PgFunc},
};

use crate::{conn::Conn, relation::Edge};

/// Values of keys in one `IN`: SQLite takes 32,766 in a statement, twice as many as these, which [`in_keys`] may make of them; PostgreSQL and MySQL 65,535.
const VALUES: usize = 16_384;

pub(super) fn keys_of<E: EntityTrait>(select: Select<E>) -> Select<E> {
    select.select_only().columns(E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column))
}

/// `delete from a where X` for `select a.id from a where X`, which goes through the table once where `delete from a where id in (select ..)` goes through it twice. SeaORM does
/// not give the condition out, so it is read off the SQL; what has any other shape (a join, an order, a limit, ..) is `None`.
pub(super) fn by_own_condition<E: EntityTrait>(keys: &Select<E>, table: &TableRef, backend: DbBackend) -> Option<Statement> {
    // Nothing may follow the condition: what is added to it is then the end of the SQL.
    const END: &str = "rowbound_end_of_condition";
    let ended = keys.clone().filter(Expr::custom_keyword(END)).build(backend).sql;
    if ![" AND ", " WHERE "].iter().any(|before| ended.strip_suffix(END).is_some_and(|sql| sql.ends_with(before))) {
        return None;
    }
    let mut statement = keys.build(backend);
    let condition = statement.sql.strip_prefix(&keys_of(E::find()).build(backend).sql)?;
    // MySQL does not read the table that it deletes from; a subquery might.
    let reads = backend == DbBackend::MySql && condition.to_ascii_lowercase().contains("select");
    if reads || !(condition.is_empty() || condition.starts_with(" WHERE ")) {
        return None;
    }
    statement.sql = backend.build(Query::delete().from_table(table.clone())).sql + condition;
    Some(statement)
}

impl Edge {
    /// The rows that refer to these.
    pub(super) fn referring(&self, parent: &TableRef, key: &[DynIden], keys: &[ValueTuple], backend: DbBackend) -> Condition {
        if self.to == key {
            return in_keys(&self.from, keys, backend);
        }
        let mut referred = Query::select();
        referred.columns(self.to.iter().cloned()).from(parent.clone()).cond_where(in_keys(key, keys, backend));
        in_subquery(&self.from, referred)
    }
}

pub(super) async fn delete_rows(db: &Conn<'_>, table: &TableRef, which: Condition) -> Result<u64, DbErr> {
    let mut delete = Query::delete();
    delete.from_table(table.clone()).cond_where(which);
    Ok(db.execute(&delete).await?.rows_affected())
}

/// How many of these keys go into one `IN`.
pub(super) fn most(keys: &[ValueTuple]) -> usize {
    VALUES / keys.first().map_or(1, ValueTuple::arity).max(1)
}

/// `(a, b) in ((1, 2), ..)`. Connections keep the statements that they have prepared, by their text: the last key is said again until there are 1, 2, 4, 8, .. of them, so that a
/// statement has a dozen forms, and not one for each number of keys. PostgreSQL reads an array sooner than as many parameters.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
pub(super) fn in_keys(columns: &[DynIden], keys: &[ValueTuple], backend: DbBackend) -> Condition {
    #[cfg(feature = "postgres")]
    if let [column] = columns
        && backend == DbBackend::Postgres
        && let Some(array) = array(keys)
    {
        return Condition::all().add(Expr::col(column.clone()).eq(PgFunc::any(Expr::val(array))));
    }
    let padding = keys.last().into_iter().cycle().take(keys.len().next_power_of_two() - keys.len());
    let keys = keys.iter().chain(padding).cloned();
    match columns {
        [column] => Condition::all().add(Expr::col(column.clone()).is_in(keys.flat_map(ValueTuple::into_iter))),
        _ => Condition::all().add(tuple(columns).in_tuples(keys)),
    }
}

/// Numbers and texts as one value; other types, whose arrays PostgreSQL might not compare with the column, are `None`.
#[cfg(feature = "postgres")]
fn array(keys: &[ValueTuple]) -> Option<Value> {
    let values: Vec<Value> = keys.iter().cloned().flat_map(ValueTuple::into_iter).collect();
    let of = values.first()?.array_type();
    let same = matches!(of, ArrayType::SmallInt | ArrayType::Int | ArrayType::BigInt | ArrayType::String)
        && values.iter().all(|value| value.array_type() == of);
    same.then(|| Value::Array(of, Some(Box::new(values))))
}

pub(super) fn in_subquery(columns: &[DynIden], select: SelectStatement) -> Condition {
    Condition::all().add(match columns {
        [column] => Expr::col(column.clone()).in_subquery(select),
        _ => tuple(columns).in_subquery(select),
    })
}

/// The same where the query may read the table that is changed: MySQL wants a derived table then.
pub(super) fn in_query(columns: &[DynIden], select: SelectStatement, backend: DbBackend) -> Condition {
    if backend != DbBackend::MySql {
        return in_subquery(columns, select);
    }
    let mut derived = Query::select();
    derived.expr(Expr::custom_keyword("*")).from_subquery(select, "doomed");
    in_subquery(columns, derived)
}

fn tuple(columns: &[DynIden]) -> Expr {
    Expr::tuple(columns.iter().map(|column| Expr::col(column.clone())))
}

pub(super) fn names(columns: &[DynIden]) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A key as text: `17`, `(1, 'a')`.
pub(super) fn text(key: &ValueTuple) -> String {
    let values: Vec<String> = key.clone().into_iter().map(|value| SqliteQueryBuilder.value_to_string(&value)).collect();
    match &values[..] {
        [one] => one.clone(),
        more => format!("({})", more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ColumnTrait, EntityName, QueryOrder};

    use super::*;

    mod song {
        use sea_orm::entity::prelude::*;

        #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
        #[sea_orm(schema_name = "music", table_name = "song")]
        pub struct Model {
            #[sea_orm(primary_key)]
            pub id: i32,
            pub title: String,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }

    fn sql(select: Select<song::Entity>, backend: DbBackend) -> Option<(String, usize)> {
        let delete = by_own_condition::<song::Entity>(&keys_of(select), &song::Entity.table_ref(), backend)?;
        Some((delete.sql, delete.values.map_or(0, |values| values.0.len())))
    }

    /// What is the query's condition and nothing else becomes the delete's, with its values.
    #[test]
    fn a_condition_is_taken_where_the_query_is_no_more_than_it() {
        let (find, title) = (song::Entity::find, song::Column::Title);
        let taken = |select: Select<song::Entity>| sql(select, DbBackend::Postgres).expect("taken");
        assert_eq!(taken(find()), (r#"DELETE FROM "music"."song""#.to_owned(), 0));
        assert_eq!(
            taken(find().filter(title.eq("a").or(title.eq("b"))).filter(song::Column::Id.gt(3))),
            (r#"DELETE FROM "music"."song" WHERE ("song"."title" = $1 OR "song"."title" = $2) AND "song"."id" > $3"#.to_owned(), 3)
        );
        assert_eq!(
            taken(find().filter(Condition::any().add(title.eq("a")).add(title.eq("b")))),
            (r#"DELETE FROM "music"."song" WHERE "song"."title" = $1 OR "song"."title" = $2"#.to_owned(), 2)
        );
        let mut two_tables = find();
        QueryTrait::query(&mut two_tables).from("other");
        for other in [
            find().filter(title.eq("a")).limit(1),
            find().filter(title.eq("a")).order_by_asc(title),
            find().offset(1),
            find().group_by(title),
            find().distinct(),
            find().lock_exclusive(),
            two_tables,
        ] {
            assert_eq!(sql(other.clone(), DbBackend::Postgres), None, "{other:?}");
        }
        // A title that looks like the end of a query is a value, not SQL.
        let odd = find().filter(title.eq(" LIMIT 1"));
        for backend in [DbBackend::Sqlite, DbBackend::Postgres, DbBackend::MySql] {
            assert!(sql(odd.clone(), backend).is_some_and(|(sql, values)| !sql.contains("LIMIT") && values == 1));
        }
        let own = find().filter(song::Column::Id.in_subquery(keys_of(find()).into_query()));
        assert_eq!(sql(own.clone(), DbBackend::MySql), None);
        assert!(sql(own, DbBackend::Sqlite).is_some());
    }
}

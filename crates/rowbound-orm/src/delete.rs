//! A query's rows and all that goes with them, as Django's `QuerySet.delete()`.
//!
//! In: a select. Out: counts per table. Promise: one transaction; rows that are protected stay, and with them all others; every row sends its signals once, what refers to it
//! goes before it; what is held in memory are keys, and one page of rows.
//!
//! The order within a page of the query's rows: the keys of all that goes are gathered, without a signal; `PreDelete` for every row, those of the query first, while all are
//! there; rows that nobody listens to and nothing refers to are deleted by their reference; references are set to NULL or the default; then the other rows are deleted, what
//! refers before what is referred to, each page followed by its `PostDelete`.

use std::{any::TypeId, collections::BTreeMap, future::Future};

use futures_util::TryStreamExt;
use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, Iterable, ModelTrait, PrimaryKeyToColumn, PrimaryKeyTrait, QueryFilter, QueryTrait, Select,
    SqliteTransactionMode, StreamTrait, TransactionOptions, TransactionSession, TransactionTrait, sea_query::IntoValueTuple,
};

mod sql; // columns and keys -> conditions
mod graph; // what goes with one page of rows, and in which order

use self::{
    graph::Doom,
    sql::{by_own_condition, delete_rows, in_query, keys_of},
};
use crate::{conn::Conn, entity::Tracked, error::Result, field::table_name, relation::GRAPH};

/// The query's rows are taken in pages of so many, so that what goes with them is held for one page at a time.
const PAGE: usize = 16_384;

/// How many rows were deleted, by table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deleted {
    tables: BTreeMap<String, u64>,
}

impl Deleted {
    /// Rows of all tables.
    pub fn total(&self) -> u64 {
        self.tables.values().sum()
    }

    /// Rows of one entity's table.
    pub fn of<E: EntityTrait>(&self) -> u64 {
        self.tables.get(&table_name::<E>()).copied().unwrap_or_default()
    }

    /// Each table of which rows were deleted, and how many.
    pub fn tables(&self) -> impl Iterator<Item = (&str, u64)> {
        self.tables.iter().map(|(table, count)| (table.as_str(), *count))
    }

    fn add(&mut self, table: &str, count: u64) {
        if count > 0 {
            *self.tables.entry(table.to_owned()).or_default() += count;
        }
    }
}

/// Deletes what a query finds: `post::Entity::find().filter(..).delete(&db)`.
pub trait QueryDelete: Sized {
    /// Deletes the rows, and what goes with them by the relations' `on_delete`, in one transaction (within a transaction: a savepoint). Each row sends
    /// `PreDelete` and `PostDelete`. Where nobody listens and nothing goes with them it is one statement.
    ///
    /// # Errors
    /// [`Error::Protected`](crate::Error::Protected), [`Error::Restricted`](crate::Error::Restricted): rows that others hold;
    /// [`Error::Database`](crate::Error::Database): also what a receiver refused. Nothing was deleted then.
    fn delete<C>(self, db: &C) -> impl Future<Output = Result<Deleted>> + Send
    where
        C: TransactionTrait,
        C::Transaction: StreamTrait;
}

impl<E> QueryDelete for Select<E>
where
    E: Tracked,
{
    fn delete<C>(self, db: &C) -> impl Future<Output = Result<Deleted>> + Send
    where
        C: TransactionTrait,
        C::Transaction: StreamTrait,
    {
        in_a_transaction(self, db)
    }
}

/// Deletes one row and what goes with it: `article.delete_related(&db)`.
pub trait RowDelete: ModelTrait {
    /// As [`QueryDelete::delete`] for the row's key. (SeaORM's own `delete` sends the row's signals and leaves what refers to it to the database.)
    ///
    /// # Errors
    /// As [`QueryDelete::delete`].
    fn delete_related<C>(&self, db: &C) -> impl Future<Output = Result<Deleted>> + Send
    where
        C: TransactionTrait,
        C::Transaction: StreamTrait;
}

impl<M> RowDelete for M
where
    M: ModelTrait,
    M::Entity: Tracked,
{
    fn delete_related<C>(&self, db: &C) -> impl Future<Output = Result<Deleted>> + Send
    where
        C: TransactionTrait,
        C::Transaction: StreamTrait,
    {
        let mut row = M::Entity::find();
        for key in <M::Entity as EntityTrait>::PrimaryKey::iter() {
            let column = key.into_column();
            row = row.filter(sea_orm::ColumnTrait::eq(&column, self.get(column)));
        }
        in_a_transaction(row, db)
    }
}

async fn in_a_transaction<E, C>(select: Select<E>, db: &C) -> Result<Deleted>
where
    E: Tracked,
    C: TransactionTrait,
    C::Transaction: StreamTrait,
{
    // A transaction of SQLite that reads first and writes then fails if anybody wrote in between: this one has the lock from its start.
    let options = TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let transaction = db.begin_with_options(options).await?;
    match within(select, &transaction).await {
        Ok(deleted) => {
            transaction.commit().await?;
            Ok(deleted)
        }
        Err(e) => {
            if let Err(also) = transaction.rollback().await {
                // The connection is gone, and with it the transaction.
                tracing::warn!(error = %also, "the rollback of a delete failed");
            }
            Err(e)
        }
    }
}

async fn within<E, T>(select: Select<E>, transaction: &T) -> Result<Deleted>
where
    E: Tracked,
    T: ConnectionTrait + StreamTrait + Send,
{
    let graph = &*GRAPH;
    let db = Conn::new(transaction);
    let Some(root) = graph.node(TypeId::of::<E>()) else {
        return Err(DbErr::Custom(format!("{} is not registered: its crate was not linked", table_name::<E>())).into());
    };
    let keys = keys_of(select);
    let mut deleted = Deleted::default();
    if graph.lonely(root) {
        let table = &graph.nodes[root];
        let backend = db.get_database_backend();
        let count = match by_own_condition::<E>(&keys, &table.table, backend) {
            Some(delete) => db.execute_raw(delete).await?.rows_affected(),
            None => delete_rows(&db, &table.table, in_query(&table.key, keys.into_query(), backend)).await?,
        };
        deleted.add(&table.name, count);
        return Ok(deleted);
    }
    // All keys first: what the query finds may change with the first row that goes.
    let stream = keys.into_tuple::<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>().stream(transaction).await?;
    let keys: Vec<_> = stream.try_collect().await?;
    // Whether a row is held by one that goes too is known when all that goes is known.
    let page = if graph.restricts(root) { usize::MAX } else { PAGE };
    let mut keys = keys.into_iter().map(IntoValueTuple::into_value_tuple).peekable();
    while keys.peek().is_some() {
        let mut doom = Doom::new(graph);
        doom.gather(&db, root, keys.by_ref().take(page).collect()).await?;
        doom.check_restricted()?;
        doom.carry_out(&db, &mut deleted).await?;
    }
    Ok(deleted)
}

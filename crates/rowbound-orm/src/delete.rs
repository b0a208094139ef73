//! A query's rows and all that goes with them, as Django's `QuerySet.delete()`.
//!
//! In: a select. Out: counts per table. Promise: one transaction; rows that are protected stay, and with them all others; every row sends its signals once, what refers to it
//! goes before it; what is held in memory are keys, and one page of rows.
//!
//! The order within a page of the query's rows: the keys of all that goes are gathered, without a signal; `PreDelete` for every row, those of the query first, while all are
//! there; rows that nobody listens to and nothing refers to are deleted by their reference; references are set to NULL or the default; then the other rows are deleted, what
//! refers before what is referred to, each page followed by its `PostDelete`.

use std::{
    any::TypeId,
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
};

use futures_util::TryStreamExt;
use sea_orm::{
    Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, Iterable, ModelTrait, PrimaryKeyToColumn, PrimaryKeyTrait, QueryFilter,
    QuerySelect, QueryTrait, Select, SqliteTransactionMode, Statement, StreamTrait, TransactionOptions, TransactionSession,
    TransactionTrait,
    sea_query::{DynIden, Expr, ExprTrait, IntoValueTuple, Query, QueryBuilder, SelectStatement, SqliteQueryBuilder, TableRef, ValueTuple},
};

#[cfg(feature = "postgres")]
use sea_orm::{
    Value,
    sea_query::{ArrayType, extension::postgres::PgFunc},
};

use crate::{
    conn::Conn,
    entity::{Rows, Rule, Tracked},
    error::{Error, Holders, Result},
    field::table_name,
    relation::{Child, Edge, GRAPH, Graph},
};

/// The query's rows are taken in pages of so many, so that what goes with them is held for one page at a time.
const PAGE: usize = 16_384;

/// Values of keys in one `IN`: SQLite takes 32,766 in a statement, twice as many as these, which [`in_keys`] may make of them; PostgreSQL and MySQL 65,535.
const VALUES: usize = 16_384;

/// Rows in memory at a time.
const ROWS: usize = 500;

/// Rows that an error names.
const NAMED: u64 = 5;

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
    /// [`Error::Protected`], [`Error::Restricted`]: rows that others hold; [`Error::Database`]: also what a receiver refused. Nothing was deleted then.
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
        let mut doom = CascadePlan::new(graph);
        doom.gather(&db, root, keys.by_ref().take(page).collect()).await?;
        doom.check_restricted()?;
        doom.carry_out(&db, &mut deleted).await?;
    }
    Ok(deleted)
}

fn keys_of<E: EntityTrait>(select: Select<E>) -> Select<E> {
    select.select_only().columns(E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column))
}

/// `delete from a where X` for `select a.id from a where X`, which goes through the table once where `delete from a where id in (select ..)` goes through it twice. SeaORM does
/// not give the condition out, so it is read off the SQL; what has any other shape (a join, an order, a limit, ..) is `None`.
fn by_own_condition<E: EntityTrait>(keys: &Select<E>, table: &TableRef, backend: DbBackend) -> Option<Statement> {
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

impl Graph {
    /// Whether rows of a table can go in one statement: nobody listens, and nothing goes or changes with them.
    fn lonely(&self, at: usize) -> bool {
        self.silent(at) && self.extends[at].is_empty() && self.incoming[at].iter().all(|edge| edge.rule == Rule::DoNothing)
    }

    /// The table of rows that go with others, where their keys must be read: somebody listens, something goes with them in turn, or they might hold others. Rows of other tables, and of
    /// those that nobody has registered, go by their reference alone.
    fn read(&self, child: &Child) -> Option<usize> {
        let Child::Known(at) = *child else { return None };
        let holds = |edge: &Edge| edge.rule == Rule::Restrict && matches!(edge.child, Child::Known(child) if child == at);
        (!self.lonely(at) || self.incoming.iter().flatten().any(holds)).then_some(at)
    }

    fn silent(&self, at: usize) -> bool {
        self.nodes[at].entities.iter().all(|entity| !entity.hears_before() && !entity.hears_after())
    }

    fn restricts(&self, from: usize) -> bool {
        self.reach(from).iter().any(|at| self.incoming[*at].iter().any(|edge| edge.rule == Rule::Restrict))
    }
}

/// What goes with one page of rows.
struct CascadePlan<'g> {
    graph: &'g Graph,
    /// By table, in the order in which tables were reached: the keys, in the order and the steps in which they were found.
    tables: Vec<(usize, Vec<Vec<ValueTuple>>)>,
    seen: HashMap<usize, HashSet<ValueTuple>>,
    /// References to be emptied: the relation, and the keys of what is referred to.
    updates: Vec<(usize, Edge, Vec<ValueTuple>)>,
    /// Rows that go unread: the relation, and the keys of what is referred to.
    unread: Vec<(usize, Edge, Vec<ValueTuple>)>,
    /// Rows that hold others, unless they go too.
    holding: Vec<(usize, Edge, Vec<ValueTuple>)>,
}

impl<'g> CascadePlan<'g> {
    fn new(graph: &'g Graph) -> Self {
        CascadePlan { graph, tables: Vec::new(), seen: HashMap::new(), updates: Vec::new(), unread: Vec::new(), holding: Vec::new() }
    }

    /// Adds keys; those that are new.
    fn add(&mut self, table: usize, keys: Vec<ValueTuple>) -> Vec<ValueTuple> {
        let seen = self.seen.entry(table).or_default();
        let fresh: Vec<_> = keys.into_iter().filter(|key| seen.insert(key.clone())).collect();
        if !fresh.is_empty() {
            match self.tables.iter_mut().find(|(known, _)| *known == table) {
                Some((_, steps)) => steps.push(fresh.clone()),
                None => self.tables.push((table, vec![fresh.clone()])),
            }
        }
        fresh
    }

    /// Follows the relations from these rows, breadth first.
    async fn gather(&mut self, db: &Conn<'_>, root: usize, keys: Vec<ValueTuple>) -> Result<()> {
        let backend = db.get_database_backend();
        let mut next = std::collections::VecDeque::from([(root, self.add(root, keys))]);
        while let Some((at, keys)) = next.pop_front() {
            for keys in keys.chunks(most(&keys)) {
                for edge in &self.graph.incoming[at] {
                    let referring = || edge.referring(&self.graph.nodes[at].table, &self.graph.nodes[at].key, keys, backend);
                    match (edge.rule, &edge.child) {
                        (Rule::DoNothing, _) => {}
                        (Rule::SetNull | Rule::SetDefault, _) => self.updates.push((at, edge.clone(), keys.to_vec())),
                        (Rule::Cascade | Rule::Extends, child) => match self.graph.read(child) {
                            None => self.unread.push((at, edge.clone(), keys.to_vec())),
                            Some(child) => {
                                let found = self.graph.nodes[child].entities[0].keys(db, referring(), None).await?;
                                let fresh = self.add(child, found);
                                if !fresh.is_empty() {
                                    next.push_back((child, fresh));
                                }
                            }
                        },
                        (Rule::Protect, Child::Known(child)) => {
                            let found = self.graph.nodes[*child].entities[0].keys(db, referring(), Some(NAMED)).await?;
                            if !found.is_empty() {
                                return Err(Error::Protected(self.holders(at, edge, &found)));
                            }
                        }
                        (Rule::Restrict, Child::Known(child)) => {
                            let found = self.graph.nodes[*child].entities[0].keys(db, referring(), None).await?;
                            if !found.is_empty() {
                                self.holding.push((at, edge.clone(), found));
                            }
                        }
                        // Their keys are not known: whether there are any is.
                        (Rule::Protect | Rule::Restrict, Child::Unknown(table)) => {
                            let mut any = Query::select();
                            any.expr(Expr::val(1)).from(table.clone()).cond_where(referring()).limit(1);
                            if db.query_one(&any).await?.is_some() {
                                return Err(Error::Restricted(self.holders(at, edge, &[])));
                            }
                        }
                    }
                }
                for (parent, edge) in &self.graph.extends[at] {
                    let (child, parent_node) = (&self.graph.nodes[at], &self.graph.nodes[*parent]);
                    let mut parts = Query::select();
                    parts.columns(edge.from.iter().cloned()).from(child.table.clone()).cond_where(in_keys(&child.key, keys, backend));
                    let found = parent_node.entities[0].keys(db, in_subquery(&edge.to, parts), None).await?;
                    let fresh = self.add(*parent, found);
                    if !fresh.is_empty() {
                        next.push_back((*parent, fresh));
                    }
                }
            }
        }
        Ok(())
    }

    fn holders(&self, of: usize, edge: &Edge, keys: &[ValueTuple]) -> Holders {
        Holders {
            of: self.graph.nodes[of].name.clone(),
            table: self.graph.child_name(edge),
            columns: names(&edge.from),
            keys: keys.iter().take(NAMED as usize).map(text).collect(),
        }
    }

    fn check_restricted(&self) -> Result<()> {
        for (of, edge, keys) in &self.holding {
            let Child::Known(child) = edge.child else { continue };
            let goes = self.seen.get(&child);
            let stay: Vec<_> = keys.iter().filter(|key| !goes.is_some_and(|goes| goes.contains(*key))).cloned().collect();
            if !stay.is_empty() {
                return Err(Error::Restricted(self.holders(*of, edge, &stay)));
            }
        }
        Ok(())
    }

    async fn carry_out(self, db: &Conn<'_>, deleted: &mut Deleted) -> Result<()> {
        let (nodes, backend) = (&self.graph.nodes, db.get_database_backend());
        let (order, circular) = self.order();
        // In a circle the database's own cascade may take a row before we come to it: what its receivers are to get is read before.
        let mut held: HashMap<usize, Vec<Vec<Rows>>> = HashMap::new();
        for (at, steps) in &self.tables {
            let node = &nodes[*at];
            let hold = circular.contains(at);
            for keys in steps.iter().flat_map(|keys| keys.chunks(ROWS)) {
                let mut chunk = Vec::new();
                for entity in &node.entities {
                    let keep = hold && entity.hears_after();
                    if !keep && !entity.hears_before() {
                        continue;
                    }
                    let rows = entity.rows(db, in_keys(&node.key, keys, backend)).await?;
                    entity.before(db, &rows).await?;
                    if keep {
                        chunk.push(rows);
                    }
                }
                if hold {
                    held.entry(*at).or_default().push(chunk);
                }
            }
        }
        for (of, edge, keys) in &self.unread {
            let table = match &edge.child {
                Child::Known(child) => &nodes[*child].table,
                Child::Unknown(table) => table,
            };
            let count = delete_rows(db, table, edge.referring(&nodes[*of].table, &nodes[*of].key, keys, backend)).await?;
            deleted.add(&self.graph.child_name(edge), count);
        }
        for (of, edge, keys) in &self.updates {
            self.empty(db, *of, edge, keys).await?;
        }
        for at in order {
            let node = &nodes[at];
            let steps = self.tables.iter().find(|(known, _)| *known == at).map_or(&[][..], |(_, steps)| steps);
            if let Some(chunks) = held.get(&at) {
                let mut count = 0;
                for keys in steps.iter().rev().flat_map(|keys| keys.chunks(most(keys))) {
                    count += keys.len() as u64;
                    delete_rows(db, &node.table, in_keys(&node.key, keys, backend)).await?;
                }
                deleted.add(&node.name, count);
                for chunk in chunks {
                    for (entity, rows) in node.entities.iter().filter(|entity| entity.hears_after()).zip(chunk) {
                        entity.after(db, rows).await?;
                    }
                }
                continue;
            }
            let listeners: Vec<_> = node.entities.iter().filter(|entity| entity.hears_after()).collect();
            let size = |keys| if listeners.is_empty() { most(keys) } else { ROWS };
            for keys in steps.iter().rev().flat_map(|keys| keys.chunks(size(keys))) {
                let mut read = Vec::with_capacity(listeners.len());
                for entity in &listeners {
                    read.push(entity.rows(db, in_keys(&node.key, keys, backend)).await?);
                }
                deleted.add(&node.name, delete_rows(db, &node.table, in_keys(&node.key, keys, backend)).await?);
                for (entity, rows) in listeners.iter().zip(&read) {
                    entity.after(db, rows).await?;
                }
            }
        }
        Ok(())
    }

    /// The tables, those that refer before those that are referred to; and those that refer to each other in a circle, or to themselves.
    fn order(&self) -> (Vec<usize>, HashSet<usize>) {
        let here: HashSet<usize> = self.tables.iter().map(|(at, _)| *at).collect();
        let mut order = Vec::new();
        let mut state: HashMap<usize, bool> = HashMap::new(); // false: on the way, true: done
        let mut circular = HashSet::new();
        for (at, _) in &self.tables {
            self.visit(*at, &here, &mut state, &mut Vec::new(), &mut order, &mut circular);
        }
        (order, circular)
    }

    fn visit(
        &self,
        at: usize,
        here: &HashSet<usize>,
        state: &mut HashMap<usize, bool>,
        way: &mut Vec<usize>,
        order: &mut Vec<usize>,
        circular: &mut HashSet<usize>,
    ) {
        match state.get(&at) {
            Some(true) => return,
            Some(false) => {
                circular.extend(way.iter().skip_while(|on| **on != at));
                return;
            }
            None => {}
        }
        state.insert(at, false);
        way.push(at);
        for edge in &self.graph.incoming[at] {
            if let (Child::Known(child), Rule::Cascade | Rule::Restrict | Rule::Extends) = (&edge.child, edge.rule)
                && here.contains(child)
            {
                self.visit(*child, here, state, way, order, circular);
            }
        }
        way.pop();
        state.insert(at, true);
        order.push(at);
    }

    /// Sets references to NULL or to their column's default.
    async fn empty(&self, db: &Conn<'_>, of: usize, edge: &Edge, keys: &[ValueTuple]) -> Result<()> {
        let (node, backend) = (&self.graph.nodes[of], db.get_database_backend());
        let (table, entity) = match &edge.child {
            Child::Known(child) => (&self.graph.nodes[*child].table, self.graph.nodes[*child].entities.first()),
            Child::Unknown(table) => (table, None),
        };
        let wrong = |why: &str, hint: &str| Error::Relation {
            table: self.graph.child_name(edge),
            columns: names(&edge.from),
            why: why.to_owned(),
            hint: hint.to_owned(),
        };
        let mut update = Query::update();
        update.table(table.clone());
        for column in &edge.from {
            let known = entity.and_then(|entity| entity.column(&column.to_string()));
            let value = match (edge.rule, known) {
                (Rule::SetNull, Some((false, _))) => {
                    return Err(wrong(
                        "says SetNull, and its column cannot be NULL",
                        "make the field an Option, or choose another on_delete",
                    ));
                }
                (Rule::SetNull, _) => Expr::null(),
                (_, Some((_, Some(default)))) => default,
                (_, _) if backend != DbBackend::Sqlite => Expr::custom_keyword("DEFAULT"),
                (_, _) => {
                    return Err(wrong(
                        "says SetDefault, and its entity does not say the default",
                        "write #[sea_orm(default_value = ..)] on the field: SQLite cannot set a column to its own default",
                    ));
                }
            };
            update.value(column.clone(), value);
        }
        let mut which = edge.referring(&node.table, &node.key, keys, backend);
        if matches!(edge.child, Child::Known(child) if child == of) && edge.to != node.key && backend == DbBackend::MySql {
            // MySQL does not read the table that it changes, but for a derived one.
            let mut own = Query::select();
            own.columns(edge.to.iter().cloned()).from(node.table.clone()).cond_where(in_keys(&node.key, keys, backend));
            which = in_query(&edge.from, own, DbBackend::MySql);
        }
        update.cond_where(which);
        db.execute(&update).await?;
        Ok(())
    }
}

impl Edge {
    /// The rows that refer to these.
    fn referring(&self, parent: &TableRef, key: &[DynIden], keys: &[ValueTuple], backend: DbBackend) -> Condition {
        if self.to == key {
            return in_keys(&self.from, keys, backend);
        }
        let mut referred = Query::select();
        referred.columns(self.to.iter().cloned()).from(parent.clone()).cond_where(in_keys(key, keys, backend));
        in_subquery(&self.from, referred)
    }
}

async fn delete_rows(db: &Conn<'_>, table: &TableRef, which: Condition) -> Result<u64, DbErr> {
    let mut delete = Query::delete();
    delete.from_table(table.clone()).cond_where(which);
    Ok(db.execute(&delete).await?.rows_affected())
}

/// How many of these keys go into one `IN`.
fn most(keys: &[ValueTuple]) -> usize {
    VALUES / keys.first().map_or(1, ValueTuple::arity).max(1)
}

/// `(a, b) in ((1, 2), ..)`. Connections keep the statements that they have prepared, by their text: the last key is said again until there are 1, 2, 4, 8, .. of them, so that a
/// statement has a dozen forms, and not one for each number of keys. PostgreSQL reads an array sooner than as many parameters.
#[cfg_attr(not(feature = "postgres"), allow(unused_variables))]
fn in_keys(columns: &[DynIden], keys: &[ValueTuple], backend: DbBackend) -> Condition {
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

fn in_subquery(columns: &[DynIden], select: SelectStatement) -> Condition {
    Condition::all().add(match columns {
        [column] => Expr::col(column.clone()).in_subquery(select),
        _ => tuple(columns).in_subquery(select),
    })
}

/// The same where the query may read the table that is changed: MySQL wants a derived table then.
fn in_query(columns: &[DynIden], select: SelectStatement, backend: DbBackend) -> Condition {
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

fn names(columns: &[DynIden]) -> String {
    columns.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A key as text: `17`, `(1, 'a')`.
fn text(key: &ValueTuple) -> String {
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

//! An entity without its type: table, key, relations, signals.
//!
//! In: an entity that `#[derive(Files)]` or `#[derive(Signals)]` stands on. Out: what deleting its rows needs to know and do, whatever its type.

use std::{
    any::{Any, TypeId},
    fmt,
    marker::PhantomData,
};

use async_trait::async_trait;
use sea_orm::{
    ColumnTrait, Condition, DbBackend, DbErr, EntityTrait, Iterable, PrimaryKeyToColumn, PrimaryKeyTrait, QueryFilter, QuerySelect,
    RelationDef, RelationTrait,
    sea_query::{DynIden, Expr, IntoIden, IntoValueTuple, TableRef, ValueTuple},
};

use crate::{
    conn::Conn,
    field::{AnyField, table_name},
    signal::{self, PostDelete, PreDelete, has_receivers},
};

/// What becomes of rows that refer to a row that is deleted. All but two are `on_delete` of SeaORM's relations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// `on_delete = "Cascade"`: they are deleted too.
    Cascade,
    /// `#[rowbound(protect(Relation))]`: nothing is deleted, whatever else goes with it. Django's PROTECT.
    Protect,
    /// `on_delete = "Restrict"`: nothing is deleted, unless they go in the same delete for another reason. Django's RESTRICT.
    Restrict,
    /// `on_delete = "SetNull"`: they refer to nothing.
    SetNull,
    /// `on_delete = "SetDefault"`: they refer to the column's default.
    SetDefault,
    /// `on_delete = "NoAction"`, or nothing said: the database decides. Django's DO_NOTHING.
    DoNothing,
    /// `#[rowbound(extends(Relation))]`: the row is a part of the one that it refers to, and each goes with the other. Django's multi-table inheritance.
    Extends,
}

/// An entity whose rows send signals, and are found as related to others: `#[derive(Files)]`, `#[derive(Signals)]`.
pub trait Tracked: EntityTrait {
    /// Relations with a rule that SeaORM does not know.
    fn rules() -> Vec<(RelationDef, Rule)>;

    /// Its columns of files.
    fn files() -> Vec<AnyField>;
}

/// Rows of some entity.
pub(crate) struct Rows(Box<dyn Any + Send + Sync>);

/// An entity, whatever its type.
#[async_trait]
pub(crate) trait AnyEntity: Send + Sync {
    fn id(&self) -> TypeId;
    /// `[schema.]table`.
    fn name(&self) -> String;
    fn table(&self) -> TableRef;
    fn key(&self) -> Vec<DynIden>;
    fn relations(&self) -> Vec<RelationDef>;
    fn rules(&self) -> Vec<(RelationDef, Rule)>;
    fn files(&self) -> Vec<AnyField>;
    /// Whether a column may be NULL, and its default; `None` for one that it has not.
    fn column(&self, name: &str) -> Option<(bool, Option<Expr>)>;
    fn hears_before(&self) -> bool;
    fn hears_after(&self) -> bool;
    /// The keys of rows, at most so many.
    async fn keys(&self, db: &Conn<'_>, of: Condition, most: Option<u64>) -> Result<Vec<ValueTuple>, DbErr>;
    /// Rows, locked where the database locks rows.
    async fn rows(&self, db: &Conn<'_>, of: Condition) -> Result<Rows, DbErr>;
    async fn before(&self, db: &Conn<'_>, rows: &Rows) -> Result<(), DbErr>;
    async fn after(&self, db: &Conn<'_>, rows: &Rows) -> Result<(), DbErr>;
}

pub(crate) struct Of<E>(PhantomData<fn() -> E>);

impl<E> Of<E> {
    pub(crate) fn new() -> Self {
        Of(PhantomData)
    }
}

#[async_trait]
impl<E> AnyEntity for Of<E>
where
    E: Tracked,
    E::Model: Sync,
{
    fn id(&self) -> TypeId {
        TypeId::of::<E>()
    }

    fn name(&self) -> String {
        table_name::<E>()
    }

    fn table(&self) -> TableRef {
        E::default().table_ref()
    }

    fn key(&self) -> Vec<DynIden> {
        E::PrimaryKey::iter().map(|key| key.into_column().into_iden()).collect()
    }

    fn relations(&self) -> Vec<RelationDef> {
        E::Relation::iter().map(|relation| relation.def()).collect()
    }

    fn rules(&self) -> Vec<(RelationDef, Rule)> {
        E::rules()
    }

    fn files(&self) -> Vec<AnyField> {
        E::files()
    }

    fn column(&self, name: &str) -> Option<(bool, Option<Expr>)> {
        let column = E::Column::iter().find(|column| sea_orm::IdenStatic::as_str(column) == name)?;
        let def = column.def();
        Some((def.is_null(), def.get_column_default().cloned()))
    }

    fn hears_before(&self) -> bool {
        has_receivers::<PreDelete, E>()
    }

    fn hears_after(&self) -> bool {
        has_receivers::<PostDelete, E>()
    }

    async fn keys(&self, db: &Conn<'_>, of: Condition, most: Option<u64>) -> Result<Vec<ValueTuple>, DbErr> {
        let keys = E::find().select_only().columns(E::PrimaryKey::iter().map(|key| key.into_column())).filter(of).limit(most);
        let keys = keys.into_tuple::<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>().all(db).await?;
        Ok(keys.into_iter().map(IntoValueTuple::into_value_tuple).collect())
    }

    async fn rows(&self, db: &Conn<'_>, of: Condition) -> Result<Rows, DbErr> {
        let mut found = E::find().filter(of);
        if sea_orm::ConnectionTrait::get_database_backend(db) != DbBackend::Sqlite {
            found = found.lock_exclusive();
        }
        Ok(Rows(Box::new(found.all(db).await?)))
    }

    async fn before(&self, db: &Conn<'_>, rows: &Rows) -> Result<(), DbErr> {
        for row in rows.of::<E>() {
            signal::pre_delete::<E>(row, db).await?;
        }
        Ok(())
    }

    async fn after(&self, db: &Conn<'_>, rows: &Rows) -> Result<(), DbErr> {
        for row in rows.of::<E>() {
            signal::post_delete::<E>(row, db).await?;
        }
        Ok(())
    }
}

impl Rows {
    fn of<E: EntityTrait>(&self) -> &[E::Model] {
        self.0.downcast_ref::<Vec<E::Model>>().map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for dyn AnyEntity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

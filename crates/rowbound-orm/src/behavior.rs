//! What SeaORM calls before and after it writes a row, turned into signals.
//!
//! In: the hooks of `ActiveModelBehavior`. Out: signals to who listens. `#[derive(Files)]` and `#[derive(Signals)]` write an `ActiveModelBehavior` of these four; with
//! `#[rowbound(no_behavior)]` an application calls them in one of its own.

use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ActiveValue, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, IntoActiveModel,
    Iterable, PrimaryKeyToColumn, QueryFilter, QuerySelect, TryIntoModel,
};

use crate::{
    conn::Conn,
    signal::{self, PostDelete, PostSave, PreDelete, PreSave, has_receivers},
};

type ModelOf<A> = <<A as ActiveModelTrait>::Entity as EntityTrait>::Model;

/// Sends [`PreSave`]; receivers may change the row.
///
/// # Errors
/// A receiver's: then nothing is written.
pub async fn before_save<A, C>(mut row: A, db: &C, insert: bool) -> Result<A, DbErr>
where
    A: ActiveModelTrait + Send,
    A::Entity: EntityTrait<ActiveModel = A>,
    C: ConnectionTrait,
{
    if has_receivers::<PreSave, A::Entity>() {
        signal::pre_save::<A::Entity>(&mut row, &Conn::new(db), insert).await?;
    }
    Ok(row)
}

/// Sends [`PostSave`].
///
/// # Errors
/// A receiver's. Within a transaction, roll it back; without one the row was committed before this was called.
pub async fn after_save<A, C>(row: ModelOf<A>, db: &C, insert: bool) -> Result<ModelOf<A>, DbErr>
where
    A: ActiveModelTrait,
    A::Entity: EntityTrait<ActiveModel = A>,
    ModelOf<A>: Sync,
    C: ConnectionTrait,
{
    if has_receivers::<PostSave, A::Entity>() {
        signal::post_save::<A::Entity>(&row, &Conn::new(db), insert).await?;
    }
    Ok(row)
}

/// Reads the row, if anybody listens to its deletion, and sends [`PreDelete`]. A row that is not there sends nothing.
///
/// # Errors
/// A receiver's, or the database's: then nothing is deleted.
pub async fn before_delete<A, C>(row: A, db: &C) -> Result<A, DbErr>
where
    A: ActiveModelBehavior + Send,
    A::Entity: EntityTrait<ActiveModel = A>,
    ModelOf<A>: IntoActiveModel<A> + Sync,
    C: ConnectionTrait,
{
    if !has_receivers::<PreDelete, A::Entity>() && !has_receivers::<PostDelete, A::Entity>() {
        return Ok(row);
    }
    let mut found = A::Entity::find();
    for key in <A::Entity as EntityTrait>::PrimaryKey::iter() {
        let column = key.into_column();
        // SeaORM's own delete says what is wrong with a row without a key.
        let Some(value) = row.get(column).into_value() else { return Ok(row) };
        found = found.filter(column.eq(value));
    }
    // Locked, so that of two who delete the same row in transactions only one sends signals. SQLite has one writer, and no such lock.
    if db.get_database_backend() != DbBackend::Sqlite {
        found = found.lock_exclusive();
    }
    match found.one(db).await? {
        Some(model) => {
            signal::pre_delete::<A::Entity>(&model, &Conn::new(db)).await?;
            Ok(model.into_active_model())
        }
        None => Ok(absent(row)),
    }
}

/// Sends [`PostDelete`] for a row that [`before_delete`] has read.
///
/// # Errors
/// A receiver's. Within a transaction, roll it back; without one the row was deleted before this was called.
pub async fn after_delete<A, C>(row: A, db: &C) -> Result<A, DbErr>
where
    A: ActiveModelBehavior + TryIntoModel<ModelOf<A>> + Send,
    A::Entity: EntityTrait<ActiveModel = A>,
    ModelOf<A>: Sync,
    C: ConnectionTrait,
{
    if has_receivers::<PostDelete, A::Entity>()
        && !is_absent(&row)
        && let Ok(model) = row.clone().try_into_model()
    {
        signal::post_delete::<A::Entity>(&model, &Conn::new(db)).await?;
    }
    Ok(row)
}

/// Marks a row that was not there: its key is `Set`, that of a row that was read is `Unchanged`. Both delete alike.
fn absent<A: ActiveModelTrait>(mut row: A) -> A {
    for key in <A::Entity as EntityTrait>::PrimaryKey::iter() {
        let column = key.into_column();
        if let Some(value) = row.take(column).into_value() {
            row.set(column, value);
        }
    }
    row
}

fn is_absent<A: ActiveModelTrait>(row: &A) -> bool {
    <A::Entity as EntityTrait>::PrimaryKey::iter().any(|key| !matches!(row.get(key.into_column()), ActiveValue::Unchanged(_)))
}

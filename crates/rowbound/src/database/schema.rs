//! What `attach` leaves in a database: tables, triggers and the installation's record.
//!
//! In: bindings. Out: statements, the record, a snapshot of what stands. Promise: no row of the application is changed, two at once learn of each other, and
//! [`Schema::remove`] leaves nothing behind.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::{
    capture::{Bound, Inspection, Installation, Snapshot, ValuesSeen},
    error::Result,
};

/// Capture and the record of it. What changes the record is one step, under the lock under which the record is read.
#[async_trait]
pub trait Schema: Send + Sync {
    /// What the database says of itself, so that a copy (a restored dump, a copied file) says something else.
    async fn identity(&self) -> Result<String>;

    /// Whether the database that said `was` of itself is known to be this one, and was moved. `false` where that cannot be told: it may be a copy.
    async fn has_moved(&self, was: &str) -> Result<bool>;

    /// The record that `attach` left, or `None` if nothing is attached.
    async fn installation(&self) -> Result<Option<Installation>>;

    /// Looks at tables and columns without changing anything.
    ///
    /// # Errors
    /// [`Kind::Schema`](crate::Kind::Schema) names the binding whose table or column does not exist, is of an unusable type, or is no table
    /// whose changes triggers see; [`Kind::Permission`](crate::Kind::Permission) the right that is missing.
    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection>;

    /// The statements that [`Schema::install`] would run now, in order, each without its final semicolon.
    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>>;

    /// Makes the tables if missing, puts capture in place for exactly `bound`, removes what stands there for other bindings, and stores
    /// `record` with the fresh snapshot, which it returns. Idempotent; in one transaction where the database allows;
    /// locks are waited for shortly and tried again. Never changes a row of the application.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) when the locks were not had in time: nothing changed.
    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation>;

    /// The same, if the record that stands is `before` (`None`: none stands) in its installation and its bindings: compared under the lock under which it is
    /// replaced, so that of two attaches at once the second knows of the first.
    ///
    /// # Errors
    /// As [`Schema::install`]; [`Kind::Drift`](crate::Kind::Drift) when another attach or detach came before: nothing changed.
    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation>;

    /// Stores `record` without touching capture: over a record of the same installation and the same bindings only, or where none stands. Here and in [`Schema::install`] the shadow modes of a record that stands are kept as they
    /// stand: storing a record that was read a moment ago must not end one.
    ///
    /// # Errors
    /// [`Kind::Drift`](crate::Kind::Drift) when another set of bindings was attached since the record was read.
    async fn record(&self, record: &Installation) -> Result<()>;

    /// Puts bindings into shadow mode since a moment (one that is in it keeps its own), or takes them out of it (`None`), in the record that
    /// stands and in one step.
    ///
    /// # Errors
    /// [`Kind::NotAttached`](crate::Kind::NotAttached) when there is no record.
    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()>;

    /// Adds to the record that stands, in one step, what was seen of the values of bindings, by number: where they are still read that way, and nothing deeper is
    /// known.
    ///
    /// # Errors
    /// [`Kind::NotAttached`](crate::Kind::NotAttached) when there is no record.
    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()>;

    /// What stands there now for `bound`. A missing table or column is an item that is missing, not an error.
    /// Cheap enough for every batch and every second.
    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot>;

    /// Removes triggers, functions and tables: the schema is what it was before `attach`. Idempotent.
    async fn remove(&self) -> Result<()>;

    /// The statements that [`Schema::remove`] would run now.
    async fn remove_script(&self) -> Result<Vec<String>>;
}

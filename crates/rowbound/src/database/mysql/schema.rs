//! Attach and detach, and what stands.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Mysql, alone, fault, inspect, install, maybe_text, snapshot, text};
use crate::{
    capture::{Bound, Inspection, Installation, Snapshot, ValuesSeen},
    crash,
    database::{Schema, deepened, gapped, over, read_record, shaded, unchanged, unchanged_or_none},
    error::{Error, Kind, Result},
};

/// What stands in an identity before there is one.
const NOT_ATTACHED: &str = "not attached";

#[async_trait]
impl Schema for Mysql {
    /// The database's name and the moment at which the trigger `rowbound_identity` was made. The server keeps that moment (to 10 ms) with the
    /// trigger, through restarts, upgrades, moved files and failover to a replica; a dump does not carry it, so a restored one says
    /// something else. Neither `@@hostname` (changes with every container) nor a table's creation time (a file time on
    /// MariaDB: `chown` changes it) would do; `@@server_uuid` exists on MySQL only and changes with a failover. Before `install` there is no such
    /// trigger, and the identity says so: ask again after it.
    async fn identity(&self) -> Result<String> {
        let made = sqlx::query(
            "select cast(created as char) from information_schema.triggers \
             where trigger_schema = ? and event_object_schema = ? and event_object_table = 'rowbound_installation' \
               and trigger_name = 'rowbound_identity'",
        )
        .bind(&self.database)
        .bind(&self.database)
        .fetch_optional(self.pool())
        .await
        .map_err(fault)?;
        let made = match made {
            Some(row) => maybe_text(&row, 0)?.unwrap_or_default(),
            None => NOT_ATTACHED.to_owned(),
        };
        Ok(format!("mysql:{}:{made}", self.database))
    }

    /// Nothing tells one server from another for certain: `@@server_uuid` exists on MySQL only.
    async fn has_moved(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        if !self.has_table("rowbound_installation").await? {
            return Ok(None);
        }
        let row = sqlx::query("select record from rowbound_installation where id = 1 and record <> ''")
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        let Some(row) = row else { return Ok(None) };
        read_record(&text(&row, 0)?).map(Some)
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        inspect::inspect(self, bound).await
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        install::script(self, bound).await
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let alone = alone::alone(self).await?;
        install::install(self, bound).await?;
        let record = Installation { snapshot: self.snapshot(bound).await?, ..record.clone() };
        let stored = self.store(|standing| over(standing, &record)).await;
        drop(alone);
        stored
    }

    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let alone = alone::alone(self).await?;
        let standing = self.installation().await?.map(|record| serde_json::to_string(&record).unwrap_or_default());
        unchanged(standing.as_deref(), before)?;
        if let Some(before) = before
            && before.gaps != record.gaps
        {
            // Each statement that makes a trigger commits. If a process is killed after the last one, only this record shows the gap.
            self.store(|standing| gapped(standing, before, &record.gaps)).await?;
        }
        install::install(self, bound).await?;
        let mut record = Installation { snapshot: self.snapshot(bound).await?, ..record.clone() };
        if record.identity.ends_with(NOT_ATTACHED) {
            // It is known only now; those who read the record from here on must not take this database for a copy.
            record.identity = self.identity().await?;
        }
        let stored = self
            .store(|standing| {
                unchanged(standing, before)?;
                over(standing, &record)
            })
            .await;
        drop(alone);
        stored
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let change = |standing: Option<&str>| {
            unchanged_or_none(standing, record)?;
            over(standing, record)
        };
        self.store(change).await.map(drop)
    }

    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()> {
        self.store(|standing| shaded(standing, bindings, since)).await.map(drop)
    }

    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()> {
        self.store(|standing| deepened(standing, seen)).await.map(drop)
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        let mut conn = self.pool().acquire().await.map_err(fault)?;
        snapshot::read(&mut conn, self, bound).await
    }

    async fn remove(&self) -> Result<()> {
        let alone = alone::alone(self).await?;
        let removed = install::remove(self).await;
        drop(alone);
        removed
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        install::remove_script(self).await
    }
}

impl Mysql {
    /// Whether a table of ours stands in our database.
    async fn has_table(&self, table: &str) -> Result<bool> {
        let found = sqlx::query("select 1 from information_schema.tables where table_schema = ? and table_name = ?")
            .bind(&self.database)
            .bind(table)
            .fetch_optional(self.pool())
            .await
            .map_err(fault)?;
        Ok(found.is_some())
    }

    /// Stores what `change` makes of the record that stands, which is locked meanwhile, and returns it.
    async fn store(&self, change: impl FnOnce(Option<&str>) -> Result<Installation> + Send) -> Result<Installation> {
        let mut tx = self.pool().begin().await.map_err(fault)?;
        let row = sqlx::query("select record from rowbound_installation where id = 1 for update")
            .fetch_optional(&mut *tx)
            .await
            .map_err(fault)?;
        let standing = row.map(|row| text(&row, 0)).transpose()?;
        let record = change(standing.as_deref())?;
        let json = serde_json::to_string(&record)
            .map_err(|e| Error::new(Kind::Database, "the installation's record cannot be written as JSON").because(e))?;
        crash::point("attach-step");
        sqlx::query("insert into rowbound_installation (id, record) values (1, ?) on duplicate key update record = ?")
            .bind(&json)
            .bind(&json)
            .execute(&mut *tx)
            .await
            .map_err(fault)?;
        crash::point("attach-step");
        tx.commit().await.map_err(fault)?;
        Ok(record)
    }
}

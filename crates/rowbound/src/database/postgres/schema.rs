//! Attach and detach, and what stands.

use async_trait::async_trait;
use jiff::Timestamp;

use super::{
    Postgres,
    fault::failed,
    inspect,
    install::{self, Job},
    record, snapshot, tables, triggers,
};
use crate::{
    capture::{Bound, Inspection, Installation, Snapshot, ValuesSeen},
    database::{Schema, deepened, read_record, shaded, unchanged_or_none},
    error::{Error, Kind, Result},
};

#[async_trait]
impl Schema for Postgres {
    /// The server's system identifier, which a dump does not carry, and the database's own number, which a copy made by
    /// `CREATE DATABASE .. TEMPLATE` does not share. A copy of the server's files has the same.
    async fn identity(&self) -> Result<String> {
        // Without the right to the identifier a copy could look like the original: then this is an error.
        sqlx::query_scalar(
            "select concat_ws(' ', 'postgresql', (select system_identifier from pg_control_system()), oid, datname)
             from pg_database where datname = current_database()",
        )
        .fetch_one(self.pool())
        .await
        .map_err(|e| failed("cannot read the database's identity", e))
    }

    /// Nothing tells for certain: a physical copy of the server has the same system identifier, and the original lives on.
    async fn has_moved(&self, _: &str) -> Result<bool> {
        Ok(false)
    }

    async fn installation(&self) -> Result<Option<Installation>> {
        let error = |e| failed("cannot read the installation's record", e);
        let mut conn = self.conn().await?;
        // Asked of the catalogs, so that a missing right is not read as a missing table.
        let (there,): (bool,) = sqlx::query_as(
            "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace
             where n.nspname = 'rowbound' and c.relname = 'installation')",
        )
        .fetch_one(&mut *conn)
        .await
        .map_err(error)?;
        if !there {
            return Ok(None);
        }
        let record: Option<String> =
            sqlx::query_scalar("select record::text from rowbound.installation").fetch_optional(&mut *conn).await.map_err(error)?;
        record.map(|text| read_record(&text)).transpose()
    }

    async fn inspect(&self, bound: &[Bound]) -> Result<Inspection> {
        inspect::inspect(&mut *self.conn().await?, bound).await
    }

    async fn script(&self, bound: &[Bound]) -> Result<Vec<String>> {
        let mut tx = self.begin("begin isolation level repeatable read, read only").await?;
        let ours = triggers::ours(&mut tx).await?;
        let tables = tables::tables(&mut tx, bound).await?;
        Ok(triggers::install_steps(&tables, &ours).into_iter().map(|s| s.sql).collect())
    }

    async fn install(&self, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let installed = install::patiently(self.pool(), &self.options, Job::Install(bound, record, None)).await?;
        self.attached.now();
        installed.ok_or_else(|| Error::new(Kind::Database, "attach left no record"))
    }

    async fn install_after(&self, before: Option<&Installation>, bound: &[Bound], record: &Installation) -> Result<Installation> {
        let installed = install::patiently(self.pool(), &self.options, Job::Install(bound, record, Some(before))).await?;
        if before.is_none_or(|before| before.id != record.id) {
            self.attached.now();
        }
        installed.ok_or_else(|| Error::new(Kind::Database, "attach left no record"))
    }

    async fn record(&self, record: &Installation) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        record::store(&mut tx, record, |standing| unchanged_or_none(standing, record)).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn set_shadow(&self, bindings: &[i32], since: Option<Timestamp>) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let record = shaded(record::standing(&mut tx).await?.as_deref(), bindings, since)?;
        record::write(&mut tx, &record).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn note_values(&self, seen: &[(i32, ValuesSeen)]) -> Result<()> {
        let mut tx = self.begin("begin isolation level read committed").await?;
        let record = deepened(record::standing(&mut tx).await?.as_deref(), seen)?;
        record::write(&mut tx, &record).await?;
        tx.commit().await.map_err(|e| failed("cannot commit", e))
    }

    async fn snapshot(&self, bound: &[Bound]) -> Result<Snapshot> {
        snapshot::read(&mut *self.conn().await?, bound).await
    }

    async fn remove(&self) -> Result<()> {
        install::patiently(self.pool(), &self.options, Job::Remove).await.map(drop)
    }

    async fn remove_script(&self) -> Result<Vec<String>> {
        let ours = triggers::ours(&mut *self.conn().await?).await?;
        Ok(triggers::remove_steps(&ours).into_iter().map(|s| s.sql).collect())
    }
}

//! A pool that the application has already.
//!
//! In: the application's pool. Out: what it connects with, for a few connections of ours beside it. Promise: no connection of that pool is ever taken,
//! so none comes back to the application with a setting of ours, and a pool of one connection is as good as any.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

#[cfg(feature = "mysql")]
use sqlx::MySqlPool;
#[cfg(feature = "postgres")]
use sqlx::PgPool;
#[cfg(feature = "sqlite")]
use sqlx::SqlitePool;
use sqlx::{ConnectOptions as _, Connection, pool::PoolConnection};

use super::{Dialect, redact};
use crate::error::{Error, Kind, Result};

/// The application's own pool; see [`beside`](super::beside). It has a variant for each database that is built in.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Pool {
    /// On a SQLite file.
    #[cfg(feature = "sqlite")]
    Sqlite(SqlitePool),
    /// On PostgreSQL.
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
    /// On MySQL or MariaDB.
    #[cfg(feature = "mysql")]
    Mysql(MySqlPool),
}

#[cfg(feature = "sqlite")]
impl From<SqlitePool> for Pool {
    fn from(pool: SqlitePool) -> Self {
        Pool::Sqlite(pool)
    }
}

#[cfg(feature = "postgres")]
impl From<PgPool> for Pool {
    fn from(pool: PgPool) -> Self {
        Pool::Postgres(pool)
    }
}

#[cfg(feature = "mysql")]
impl From<MySqlPool> for Pool {
    fn from(pool: MySqlPool) -> Self {
        Pool::Mysql(pool)
    }
}

#[cfg(feature = "sqlite")]
impl From<&SqlitePool> for Pool {
    fn from(pool: &SqlitePool) -> Self {
        Pool::Sqlite(pool.clone())
    }
}

#[cfg(feature = "postgres")]
impl From<&PgPool> for Pool {
    fn from(pool: &PgPool) -> Self {
        Pool::Postgres(pool.clone())
    }
}

#[cfg(feature = "mysql")]
impl From<&MySqlPool> for Pool {
    fn from(pool: &MySqlPool) -> Self {
        Pool::Mysql(pool.clone())
    }
}

impl Pool {
    /// Which database it is on.
    pub fn dialect(&self) -> Dialect {
        match *self {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(_) => Dialect::Sqlite,
            #[cfg(feature = "postgres")]
            Pool::Postgres(_) => Dialect::Postgres,
            #[cfg(feature = "mysql")]
            Pool::Mysql(_) => Dialect::Mysql,
        }
    }

    /// The database's URL, for people: without password and options.
    pub fn url(&self) -> String {
        match *self {
            #[cfg(feature = "sqlite")]
            Pool::Sqlite(ref pool) => format!("sqlite:{}", pool.connect_options().get_filename().display()),
            #[cfg(feature = "postgres")]
            Pool::Postgres(ref pool) => plain(pool.connect_options().to_url_lossy().as_str()),
            #[cfg(feature = "mysql")]
            Pool::Mysql(ref pool) => plain(pool.connect_options().to_url_lossy().as_str()),
        }
    }
}

/// `url` up to its options, without the password.
fn plain(url: &str) -> String {
    redact(url.split('?').next().unwrap_or(url)).replace(":***@", "@")
}

/// What the application connects with, as long as that may change: a password that expires is renewed with `Pool::set_connect_options`, and our
/// connections need the new one too.
pub(super) struct PoolWatch<DB: sqlx::Database> {
    pool: sqlx::Pool<DB>,
    followed: Mutex<Arc<<DB::Connection as Connection>::Options>>,
}

impl<DB: sqlx::Database> std::fmt::Debug for PoolWatch<DB> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolWatch") // what is followed holds the password
    }
}

impl<DB: sqlx::Database> PoolWatch<DB> {
    /// Follows a pool, and what it connects with now.
    pub(super) fn of(pool: &sqlx::Pool<DB>) -> (Self, <DB::Connection as Connection>::Options) {
        let now = pool.connect_options();
        (PoolWatch { pool: pool.clone(), followed: Mutex::new(now.clone()) }, (*now).clone())
    }

    /// What it connects with now, if that has changed since the last call.
    pub(super) fn changed(&self) -> Option<<DB::Connection as Connection>::Options> {
        let now = self.pool.connect_options();
        let mut followed = self.followed.lock().unwrap_or_else(|e| e.into_inner());
        if Arc::ptr_eq(&now, &followed) {
            return None;
        }
        *followed = now.clone();
        Some((*now).clone())
    }
}

/// A connection as `pool` makes them, with what the application's `after_connect` does to them, that belongs to no pool.
pub(super) async fn alike<DB: sqlx::Database>(pool: &sqlx::Pool<DB>, patience: Duration) -> sqlx::Result<DB::Connection> {
    let options = pool.options().clone().max_connections(1).min_connections(0).acquire_timeout(patience);
    let one = options.connect_lazy_with((*pool.connect_options()).clone());
    one.acquire().await.map(PoolConnection::detach)
}

/// Closes a connection. What was asked has been answered, so a goodbye that fails does not matter. A MySQL server closes its end as soon as it reads ours, and over
/// TLS on a Unix socket the rest of the goodbye is then an error ("Broken pipe").
pub(super) async fn goodbye(conn: impl Connection) {
    if let Err(e) = conn.close().await {
        tracing::debug!(error = %e, "a connection was not closed politely");
    }
}

/// Refuses a pool that the application has closed.
pub(super) fn open<DB: sqlx::Database>(pool: &sqlx::Pool<DB>) -> Result<()> {
    match pool.is_closed() {
        true => Err(Error::new(Kind::Config, "the application's pool is closed").hint("open Rowbound before the pool is closed")),
        false => Ok(()),
    }
}

#[cfg(all(test, feature = "sqlite", feature = "postgres", feature = "mysql"))]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pools_url_has_no_secret() {
        let lazy = |url: &str| Pool::from(PgPool::connect_lazy(url).unwrap()).url();
        assert_eq!(lazy("postgres://app:s3cret@db.example/shop?sslmode=disable"), "postgres://app@db.example:5432/shop");
        let lazy = |url: &str| Pool::from(MySqlPool::connect_lazy(url).unwrap()).url();
        assert_eq!(lazy("mysql://app:s3%3Acr%40et@db.example/shop"), "mysql://app@db.example:3306/shop");
        let lazy = |url: &str| Pool::from(SqlitePool::connect_lazy(url).unwrap()).url();
        assert_eq!(lazy("sqlite:db/app.sqlite3?mode=rwc"), "sqlite:db/app.sqlite3");
    }
}

//! A connection, whatever its type: what receivers get.
//!
//! In: whatever SeaORM writes with. Out: one type that is a [`ConnectionTrait`]. Promise: it is the connection of the statement, so that what a receiver writes is part
//! of the same transaction.

use std::fmt;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};

/// The connection, or transaction, in which a row is saved or deleted.
#[derive(Clone, Copy)]
pub struct Conn<'a>(&'a (dyn Erased + 'a));

impl<'a> Conn<'a> {
    /// Of any connection.
    pub fn new<C: ConnectionTrait>(db: &'a C) -> Self {
        Conn(db)
    }
}

impl fmt::Debug for Conn<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Conn").field(&self.0.backend()).finish()
    }
}

/// [`ConnectionTrait`] has generic methods; this has the others.
#[async_trait]
trait Erased: Sync {
    fn backend(&self) -> DbBackend;
    async fn run(&self, statement: Statement) -> Result<ExecResult, DbErr>;
    async fn run_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr>;
    async fn one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr>;
    async fn all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr>;
    fn returning(&self) -> bool;
    fn mock(&self) -> bool;
}

#[async_trait]
impl<C: ConnectionTrait> Erased for C {
    fn backend(&self) -> DbBackend {
        self.get_database_backend()
    }

    async fn run(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.execute_raw(statement).await
    }

    async fn run_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.execute_unprepared(sql).await
    }

    async fn one(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.query_one_raw(statement).await
    }

    async fn all(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.query_all_raw(statement).await
    }

    fn returning(&self) -> bool {
        self.support_returning()
    }

    fn mock(&self) -> bool {
        self.is_mock_connection()
    }
}

#[async_trait]
impl ConnectionTrait for Conn<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.run(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.run_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.one(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.all(statement).await
    }

    fn support_returning(&self) -> bool {
        self.0.returning()
    }

    fn is_mock_connection(&self) -> bool {
        self.0.mock()
    }
}

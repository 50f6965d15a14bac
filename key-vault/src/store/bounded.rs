//! Statements that end, also when the way to the database falls silent.
//!
//! The limits of the server are of no help then: it has answered, or was never asked.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseExecutor, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr,
    Statement,
};
use tokio::time::timeout;

/// The longest statement. Longer than the limits of the server, which says more than silence.
const STATEMENT_MAX: Duration = Duration::from_secs(12);

/// A connection, or a transaction, on which no statement waits for ever.
#[derive(Debug)]
pub(super) struct Bounded<'a>(DatabaseExecutor<'a>);

impl<'a> Bounded<'a> {
    pub(super) fn new(executor: DatabaseExecutor<'a>) -> Self {
        Self(executor)
    }

    /// The transaction, to commit it. `None` if it is a connection.
    pub(super) fn into_transaction(self) -> Option<DatabaseTransaction> {
        match self.0 {
            DatabaseExecutor::OwnedTransaction(tx) => Some(tx),
            DatabaseExecutor::Connection(_) | DatabaseExecutor::Transaction(_) => None,
        }
    }
}

impl From<DatabaseTransaction> for Bounded<'static> {
    fn from(tx: DatabaseTransaction) -> Self {
        Self(DatabaseExecutor::OwnedTransaction(tx))
    }
}

async fn bounded<T>(statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, DbErr> {
    let silent = || DbErr::Conn(RuntimeErr::Internal(format!("no answer within {} s", STATEMENT_MAX.as_secs())));
    timeout(STATEMENT_MAX, statement).await.map_err(|_| silent())?
}

#[async_trait::async_trait]
impl ConnectionTrait for Bounded<'_> {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        bounded(self.0.execute_raw(statement)).await
    }

    async fn execute_unprepared(&self, statements: &str) -> Result<ExecResult, DbErr> {
        bounded(self.0.execute_unprepared(statements)).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        bounded(self.0.query_one_raw(statement)).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        bounded(self.0.query_all_raw(statement)).await
    }
}

//! The schema, step by step. A step that was released is never edited.
//!
//! All steps that are pending are one transaction, on SQLite too, so that a failure leaves
//! the schema as it was, and a replica that starts meets all of a version or nothing of it. A step may
//! therefore use nothing that cannot be in a transaction, and must be quick. Vaults of the
//! version before go on working while it runs and after it: a step only adds, and what
//! nobody uses any more goes a version later.
//!
//! Odd: sea-orm's migrator takes no lock and writes a table even when it has nothing to do.
//! Only its steps and its table are used.

mod m0001_keys;
mod m0002_replicas;
mod m0003_fallback_policy;
mod m0004_audit;
mod m0005_usage;
mod next;

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait as _,
    RuntimeErr, SqliteTransactionMode, Statement, TransactionOptions, TransactionTrait as _,
};
use sea_orm_migration::{prelude::*, seaql_migrations};

use super::connection::{ConnectError, LOCK_MAX as TABLE_MAX, Pooler};
pub use next::with_next_step;

/// How long a replica waits for another that is at the schema. Far beyond what steps take;
/// those that wait serve nothing yet.
pub(super) const LOCK_MAX: Duration = Duration::from_mins(1);

/// The lock of those that change the schema: `akv_migr` as a number. PostgreSQL keeps such
/// locks per database.
const LOCK: i64 = i64::from_be_bytes(*b"akv_migr");

/// All steps, oldest first.
struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let steps: Vec<Box<dyn MigrationTrait>> = vec![
            Box::new(m0001_keys::Migration),
            Box::new(m0002_replicas::Migration),
            Box::new(m0003_fallback_policy::Migration),
            Box::new(m0004_audit::Migration),
            Box::new(m0005_usage::Migration),
        ];
        steps.into_iter().chain(next::step()).collect()
    }
}

/// The steps that a database lacks, oldest first. Writes nothing.
///
/// # Errors
///
/// [`ConnectError::NewerSchema`] if it has a step that is not known here.
pub(super) async fn pending<C: ConnectionTrait>(db: &C) -> Result<Vec<Box<dyn MigrationTrait>>, ConnectError> {
    let applied = applied(db).await?;
    let steps = Migrator::migrations();
    if let Some(unknown) = applied.iter().find(|name| !steps.iter().any(|step| step.name() == **name)) {
        return Err(ConnectError::NewerSchema(unknown.clone()));
    }
    Ok(steps.into_iter().filter(|step| !applied.iter().any(|name| name == step.name())).collect())
}

/// Applies the steps that are pending when it is this process' turn, all or none. Returns
/// their names: none if another was quicker.
pub(super) async fn apply(db: &DatabaseConnection, pooler: Pooler) -> Result<Vec<String>, ConnectError> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = db.begin_with_options(options).await?;
    if db.get_database_backend() == DbBackend::Postgres {
        take_turn(&tx, pooler).await?;
    }
    let mut names = Vec::new();
    for step in pending(&tx).await? {
        Migrator::install(&tx).await?;
        step.up(&SchemaManager::new(&tx)).await?;
        let row = seaql_migrations::ActiveModel {
            version: Set(step.name().to_owned()),
            applied_at: Set(chrono::Utc::now().timestamp()),
        };
        seaql_migrations::Entity::insert(row).exec_without_returning(&tx).await?;
        names.push(step.name().to_owned());
    }
    tx.commit().await?;
    Ok(names)
}

/// Waits until no other process changes the schema. The lock goes with the transaction.
async fn take_turn(tx: &DatabaseTransaction, pooler: Pooler) -> Result<(), ConnectError> {
    let clean = match pooler {
        Pooler::None => "",
        Pooler::Transaction => "DEALLOCATE ALL; ",
    };
    let statements = format!(
        "{clean}SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {}; \
         SELECT pg_catalog.pg_advisory_xact_lock({LOCK}); SET LOCAL lock_timeout = {}",
        LOCK_MAX.as_millis(),
        TABLE_MAX.as_millis()
    );
    match tx.execute_unprepared(&statements).await {
        Ok(_) => Ok(()),
        Err(error) if is_lock_timeout(&error) => Err(ConnectError::Migrating),
        Err(error) => Err(error.into()),
    }
}

fn is_lock_timeout(error: &DbErr) -> bool {
    let DbErr::Exec(RuntimeErr::SqlxError(error)) = error else { return false };
    matches!(error.as_database_error(), Some(error) if error.code().is_some_and(|code| code == "55P03"))
}

async fn applied<C: ConnectionTrait>(db: &C) -> Result<Vec<String>, DbErr> {
    let backend = db.get_database_backend();
    let exists = match backend {
        DbBackend::Postgres => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT 1 FROM sqlite_master WHERE name = 'seaql_migrations'",
    };
    if db.query_all_raw(Statement::from_string(backend, exists)).await?.is_empty() {
        return Ok(Vec::new());
    }
    let query = Statement::from_string(backend, "SELECT version FROM seaql_migrations");
    db.query_all_raw(query).await?.iter().map(|row| row.try_get("", "version")).collect()
}

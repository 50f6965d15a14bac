//! All that an SQLite database holds, moved to PostgreSQL: for those who outgrow one machine.
//!
//! Rows are copied as they are, sealed: no key is opened, and the keyring stays. One transaction
//! writes them, so that the new database has all of a vault or nothing.
//!
//! Odd: pages are ranges of SQLite's row ids, which every table there has.

use sea_orm::{
    ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, EntityTrait, IntoActiveModel, QueryFilter as _,
    Statement, sea_query::Expr,
};
use uuid::Uuid;

use super::{
    Error, Store,
    bounded::Bounded,
    commit,
    connection::{ConnectError, Place, Pooler, sqlite_file},
    entity::{
        api_key, audit_chain, audit_event, change, fallback_policy, kek, key_use, organization_default, profile_key,
        request, rewrap, secret, usage_hour, usage_report, usage_reporter, vault_meta,
    },
};

/// How many rows one statement writes. PostgreSQL takes 65,535 values in one, and no row has a
/// hundred.
const ROWS_AT_ONCE: i64 = 500;

/// Why a database was not moved. Nothing was written to the new one then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// What is moved is not a file, or is to be moved to one.
    #[error(
        "a database is moved from `sqlite:PATH` to `postgres://…`; a file is moved by `backup` and `restored --from`"
    )]
    Kinds,
    /// One of the two cannot be used.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is nothing to move.
    #[error("the database to move belongs to no vault")]
    Empty,
    /// There is something already.
    #[error("the new database belongs to a vault already; it must be empty")]
    Taken,
    /// A statement failed.
    #[error("the database was not moved")]
    Store(#[from] Error),
    /// Rows were lost on the way.
    #[error("{read} rows of {table} were read, and {written} written")]
    Lost {
        /// Of which table.
        table: &'static str,
        /// How many.
        read: u64,
        /// How many.
        written: u64,
    },
}

impl From<DbErr> for TransferError {
    fn from(error: DbErr) -> Self {
        Self::Store(error.into())
    }
}

/// Moves the database at the URL `from` to `to`. Returns how many rows it has.
///
/// # Errors
///
/// [`TransferError`].
pub(crate) async fn transfer(from: &str, to: &Place) -> Result<u64, TransferError> {
    let path = from.strip_prefix("sqlite:").filter(|_| !to.url.starts_with("sqlite:")).ok_or(TransferError::Kinds)?;
    sqlite_file(path)?;
    // Its process has ended, and none begins.
    let old = Store::connect(&Place { url: from.to_owned(), pooler: Pooler::None, migration_url: None }).await?;
    if old.meta().await?.is_none() {
        return Err(TransferError::Empty);
    }
    let new = Store::connect(to).await?;
    if new.meta().await?.is_some() {
        return Err(TransferError::Taken);
    }
    let tx = new.transaction().await?;
    let rows = every_table(&old.read, &tx).await?;
    // Whoever was told of the old database watches anew: it may be served once more by mistake.
    Store::begin_epoch_in(&tx, Uuid::new_v4()).await?;
    commit(tx).await?;
    Ok(rows)
}

/// Every table but `replica`: none of those that it has will come back.
async fn every_table(from: &DatabaseConnection, to: &Bounded<'_>) -> Result<u64, TransferError> {
    let mut rows = 0;
    // What others refer to comes before them.
    rows += table::<kek::Entity>(from, to).await?;
    rows += table::<vault_meta::Entity>(from, to).await?;
    rows += table::<api_key::Entity>(from, to).await?;
    rows += table::<secret::Entity>(from, to).await?;
    rows += table::<organization_default::Entity>(from, to).await?;
    rows += table::<profile_key::Entity>(from, to).await?;
    rows += table::<fallback_policy::Entity>(from, to).await?;
    rows += table::<change::Entity>(from, to).await?;
    rows += table::<request::Entity>(from, to).await?;
    rows += table::<rewrap::Entity>(from, to).await?;
    rows += table::<key_use::Entity>(from, to).await?;
    rows += table::<usage_hour::Entity>(from, to).await?;
    rows += table::<usage_report::Entity>(from, to).await?;
    rows += table::<usage_reporter::Entity>(from, to).await?;
    rows += table::<audit_chain::Entity>(from, to).await?;
    rows += table::<audit_event::Entity>(from, to).await?;
    Ok(rows)
}

async fn table<E>(from: &DatabaseConnection, to: &Bounded<'_>) -> Result<u64, TransferError>
where
    E: EntityTrait,
    E::Model: IntoActiveModel<E::ActiveModel>,
    E::ActiveModel: Send,
{
    let table = E::default().table_name();
    let query = format!("SELECT MIN(rowid) AS first, MAX(rowid) AS last, COUNT(*) AS count FROM \"{table}\"");
    let found = from.query_one_raw(Statement::from_string(DbBackend::Sqlite, query)).await?;
    let found = found.ok_or(Error::Damaged("a table that cannot be counted"))?;
    let (first, last): (Option<i64>, Option<i64>) = (found.try_get("", "first")?, found.try_get("", "last")?);
    let read = u64::try_from(found.try_get::<i64>("", "count")?).unwrap_or_default();
    let mut written = 0;
    let mut next = first;
    while let Some(begin) = next.filter(|begin| last >= Some(*begin)) {
        let end = begin.saturating_add(ROWS_AT_ONCE);
        let page = Expr::cust(format!("rowid >= {begin} AND rowid < {end}"));
        let rows = E::find().filter(page).all(from).await?;
        let rows: Vec<_> = rows.into_iter().map(IntoActiveModel::into_active_model).collect();
        if !rows.is_empty() {
            written += E::insert_many(rows).exec_without_returning(to).await?;
        }
        next = Some(end);
    }
    if written == read { Ok(written) } else { Err(TransferError::Lost { table, read, written }) }
}

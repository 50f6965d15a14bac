//! Connecting: where SQLite and PostgreSQL differ.
//!
//! Nothing here prints a password. What goes wrong is said once, with what to change.

mod postgres;
mod sqlite;

use std::{fmt, path::PathBuf, time::Duration};

use sea_orm::{ConnectOptions, DatabaseExecutor, DbErr, TransactionTrait as _};

use super::{Bounded, Cause, Store, migration};
pub(super) use postgres::LOCK_MAX;
use postgres::Role;

/// How long a call waits for a free connection before it fails as unavailable, and how long
/// a vault that starts waits for its database.
pub(super) const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Where the database is, and what stands before it.
#[derive(Clone)]
pub(crate) struct Place {
    /// `sqlite:PATH` or `postgres://…`.
    pub(crate) url: String,
    /// What stands between the vault and PostgreSQL.
    pub(crate) pooler: Pooler,
    /// Where the schema is changed, if elsewhere.
    pub(crate) migration_url: Option<String>,
}

impl fmt::Debug for Place {
    /// A URL may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("pooler", &self.pooler).finish_non_exhaustive()
    }
}

/// What stands between the vault and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pooler {
    /// Nothing, or something that keeps a session on one connection of the server.
    None,
    /// Something that may give the connection away after each transaction.
    Transaction,
}

/// Why there is no database to work with. The text says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL names no database that this version knows.
    #[error("--database-url {0:?} is not `sqlite:PATH` or `postgres://…`")]
    Scheme(String),
    /// The path would be read otherwise by SQLite than by us.
    #[error("--database-url sqlite:{0} is refused: it must be a plain path of a file, without // in front and : ? # %")]
    Path(String),
    /// The URL of a PostgreSQL database has a mistake.
    #[error("the URL of the PostgreSQL database is refused: {0}")]
    Url(String),
    /// The folder or the file of an SQLite database cannot be used.
    #[error("the database file {path} cannot be used")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process has the file.
    #[error("the database {0} is in use by another key-vault; one SQLite file serves one process")]
    InUse(PathBuf),
    /// The server does not answer, or refuses.
    #[error("the database {server} cannot be used; {advice}")]
    Unreachable {
        /// Where: never with a password.
        server: String,
        /// What to look at.
        advice: &'static str,
        /// What was said.
        source: Cause,
    },
    /// The server is too old.
    #[error("the database {server} is PostgreSQL {version}; 15 or newer is needed")]
    OldPostgres {
        /// Where.
        server: String,
        /// Which.
        version: String,
    },
    /// The schema could not be brought up to date. Nothing of the change is left.
    #[error("the database's schema cannot be brought up to date")]
    NotMigrated(#[source] Cause),
    /// Another process holds the schema for too long.
    #[error(
        "another process has been changing the database's schema for {} s: wait for it, or look for it in pg_locks",
        migration::LOCK_MAX.as_secs()
    )]
    Migrating,
    /// What was migrated is not what is served.
    #[error("--migration-database-url leads to another database or schema than --database-url")]
    OtherDatabase,
    /// A later version of the vault has been here.
    #[error("the database's schema has step {0:?}, which this version does not know: run the newer version")]
    NewerSchema(String),
    /// The linked SQLite has a known fault.
    #[error("SQLite {0} is linked, which can corrupt its log; 3.51.3 or newer is needed")]
    OldSqlite(String),
}

impl From<DbErr> for ConnectError {
    /// Of statements about the schema; what fails before them has errors of its own.
    fn from(error: DbErr) -> Self {
        Self::NotMigrated(Cause::from(&error))
    }
}

impl Store {
    /// Connects to a database and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`ConnectError`]. Nothing was changed, also if a step of the schema failed.
    pub(crate) async fn connect(place: &Place) -> Result<Self, ConnectError> {
        let store = if let Some(path) = place.url.strip_prefix("sqlite:") {
            sqlite::open(path).await?
        } else {
            Self::connect_postgres(place).await?
        };
        store.migrate(place).await?;
        Ok(store)
    }

    async fn connect_postgres(place: &Place) -> Result<Self, ConnectError> {
        if !is_postgres(&place.url) {
            // A URL may hold a password: only its scheme is repeated.
            let scheme = place.url.split(':').next().unwrap_or_default();
            return Err(ConnectError::Scheme(format!("{scheme}:…")));
        }
        let options = postgres::options(&place.url, place.pooler)?;
        postgres::probe(&options).await?;
        Ok(Self {
            read: postgres::pool(&options, Role::Reader, place.pooler).await?,
            write: postgres::pool(&options, Role::Writer, place.pooler).await?,
            audit: postgres::pool(&options, Role::Audit, place.pooler).await?,
            pooler: place.pooler,
            _owner: None,
        })
    }

    /// Connects to a database to look at it. Changes nothing, takes no lock, and leaves the
    /// schema as it is. Returns the steps that the schema lacks.
    ///
    /// # Errors
    ///
    /// [`ConnectError`].
    pub(crate) async fn look(place: &Place) -> Result<(Self, Vec<String>), ConnectError> {
        let store = match place.url.strip_prefix("sqlite:") {
            Some(path) => sqlite::look(path).await?,
            None => Self::connect_postgres(place).await?,
        };
        let pending = migration::pending(&store.reader().await?).await?;
        Ok((store, pending.iter().map(|step| step.name().to_owned()).collect()))
    }

    /// Applies what is pending. A current schema is only read, so that a vault of this
    /// version can start beside one of the version before or after.
    async fn migrate(&self, place: &Place) -> Result<(), ConnectError> {
        if migration::pending(&self.reader().await?).await?.is_empty() {
            return Ok(());
        }
        let steps = match place.migration_url.as_deref().filter(|_| is_postgres(&place.url)) {
            None => migration::apply(&self.write, self.pooler).await?,
            Some(url) => {
                let options = postgres::options(url, Pooler::None)?;
                postgres::probe(&options).await?;
                let direct = postgres::pool(&options, Role::Migration, Pooler::None).await?;
                let steps = migration::apply(&direct, Pooler::None).await;
                let _ = direct.close().await;
                steps?
            }
        };
        if !steps.is_empty() {
            tracing::info!(steps = steps.join(", "), "the schema of the database was brought up to date");
        }
        let still = migration::pending(&self.reader().await?).await?;
        if still.is_empty() { Ok(()) } else { Err(ConnectError::OtherDatabase) }
    }

    /// What reads go to. Behind a pooler it is a transaction, which keeps one connection of
    /// the server: sqlx prepares a statement and runs it in two messages, and between two
    /// transactions the second may reach another connection than the first.
    pub(super) async fn reader(&self) -> Result<Bounded<'_>, DbErr> {
        match self.pooler {
            Pooler::None => Ok(Bounded::new(DatabaseExecutor::Connection(&self.read))),
            Pooler::Transaction => {
                let tx = Bounded::from(self.read.begin().await?);
                postgres::begin(&tx, Role::Reader).await?;
                Ok(tx)
            }
        }
    }

    /// Makes a new write transaction fit for what stands before the database.
    pub(super) async fn begun(&self, tx: &Bounded<'_>) -> Result<(), DbErr> {
        self.begun_as(tx, Role::Writer).await
    }

    /// The same, for one that only records.
    pub(super) async fn begun_audit(&self, tx: &Bounded<'_>) -> Result<(), DbErr> {
        self.begun_as(tx, Role::Audit).await
    }

    async fn begun_as(&self, tx: &Bounded<'_>, role: Role) -> Result<(), DbErr> {
        match self.pooler {
            Pooler::None => Ok(()),
            Pooler::Transaction => postgres::begin(tx, role).await,
        }
    }
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Options that keep statements out of logs and spans.
fn quiet(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).record_stmt_in_spans(false).acquire_timeout(ACQUIRE_MAX).connect_timeout(ACQUIRE_MAX);
    options
}

//! Connecting and migrating: where SQLite and PostgreSQL differ.

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait as _;

use super::{Store, migration::Migrator};

/// How long a call waits for a free connection before it fails as unavailable.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// How long SQLite waits for another connection's lock. Writers of one process take
/// turns before they reach it.
const BUSY_MAX_MS: u32 = 5_000;

/// Readers of SQLite: resolves are short, and more threads than cores only queue.
const SQLITE_READERS: u32 = 8;

/// Connections of one replica to PostgreSQL, whose default limit is 100 in all.
const POSTGRES_CONNECTIONS: u32 = 16;

/// The first version without the corruption of a WAL that is reset under a reader.
const SQLITE_VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// Why there is no database to work with. The text says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The URL names no database that this version knows.
    #[error("--database-url {0:?} is not `sqlite:PATH` or `postgres://…`")]
    Scheme(String),
    /// The path would be read otherwise by SQLite than by us.
    #[error("--database-url sqlite:{0} is refused: it must be a plain path of a file, without // in front and : ? # %")]
    Path(String),
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
    #[error("the database cannot be reached")]
    Unreachable(#[source] DbErr),
    /// The schema could not be brought up to date.
    #[error("the database's schema cannot be migrated")]
    NotMigrated(#[source] DbErr),
    /// A later version of the vault has been here.
    #[error("the database's schema has step {0:?}, which this version does not know: run the newer version")]
    NewerSchema(String),
    /// The linked SQLite has a known fault.
    #[error("SQLite {0} is linked, which can corrupt its log; 3.51.3 or newer is needed")]
    OldSqlite(String),
}

impl Store {
    /// Connects to the database at `url` and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], before anything was changed unless a migration itself failed.
    pub(crate) async fn connect(url: &str) -> Result<Self, ConnectError> {
        let store = if let Some(path) = url.strip_prefix("sqlite:") {
            if path.is_empty() || path.starts_with("//") || path.contains([':', '?', '#', '%']) {
                return Err(ConnectError::Path(path.to_owned()));
            }
            Self::open_file(Path::new(path)).await?
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let mut options = quiet(url);
            options.max_connections(POSTGRES_CONNECTIONS);
            let pool = Database::connect(options).await.map_err(ConnectError::Unreachable)?;
            Self { read: pool.clone(), write: pool, _owner: None }
        } else {
            // A URL may hold a password: only its scheme is repeated.
            let scheme = url.split(':').next().unwrap_or_default();
            return Err(ConnectError::Scheme(format!("{scheme}:…")));
        };
        store.migrate().await?;
        Ok(store)
    }

    async fn open_file(path: &Path) -> Result<Self, ConnectError> {
        let owner = claim(path)?;
        let url = format!("sqlite:{}?mode=rwc", path.display());
        // One writer: others would only wait for its lock, and be refused in the end.
        let mut options = sqlite(&url);
        options.max_connections(1).min_connections(1);
        let write = Database::connect(options).await.map_err(ConnectError::Unreachable)?;
        check_sqlite_version(&write).await?;
        let mut options = sqlite(&url);
        options.max_connections(SQLITE_READERS);
        let read = Database::connect(options).await.map_err(ConnectError::Unreachable)?;
        Ok(Self { read, write, _owner: Some(owner) })
    }

    async fn migrate(&self) -> Result<(), ConnectError> {
        let applied = self.applied_steps().await.map_err(ConnectError::NotMigrated)?;
        let known: Vec<_> = Migrator::migrations().iter().map(|step| step.name().to_owned()).collect();
        if let Some(unknown) = applied.into_iter().find(|step| !known.contains(step)) {
            return Err(ConnectError::NewerSchema(unknown));
        }
        Migrator::up(&self.write, None).await.map_err(ConnectError::NotMigrated)
    }

    async fn applied_steps(&self) -> Result<Vec<String>, DbErr> {
        Migrator::install(&self.write).await?;
        let backend = self.write.get_database_backend();
        let query = Statement::from_string(backend, "SELECT version FROM seaql_migrations");
        let rows = self.write.query_all_raw(query).await?;
        rows.into_iter().map(|row| row.try_get("", "version")).collect()
    }
}

/// Takes the exclusive lock beside the file, so that a second process is told instead of
/// sharing it. The lock goes with the process.
fn claim(path: &Path) -> Result<File, ConnectError> {
    let unusable = |source| ConnectError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder).map_err(unusable)?;
    }
    let mut private = File::options();
    private.create(true).append(true).mode(0o600);
    // Made here and not by SQLite, so that nobody else can read it.
    private.open(path).map_err(unusable)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = private.open(name).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ConnectError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn sqlite(url: &str) -> ConnectOptions {
    let mut options = quiet(url);
    // There is no network between us and a file.
    options.test_before_acquire(false);
    options.map_sqlx_sqlite_opts(|options| {
        options
            .pragma("journal_mode", "WAL")
            // An acknowledged write survives a power cut.
            .pragma("synchronous", "FULL")
            .pragma("foreign_keys", "ON")
            // Destroyed keys are overwritten, not only forgotten.
            .pragma("secure_delete", "ON")
            .pragma("busy_timeout", BUSY_MAX_MS.to_string())
    });
    options
}

/// Options that keep statements out of logs and spans.
fn quiet(url: &str) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.sqlx_logging(false).record_stmt_in_spans(false).acquire_timeout(ACQUIRE_MAX).connect_timeout(ACQUIRE_MAX);
    options
}

async fn check_sqlite_version(db: &sea_orm::DatabaseConnection) -> Result<(), ConnectError> {
    let query = Statement::from_string(DbBackend::Sqlite, "SELECT sqlite_version() AS version");
    let row = db.query_one_raw(query).await.map_err(ConnectError::Unreachable)?;
    let version: String =
        row.map(|row| row.try_get("", "version")).transpose().map_err(ConnectError::Unreachable)?.unwrap_or_default();
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    if (next(), next(), next()) < SQLITE_VERSION_MIN { Err(ConnectError::OldSqlite(version)) } else { Ok(()) }
}

//! The file of an SQLite database: who may have it, and how it is opened.

mod copy;

use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    sqlx::{self, Connection as _, SqliteConnection},
};

use super::{ConnectError, Pooler, quiet};
use crate::store::{Cause, Store};
pub(crate) use copy::Copy;

/// How long SQLite waits for another connection's lock. Writers of one process take
/// turns before they reach it.
const BUSY_MAX_MS: u32 = 5_000;

/// Readers of SQLite: resolves are short, and more threads than cores only queue.
const READERS: u32 = 8;

/// The first version without the corruption of a WAL that is reset under a reader.
const VERSION_MIN: (u32, u32, u32) = (3, 51, 3);

/// Opens the file, and keeps other processes from it.
pub(super) async fn open(path: &str) -> Result<Store, ConnectError> {
    if path.is_empty() || path.starts_with("//") || path.contains([':', '?', '#', '%']) {
        return Err(ConnectError::Path(path.to_owned()));
    }
    let unusable = |error: DbErr| ConnectError::Unreachable {
        server: path.to_owned(),
        advice: "is it a database of SQLite, and on a disk with room?",
        source: Cause::from(&error),
    };
    let owner = claim(Path::new(path))?;
    let url = format!("sqlite:{path}?mode=rwc");
    // One writer: others would only wait for its lock, and be refused in the end.
    let mut options = options(&url);
    options.max_connections(1).min_connections(1);
    let write = Database::connect(options.clone()).await.map_err(unusable)?;
    check_version(&write).await.map_err(unusable)??;
    options.max_connections(READERS).min_connections(0);
    let read = Database::connect(options).await.map_err(unusable)?;
    Ok(Store { read, audit: write.clone(), write, pooler: Pooler::None, _owner: Some(owner) })
}

/// Opens the file to read it, beside the process that has it.
pub(super) async fn look(path: &str) -> Result<Store, ConnectError> {
    let unusable = |error: DbErr| ConnectError::Unreachable {
        server: path.to_owned(),
        advice: "is it a database of SQLite?",
        source: Cause::from(&error),
    };
    is_there(path)?;
    let mut options = quiet(&format!("sqlite:{path}?mode=rw"));
    options.max_connections(1);
    let read = Database::connect(options).await.map_err(unusable)?;
    Ok(Store { write: read.clone(), audit: read.clone(), read, pooler: Pooler::None, _owner: None })
}

/// Whether there is a file: opening it would make one.
pub(in crate::store) fn is_there(path: &str) -> Result<(), ConnectError> {
    fs::metadata(path).map(drop).map_err(|source| ConnectError::File { path: path.into(), source })
}

/// Makes the file unless it is there, and keeps other processes from it.
fn claim(path: &Path) -> Result<File, ConnectError> {
    let owner = lock(path)?;
    // Made here and not by SQLite, so that nobody else can read it.
    private().open(path).map_err(|source| ConnectError::File { path: path.to_owned(), source })?;
    Ok(owner)
}

/// Takes the exclusive lock beside the file, so that a second process is told instead of
/// sharing it. The lock goes with the process.
fn lock(path: &Path) -> Result<File, ConnectError> {
    let unusable = |source| ConnectError::File { path: path.to_owned(), source };
    fs::create_dir_all(folder_of(path)).map_err(unusable)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let lock = private().open(name).map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ConnectError::InUse(path.to_owned())),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

/// How a file is opened that is made if it is not there, for its owner alone.
fn private() -> fs::OpenOptions {
    let mut private = File::options();
    private.create(true).append(true).mode(0o600);
    private
}

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn options(url: &str) -> ConnectOptions {
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
    options.map_sqlx_sqlite_pool_opts(|options| options.after_release(|connection, _| Box::pin(is_idle(connection))));
    options
}

/// Whether a connection that comes back has ended its transaction. One that has not is closed.
///
/// On a full disk SQLite rolls back by itself. The ROLLBACK that follows fails then, and sqlx
/// would take the next transaction for a part of the one before: its COMMIT would make nothing
/// permanent.
async fn is_idle(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Behind the ROLLBACK that may still be on its way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn check_version(db: &DatabaseConnection) -> Result<Result<(), ConnectError>, DbErr> {
    let query = Statement::from_string(DbBackend::Sqlite, "SELECT sqlite_version() AS version");
    let row = db.query_one_raw(query).await?;
    let version: String = row.map(|row| row.try_get("", "version")).transpose()?.unwrap_or_default();
    let mut numbers = version.split('.').map(|part| part.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    let is_old = (next(), next(), next()) < VERSION_MIN;
    Ok(if is_old { Err(ConnectError::OldSqlite(version)) } else { Ok(()) })
}

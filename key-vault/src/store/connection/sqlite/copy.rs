//! A whole copy of an SQLite database: taken while a vault serves it, and put where there is none.
//!
//! A copy is made in a file beside its place and appears there when it is complete, checked and
//! on the disk; nothing is ever overwritten. Nobody but its owner may read it.
//!
//! Odd: the copy is not the file with its log, but what the database holds (`VACUUM INTO`). What
//! was deleted is not in it, and it needs no other file.

use std::{
    fs::{self, File},
    io::{self, Read, Seek as _, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr, Statement};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use super::{ConnectError, folder_of, lock, look, quiet};
use crate::store::Cause;

/// The longest that a copy is written or checked. A slow disk takes a minute for a database of
/// some GiB; one that falls silent is given up.
const STEP_MAX: Duration = Duration::from_hours(1);

/// Files that belong to a database and would be read with another one in its place.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Why there is no copy. The text says what to change.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// There is no file to copy.
    #[error("only a database of `sqlite:PATH` is copied here; PostgreSQL is by `pg_dump` and `pg_restore`")]
    NotAFile,
    /// The database cannot be opened, or another process has it.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// What is copied was never a vault's.
    #[error("this is not the database of a vault")]
    NotAVault,
    /// There is something already.
    #[error("{0} is there already, and nothing is overwritten: move it away first")]
    Exists(PathBuf),
    /// The disk refuses.
    #[error("the copy {path} cannot be written")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// SQLite refuses to copy.
    #[error("the database cannot be copied")]
    Failed(#[source] Cause),
    /// What was copied does not come out whole.
    #[error("the copy is damaged, and was thrown away")]
    Damaged(#[source] Cause),
}

/// A copy that is complete and has no place yet. Removed when dropped.
#[derive(Debug)]
pub(crate) struct Copy {
    file: NamedTempFile,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Copy {
    /// Copies the database at `url`, beside whoever serves it. `to` is where the copy will be kept,
    /// if it will; it is made beside it.
    ///
    /// # Errors
    ///
    /// [`CopyError`]. Nothing is left then.
    pub(crate) async fn take(url: &str, to: Option<&Path>) -> Result<Self, CopyError> {
        let path = path_of(url)?;
        if let Some(taken) = to.filter(|to| to.exists()) {
            return Err(CopyError::Exists(taken.to_owned()));
        }
        // Before the database is opened, which would leave its log behind if this failed.
        let file = beside(folder_of(to.unwrap_or(Path::new(path))))?;
        let store = look(path).await?;
        let into = file.path().to_string_lossy().replace('\'', "''");
        let copied = in_time(store.read.execute_unprepared(&format!("VACUUM INTO '{into}'"))).await;
        let _ = store.read.close().await;
        copied.map_err(CopyError::Failed)?;
        Self::checked(file).await
    }

    /// Reads a copy for the database at `url`.
    ///
    /// # Errors
    ///
    /// [`CopyError`], also if what was read is no whole database of a vault. Nothing is left then.
    pub(crate) async fn read(from: &mut impl Read, url: &str) -> Result<Self, CopyError> {
        let folder = folder_of(Path::new(path_of(url)?));
        fs::create_dir_all(folder).map_err(|source| CopyError::File { path: folder.to_owned(), source })?;
        let mut file = beside(folder)?;
        io::copy(from, &mut file).map_err(|source| CopyError::File { path: file.path().to_owned(), source })?;
        Self::checked(file).await
    }

    async fn checked(file: NamedTempFile) -> Result<Self, CopyError> {
        check(file.path()).await?;
        let size = file.as_file().sync_all().and_then(|()| file.as_file().metadata()).map(|data| data.len());
        match size {
            Ok(size) => Ok(Self { file, size }),
            Err(source) => Err(CopyError::File { path: file.path().to_owned(), source }),
        }
    }

    /// Puts the copy to its place, which must be empty.
    ///
    /// # Errors
    ///
    /// [`CopyError::Exists`], [`CopyError::File`].
    pub(crate) fn keep(self, path: &Path) -> Result<(), CopyError> {
        let failed = |source| CopyError::File { path: path.to_owned(), source };
        self.file.persist_noclobber(path).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => CopyError::Exists(path.to_owned()),
            _ => failed(error.error),
        })?;
        // Its name survives a power cut too.
        File::open(folder_of(path)).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Puts the copy to the place of the database at `url`: no process may have it, and nothing
    /// of another database may be there.
    ///
    /// # Errors
    ///
    /// [`CopyError::Connect`], [`CopyError::Exists`], [`CopyError::File`].
    pub(crate) fn put_back(self, url: &str) -> Result<(), CopyError> {
        let path = Path::new(path_of(url)?);
        let _lock = lock(path)?;
        for suffix in COMPANIONS {
            let mut companion = path.as_os_str().to_owned();
            companion.push(suffix);
            if Path::new(&companion).exists() {
                return Err(CopyError::Exists(companion.into()));
            }
        }
        self.keep(path)
    }

    /// Writes the copy to `out`.
    ///
    /// # Errors
    ///
    /// [`CopyError::File`].
    pub(crate) fn write_to(mut self, out: &mut impl Write) -> Result<(), CopyError> {
        let file = self.file.as_file_mut();
        let written = file.rewind().and_then(|()| io::copy(file, out)).and_then(|_| out.flush());
        written.map_err(|source| CopyError::File { path: "-".into(), source })
    }
}

/// The path in a URL.
fn path_of(url: &str) -> Result<&str, CopyError> {
    url.strip_prefix("sqlite:").ok_or(CopyError::NotAFile)
}

/// An empty file that only its owner may read.
fn beside(folder: &Path) -> Result<NamedTempFile, CopyError> {
    let made = tempfile::Builder::new().prefix(".key-vault-copy-").tempfile_in(folder);
    made.map_err(|source| CopyError::File { path: folder.to_owned(), source })
}

/// Whether a file is a whole database, and a vault's.
async fn check(path: &Path) -> Result<(), CopyError> {
    let mut options = quiet("sqlite:?mode=ro");
    let file = path.to_owned();
    // Not in the URL: the folder's name may have any characters.
    options.max_connections(1).map_sqlx_sqlite_opts(move |options| options.filename(&file));
    let db = Database::connect(options).await.map_err(|error| CopyError::Damaged(Cause::from(&error)))?;
    let checked = check_connected(&db).await;
    let _ = db.close().await;
    checked
}

async fn check_connected(db: &DatabaseConnection) -> Result<(), CopyError> {
    let query = |text: &str| Statement::from_string(DbBackend::Sqlite, text);
    let found = in_time(db.query_one_raw(query("PRAGMA integrity_check(1)"))).await.map_err(CopyError::Damaged)?;
    let verdict: Option<String> = found.and_then(|row| row.try_get_by_index(0).ok());
    match verdict.as_deref() {
        Some("ok") => {}
        Some(fault) => return Err(CopyError::Damaged(Cause::new(fault))),
        None => return Err(CopyError::Damaged(Cause::new("SQLite does not say that it is whole"))),
    }
    match in_time(db.query_one_raw(query("SELECT vault_id FROM vault_meta"))).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) | Err(_) => Err(CopyError::NotAVault),
    }
}

async fn in_time<T>(statement: impl Future<Output = Result<T, DbErr>>) -> Result<T, Cause> {
    let silent = |_| Cause::new(format!("no answer within {} minutes", STEP_MAX.as_secs() / 60));
    timeout(STEP_MAX, statement).await.map_err(silent)?.map_err(|error| Cause::from(&error))
}

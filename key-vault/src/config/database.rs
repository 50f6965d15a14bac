//! Where the database is. Its URL may hold a password, so it can be in a file, as secrets
//! are mounted; it is printed nowhere.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};

use crate::store;

/// No URL is longer.
const URL_BYTES_MAX: u64 = 16 * 1024;

/// Which database, and how it is reached.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Database")]
pub struct DatabaseOptions {
    /// `sqlite:PATH` or `postgres://…`. With --dev: `sqlite:var/key-vault.db`
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,

    /// A file with what --database-url would say, for a URL with a password. Read at the start
    #[arg(long, value_name = "PATH", conflicts_with = "database_url")]
    pub database_url_file: Option<PathBuf>,

    /// What stands before PostgreSQL: `transaction` for pgbouncer in transaction mode
    #[arg(long, value_enum, default_value_t = Pooler::None)]
    pub database_pooler: Pooler,

    /// Where the schema is changed, past a pooler or as another user. --database-url, unless given
    #[arg(long, value_name = "URL")]
    pub migration_database_url: Option<String>,

    /// A file with what --migration-database-url would say
    #[arg(long, value_name = "PATH", conflicts_with = "migration_database_url")]
    pub migration_database_url_file: Option<PathBuf>,
}

/// What stands between the vault and PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Pooler {
    /// Nothing, or a pooler in session mode.
    None,
    /// A pooler that gives a connection of the server away at the end of each transaction.
    Transaction,
}

/// Why it is not known where the database is.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseUrlError {
    /// Nothing says where.
    #[error("no database is named: give --database-url or --database-url-file")]
    Missing,
    /// The file cannot be read.
    #[error("{option} {} cannot be read", path.display())]
    Unreadable {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no URL in the file.
    #[error("{option} {} must hold one line, the URL, of at most {URL_BYTES_MAX} bytes", path.display())]
    NotOneLine {
        /// Which option names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
    },
}

impl DatabaseOptions {
    /// The database that is named, or else the one at `unless_named`.
    ///
    /// # Errors
    ///
    /// [`DatabaseUrlError`], if a file cannot be used, or nothing is named.
    pub(crate) fn place(&self, unless_named: Option<&str>) -> Result<store::Place, DatabaseUrlError> {
        let named = one_of("--database-url-file", self.database_url.as_deref(), self.database_url_file.as_deref())?;
        let url = named.or_else(|| unless_named.map(str::to_owned)).ok_or(DatabaseUrlError::Missing)?;
        let migration_url = one_of(
            "--migration-database-url-file",
            self.migration_database_url.as_deref(),
            self.migration_database_url_file.as_deref(),
        )?;
        let pooler = match self.database_pooler {
            Pooler::None => store::Pooler::None,
            Pooler::Transaction => store::Pooler::Transaction,
        };
        Ok(store::Place { url, pooler, migration_url })
    }
}

fn one_of(option: &'static str, text: Option<&str>, path: Option<&Path>) -> Result<Option<String>, DatabaseUrlError> {
    path.map_or_else(|| Ok(text.map(str::to_owned)), |path| read(option, path).map(Some))
}

fn read(option: &'static str, path: &Path) -> Result<String, DatabaseUrlError> {
    let mut text = String::new();
    let file = File::open(path).and_then(|file| file.take(URL_BYTES_MAX + 1).read_to_string(&mut text));
    let path = || path.to_owned();
    let length = file.map_err(|source| DatabaseUrlError::Unreadable { option, path: path(), source })?;
    // Editors end files with a line break; no URL does.
    let url = text.trim_end_matches(['\r', '\n']);
    let is_too_long = u64::try_from(length).is_ok_and(|length| length > URL_BYTES_MAX);
    if is_too_long || url.is_empty() || url.contains(char::is_whitespace) {
        return Err(DatabaseUrlError::NotOneLine { option, path: path() });
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        database: DatabaseOptions,
    }

    fn place(arguments: &[&str], unless_named: Option<&str>) -> Result<store::Place, String> {
        let command = Command::try_parse_from([&["command"], arguments].concat()).map_err(|error| error.to_string())?;
        command.database.place(unless_named).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_comes_from_the_option_or_from_the_file_that_is_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        std::fs::write(&path, "postgres://vault:secret@db/vault\n").unwrap();
        let file = format!("--database-url-file={}", path.display());
        let migration = format!("--migration-database-url-file={}", path.display());
        let found = place(&[&file, &migration], Some("sqlite:other.db")).unwrap();
        assert_eq!(found.url, "postgres://vault:secret@db/vault");
        assert_eq!(found.migration_url.as_deref(), Some("postgres://vault:secret@db/vault"));
        assert_eq!(place(&["--database-url=sqlite:a.db"], None).unwrap().url, "sqlite:a.db");
        assert_eq!(place(&[], Some("sqlite:other.db")).unwrap().url, "sqlite:other.db");
        assert!(place(&[], None).unwrap_err().contains("--database-url-file"));
        assert!(place(&[&file, "--database-url=sqlite:a.db"], None).unwrap_err().contains("cannot be used with"));
    }

    #[test]
    fn a_file_without_a_url_is_refused_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("url");
        let file = format!("--database-url-file={}", path.display());
        assert!(place(&[&file], None).unwrap_err().contains("cannot be read"));
        let too_long = "x".repeat(usize::try_from(URL_BYTES_MAX).unwrap() + 1);
        for text in ["", "\n", "postgres://secret@a\npostgres://secret@b\n", " postgres://secret@a", &too_long] {
            std::fs::write(&path, text).unwrap();
            let problem = place(&[&file], None).unwrap_err();
            assert!(problem.contains("must hold one line") && !problem.contains("secret"), "{problem}");
        }
    }
}

//! Connections to PostgreSQL, direct and by way of a pooler.
//!
//! Readers and writers have pools of their own: writers wait for each other and for
//! standbys, and no resolution waits behind them. Every connection is asked before each use
//! whether its server takes writes, so that a standby is not read after a failover.
//!
//! Odd: writers have no `statement_timeout`. PostgreSQL lets it end the wait of a COMMIT for
//! its standbys, and then reports success. They are bounded by `lock_timeout`, and a COMMIT
//! by the store.

use std::{io, str::FromStr as _, time::Duration};

use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbErr,
    sqlx::{
        self, AssertSqlSafe, ConnectOptions as _, Connection as _,
        postgres::{PgConnectOptions, PgConnection},
    },
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use url::Url;

use super::{ACQUIRE_MAX, ConnectError, Pooler, quiet};
use crate::store::{Bounded, Cause};

/// Connections of one replica for reads. With those for writes and records less than a fifth of
/// PostgreSQL's default limit of 100, so that five replicas fit and something is left for people.
const READERS: u32 = 12;

/// Connections of one replica for writes. Writes take turns; more would only queue inside
/// the database instead of before it.
const WRITERS: u32 = 4;

/// Connections of one replica for records of resolutions. One batch is written at a time; the
/// other connection is for the time in which the first is given up.
const RECORDERS: u32 = 2;

/// The longest read. The slowest, a page of a listing, takes milliseconds.
const READ_MAX: Duration = Duration::from_secs(10);

/// How long a write waits for those before it, and a step of the schema for the tables.
pub(in crate::store) const LOCK_MAX: Duration = Duration::from_secs(5);

/// The same, for records of resolutions: callers wait for these.
const RECORD_LOCK_MAX: Duration = Duration::from_secs(2);

/// How long the server keeps a transaction whose vault says nothing. Between two statements
/// there is no more than some encryption. Less than [`LOCK_MAX`], so that those behind a vault
/// that hangs get their turn.
const SILENCE_MAX: Duration = Duration::from_secs(4);

/// How long a connection may take to say that it is well.
const CHECK_MAX: Duration = Duration::from_secs(2);

/// How long a vault that starts waits before it asks the database again.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// What a server says of its version: 15.4 is 150004.
const VERSION_NUMBER_MIN: u32 = 150_000;

/// One row if the server takes writes: it is no standby, and nobody made it read-only.
const TAKES_WRITES: &str = "SELECT 1 WHERE NOT pg_catalog.pg_is_in_recovery() \
    AND pg_catalog.current_setting('transaction_read_only') = 'off'";

const READ_ONLY: &str = "the server is read-only: a standby, or set so";

/// The parameters of a URL that sqlx reads. It passes over all others.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Reader,
    Writer,
    /// Writes records of resolutions.
    Audit,
    /// Changes the schema. What it waits for is said in its transaction.
    Migration,
}

impl Role {
    fn connections(self) -> u32 {
        match self {
            Self::Reader => READERS,
            Self::Writer => WRITERS,
            Self::Audit => RECORDERS,
            Self::Migration => 1,
        }
    }

    /// The limits of a session, or of one transaction.
    fn limits(self, set: &str) -> String {
        let statement_max = match self {
            Self::Reader => READ_MAX,
            Self::Writer | Self::Audit | Self::Migration => Duration::ZERO,
        };
        let lock_max = if self == Self::Audit { RECORD_LOCK_MAX } else { LOCK_MAX };
        format!(
            "{set} statement_timeout = {}; {set} lock_timeout = {}; {set} idle_in_transaction_session_timeout = {}",
            statement_max.as_millis(),
            lock_max.as_millis(),
            SILENCE_MAX.as_millis()
        )
    }
}

/// Reads a URL. What sqlx would pass over in silence is refused.
pub(super) fn options(url: &str, pooler: Pooler) -> Result<PgConnectOptions, ConnectError> {
    check_url(url)?;
    let mut options = PgConnectOptions::from_str(url).map_err(|error| {
        ConnectError::Url(match error {
            sqlx::Error::Configuration(problem) => problem.to_string(),
            other => other.to_string(),
        })
    })?;
    if options.get_application_name().is_none() {
        options = options.application_name("key-vault");
    }
    if pooler == Pooler::Transaction {
        options = options.statement_cache_capacity(0);
    }
    // Poolers refuse parameters at the start that they do not know, and there are no floats.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

fn check_url(url: &str) -> Result<(), ConnectError> {
    let parsed = Url::parse(url).map_err(|problem| ConnectError::Url(problem.to_string()))?;
    let mut verifies = false;
    let mut has_authority = false;
    for (name, value) in parsed.query_pairs() {
        match name.as_ref() {
            "sslmode" | "ssl-mode" => verifies = value.starts_with("verify-"),
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => has_authority = true,
            name if PARAMETERS.contains(&name) || name.starts_with("options[") => {}
            name => return Err(ConnectError::Url(format!("it has the parameter {name:?}, which is not known here"))),
        }
    }
    if has_authority && !verifies {
        return Err(ConnectError::Url("sslrootcert has no effect without sslmode=verify-full".to_owned()));
    }
    Ok(())
}

/// Waits until the server can be used. Says why if it cannot.
pub(super) async fn probe(options: &PgConnectOptions) -> Result<(), ConnectError> {
    let deadline = Instant::now() + ACQUIRE_MAX;
    let mut last = None;
    let error = loop {
        match timeout_at(deadline, examine(options)).await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(version))) => return Err(ConnectError::OldPostgres { server: place(options), version }),
            Ok(Err(error)) if may_pass(&error) && Instant::now() + RETRY_EVERY < deadline => last = Some(error),
            Ok(Err(error)) => break error,
            // What was said before says more.
            Err(_) => {
                break last.unwrap_or_else(|| io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into());
            }
        }
        sleep(RETRY_EVERY).await;
    };
    Err(ConnectError::Unreachable { server: place(options), advice: advice(&error), source: Cause::from(&error) })
}

/// Returns the server's version if that is too old.
async fn examine(options: &PgConnectOptions) -> Result<Option<String>, sqlx::Error> {
    let mut connection = options.connect().await?;
    let version = connection.server_version_num().unwrap_or(0);
    if version < VERSION_NUMBER_MIN {
        return Ok(Some(format!("{}.{}", version / 10_000, version % 10_000)));
    }
    check(&mut connection, TAKES_WRITES.to_owned()).await?;
    connection.close().await?;
    Ok(None)
}

/// Runs statements of which the last is [`TAKES_WRITES`]. A server that does not is an error.
async fn check(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    let checked = timeout(CHECK_MAX, sqlx::raw_sql(AssertSqlSafe(statements)).execute(connection)).await;
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "a connection to the database has fallen silent");
    match checked.map_err(|_| silent())?? {
        outcome if outcome.rows_affected() == 1 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, READ_ONLY).into()),
    }
}

/// A pool that connects when it is asked.
pub(super) async fn pool(
    options: &PgConnectOptions,
    role: Role,
    pooler: Pooler,
) -> Result<DatabaseConnection, ConnectError> {
    // sea-orm puts the URL into a span. It gets one without a password, and the options here.
    let mut quiet = quiet("postgres://key-vault");
    quiet.max_connections(role.connections()).connect_lazy(true).test_before_acquire(false);
    let given = options.clone();
    quiet.map_sqlx_postgres_opts(move |_| given.clone());
    let session = match pooler {
        Pooler::None => format!("{}; {TAKES_WRITES}", role.limits("SET")),
        // A session is nobody's. The limits are set in each transaction.
        Pooler::Transaction => TAKES_WRITES.to_owned(),
    };
    quiet.map_sqlx_postgres_pool_opts(move |options| {
        let session = session.clone();
        options
            .after_connect(move |connection, _| Box::pin(check(connection, session.clone())))
            .before_acquire(|connection, _| {
                Box::pin(async move { check(connection, TAKES_WRITES.to_owned()).await.map(|()| true) })
            })
            // sqlx waits for a connection that comes back for as long as it takes.
            .after_release(|connection, _| {
                Box::pin(async move {
                    let answered = timeout(CHECK_MAX, connection.ping()).await;
                    Ok(answered.is_ok_and(|answer| answer.is_ok()))
                })
            })
    });
    Ok(Database::connect(quiet).await?)
}

/// The first statements of a transaction behind a pooler: its limits, whether the server
/// takes writes, and a connection without the prepared statements of whoever had it before.
/// sqlx numbers them from one on every connection of its own.
pub(super) async fn begin(tx: &Bounded<'_>, role: Role) -> Result<(), DbErr> {
    let statements = format!("DEALLOCATE ALL; {}; {TAKES_WRITES}", role.limits("SET LOCAL"));
    match tx.execute_unprepared(&statements).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(DbErr::Custom(READ_ONLY.to_owned())),
    }
}

/// Where a server is, for people.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or(options.get_username());
    match options.get_socket() {
        Some(folder) => format!("{database:?} in {}", folder.display()),
        None => format!("{database:?} at {}:{}", options.get_host(), options.get_port()),
    }
}

/// Whether a server that starts, or fails over, may say otherwise a moment later.
fn may_pass(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(error) => {
            use io::ErrorKind as Kind;
            matches!(
                error.kind(),
                Kind::ConnectionRefused | Kind::ConnectionReset | Kind::UnexpectedEof | Kind::ReadOnlyFilesystem
            )
        }
        sqlx::Error::Database(error) => error.code().is_some_and(|code| ["53300", "57P03"].contains(&code.as_ref())),
        _ => false,
    }
}

fn advice(error: &sqlx::Error) -> &'static str {
    const TLS: &str = "TLS failed: sslmode=verify-full needs the server's authority in sslrootcert, and in its \
        certificate the host that the URL names";
    match error {
        sqlx::Error::Tls(_) => TLS,
        sqlx::Error::Io(error) => match error.kind() {
            // What rustls says comes as invalid data.
            io::ErrorKind::InvalidData => TLS,
            io::ErrorKind::ConnectionRefused => "nothing listens there: is it running, and is this its port?",
            io::ErrorKind::TimedOut => "it does not answer: is there a way to it, and no firewall?",
            io::ErrorKind::ReadOnlyFilesystem => "the URL must lead to the primary",
            _ => "is its name right, and is there a way to it?",
        },
        sqlx::Error::Database(error) => match error.code().as_deref().unwrap_or_default() {
            "28P01" | "28000" => {
                "it does not let this user in: check the user and the password in the URL, and pg_hba.conf"
            }
            "3D000" => "it has no such database: make it first",
            "53300" => "it has no connection left: raise its max_connections, or put a pooler before it",
            "57P03" => "it is starting or stopping",
            "08P01" => "something between does not take the connection: a pooler wants --database-pooler transaction",
            _ => "it refuses",
        },
        _ => "it does not speak as PostgreSQL does",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_nothing_that_is_passed_over() {
        for (url, problem) in [
            ("postgres://u:p@h/d", None),
            ("postgresql://u:p@h/d?sslmode=verify-full&sslrootcert=/ca.pem", None),
            ("postgres://h/d?options[search_path]=vault&application_name=a", None),
            ("postgres://u:p@h/d?sslrootcert=/ca.pem", Some("no effect")),
            ("postgres://u:p@h/d?sslmode=require&sslrootcert=/ca.pem", Some("no effect")),
            ("postgres://u:p@h/d?sslmod=verify-full", Some("\"sslmod\"")),
            ("postgres://u:p@h/d?channel_binding=require", Some("\"channel_binding\"")),
            ("postgres://u:p@h/d?sslmode=strict", Some("strict")),
            ("postgres://u:p@h:port/d", Some("port")),
        ] {
            let found = options(url, Pooler::None).err().map(|error| error.to_string());
            match (problem, &found) {
                (None, None) => {}
                (Some(problem), Some(found)) => assert!(found.contains(problem), "{url}: {found}"),
                _ => panic!("{url}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_place_has_no_password() {
        let options = options("postgres://user:secret@db.example:5433/vault", Pooler::None).expect("a URL");
        assert_eq!(place(&options), "\"vault\" at db.example:5433");
    }
}

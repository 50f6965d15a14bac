//! What went wrong in a database, said once.
//!
//! The libraries print an error and its source, and the source again as source. Here it is
//! one line, without statements, values or passwords.

use std::fmt;

use sea_orm::{
    ConnAcquireErr, DbErr, RuntimeErr,
    sqlx::{self, error::DatabaseError, postgres::PgDatabaseError, postgres::PgSeverity, sqlite::SqliteError},
};

/// The innermost text of an error of the database or of the way to it. Has no source.
#[derive(Debug)]
pub(crate) struct Cause(String);

impl Cause {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Cause {}

impl From<&sqlx::Error> for Cause {
    fn from(error: &sqlx::Error) -> Self {
        Self(match error {
            // Its detail may quote values of rows: only the message is kept.
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => format!("{} ({code})", error.message()),
                None => error.message().to_owned(),
            },
            sqlx::Error::Io(error) => error.to_string(),
            sqlx::Error::Tls(error) | sqlx::Error::Configuration(error) => error.to_string(),
            other => other.to_string(),
        })
    }
}

impl From<&DbErr> for Cause {
    fn from(error: &DbErr) -> Self {
        match error {
            DbErr::Conn(RuntimeErr::SqlxError(error))
            | DbErr::Exec(RuntimeErr::SqlxError(error))
            | DbErr::Query(RuntimeErr::SqlxError(error)) => Self::from(error.as_ref()),
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
                Self::new(format!("no connection was free or could be made within {} s", super::ACQUIRE_MAX.as_secs()))
            }
            other => Self::new(other.to_string()),
        }
    }
}

/// Whether a failed COMMIT may have committed all the same: not if the database itself
/// said no and lives on to say it.
pub(super) fn leaves_outcome_unknown(error: &DbErr) -> bool {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return true;
    };
    match error.as_ref() {
        sqlx::Error::Database(error) => !is_definite(error.as_ref()),
        _ => true,
    }
}

fn is_definite(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    if let Some(error) = error.try_downcast_ref::<PgDatabaseError>() {
        // Classes of a connection that is going away. A pooler says them as plain errors.
        let going = code.starts_with("08") || code.starts_with("57P");
        return matches!(error.severity(), PgSeverity::Error) && !going;
    }
    if error.try_downcast_ref::<SqliteError>().is_some() {
        // The low byte is the kind, and 10 is SQLITE_IOERR: how much reached the disk is open.
        return code.parse::<u32>().is_ok_and(|code| code & 0xff != 10);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let refused = || sqlx::Error::Io(std::io::Error::other("connection refused"));
        for (error, text) in [
            (DbErr::Conn(RuntimeErr::SqlxError(refused().into())), "connection refused"),
            (DbErr::Query(RuntimeErr::SqlxError(refused().into())), "connection refused"),
            (DbErr::ConnectionAcquire(ConnAcquireErr::Timeout), "no connection was free or could be made within 5 s"),
            (DbErr::Custom("read-only".to_owned()), "Custom Error: read-only"),
        ] {
            assert_eq!(Cause::from(&error).to_string(), text);
        }
    }

    #[test]
    fn a_lost_connection_leaves_the_outcome_open() {
        let lost = sqlx::Error::Io(std::io::ErrorKind::UnexpectedEof.into());
        assert!(leaves_outcome_unknown(&DbErr::Query(RuntimeErr::SqlxError(lost.into()))));
        assert!(leaves_outcome_unknown(&DbErr::Query(RuntimeErr::SqlxError(sqlx::Error::WorkerCrashed.into()))));
    }
}

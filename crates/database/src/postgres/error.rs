//! Classifying PostgreSQL's errors.

use std::error::Error as StdError;

use deadpool::managed::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

use crate::Error;

/// The failure of a statement.
#[derive(Debug)]
pub struct Failed {
    /// The error for the caller.
    pub error: Error,
    /// The likely cause.
    pub cause: Cause,
}

/// The likely cause of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server or the connection. The same statement for fewer rows would fail as well.
    Server,
    /// A default setting of the database or of the role, which a transaction can override.
    Defaults,
    /// A lock that another transaction holds for long, such as one that rewrites a table, or one at a console.
    Lock,
    /// A concurrent transaction. This one was rolled back and may be repeated at once.
    Conflict,
    /// Possibly a single row of the statement. The others may succeed without it.
    Row,
}

impl Failed {
    /// Makes the failure of a server or of a connection.
    pub(super) fn of_server(error: Error) -> Self {
        Self { error, cause: Cause::Server }
    }

    /// Classifies a failed statement.
    pub(super) fn of_query(error: &tokio_postgres::Error) -> Self {
        let cause = error.code().map_or(Cause::Server, |code| cause_of_code(code.code()));
        Self { error: of_query(error), cause }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Error {
        failed.error
    }
}

/// For failures of anything but the statement, such as reading its answer.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::of_server(error)
    }
}

/// Translates a failed statement or a failed attempt to connect.
pub(super) fn of_query(error: &tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // An error that does not come from the server comes from the connection.
        return Error::Unavailable(chain(error));
    };
    let code = refusal.code().code();
    // Without the detail, which may contain users' data.
    let text = format!("{} ({code})", refusal.message());
    match of_code(code) {
        Kind::Unavailable => Error::Unavailable(text),
        Kind::Address => Error::Address(text),
        Kind::Refused => Error::Refused(text),
    }
}

/// Translates an error of the pool.
pub(super) fn of_pool(error: &PoolError<tokio_postgres::Error>) -> Error {
    match error {
        PoolError::Backend(error) => of_query(error),
        PoolError::Timeout(TimeoutType::Wait) => Error::Unavailable("all connections are in use".into()),
        PoolError::Timeout(TimeoutType::Create) => Error::Unavailable("no connection in time".into()),
        PoolError::Timeout(TimeoutType::Recycle) | PoolError::Closed => {
            Error::Unavailable("the connection was lost".into())
        }
        PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => Error::Refused(error.to_string()),
    }
}

/// Translates an error of reading an answer.
pub(super) fn of_decoding(error: &tokio_postgres::Error) -> Error {
    Error::Refused(chain(error))
}

/// Returns the text of an error with all its causes.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns whether the connection is useless from now on. A primary that became a standby keeps its connections and refuses all writes, while
/// its address may lead to the new primary already. A prepared statement may have been removed, or a migration may have changed what it returns.
pub(super) fn spoils_the_connection(error: &tokio_postgres::Error) -> bool {
    let spoiling = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    error.code().is_some_and(|code| spoiling.contains(code))
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Address,
    Refused,
}

/// Classifies an error code, by appendix A of PostgreSQL's manual.
fn of_code(code: &str) -> Kind {
    match code {
        // No lock in time; read-only transaction (a primary that became a standby); ended by `idle_in_transaction_session_timeout` or
        // `transaction_timeout`.
        "55P03" | "25006" | "25P03" | "25P04" => Kind::Unavailable,
        _ => match code.get(..2) {
            // Connection, rolled back (serialization, deadlock), out of resources, ended by an operator, system error, and an internal
            // error, such as a page that is half written because the disk was full. Another try may succeed later.
            Some("08" | "40" | "53" | "57" | "58" | "XX") => Kind::Unavailable,
            // Wrong password or role, no such database.
            Some("28" | "3D") => Kind::Address,
            _ => Kind::Refused,
        },
    }
}

/// Returns the likely cause of an error code, by the same list. A trigger may raise any code, so every code that need not concern the whole
/// statement may concern a row.
fn cause_of_code(code: &str) -> Cause {
    match code {
        "40001" | "40P01" => Cause::Conflict,
        // A prepared statement that is not there any more.
        "26000" => Cause::Conflict,
        // No lock within `lock_timeout`.
        "55P03" => Cause::Lock,
        // Cancelled, by `statement_timeout` or from a console; unsupported isolation level (SERIALIZABLE on a standby).
        "57014" | "0A000" => Cause::Defaults,
        // A policy of row-level security refused a row, or a right is missing.
        "42501" => Cause::Row,
        // A page can't be read or its file is missing. Other rows may be in other pages.
        "58030" | "58P01" => Cause::Row,
        _ => match code.get(..2) {
            // Connection, feature, transaction state, login, rolled back, syntax and missing objects, out of resources, wrong
            // state, ended by an operator, system error, configuration.
            Some(
                "08" | "0A" | "0B" | "0L" | "0P" | "25" | "26" | "28" | "2D" | "34" | "3B" | "3D" | "3F"
                | "40" | "42" | "53" | "55" | "57" | "58" | "F0" | "HV",
            ) => Cause::Server,
            _ => Cause::Row,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_say_whether_a_row_may_be_at_fault() {
        for code in ["22021", "22P05", "23505", "23514", "44000", "54000", "P0001", "XX001", "42501", "AB123"]
        {
            assert_eq!(cause_of_code(code), Cause::Row, "{code}");
        }
        for code in ["40001", "40P01", "26000"] {
            assert_eq!(cause_of_code(code), Cause::Conflict, "{code}");
        }
        assert_eq!(cause_of_code("55P03"), Cause::Lock);
        for code in ["57014", "0A000"] {
            assert_eq!(cause_of_code(code), Cause::Defaults, "{code}");
        }
        for code in ["08006", "25006", "28P01", "3D000", "42883", "42P01", "53100", "53300", "57P01"] {
            assert_eq!(cause_of_code(code), Cause::Server, "{code}");
        }
    }

    #[test]
    fn codes_say_who_has_to_act() {
        for code in [
            "08006", "40001", "40P01", "53300", "57014", "57P01", "57P03", "58030", "55P03", "25006",
            "XX000", "XX001",
        ] {
            assert_eq!(of_code(code), Kind::Unavailable, "{code}");
        }
        for code in ["28P01", "28000", "3D000"] {
            assert_eq!(of_code(code), Kind::Address, "{code}");
        }
        for code in ["42P01", "42883", "22021", "23505", ""] {
            assert_eq!(of_code(code), Kind::Refused, "{code}");
        }
    }
}

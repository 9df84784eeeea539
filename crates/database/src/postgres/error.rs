//! What PostgreSQL's errors mean to a caller.

use std::error::Error as StdError;

use deadpool_postgres::{PoolError, TimeoutType};

use crate::Error;

/// A statement that failed: what it means to the caller, and what may have caused it.
#[derive(Debug)]
pub struct Failed {
    /// What it means to the caller.
    pub error: Error,
    /// What may have caused it.
    pub cause: Cause,
}

/// What may have caused a statement to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server or the way to it. The same statement for fewer rows would fail as well.
    Server,
    /// A default of the database or of the role, which a transaction may set otherwise.
    Defaults,
    /// A row that another transaction holds for long: one that moves a whole table, or somebody at a console.
    Lock,
    /// Another transaction that ran at the same time. This one was rolled back and may be repeated at once.
    Conflict,
    /// Possibly a single row that the statement was about. The others may succeed without it.
    Row,
}

impl Failed {
    /// A failure of the server or of the way to it.
    pub(super) fn of_server(error: Error) -> Self {
        Self { error, cause: Cause::Server }
    }

    /// A failed statement.
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

/// Something else than the statement failed: reading its answer, for example.
impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::of_server(error)
    }
}

/// What a failed statement, or a failed connection attempt, means.
pub(super) fn of_query(error: &tokio_postgres::Error) -> Error {
    let Some(refusal) = error.as_db_error() else {
        // Everything that is not an answer of the server's is about the way to it.
        return Error::Unavailable(chain(error));
    };
    let code = refusal.code().code();
    // Without the detail, which may repeat a user's data.
    let text = format!("{} ({code})", refusal.message());
    match of_code(code) {
        Kind::Unavailable => Error::Unavailable(text),
        Kind::Address => Error::Address(text),
        Kind::Refused => Error::Refused(text),
    }
}

/// What it means that the pool gave no connection.
pub(super) fn of_pool(error: &PoolError) -> Error {
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

/// What it means that an answer has another form than it was asked for.
pub(super) fn of_decoding(error: &tokio_postgres::Error) -> Error {
    Error::Refused(chain(error))
}

/// An error with its causes.
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

/// Whether a server took no write because it is none that does: a primary that became a standby keeps its connections, while
/// its address may lead to the new one by now.
pub(super) fn is_of_a_read_only_server(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::READ_ONLY_SQL_TRANSACTION)
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Unavailable,
    Address,
    Refused,
}

/// By PostgreSQL's list of error codes, appendix A of its manual.
fn of_code(code: &str) -> Kind {
    match code {
        // A lock was not to be had; a transaction may not write here (a primary that became a standby).
        // Ended by `idle_in_transaction_session_timeout` or `transaction_timeout`.
        "55P03" | "25006" | "25P03" | "25P04" => Kind::Unavailable,
        _ => match code.get(..2) {
            // Connection, rolled back (serialization, deadlock), out of resources, ended by an operator, system error; and a fault of
            // PostgreSQL's own, as when it finds a page half written because the disk was full: another try, later, may do.
            Some("08" | "40" | "53" | "57" | "58" | "XX") => Kind::Unavailable,
            // Wrong password or role, no such database.
            Some("28" | "3D") => Kind::Address,
            _ => Kind::Refused,
        },
    }
}

/// Who may be at fault, by the same list. A trigger may raise any code, so what is not certainly about the whole statement may be
/// about a row.
fn cause_of_code(code: &str) -> Cause {
    match code {
        "40001" | "40P01" => Cause::Conflict,
        // No lock within `lock_timeout`.
        "55P03" => Cause::Lock,
        // Cancelled (by `statement_timeout`, unless somebody at a console did it); no such isolation level (SERIALIZABLE on a
        // standby).
        "57014" | "0A000" => Cause::Defaults,
        // A policy of row-level security has refused a row, or a right is missing altogether.
        "42501" => Cause::Row,
        // A page can't be read or its file is gone: other rows may be elsewhere.
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
        for code in ["40001", "40P01"] {
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

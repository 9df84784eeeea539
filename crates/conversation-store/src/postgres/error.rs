//! What PostgreSQL's errors mean to a caller.

use std::error::Error as StdError;

use deadpool_postgres::{PoolError, TimeoutType};

use crate::Error;

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
        "55P03" | "25006" => Kind::Unavailable,
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

#[cfg(test)]
mod tests {
    use super::*;

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

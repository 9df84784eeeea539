use tokio_postgres::types::{ToSql, Type};

/// A parameter and its type. The type is sent with the statement, so that the statement need not be prepared to learn it.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// One statement of a transaction, with its parameters `$1`, `$2` and so on.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// One SQL statement.
    pub sql: &'a str,
    /// Its parameters, in order.
    pub parameters: &'a [Parameter<'a>],
}

use tokio_postgres::types::{ToSql, Type};

/// A parameter and its type; the type is sent along, so that no statement needs to be prepared to learn it.
pub type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

/// One statement of a transaction, with its parameters `$1`, `$2` and so on.
#[derive(Clone, Copy, Debug)]
pub struct Statement<'a> {
    /// One SQL statement.
    pub sql: &'a str,
    /// Its parameters, in order.
    pub parameters: &'a [Parameter<'a>],
}

//! The ground under everything that is kept in a database: the address, connections, outages, transactions and migrations, for
//! PostgreSQL and for SQLite. Nothing here knows what is stored.
//!
//! **Tables.** Each crate that owns tables hands in a [`Schema`]: its migrations in order, and the name of the table that says which of
//! them were applied. So each owner numbers its migrations alone, and a node of an older version, which knows one owner's table only,
//! is not misled by another's.
//!
//! **Sharing a transaction.** What must become true together with what another crate writes goes into that crate's transaction, as
//! statements and not as a callback:
//!
//! - In PostgreSQL a transaction is a list of [`postgres::Statement`]s that are sent at once, so that it costs one round trip however
//!   many there are ([`postgres::Pool::transaction`]). A crate offers what it wants to add as further statements. None can see the answer
//!   to one before it except in SQL, for example by `WHERE EXISTS` on a row that it inserted.
//! - In SQLite a transaction is a function of a connection, run by the thread that writes ([`sqlite::SqliteDatabase::write`]). A crate
//!   offers a function of a connection that the caller's function calls.

mod address;
mod error;
mod migration;
mod pool_status;
pub mod postgres;
pub mod sqlite;

pub use address::DatabaseAddress;
pub use error::Error;
pub use migration::{Migration, Schema};
pub use pool_status::PoolStatus;

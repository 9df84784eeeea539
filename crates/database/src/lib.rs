//! Access to databases: address, connections, outages, transactions and migrations, for PostgreSQL and SQLite. The crate does not know what
//! is stored.
//!
//! **Tables.** Each crate that owns tables passes a [`Schema`]: its migrations in order, and the name of the table that lists those that were
//! applied. Each owner numbers its migrations by itself. So a node of an older version, which knows only one owner, is not misled by the
//! migrations of another.
//!
//! **Older programs.** The history also tells, for each migration, which is the oldest program that can use the schema since then
//! ([`Compatibility`]). So a program works with a newer schema if that only added to what it knows, both beside the newer program and after
//! it. A migration that was applied without telling this needs a program that knows it. Nothing is ever migrated down.
//!
//! **Sharing a transaction.** A crate can write in the transaction of another crate:
//!
//! - In PostgreSQL a transaction is a list of [`postgres::Statement`]s that are sent at once ([`postgres::Pool::transaction`]). However many
//!   there are, it takes one round trip. A crate offers its part as statements, which the other crate adds to its list. A statement
//!   can use the effects of an earlier one only in SQL, for example by `WHERE EXISTS` with a row that the earlier one inserted.
//! - In SQLite a transaction is a function of a connection, which the writer's thread runs ([`sqlite::SqliteDatabase::write`]). A crate offers
//!   its part as a function of a connection, which the other crate's function calls.

mod address;
mod error;
mod migration;
mod pool_status;
pub mod postgres;
mod schema_status;
pub mod sqlite;

pub use address::DatabaseAddress;
pub use error::Error;
pub use migration::{Compatibility, Migration, Schema};
pub use pool_status::PoolStatus;
pub use schema_status::{NewerSchema, SchemaStatus};

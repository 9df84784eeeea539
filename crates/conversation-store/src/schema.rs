//! The schema of the log: all migrations of its tables.

use starling_database::{Compatibility, Migration, Schema};

macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        migration!($version, $name, $file, Compatibility::Additive)
    };
    ($version:literal, $name:literal, $file:literal, $compatibility:expr) => {
        Migration {
            version: $version,
            name: $name,
            postgres: include_str!(concat!("../migrations/postgres/", $file)),
            sqlite: include_str!(concat!("../migrations/sqlite/", $file)),
            compatibility: $compatibility,
        }
    };
}

/// The schema that this program knows.
pub static SCHEMA: Schema = Schema {
    history: "starling_migrations",
    migrations: &[
        migration!(1, "log", "0001_log.sql"),
        migration!(2, "ended sessions", "0002_ended_sessions.sql"),
        // Replaces a function.
        migration!(3, "incarnation", "0003_incarnation.sql", Compatibility::Since(3)),
        migration!(4, "limits", "0004_limits.sql"),
        migration!(5, "nodes", "0005_nodes.sql"),
        migration!(6, "owners", "0006_owners.sql"),
        migration!(7, "append fresh", "0007_append_fresh.sql"),
        migration!(8, "announced", "0008_announced.sql"),
        migration!(9, "announced members", "0009_announced_members.sql"),
        migration!(10, "announced upkeep", "0010_announced_upkeep.sql"),
    ],
};

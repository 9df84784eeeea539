//! The schema of the log: all migrations of its tables.

use starling_database::{Migration, Schema};

macro_rules! migration {
    ($version:literal, $name:literal, $file:literal) => {
        Migration {
            version: $version,
            name: $name,
            postgres: include_str!(concat!("../migrations/postgres/", $file)),
            sqlite: include_str!(concat!("../migrations/sqlite/", $file)),
        }
    };
}

pub(crate) static SCHEMA: Schema = Schema {
    history: "starling_migrations",
    migrations: &[
        migration!(1, "log", "0001_log.sql"),
        migration!(2, "ended sessions", "0002_ended_sessions.sql"),
        migration!(3, "incarnation", "0003_incarnation.sql"),
        migration!(4, "limits", "0004_limits.sql"),
        migration!(5, "nodes", "0005_nodes.sql"),
        migration!(6, "owners", "0006_owners.sql"),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_holes() {
        for (position, migration) in SCHEMA.migrations.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), position + 1, "{}", migration.name);
        }
    }
}

//! The schema of webhooks: all migrations of their tables.

use starling_database::{Compatibility, Migration, Schema};

/// The schema that this program knows.
pub static SCHEMA: Schema = Schema {
    history: "starling_webhooks_migrations",
    migrations: &[
        Migration {
            version: 1,
            name: "webhooks",
            postgres: include_str!("../migrations/postgres/0001_webhooks.sql"),
            sqlite: include_str!("../migrations/sqlite/0001_webhooks.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 2,
            name: "online",
            postgres: include_str!("../migrations/postgres/0002_online.sql"),
            sqlite: include_str!("../migrations/sqlite/0002_online.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 3,
            name: "claims",
            postgres: include_str!("../migrations/postgres/0003_claims.sql"),
            sqlite: include_str!("../migrations/sqlite/0003_claims.sql"),
            compatibility: Compatibility::Additive,
        },
    ],
};

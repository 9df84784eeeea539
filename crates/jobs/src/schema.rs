//! The schema of jobs: all migrations of their tables.

use starling_database::{Compatibility, Migration, Schema};

/// The schema that this program knows.
pub static SCHEMA: Schema = Schema {
    history: "starling_jobs_migrations",
    migrations: &[
        Migration {
            version: 1,
            name: "jobs",
            postgres: include_str!("../migrations/postgres/0001_jobs.sql"),
            sqlite: include_str!("../migrations/sqlite/0001_jobs.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 2,
            name: "worker_locks",
            postgres: include_str!("../migrations/postgres/0002_worker_locks.sql"),
            sqlite: include_str!("../migrations/sqlite/0002_worker_locks.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 3,
            name: "schedules",
            postgres: include_str!("../migrations/postgres/0003_schedules.sql"),
            sqlite: include_str!("../migrations/sqlite/0003_schedules.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 4,
            name: "failures",
            postgres: include_str!("../migrations/postgres/0004_failures.sql"),
            sqlite: include_str!("../migrations/sqlite/0004_failures.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 5,
            name: "limits",
            postgres: include_str!("../migrations/postgres/0005_limits.sql"),
            sqlite: include_str!("../migrations/sqlite/0005_limits.sql"),
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 6,
            name: "bounds",
            postgres: include_str!("../migrations/postgres/0006_bounds.sql"),
            sqlite: include_str!("../migrations/sqlite/0006_bounds.sql"),
            compatibility: Compatibility::Additive,
        },
    ],
};

//! The rule of migrations, as far as a machine can check it: one that calls itself additive takes nothing away from programs of the versions
//! before, changes nothing that they use, and asks nothing of them that they do not know.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod catalogue;
mod postgres;
mod sqlite;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use catalogue::Catalogue;
use starling_database::{Compatibility, Migration, Schema};
use starling_testkit::postgres::Postgres;

/// Every schema in the database, and the crate that owns it.
const SCHEMAS: [(&str, &Schema); 3] = [
    ("conversation-store", &starling_conversation_store::SCHEMA),
    ("jobs", &starling_jobs::SCHEMA),
    ("webhooks", &starling_webhooks::SCHEMA),
];

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Fails if a migration takes something away and does not say so.
fn hold_to_rule(owner: &str, migration: &Migration, before: &Catalogue, after: &Catalogue) {
    if migration.compatibility == Compatibility::Additive {
        let faults = before.faults_of_step_to(after);
        assert!(
            faults.is_empty(),
            "crates/{owner}/migrations: {} ({}) says that it only adds, but programs that do not know it would fail:\n{}",
            migration.version,
            migration.name,
            faults.join("\n")
        );
    }
}

#[tokio::test]
async fn an_additive_migration_leaves_everything_that_older_programs_use_in_postgresql() {
    let server = Postgres::shared().await.unwrap();
    for (owner, schema) in SCHEMAS {
        server.create_database(owner).await.unwrap();
        let mut before = Catalogue::default();
        for migration in schema.migrations {
            server.psql_in(owner, migration.postgres).await.unwrap();
            let after = postgres::catalogue(server, owner).await;
            hold_to_rule(owner, migration, &before, &after);
            before = after;
        }
        assert!(before.len() > 20, "{owner}: {before:?}");
    }
}

#[test]
fn an_additive_migration_leaves_everything_that_older_programs_use_in_sqlite() {
    for (owner, schema) in SCHEMAS {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        let mut before = Catalogue::default();
        for migration in schema.migrations {
            file.execute_batch(migration.sqlite).unwrap();
            let after = sqlite::catalogue(&file);
            hold_to_rule(owner, migration, &before, &after);
            before = after;
        }
        assert!(before.len() > 20, "{owner}: {before:?}");
    }
}

/// Each of their rows is removed or changed soon after it was written.
const QUEUES: [&str; 7] = [
    "announced_members",
    "announced_messages",
    "job_count_deltas",
    "job_ready",
    "job_running",
    "job_scheduled",
    "webhook_deliveries",
];

#[tokio::test]
async fn tables_that_are_queues_are_cleaned_often_in_postgresql() {
    let server = Postgres::shared().await.unwrap();
    server.create_database("queues").await.unwrap();
    for (_, schema) in SCHEMAS {
        for migration in schema.migrations {
            server.psql_in("queues", migration.postgres).await.unwrap();
        }
    }
    let cleaned = "SELECT relname FROM pg_class WHERE 'autovacuum_vacuum_scale_factor=0' = ANY (reloptions) ORDER BY relname";
    let cleaned = server.psql_in("queues", cleaned).await.unwrap();
    for queue in QUEUES {
        assert!(cleaned.lines().any(|table| table == queue), "{queue}: {cleaned}");
    }
}

#[test]
fn migrations_are_numbered_without_holes_and_name_a_program_that_exists() {
    for (owner, schema) in SCHEMAS {
        for (position, migration) in schema.migrations.iter().enumerate() {
            assert_eq!(
                usize::try_from(migration.version).unwrap(),
                position + 1,
                "{owner}: {}",
                migration.name
            );
            if let Compatibility::Since(oldest) = migration.compatibility {
                assert!((1..=migration.version).contains(&oldest), "{owner}: {}", migration.name);
            }
        }
    }
}

#[test]
fn every_crate_with_migrations_is_held_to_the_rule() {
    let folders = std::fs::read_dir(crates()).unwrap().flatten();
    let owners = folders.filter(|folder| folder.path().join("migrations").is_dir());
    let owners: BTreeSet<String> =
        owners.map(|folder| folder.file_name().into_string().expect("a name")).collect();
    assert_eq!(owners, SCHEMAS.map(|(owner, _)| owner.to_owned()).into());
    for (owner, schema) in SCHEMAS {
        for kind in ["postgres", "sqlite"] {
            let files =
                std::fs::read_dir(crates().join(owner).join("migrations").join(kind)).unwrap().count();
            assert_eq!(files, schema.migrations.len(), "{owner}, {kind}");
        }
    }
}

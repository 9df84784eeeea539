//! Databases, each with something wrong.

use std::time::Duration;

use starling_testkit::node::Node;
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use super::{doctor, examined};
use crate::finished;

async fn server() -> &'static Postgres {
    Postgres::shared().await.unwrap()
}

#[tokio::test]
async fn a_good_database_has_no_problem_and_a_schema_that_is_missing_is_told_by_who_makes_it() {
    let url = server().await.create_database("doctor_good").await.unwrap();
    let report = examined(doctor().database(&url)).await;
    report.assert_well().assert("database", "reachable", "good", "PostgreSQL 1");
    // A busy machine may be far from its database.
    assert!(report.text.contains("there and back"), "{}", report.text);
    for (subject, words) in [
        ("encoding", "UTF8"),
        ("writes", "accepted"),
        ("isolation", "read committed"),
        ("synchronous_commit", "on"),
        ("connections", "a node opens up to 50"),
        ("migrations", "the next start"),
    ] {
        report.assert("database", subject, "good", words);
    }
    report.assert("clock", "to PostgreSQL", "good", "apart");
    assert!(!report.text.contains(url.split('@').next().expect("a login")), "{}", report.text);

    let others = || doctor().database(&url).env("STARLING_DATABASE_MIGRATE", "false");
    examined(others()).await.assert("database", "migrations", "problem", "starling migrate");
    let (status, log) = finished(Node::builder().arg("migrate").database(&url)).await;
    assert_eq!(status, 0, "{log}");
    examined(others()).await.assert_well().assert("database", "migrations", "good", "up to date");
    let newer = |version: i32, oldest: &str| {
        format!(
            "INSERT INTO starling_migrations (version, name, oldest_program) VALUES ({version}, 'of the future', {oldest})"
        )
    };
    server().await.psql_in("doctor_good", &newer(998, "3")).await.unwrap();
    examined(others()).await.assert_well().assert("database", "migrations", "good", "version 998");
    server().await.psql_in("doctor_good", &newer(999, "NULL")).await.unwrap();
    examined(others()).await.assert("database", "use", "problem", "version 999");
}

#[tokio::test]
async fn a_database_that_can_not_be_reached_or_refuses_is_a_problem_without_its_password() {
    let server = server().await;
    server.create_database("doctor_refused").await.unwrap();
    let wrong = format!("postgres://starling:hush@{}/doctor_refused", server.address());
    for (url, words) in [("postgres://ann:hush@127.0.0.1:1/starling", "refused"), (&wrong, "password")] {
        let report = examined(doctor().database(url)).await;
        report.assert("database", "database_url", "problem", words).assert(
            "database",
            "database_url",
            "problem",
            "psql",
        );
        assert!(!report.text.contains("hush"), "{}", report.text);
    }
}

#[tokio::test]
async fn settings_of_the_server_that_lose_or_refuse_messages_are_found() {
    let server = server().await;
    let sql_ascii =
        "CREATE DATABASE doctor_ascii OWNER starling ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'";
    server.psql_in("postgres", sql_ascii).await.unwrap();
    let base = server.create_database("doctor_settings").await.unwrap();
    let of = |name: &str| doctor().database(&base.replace("doctor_settings", name));
    examined(of("doctor_ascii")).await.assert("database", "encoding", "problem", "ENCODING 'UTF8'");

    server.psql_in("postgres", "ALTER DATABASE doctor_settings SET synchronous_commit = off").await.unwrap();
    let serializable = "ALTER DATABASE doctor_settings SET default_transaction_isolation = 'serializable'";
    server.psql_in("postgres", serializable).await.unwrap();
    let report = examined(of("doctor_settings")).await;
    report.assert_well().assert("database", "synchronous_commit", "warning", "turn it on");
    report.assert("database", "isolation", "good", "serializable");

    let read_only = "ALTER DATABASE doctor_settings SET default_transaction_read_only = on";
    server.psql_in("postgres", read_only).await.unwrap();
    examined(of("doctor_settings")).await.assert(
        "database",
        "writes",
        "problem",
        "default_transaction_read_only",
    );
}

#[tokio::test]
async fn a_role_that_may_not_create_tables_is_found() {
    let server = server().await;
    let url = server.create_database("doctor_rights").await.unwrap();
    server.psql_in("postgres", "ALTER DATABASE doctor_rights OWNER TO postgres").await.unwrap();
    examined(doctor().database(&url)).await.assert("database", "rights", "warning", "GRANT CREATE");
}

#[tokio::test]
async fn a_server_with_too_few_connections_is_found() {
    let small = Postgres::start_with(&[("max_connections", "20")]).await.unwrap();
    examined(doctor().database(&small.url())).await.assert(
        "database",
        "connections",
        "problem",
        "max_connections",
    );
    let modest = doctor().database(&small.url()).env("STARLING_DATABASE_POOL_SIZE", "5");
    examined(modest).await.assert_well().assert("database", "connections", "good", "up to 5");
}

#[tokio::test]
async fn a_standby_is_no_primary_and_a_primary_is_no_replica() {
    let primary = Postgres::start().await.unwrap();
    let standby = Postgres::standby_of(&primary).await.unwrap();
    examined(doctor().database(&standby.url())).await.assert("database", "writes", "problem", "standby");
    let replicated = |url: &str| doctor().database(&primary.url()).env("STARLING_DATABASE_READ_URL", url);
    examined(replicated(&standby.url())).await.assert_well().assert("database", "replica", "good", "follows");
    examined(replicated(&primary.url())).await.assert_well().assert(
        "database",
        "replica",
        "warning",
        "no replica",
    );
}

#[tokio::test]
async fn a_database_that_is_far_away_is_found() {
    let server = server().await;
    let url = server.create_database("doctor_far").await.unwrap();
    let proxy = Link::to(server.address()).await.unwrap();
    proxy.delay(Duration::from_millis(15));
    examined(doctor().database(&proxy.through(&url)))
        .await
        .assert("database", "latency", "warning", "one zone");
}

#[tokio::test]
async fn a_file_of_sqlite_that_is_in_use_or_can_not_be_made_is_found() {
    let report = examined(doctor()).await;
    report.assert_well().assert("database", "file", "good", "the first start makes it");
    report.assert("clock", "difference", "skipped", "no other clock");
    let node = Node::start().await.unwrap();
    let file = format!("sqlite://{}", node.folder().join("data/starling.db").display());
    examined(doctor().database(&file)).await.assert("database", "use", "warning", "another program");
    drop(node);
    let below_a_file = doctor().file("a-file", "").database("sqlite://a-file/starling.db");
    examined(below_a_file).await.assert("database", "file", "problem", "can't be written");
    examined(doctor().database("sqlite://:memory:")).await.assert(
        "database",
        "database_url",
        "warning",
        "forgets",
    );
}

//! Nodes of the previous release keep working on the schema of this one, since both serve side by side during an upgrade.
//!
//! `previous-release.txt` lists what the previous release's schema has. After a release, this test writes it anew with `UPDATE=1`.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use starling_conversation_store::{ConversationStore, SCHEMA};
use starling_testkit::postgres::Postgres;

use crate::store::store;

const LIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/postgres/previous-release.txt");
/// Columns with their types, keys, which `ON CONFLICT` names, functions with their arguments, and the version.
const PARTS: &str = "SELECT line FROM (
    SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) AS line
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint ' || conrelid::regclass || ' ' || pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u')
    UNION ALL
    SELECT 'function ' || proname || '(' || pg_get_function_identity_arguments(oid) || ') returns ' || pg_get_function_result(oid)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'version ' || max(version) FROM starling_migrations
) AS parts ORDER BY line COLLATE \"C\"";
/// Columns that an INSERT must give a value.
const OWED: &str =
    "SELECT 'column ' || c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
        AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''";

#[tokio::test]
async fn the_schema_still_has_all_that_the_previous_release_uses_and_asks_for_no_more() -> Result<()> {
    let postgres = Postgres::shared().await?;
    let url = postgres.create_database("previous_release").await?;
    store(&url)?.migrate().await?;
    if std::env::var_os("UPDATE").is_some() {
        return fs::write(LIST, postgres.psql_in("previous_release", PARTS).await?).context("write the list");
    }
    let faults = faults(postgres).await?;
    ensure!(faults.is_empty(), "nodes of the previous release would fail:\n{}", faults.join("\n"));

    // What a careless migration might do.
    let careless = "ALTER TABLE messages RENAME COLUMN at TO sent_at;
        ALTER TABLE members ADD COLUMN invited_by text NOT NULL;
        ALTER TABLE users DROP CONSTRAINT users_pkey;
        DROP FUNCTION starling_erase";
    postgres.psql_in("previous_release", careless).await?;
    let faults = self::faults(postgres).await?;
    let found = [
        "gone: column messages.at timestamp(3) with time zone",
        "gone: constraint users PRIMARY KEY (tenant, user_name)",
        "gone: function starling_erase(messages_max bigint) returns boolean",
        "needs a value: column members.invited_by text",
        "needs a value: column messages.sent_at timestamp(3) with time zone",
    ];
    ensure!(faults == found, "{faults:#?}");
    Ok(())
}

#[test]
fn nodes_of_the_previous_release_can_be_started_beside_those_of_this_one() -> Result<()> {
    let list = fs::read_to_string(LIST).context("read the list")?;
    let version = list.lines().find_map(|line| line.strip_prefix("version ")).context("no version")?;
    let (previous, oldest) = (version.parse::<i32>()?, SCHEMA.oldest_program(SCHEMA.version()));
    ensure!(
        oldest <= previous,
        "a migration needs programs of version {oldest}, and the previous release is of version {previous}"
    );
    Ok(())
}

/// What the previous release would miss, or not know that it has to give.
async fn faults(postgres: &Postgres) -> Result<Vec<String>> {
    let is_part = |line: &&str| !line.starts_with("version ");
    let lines = |text: &str| text.lines().filter(is_part).map(str::to_owned).collect::<BTreeSet<String>>();
    let previous = lines(&fs::read_to_string(LIST).context("read the list")?);
    ensure!(previous.len() > 50, "the list has only {} lines", previous.len());
    let present = lines(&postgres.psql_in("previous_release", PARTS).await?);
    let owed = lines(&postgres.psql_in("previous_release", OWED).await?);
    let gone = previous.difference(&present).map(|part| format!("gone: {part}"));
    // The previous release writes nothing into a table that it does not know.
    let known: BTreeSet<&str> = previous.iter().filter_map(|part| table_of(part)).collect();
    let is_known = |part: &&String| table_of(part).is_some_and(|table| known.contains(table));
    let new = owed.difference(&previous).filter(is_known).map(|part| format!("needs a value: {part}"));
    Ok(gone.chain(new).collect())
}

/// The table of a part that is a column: `column TABLE.NAME TYPE`.
fn table_of(part: &str) -> Option<&str> {
    part.strip_prefix("column ")?.split_once('.').map(|(table, _)| table)
}

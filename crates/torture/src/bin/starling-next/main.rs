//! Starling of a next version, to check that this one works beside it and after it: it knows one more migration of the log. The variable
//! `STARLING_NEXT` says of which kind.

use std::process::ExitCode;

use starling::Layers;
use starling_conversation_store::SCHEMA;
use starling_database::{Compatibility, Migration, Schema};

/// Adds to all tables that a message touches, and new things beside them.
const ADDS: Migration = Migration {
    version: 0,
    name: "next: adds",
    postgres: "ALTER TABLE messages ADD COLUMN next_note text;
        ALTER TABLE conversations ADD COLUMN next_rank integer NOT NULL DEFAULT 0;
        ALTER TABLE members ADD COLUMN next_role text NOT NULL DEFAULT 'member';
        ALTER TABLE users ADD COLUMN next_seen bigint;
        CREATE TABLE next_notes (id bigint PRIMARY KEY, note text NOT NULL);
        CREATE INDEX messages_by_next_note ON messages (next_note) WHERE next_note IS NOT NULL;
        CREATE FUNCTION starling_append_next(conversation_ids bigint[]) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';",
    sqlite: "ALTER TABLE messages ADD COLUMN next_note TEXT;
        ALTER TABLE conversations ADD COLUMN next_rank INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE next_notes (id INTEGER PRIMARY KEY, note TEXT NOT NULL) STRICT;",
    compatibility: Compatibility::Additive,
};

/// Takes away what no program fails on at once, so that nodes that are serving go on.
const BREAKS: Migration = Migration {
    version: 0,
    name: "next: breaks",
    postgres: "DROP INDEX ended_sessions_by_time",
    sqlite: "DROP INDEX ended_sessions_by_time",
    compatibility: Compatibility::Since(0),
};

/// What this program knows: all migrations, and this one. A migration that breaks needs a program that knows it.
fn schema_with(next: Migration) -> &'static Schema {
    let version = SCHEMA.version() + 1;
    let compatibility = match next.compatibility {
        Compatibility::Additive => Compatibility::Additive,
        Compatibility::Since(_) => Compatibility::Since(version),
    };
    let mut migrations = SCHEMA.migrations.to_vec();
    migrations.push(Migration { version, compatibility, ..next });
    Box::leak(Box::new(Schema { history: SCHEMA.history, migrations: migrations.leak() }))
}

fn main() -> ExitCode {
    let kind = std::env::var("STARLING_NEXT").unwrap_or_default();
    let next = match kind.as_str() {
        "adds" => ADDS,
        "breaks" => BREAKS,
        _ => {
            eprintln!("STARLING_NEXT: there is no migration named {kind:?}; use adds or breaks");
            return ExitCode::FAILURE;
        }
    };
    starling::main_with(&Layers { log_schema: schema_with(next), ..Layers::default() })
}

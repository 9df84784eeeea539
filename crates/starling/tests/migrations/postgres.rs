//! The catalogue of a database in PostgreSQL.

use starling_testkit::postgres::Postgres;

use crate::catalogue::{Catalogue, Part};

/// Of a function also its text: one that is changed in place has another meaning for programs that call it already.
const PARTS: &str = "
    WITH tables AS (
        SELECT oid, relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v'))
    SELECT 'table', relname, '' FROM tables
    UNION ALL
    SELECT 'column', t.relname, concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
        CASE WHEN a.atthasdef OR a.attidentity <> '' THEN 'DEFAULT' END,
        CASE WHEN a.attnotnull THEN CASE WHEN a.atthasdef OR a.attidentity <> '' THEN 'and no null' ELSE 'NOT NULL' END END)
    FROM pg_attribute a JOIN tables t ON t.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT 'constraint', t.relname, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN tables t ON t.oid = c.conrelid
    UNION ALL
    SELECT 'constraint', t.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN tables t ON t.oid = i.indrelid
    WHERE i.indisunique AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid)
    UNION ALL
    SELECT 'trigger', t.relname, pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN tables t ON t.oid = g.tgrelid
    WHERE NOT g.tgisinternal
    UNION ALL
    SELECT 'function', '', concat(proname, '(', pg_get_function_arguments(oid), ') returns ', pg_get_function_result(oid),
        ', its text is ', md5(prosrc), ' in ', (SELECT lanname FROM pg_language WHERE oid = prolang), ', volatility ', provolatile)
    FROM pg_proc WHERE pronamespace = 'public'::regnamespace";

/// What a database has.
pub async fn catalogue(server: &Postgres, database: &str) -> Catalogue {
    let rows = server.psql_in(database, PARTS).await.unwrap();
    let part = |row: &str| {
        let [kind, table, text] = row.splitn(3, '|').collect::<Vec<_>>().try_into().expect("three columns");
        Part { kind: str::to_owned(kind), table: str::to_owned(table), text: str::to_owned(text) }
    };
    rows.lines().map(part).collect()
}

#[tokio::test]
async fn migrations_that_older_programs_fail_on_are_found() {
    let server = Postgres::shared().await.unwrap();
    let first = "CREATE TABLE notes (id bigint PRIMARY KEY, body text, size integer NOT NULL DEFAULT 0 CHECK (size >= 0));
        CREATE TABLE tags (tag text PRIMARY KEY);
        CREATE FUNCTION add_note(body text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER touched BEFORE UPDATE ON notes FOR EACH ROW EXECUTE FUNCTION touch();";
    for (number, (step, faults)) in [
        ("ALTER TABLE notes ADD COLUMN colour text, ADD COLUMN rank integer NOT NULL DEFAULT 0", &[] as &[&str]),
        ("CREATE TABLE links (id bigint PRIMARY KEY REFERENCES notes, url text NOT NULL UNIQUE)", &[]),
        ("CREATE INDEX ON notes (body); CREATE FUNCTION add_note_within(body text) RETURNS bigint LANGUAGE sql AS 'SELECT 2'", &[]),
        ("DROP TABLE tags", &["gone or changed: table tags", "gone or changed: column tags tag"]),
        ("ALTER TABLE notes DROP COLUMN body", &["gone or changed: column notes body"]),
        ("ALTER TABLE notes RENAME COLUMN body TO contents", &["gone or changed: column notes body"]),
        ("ALTER TABLE notes ALTER COLUMN id TYPE integer", &["gone or changed: column notes id bigint"]),
        ("ALTER TABLE notes ALTER COLUMN body SET NOT NULL", &["gone or changed: column notes body", "demanded: column notes body"]),
        ("ALTER TABLE notes ALTER COLUMN size DROP DEFAULT", &["gone or changed: column notes size", "demanded: column notes size"]),
        ("ALTER TABLE notes ADD COLUMN owner text NOT NULL", &["demanded: column notes owner text"]),
        ("ALTER TABLE notes ADD CHECK (body <> '')", &["demanded: constraint notes CHECK"]),
        ("CREATE UNIQUE INDEX ON notes (body)", &["demanded: constraint notes CREATE UNIQUE INDEX"]),
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey", &["gone or changed: constraint notes PRIMARY KEY (id)"]),
        ("DROP TRIGGER touched ON notes", &["gone or changed: trigger notes"]),
        ("DROP FUNCTION add_note", &["gone or changed: function  add_note(body text)"]),
        ("CREATE OR REPLACE FUNCTION add_note(body text) RETURNS bigint LANGUAGE sql AS 'SELECT 2::bigint'",
         &["gone or changed: function  add_note(body text)"]),
        // Calls with one argument would be ambiguous or reach the other function.
        ("DROP FUNCTION add_note; CREATE FUNCTION add_note(body text, size integer DEFAULT 0) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'",
         &["gone or changed: function  add_note(body text)"]),
    ].into_iter().enumerate()
    {
        let database = format!("careless_{number}");
        server.create_database(&database).await.unwrap();
        server.psql_in(&database, first).await.unwrap();
        let before = catalogue(server, &database).await;
        server.psql_in(&database, step).await.unwrap();
        let found = before.faults_of_step_to(&catalogue(server, &database).await);
        for fault in faults {
            assert!(found.iter().any(|found| found.starts_with(fault)), "{step}: {found:#?}");
        }
        assert_eq!(found.is_empty(), faults.is_empty(), "{step}: {found:#?}");
    }
}

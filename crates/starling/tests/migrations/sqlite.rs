//! The catalogue of a file of SQLite. It lacks CHECK constraints, which SQLite only shows as a part of the table's text; changing one takes a new
//! table.

use rusqlite::Connection;

use crate::catalogue::{Catalogue, Part};

const PARTS: &str = "
    WITH tables AS (SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%')
    SELECT 'table', name, '' FROM tables
    UNION ALL
    SELECT 'column', t.name, concat_ws(' ', c.name, c.type,
        CASE WHEN c.dflt_value IS NOT NULL THEN 'DEFAULT' END,
        CASE WHEN c.\"notnull\" THEN iif(c.dflt_value IS NULL, 'NOT NULL', 'and no null') END)
    FROM tables t, pragma_table_xinfo(t.name) c
    UNION ALL
    SELECT 'constraint', t.name, 'PRIMARY KEY ' || group_concat(c.name ORDER BY c.pk)
    FROM tables t, pragma_table_info(t.name) c WHERE c.pk > 0 GROUP BY t.name
    UNION ALL
    SELECT 'constraint', t.name, 'UNIQUE ' || (SELECT group_concat(coalesce(c.name, 'expression')) FROM pragma_index_info(i.name) c)
    FROM tables t, pragma_index_list(t.name) i WHERE i.\"unique\" AND i.origin <> 'pk'
    UNION ALL
    SELECT 'constraint', t.name, concat_ws(' ', 'FOREIGN KEY', f.\"from\", f.\"table\", f.\"to\", f.on_delete)
    FROM tables t, pragma_foreign_key_list(t.name) f
    UNION ALL
    SELECT 'trigger', tbl_name, sql FROM sqlite_master WHERE type = 'trigger'";

/// What a file has.
pub fn catalogue(file: &Connection) -> Catalogue {
    let mut parts = file.prepare(PARTS).unwrap();
    let part =
        |row: &rusqlite::Row<'_>| Ok(Part { kind: row.get(0)?, table: row.get(1)?, text: row.get(2)? });
    parts.query_map([], part).unwrap().map(Result::unwrap).collect()
}

#[test]
fn migrations_that_older_programs_fail_on_are_found() {
    let first =
        "CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT, size INTEGER NOT NULL DEFAULT 0) STRICT;
        CREATE TABLE tags (tag TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
        CREATE TRIGGER touched AFTER UPDATE ON notes BEGIN SELECT 1; END;";
    for (step, faults) in [
        ("ALTER TABLE notes ADD COLUMN colour TEXT", &[] as &[&str]),
        ("ALTER TABLE notes ADD COLUMN rank INTEGER NOT NULL DEFAULT 0", &[]),
        ("CREATE TABLE links (id INTEGER PRIMARY KEY REFERENCES notes, url TEXT NOT NULL UNIQUE) STRICT", &[]),
        ("CREATE INDEX notes_by_body ON notes (body)", &[]),
        ("DROP TABLE tags", &["gone or changed: table tags", "gone or changed: column tags tag"]),
        ("ALTER TABLE notes DROP COLUMN body", &["gone or changed: column notes body"]),
        ("ALTER TABLE notes RENAME COLUMN body TO contents", &["gone or changed: column notes body"]),
        ("CREATE UNIQUE INDEX notes_by_body ON notes (body)", &["demanded: constraint notes UNIQUE body"]),
        ("DROP TRIGGER touched", &["gone or changed: trigger notes"]),
        (
            "CREATE TABLE new_tags (tag TEXT PRIMARY KEY, owner TEXT NOT NULL) STRICT, WITHOUT ROWID;
             DROP TABLE tags; ALTER TABLE new_tags RENAME TO tags",
            &["demanded: column tags owner"],
        ),
        (
            "CREATE TABLE new_tags (tag TEXT NOT NULL, note INTEGER, PRIMARY KEY (tag, note)) STRICT, WITHOUT ROWID;
             DROP TABLE tags; ALTER TABLE new_tags RENAME TO tags",
            &["gone or changed: constraint tags PRIMARY KEY tag"],
        ),
    ] {
        let file = Connection::open_in_memory().unwrap();
        file.execute_batch(first).unwrap();
        let before = catalogue(&file);
        file.execute_batch(step).unwrap();
        let found = before.faults_of_step_to(&catalogue(&file));
        for fault in faults {
            assert!(found.iter().any(|found| found.starts_with(fault)), "{step}: {found:#?}");
        }
        assert_eq!(found.is_empty(), faults.is_empty(), "{step}: {found:#?}");
    }
}

//! The schema's history. Both databases share the numbering: a number means the same change in each.

use crate::Error;

/// One step of the schema.
pub(crate) struct Migration {
    /// From 1, without holes.
    pub(crate) version: i32,
    /// What it brings, for people.
    pub(crate) name: &'static str,
    /// For PostgreSQL.
    pub(crate) postgres: &'static str,
    /// For SQLite.
    pub(crate) sqlite: &'static str,
}

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

/// All steps, in order. A step that has been released is never changed; what is wrong with it is mended by the next.
pub(crate) const MIGRATIONS: &[Migration] = &[
    migration!(1, "log", "0001_log.sql"),
    migration!(2, "ended sessions", "0002_ended_sessions.sql"),
    migration!(3, "incarnation", "0003_incarnation.sql"),
    migration!(4, "limits", "0004_limits.sql"),
    migration!(5, "nodes", "0005_nodes.sql"),
];

/// The steps that a database at `version` lacks.
///
/// # Errors
/// [`Error::Unsupported`] if a newer program has been there: what it changed is unknown to this one.
pub(crate) fn missing_after(version: i32) -> Result<&'static [Migration], Error> {
    usize::try_from(version).ok().and_then(|done| MIGRATIONS.get(done..)).ok_or_else(|| {
        Error::Unsupported(format!(
            "the database's schema has version {version}, but this program knows only up to {}: \
             start the newer program again, or restore a backup from before its migration",
            MIGRATIONS.len()
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_from_one_without_holes() {
        for (position, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version).unwrap(), position + 1, "{}", migration.name);
        }
    }

    #[test]
    fn a_database_gets_what_it_lacks_and_a_newer_one_is_refused() {
        let newest = MIGRATIONS.last().unwrap().version;
        assert_eq!(missing_after(0).unwrap().len(), MIGRATIONS.len());
        assert!(missing_after(newest).unwrap().is_empty());
        for strange in [newest + 1, -1] {
            assert!(matches!(missing_after(strange), Err(Error::Unsupported(_))));
        }
    }
}

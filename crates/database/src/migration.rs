use crate::{Error, NewerSchema, SchemaStatus};

/// One step of a schema. A released step is never changed; the next one corrects its mistakes.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number within its schema: from 1, without holes. Both databases share the numbering.
    pub version: i32,
    /// A short description, for people.
    pub name: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
    /// Which older programs can use the schema that it makes.
    pub compatibility: Compatibility,
}

/// Which older programs can use the schema that a migration makes, in both databases. The version of a program is that of the newest migration
/// that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// All that could use the schema before it. The migration only adds.
    Additive,
    /// Those of this version and later ones. The migration takes away or changes what earlier ones use.
    Since(i32),
}

/// The tables of one owner.
#[derive(Debug)]
pub struct Schema {
    /// The name of the table that lists the applied migrations. Each owner has its own.
    pub history: &'static str,
    /// All migrations, in order.
    pub migrations: &'static [Migration],
}

/// What the history of a database says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Applied {
    /// The version of the newest migration; 0: none.
    pub(crate) version: i32,
    /// The oldest program that can use what the migrations made that this program does not know. `None` if it knows all of them.
    pub(crate) oldest_program: Option<i32>,
}

impl Schema {
    /// Returns the version of a program with this schema.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.migrations.last().map_or(0, |newest| newest.version)
    }

    /// Returns the oldest program that can use the schema as this migration leaves it.
    #[must_use]
    pub fn oldest_program(&self, version: i32) -> i32 {
        let until = self.migrations.iter().take_while(|migration| migration.version <= version);
        let since = until.filter_map(|migration| match migration.compatibility {
            Compatibility::Additive => None,
            Compatibility::Since(oldest) => Some(oldest),
        });
        since.max().unwrap_or(1)
    }

    /// Compares what a database has with what this program knows.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a newer program has migrated the database in a way that this one can't use.
    pub(crate) fn compare(&self, applied: Applied) -> Result<SchemaStatus, Error> {
        let (Applied { version, oldest_program }, known) = (applied, self.version());
        match oldest_program {
            _ if (0..known).contains(&version) => Ok(SchemaStatus::Behind),
            _ if version == known => Ok(SchemaStatus::Current),
            Some(oldest) if oldest <= known => {
                Ok(SchemaStatus::Newer(NewerSchema { history: self.history, version, known }))
            }
            oldest => Err(Error::Unsupported(format!(
                "the database's schema has version {version} ({}), which needs a program of version {} or later, and this one has version \
                 {known}: start the newer program again, or restore a backup from before its migration",
                self.history,
                oldest.unwrap_or(version)
            ))),
        }
    }

    /// Returns the migrations that a database lacks: none if it is newer.
    ///
    /// # Errors
    /// Those of [`compare`](Self::compare).
    pub(crate) fn missing_in(&self, applied: Applied) -> Result<&'static [Migration], Error> {
        self.compare(applied)?;
        let done = usize::try_from(applied.version).unwrap_or(0);
        Ok(self.migrations.get(done..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn migration(version: i32, compatibility: Compatibility) -> Migration {
        Migration { version, name: "", postgres: "", sqlite: "", compatibility }
    }

    const SCHEMA: Schema = Schema {
        history: "history",
        migrations: &[
            migration(1, Compatibility::Additive),
            migration(2, Compatibility::Additive),
            migration(3, Compatibility::Since(2)),
            migration(4, Compatibility::Additive),
        ],
    };

    fn applied(version: i32, oldest_program: Option<i32>) -> Applied {
        Applied { version, oldest_program }
    }

    #[test]
    fn a_database_gets_what_it_lacks() {
        for (version, lacks) in [(0, 4), (1, 3), (3, 1), (4, 0)] {
            let applied = applied(version, None);
            assert_eq!(SCHEMA.missing_in(applied).unwrap().len(), lacks);
            let status = SCHEMA.compare(applied).unwrap();
            assert_eq!(status, if lacks == 0 { SchemaStatus::Current } else { SchemaStatus::Behind });
        }
    }

    #[test]
    fn a_newer_database_is_used_if_it_says_that_this_program_can() {
        for oldest in [1, 4] {
            let applied = applied(9, Some(oldest));
            assert!(matches!(SCHEMA.compare(applied).unwrap(), SchemaStatus::Newer(_)));
            assert!(SCHEMA.missing_in(applied).unwrap().is_empty(), "nothing is migrated down");
        }
        for strange in [applied(9, Some(5)), applied(9, None), applied(-1, None)] {
            let Err(Error::Unsupported(why)) = SCHEMA.compare(strange) else {
                panic!("{strange:?} was taken")
            };
            assert!(SCHEMA.missing_in(strange).is_err());
            assert!(why.contains(&format!("version {} (history)", strange.version)), "{why}");
            assert!(why.contains("this one has version 4"), "{why}");
        }
    }

    #[test]
    fn a_migration_that_takes_away_raises_the_oldest_program_for_good() {
        let oldest: Vec<i32> = (1..=4).map(|version| SCHEMA.oldest_program(version)).collect();
        assert_eq!(oldest, [1, 1, 2, 2]);
    }
}

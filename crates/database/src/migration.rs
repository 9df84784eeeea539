use crate::Error;

/// One step of a schema. A released step is never changed; the next one corrects its mistakes.
#[derive(Debug)]
pub struct Migration {
    /// Its number within its schema: from 1, without holes. Both databases share the numbering.
    pub version: i32,
    /// A short description, for people.
    pub name: &'static str,
    /// The statements for PostgreSQL.
    pub postgres: &'static str,
    /// The statements for SQLite.
    pub sqlite: &'static str,
}

/// The tables of one owner.
#[derive(Debug)]
pub struct Schema {
    /// The name of the table that lists the applied migrations. Each owner has its own.
    pub history: &'static str,
    /// All migrations, in order.
    pub migrations: &'static [Migration],
}

impl Schema {
    /// Returns the migrations that a database at `version` lacks.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a newer program has migrated the database.
    pub(crate) fn missing_after(&self, version: i32) -> Result<&'static [Migration], Error> {
        usize::try_from(version).ok().and_then(|done| self.migrations.get(done..)).ok_or_else(|| {
            Error::Unsupported(format!(
                "the database's schema has version {version}, but this program knows only up to {}: \
                 start the newer program again, or restore a backup from before its migration",
                self.migrations.len()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: Schema = Schema {
        history: "history",
        migrations: &[
            Migration { version: 1, name: "one", postgres: "", sqlite: "" },
            Migration { version: 2, name: "two", postgres: "", sqlite: "" },
        ],
    };

    #[test]
    fn a_database_gets_what_it_lacks_and_a_newer_one_is_refused() {
        let missing = |version| SCHEMA.missing_after(version).map(|missing| missing.len());
        assert_eq!((missing(0).unwrap(), missing(1).unwrap(), missing(2).unwrap()), (2, 1, 0));
        for strange in [3, -1] {
            assert!(matches!(missing(strange), Err(Error::Unsupported(_))));
        }
    }
}

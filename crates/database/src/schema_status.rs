use std::fmt;

/// How the schema of a database compares with the one that this program knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaStatus {
    /// The database lacks migrations.
    Behind,
    /// The database has exactly the migrations that this program knows.
    Current,
    /// A newer program has migrated the database, and this one can use it all the same.
    Newer(NewerSchema),
}

impl SchemaStatus {
    /// Returns what is newer, if the schema is.
    #[must_use]
    pub fn newer(&self) -> Option<NewerSchema> {
        match *self {
            SchemaStatus::Newer(newer) => Some(newer),
            SchemaStatus::Behind | SchemaStatus::Current => None,
        }
    }
}

/// A schema that is newer than this program, which can use it. Its text tells both versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewerSchema {
    pub(crate) history: &'static str,
    pub(crate) version: i32,
    pub(crate) known: i32,
}

impl fmt::Display for NewerSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { history, version, known } = self;
        write!(
            f,
            "the schema has version {version} ({history}), and this program of version {known} can use it"
        )
    }
}

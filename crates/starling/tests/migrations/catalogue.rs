//! What a database has, and what a migration does to it.

use std::collections::BTreeSet;

/// The tables, columns, constraints, functions and triggers of a database.
#[derive(Debug, Default)]
pub struct Catalogue(BTreeSet<Part>);

/// Something that a program may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// `table`, `column`, `constraint`, `function` or `trigger`.
    pub kind: String,
    /// The table that it belongs to. Empty: none.
    pub table: String,
    /// What it is. A column that an INSERT must name ends with [`OWED`].
    pub text: String,
}

/// The end of the text of a column that has no default and takes no null.
pub const OWED: &str = "NOT NULL";

impl Catalogue {
    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What a program that knows this database can't do any more after a migration.
    pub fn faults_of_step_to(&self, after: &Catalogue) -> Vec<String> {
        let shown = |what: &str, Part { kind, table, text }: &Part| format!("{what}: {kind} {table} {text}");
        let gone = self.0.difference(&after.0).map(|part| shown("gone or changed", part));
        let is_known =
            |part: &&Part| self.0.iter().any(|known| known.kind == "table" && known.table == part.table);
        let demands = |part: &&Part| match part.kind.as_str() {
            "constraint" => true,
            "column" => part.text.ends_with(OWED),
            _ => false,
        };
        let new = after.0.difference(&self.0).filter(is_known).filter(demands);
        gone.chain(new.map(|part| shown("demanded", part))).collect()
    }
}

impl FromIterator<Part> for Catalogue {
    fn from_iter<T: IntoIterator<Item = Part>>(parts: T) -> Self {
        Self(parts.into_iter().collect())
    }
}

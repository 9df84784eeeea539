//! What was given for a setting, and where it comes from.

use std::path::PathBuf;

use crate::bad_config::BadConfig;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The file.
    File,
    /// A variable.
    Variable,
    /// A flag.
    Flag,
}

/// A setting, or one of a table's section.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The key of the table, and the name of the section in it.
    pub section: Option<(&'static str, String)>,
    /// The key.
    pub key: &'static str,
}

impl Place {
    /// A setting outside of tables.
    pub fn of(key: &'static str) -> Place {
        Place { section: None, key }
    }
}

/// The text of a setting that was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Given {
    /// Not masked.
    pub(super) text: String,
    /// Where it comes from; with a path, where that comes from.
    pub origin: Origin,
    /// The file that holds the value.
    pub path: Option<PathBuf>,
    /// The key, flag or variable as it was written.
    pub(super) name: String,
}

impl Given {
    /// The key, flag or variable as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it: names the key, the flag or variable, and the file.
    pub(super) fn bad(&self, key: &str, why: &str) -> BadConfig {
        let path = self.path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        let suffix = if self.path.is_some() { "_file" } else { "" };
        let name = &self.name;
        BadConfig(match self.origin {
            Origin::File => format!("{name}: {path}{why}"),
            Origin::Variable | Origin::Flag => format!("{key}{suffix}: {path}{why} (set by {name})"),
        })
    }
}

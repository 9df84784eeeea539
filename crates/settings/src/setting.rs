//! What a setting is called and what it means.

use crate::heading::Heading;
use crate::kind::Shape;
use crate::section::{Section, Slot, Visitor};
use crate::table::{Entries, NamedTable};

/// The description of a setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Where it is listed.
    pub heading: Heading,
    /// The key in the file; with `-` for `_` the flag, and in capitals after `STARLING_` the variable.
    pub key: &'static str,
    /// Another variable that means the same.
    pub variable: Option<&'static str>,
    /// What it means, in one or two sentences.
    pub help: &'static str,
    /// What values look like.
    pub shape: Shape,
}

impl Setting {
    /// What it means, without white space around it.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// The names under which it can be given: that of the value and, where it may stand in a file of its own, that of the path.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        let path = self.shape.may_be_file.then(|| Name::of(self, true));
        std::iter::once(Name::of(self, false)).chain(path)
    }
}

/// A name under which a setting can be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The key of the setting.
    pub setting: &'static str,
    /// The key in the file.
    pub key: String,
    /// Another variable that means the same.
    pub other_variable: Option<String>,
    /// Whether it names a file that holds the value, and not the value.
    pub is_path: bool,
}

impl Name {
    fn of(setting: &Setting, is_path: bool) -> Name {
        let (lower, upper) = if is_path { ("_file", "_FILE") } else { ("", "") };
        Name {
            setting: setting.key,
            key: format!("{}{lower}", setting.key),
            other_variable: setting.variable.map(|variable| format!("{variable}{upper}")),
            is_path,
        }
    }

    /// The flag, without dashes in front.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The variable.
    pub fn variable(&self) -> String {
        format!("STARLING_{}", self.key.to_uppercase())
    }

    pub(crate) fn is_variable(&self, name: &str) -> bool {
        self.other_variable.as_deref() == Some(name) || self.variable() == name
    }
}

/// The descriptions of all settings of a section, and of its tables.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    /// Settings, in the order of their headings.
    pub settings: Vec<Setting>,
    /// Tables, and the settings of one of their sections.
    pub tables: Vec<(NamedTable, Vec<Setting>)>,
}

impl Catalogue {
    /// Collects the descriptions.
    pub fn of(section: &mut dyn Section) -> Catalogue {
        let mut catalogue = Catalogue::default();
        section.visit(&mut catalogue);
        catalogue.settings.sort_by_key(|setting| setting.heading);
        catalogue
    }

    /// The names of all settings.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        self.settings.iter().flat_map(Setting::names)
    }

    /// The description of a setting of a table's sections, or without a table of a setting.
    pub fn find(&self, table: Option<&str>, key: &str) -> Option<&Setting> {
        let settings = match table {
            None => &self.settings,
            Some(table) => &self.tables.iter().find(|(known, _)| known.key == table)?.1,
        };
        settings.iter().find(|setting| setting.key == key)
    }
}

impl Visitor for Catalogue {
    fn setting(&mut self, setting: &Setting, _slot: &mut dyn Slot) {
        self.settings.push(setting.clone());
    }

    fn table(&mut self, table: &NamedTable, entries: &mut dyn Entries) {
        let of_section = Catalogue::of(&mut *entries.blank());
        self.tables.push((*table, of_section.settings));
    }
}

//! Tables of sections with names, such as `[tenants.NAME]` in the file.

use std::collections::BTreeMap;

use crate::section::Section;

/// Sections by name.
#[derive(Clone, Debug)]
pub struct Table<T>(BTreeMap<String, T>);

impl<T> Table<T> {
    /// The section of that name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.get(name)
    }

    /// All sections with their names, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, section)| (name.as_str(), section))
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table(BTreeMap::new())
    }
}

impl<T> FromIterator<(String, T)> for Table<T> {
    fn from_iter<I: IntoIterator<Item = (String, T)>>(sections: I) -> Self {
        Table(sections.into_iter().collect())
    }
}

/// What a table is called and what it means.
#[derive(Clone, Copy, Debug)]
pub struct NamedTable {
    /// The key in the file.
    pub key: &'static str,
    /// What it means.
    pub help: &'static str,
    /// Says what is wrong with the name of a section.
    pub check: fn(&str) -> Result<(), String>,
    /// A section, as it stands in the file. `None`: one can be made up of the settings that are numbers.
    pub example: Option<&'static str>,
}

/// The sections of a table of any type.
pub trait Entries {
    /// The section of that name, made if there is none.
    fn entry(&mut self, name: &str) -> &mut dyn Section;
    /// A section with nothing set, to read the descriptions from.
    fn blank(&self) -> Box<dyn Section>;
}

impl<T: Section + Default + 'static> Entries for Table<T> {
    fn entry(&mut self, name: &str) -> &mut dyn Section {
        self.0.entry(name.to_owned()).or_default()
    }

    fn blank(&self) -> Box<dyn Section> {
        Box::new(T::default())
    }
}

//! Settings gathered from the file, the variables and the flags.

mod gather;
mod given;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use given::{Given, Origin, Place};

use crate::nearest::nearest;
use crate::section::Section;
use crate::setting::{Catalogue, Setting};

/// Settings in their typed form, with what was given to get there.
#[derive(Clone)]
pub struct Loaded<S> {
    /// The settings.
    pub settings: S,
    /// Variables that begin with `STARLING_` and are no settings.
    pub unknown_variables: Vec<String>,
    catalogue: Catalogue,
    given: BTreeMap<Place, Given>,
    /// What was given first and lost to a later source, in that order.
    overridden: BTreeMap<Place, Vec<Given>>,
    /// Files of secrets, to be read when all sources are known.
    paths: BTreeMap<Place, Given>,
}

impl<S: Section + Default> Default for Loaded<S> {
    fn default() -> Self {
        let mut settings = S::default();
        let catalogue = Catalogue::of(&mut settings);
        Loaded {
            settings,
            unknown_variables: Vec::new(),
            catalogue,
            given: BTreeMap::new(),
            overridden: BTreeMap::new(),
            paths: BTreeMap::new(),
        }
    }
}

impl<S> Loaded<S> {
    /// The descriptions of all settings.
    pub fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// What was given for a setting; `None`: nothing, so that its default holds.
    pub fn given(&self, place: &Place) -> Option<&Given> {
        self.given.get(place).filter(|given| !given.text.is_empty())
    }

    /// What other sources gave for a setting and did not count, the weakest first.
    pub fn overridden(&self, place: &Place) -> &[Given] {
        self.overridden.get(place).map_or(&[], Vec::as_slice)
    }

    /// The sections of a table for which something was given.
    pub fn sections(&self, table: &str) -> Vec<&str> {
        let sections = self.given.keys().filter_map(|place| place.section.as_ref());
        let mut names: Vec<&str> =
            sections.filter(|(known, _)| *known == table).map(|(_, name)| name.as_str()).collect();
        names.dedup();
        names
    }

    /// A setting's value as it can be shown in a TOML file; `None`: it is not set.
    pub fn shown(&self, setting: &Setting, place: &Place) -> Option<String> {
        let text = self.text(setting, place)?;
        Some(setting.shape.toml(text))
    }

    /// The keys of settings that do not have the value that they have in `before`, and of tables in which anything has changed.
    pub fn changes_from(&self, before: &Loaded<S>) -> Vec<&'static str> {
        let settings = self.catalogue.settings.iter().filter(|setting| {
            let place = Place::of(setting.key);
            self.text(setting, &place) != before.text(setting, &place)
        });
        let tables = self.catalogue.tables.iter().map(|(table, _)| table.key);
        let changed = tables.filter(|table| !self.of_table(table).eq(before.of_table(table)));
        settings.map(|setting| setting.key).chain(changed).collect()
    }

    /// The known variable that an unknown one was probably meant to be.
    pub fn near_variable(&self, name: &str) -> Option<String> {
        // Without the part that all have in common, which would hide the difference.
        let given = name.trim_start_matches("STARLING_");
        let variables: Vec<String> = self.catalogue.names().map(|name| name.key.to_uppercase()).collect();
        let near = nearest(given, variables.iter().map(String::as_str))?;
        Some(format!("STARLING_{near}"))
    }

    fn text<'a>(&'a self, setting: &'a Setting, place: &Place) -> Option<&'a str> {
        match self.given.get(place) {
            Some(given) => Some(given.text.as_str()).filter(|text| !text.is_empty()),
            None => setting.shape.default.as_deref(),
        }
    }

    fn of_table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a Place, &'a str)> {
        let given = self.given.iter().map(|(place, given)| (place, given.text.as_str()));
        given.filter(move |(place, _)| place.section.as_ref().is_some_and(|(known, _)| *known == table))
    }
}

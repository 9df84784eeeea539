//! Reads the file, the variables and the flags into the settings.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::Path;

use super::{Given, Loaded, Origin, Place};
use crate::bad_config::BadConfig;
use crate::kind::Masking;
use crate::nearest::hint;
use crate::secret_file;
use crate::section::{Section, Slot, Visitor};
use crate::setting::{Name, Setting};
use crate::table::{Entries, NamedTable};
use crate::toml_file;

impl<S: Section + Default> Loaded<S> {
    /// Gathers the file, the variables and the flags; the later ones win over defaults and the earlier ones. Then reads the secrets
    /// whose files were named.
    ///
    /// # Errors
    /// [`BadConfig`] names the key, variable or flag of the first value that can't be used, also where another one wins over it.
    pub fn gather(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
        flags: impl Iterator<Item = (Name, String)>,
    ) -> Result<Loaded<S>, BadConfig> {
        let mut loaded = Loaded::default();
        if let Some(file) = file {
            let name = file.display();
            let text = std::fs::read_to_string(file)
                .map_err(|error| BadConfig(format!("--config: {name}: {error}")))?;
            loaded.read_text(&name, &text)?;
        }
        loaded.read_variables(variables)?;
        for (name, text) in flags {
            let written = format!("--{}", name.flag());
            loaded.give(None, &name, text, Origin::Flag, written)?;
        }
        loaded.read_secrets()?;
        Ok(loaded)
    }

    /// Reads the text of a configuration file, but no file of a secret that it names.
    ///
    /// # Errors
    /// See [`Loaded::gather`].
    pub fn read_text(&mut self, file: &dyn Display, text: &str) -> Result<(), BadConfig> {
        for (key, value) in toml_file::parse(file, text)? {
            if self.has_tables_in(&key) {
                self.read_tables_in(&key, value)?;
                continue;
            }
            if let Some((table, names)) = self.table(&key) {
                self.read_table(&table, &names, value)?;
                continue;
            }
            let name = self.catalogue.names().find(|name| name.key == key);
            let Some(name) = name else {
                let keys = self.catalogue.names().map(|name| name.key);
                let keys: Vec<_> =
                    keys.chain(self.catalogue.tables.iter().map(|(table, _)| table.key.to_owned())).collect();
                let hint = hint(&key, keys.iter().map(String::as_str));
                return Err(BadConfig(format!("{file}: unknown key `{key}`{hint}")));
            };
            let text = text_of(&key, value)?;
            self.give(None, &name, text, Origin::File, key)?;
        }
        Ok(())
    }

    /// The table of this key, and the names of the settings in its sections.
    fn table(&self, key: &str) -> Option<(NamedTable, Vec<Name>)> {
        let (table, settings) = self.catalogue.tables.iter().find(|(table, _)| table.key == key)?;
        Some((*table, settings.iter().flat_map(Setting::names).collect()))
    }

    /// Whether there are tables whose keys begin with this one and a dot.
    fn has_tables_in(&self, key: &str) -> bool {
        self.tables_in(key).next().is_some()
    }

    /// The keys of these tables, without what they begin with.
    fn tables_in(&self, key: &str) -> impl Iterator<Item = &'static str> {
        let keys = self.catalogue.tables.iter().map(|(table, _)| table.key);
        keys.filter_map(move |table| table.strip_prefix(key)?.strip_prefix('.'))
    }

    fn read_tables_in(&mut self, key: &str, value: toml::Value) -> Result<(), BadConfig> {
        let toml::Value::Table(tables) = value else {
            let inner = self.tables_in(key).next().unwrap_or_default();
            return Err(BadConfig(format!("{key}: is not a table; write [{key}.{inner}.NAME]")));
        };
        for (inner, value) in tables {
            let Some((table, names)) = self.table(&format!("{key}.{inner}")) else {
                let flat = format!("{key}_{inner}");
                let is_flat = self.catalogue.names().any(|name| name.key == flat);
                let hint = match is_flat {
                    true => format!("; it is the key `{flat}`, outside of tables"),
                    false => hint(&inner, self.tables_in(key)),
                };
                return Err(BadConfig(format!("{key}: unknown key `{inner}`{hint}")));
            };
            self.read_table(&table, &names, value)?;
        }
        Ok(())
    }

    fn read_table(
        &mut self,
        table: &NamedTable,
        names: &[Name],
        value: toml::Value,
    ) -> Result<(), BadConfig> {
        let key = table.key;
        let toml::Value::Table(sections) = value else {
            return Err(BadConfig(format!("{key}: is not a table; write [{key}.NAME]")));
        };
        for (section, value) in sections {
            (table.check)(&section).map_err(|why| BadConfig(format!("{key}: {why}")))?;
            let toml::Value::Table(values) = value else {
                return Err(BadConfig(format!("{key}: {section} is not a table")));
            };
            // A section without a key is a section, too.
            self.settings.visit(&mut Making { table: key, section: &section });
            for (inner, value) in values {
                let Some(name) = names.iter().find(|name| name.key == inner) else {
                    let hint = hint(&inner, names.iter().map(|name| name.key.as_str()));
                    return Err(BadConfig(format!("{key}.{section}: unknown key `{inner}`{hint}")));
                };
                let written = format!("{key}.{section}.{inner}");
                let text = text_of(&written, value)?;
                self.give(Some((key, &section)), name, text, Origin::File, written)?;
            }
        }
        Ok(())
    }

    fn read_variables(
        &mut self,
        variables: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<(), BadConfig> {
        // A name that is not UTF-8 is none of ours, and other programs' variables may hold any bytes.
        let named = variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let mut given: Vec<(String, OsString)> = named.filter(|(_, value)| !value.is_empty()).collect();
        given.sort();
        for (variable, value) in given {
            let known = self.catalogue.names().find(|name| name.is_variable(&variable));
            match known {
                Some(name) => {
                    let value =
                        value.into_string().map_err(|_| BadConfig(format!("{variable}: is not UTF-8")))?;
                    self.give(None, &name, value, Origin::Variable, variable)?;
                }
                // Kubernetes makes variables of this kind for a service that is called starling.
                None if variable.starts_with("STARLING_") => self.unknown_variables.push(variable),
                None => {}
            }
        }
        Ok(())
    }

    /// Takes what was given under a name, which was written like this.
    fn give(
        &mut self,
        section: Option<(&'static str, &str)>,
        name: &Name,
        text: String,
        origin: Origin,
        written: String,
    ) -> Result<(), BadConfig> {
        let place =
            Place { section: section.map(|(table, name)| (table, name.to_owned())), key: name.setting };
        if name.is_path {
            let path = text.trim();
            let given = Given { text: String::new(), origin, path: Some(path.into()), name: written };
            let before = match path.is_empty() {
                true => self.paths.remove(&place),
                false => self.paths.insert(place.clone(), given),
            };
            self.overridden.entry(place).or_default().extend(before);
            return Ok(());
        }
        let given = Given { text, origin, path: None, name: written };
        self.set(place, given)
    }

    /// Reads the text into its field.
    fn set(&mut self, place: Place, mut given: Given) -> Result<(), BadConfig> {
        let table = place.section.as_ref().map(|(table, _)| *table);
        let setting = self.catalogue.find(table, place.key);
        // Files and variables often end with a line end. Of a secret every byte counts.
        if setting.is_some_and(|setting| setting.shape.masking != Masking::All) {
            given.text = given.text.trim().to_owned();
        }
        let mut writing = Writing { place: &place, text: &given.text, result: Ok(()) };
        self.settings.visit(&mut writing);
        writing.result.map_err(|why| given.bad(place.key, &why))?;
        let before = self.given.insert(place.clone(), given);
        self.overridden.entry(place).or_default().extend(before);
        Ok(())
    }

    /// Reads the secrets whose files were named.
    fn read_secrets(&mut self) -> Result<(), BadConfig> {
        for (place, mut given) in std::mem::take(&mut self.paths) {
            if let Some(value) = self.given(&place) {
                let (value, path) = (&value.name, &given.name);
                return Err(BadConfig(format!("{path}: can't be set together with {value}; remove one")));
            }
            let Some(path) = &given.path else { continue };
            given.text = secret_file::read(path).map_err(|why| given.bad(place.key, &why))?;
            self.set(place, given)?;
        }
        Ok(())
    }
}

fn text_of(key: &str, value: toml::Value) -> Result<String, BadConfig> {
    toml_file::text_of(value)
        .ok_or_else(|| BadConfig(format!("{key}: is not a text, number, switch or list of texts")))
}

/// Writes a text into the field of one setting.
struct Writing<'a> {
    place: &'a Place,
    text: &'a str,
    result: Result<(), String>,
}

impl Visitor for Writing<'_> {
    fn setting(&mut self, setting: &Setting, slot: &mut dyn Slot) {
        if self.place.section.is_none() && self.place.key == setting.key {
            self.result = slot.set(self.text);
        }
    }

    fn table(&mut self, table: &NamedTable, entries: &mut dyn Entries) {
        if let Some((key, name)) = &self.place.section
            && *key == table.key
        {
            let place = Place::of(self.place.key);
            let mut inner = Writing { place: &place, text: self.text, result: Ok(()) };
            entries.entry(name).visit(&mut inner);
            self.result = inner.result;
        }
    }
}

/// Makes a section of a table.
struct Making<'a> {
    table: &'static str,
    section: &'a str,
}

impl Visitor for Making<'_> {
    fn setting(&mut self, _setting: &Setting, _slot: &mut dyn Slot) {}

    fn table(&mut self, table: &NamedTable, entries: &mut dyn Entries) {
        if table.key == self.table {
            entries.entry(self.section);
        }
    }
}

//! Settings gathered from the file, the variables and the flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::bad_config::BadConfig;
use crate::kind::Masking;
use crate::nearest::{hint, nearest};
use crate::secret_file;
use crate::section::{Section, Slot, Visitor};
use crate::setting::{Catalogue, Name, Setting};
use crate::table::{Entries, NamedTable};
use crate::toml_file;

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
    text: String,
    /// Where it comes from; with a path, where that comes from.
    pub origin: Origin,
    /// The file that holds the value.
    pub path: Option<PathBuf>,
    /// The key, flag or variable as it was written.
    name: String,
}

impl Given {
    /// The key, flag or variable as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is wrong with it: names the key, the flag or variable, and the file.
    fn bad(&self, key: &str, why: &str) -> BadConfig {
        let path = self.path.as_ref().map(|path| format!("{}: ", path.display())).unwrap_or_default();
        let suffix = if self.path.is_some() { "_file" } else { "" };
        let name = &self.name;
        BadConfig(match self.origin {
            Origin::File => format!("{name}: {path}{why}"),
            Origin::Variable | Origin::Flag => format!("{key}{suffix}: {path}{why} (set by {name})"),
        })
    }
}

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
            if let Some((table, settings)) = self.catalogue.tables.iter().find(|(table, _)| table.key == key)
            {
                let (table, names) = (*table, settings.iter().flat_map(Setting::names).collect::<Vec<_>>());
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Secret, Table, Url, count, optional_count, seconds, secret, secret_url, settings, text};

    settings! {
        /// What can be set about kettles.
        struct Kettle {
            /// How long it boils.
            setting boil: Duration = { Node "boil_seconds" seconds(90, 1..=600) }
            /// Cups.
            setting cups: u32 = { Limits "cups" count(4, 0..=10) }
            /// Its name.
            setting name: Option<String> = { Node "name" text() }
            /// Where water comes from.
            setting water: Option<Url> = { Stores "water_url" secret_url(); "WATER_URL" }
            /// What opens the lid.
            setting lid: Option<Secret> = { Tokens "lid_secret" secret() }
            /// Shelves.
            table shelves: Table<Shelf> = { "shelves" short }
            /// Serial number.
            plain serial: u32 = { 7 }
        }
    }

    settings! {
        /// A shelf.
        struct Shelf {
            /// Cups on it.
            setting cups: Option<u64> = { Limits "cups" optional_count(0..=10) }
            /// What opens its door.
            setting door: Option<Secret> = { Tokens "door_secret" secret() }
        }
    }

    fn short(name: &str) -> Result<(), String> {
        if name.len() < 9 { Ok(()) } else { Err(format!("{name:?} is too long")) }
    }

    fn gather(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Result<Loaded<Kettle>, String> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("kettle.toml");
        std::fs::write(&path, file).expect("a file");
        let names: Vec<Name> = Loaded::<Kettle>::default().catalogue().names().collect();
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let flags = flags.iter().map(|(key, value)| {
            (names.iter().find(|name| name.key == *key).expect("a key").clone(), (*value).to_owned())
        });
        Loaded::gather(Some(&path), variables, flags).map_err(|error| error.to_string())
    }

    fn error(file: &str, variables: &[(&str, &str)]) -> String {
        gather(file, variables, &[]).map(|_| ()).expect_err("bad")
    }

    fn origin(loaded: &Loaded<Kettle>, key: &'static str) -> Option<Origin> {
        loaded.given(&Place::of(key)).map(|given| given.origin)
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let loaded = gather(
            "boil_seconds = 1\ncups = 2\nname = \"file\"",
            &[("STARLING_CUPS", "3"), ("STARLING_NAME", "variable"), ("WATER_URL", "sea://w")],
            &[("name", "flag")],
        )
        .expect("good");
        assert_eq!(loaded.settings.boil, Duration::from_secs(1));
        assert_eq!(loaded.settings.cups, 3);
        assert_eq!(loaded.settings.name.as_deref(), Some("flag"));
        assert_eq!(loaded.settings.water, Some(Url::new("sea://w")));
        assert_eq!((loaded.settings.lid.as_ref(), loaded.settings.serial), (None, 7));
        assert_eq!(origin(&loaded, "boil_seconds"), Some(Origin::File));
        assert_eq!(origin(&loaded, "cups"), Some(Origin::Variable));
        assert_eq!(origin(&loaded, "name"), Some(Origin::Flag));
        assert_eq!(origin(&loaded, "lid_secret"), None);
        let overridden = |key| loaded.overridden(&Place::of(key)).iter().map(Given::name).collect::<Vec<_>>();
        assert_eq!(overridden("name"), ["name", "STARLING_NAME"]);
        assert_eq!((overridden("cups"), overridden("water_url")), (vec!["cups"], vec![]));
    }

    #[test]
    fn white_space_around_a_value_is_no_part_of_it_but_of_a_secret() {
        let variables =
            [("WATER_URL", "sea://w\r\n"), ("STARLING_CUPS", "2\n"), ("STARLING_LID_SECRET", "s \n")];
        let loaded = gather("name = ' n '", &variables, &[("boil_seconds", "\t5")]).expect("good").settings;
        assert_eq!((loaded.cups, loaded.boil), (2, Duration::from_secs(5)));
        assert_eq!((loaded.name.as_deref(), loaded.water), (Some("n"), Some(Url::new("sea://w"))));
        assert_eq!(loaded.lid, Some(Secret::new("s \n")));
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(error("coups = 1", &[]).contains("unknown key `coups`; did you mean `cups`?"));
        assert!(error("[shelfes.a]", &[]).contains("did you mean `shelves`?"));
        assert!(
            error("[shelves.a]\ncusp = 1", &[])
                .contains("shelves.a: unknown key `cusp`; did you mean `cups`?")
        );
        assert!(error("[shelves.a]\ncups = -1", &[]).contains("shelves.a.cups: `-1` is not a whole number"));
        assert!(error("[shelves]\na = 1", &[]).contains("shelves: a is not a table"));
        assert!(error("shelves = 1", &[]).contains("write [shelves.NAME]"));
        assert!(error("[shelves.aaaaaaaaa]", &[]).contains("shelves: \"aaaaaaaaa\" is too long"));
        assert!(
            error("boil_seconds = 0", &[]).contains("boil_seconds: `0` is not a whole number from 1 to 600")
        );
        assert!(
            error("", &[("STARLING_CUPS", "many")])
                .contains("cups: `many` is not a whole number from 0 to 10 (set by STARLING_CUPS)")
        );
        assert!(error("cups = 1.5", &[]).contains("cups: is not a text, number"));
        assert!(!error("water_url = \"user:password@host\"", &[]).contains("password"));
        // Also where another value wins.
        assert!(error("cups = 11", &[("STARLING_CUPS", "1")]).starts_with("cups: "));
    }

    #[test]
    fn what_is_no_toml_is_placed_and_not_repeated() {
        for (file, place) in [
            ("cups = 1\nlid_secret = \"hush\ncups = 2", "line 2, column 19: "),
            ("lid_secret = hush", "line 1, column 14: "),
            ("lid_secret = \"ä\" hush", "line 1, column 18: "),
            ("lid_secret = 'hush'\nlid_secret = 'hush'", "line 2, column 1: "),
        ] {
            let error = error(file, &[]);
            assert!(error.contains(&format!("kettle.toml: {place}")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_text_without_quotes_is_told_to_stand_in_quotes() {
        for line in ["listen = 0.0.0.0:8080", "log = debug", "water_url = postgres://ann:hush@db/x"] {
            let error = error(&format!("cups = 1\n{line}"), &[]);
            let key = line.split(' ').next().expect("a key");
            let wanted = format!("the value of `{key}` must stand in quotes: {key} = \"…\"");
            assert!(
                error.contains(&wanted) && error.contains("line 2") && !error.contains("hush"),
                "{error}"
            );
        }
        assert!(!error("name = \"open", &[]).contains("must stand in quotes"));
    }

    #[test]
    fn a_secret_may_stand_in_a_file_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let written = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        let (lid, water, door) =
            (written("lid", "hush\n"), written("water", "sea://u:hush@w\n"), written("door", "open\n"));
        let file = format!("lid_secret_file = {lid:?}\n[shelves.top]\ndoor_secret_file = {door:?}");
        let loaded = gather(&file, &[("WATER_URL_FILE", &water)], &[]).expect("good");
        assert_eq!(loaded.settings.lid, Some(Secret::new("hush")));
        assert_eq!(loaded.settings.water, Some(Url::new("sea://u:hush@w")));
        let top = loaded.settings.shelves.get("top").expect("the shelf");
        assert_eq!((&top.door, top.cups), (&Some(Secret::new("open")), None));
        let given = loaded.given(&Place::of("water_url")).expect("given");
        assert_eq!((given.origin, given.path.clone()), (Origin::Variable, Some(water.into())));

        // A later source names another file; an empty path names none.
        let other = written("other", "second");
        let loaded = gather(&file, &[], &[("lid_secret_file", &other)]).expect("good");
        assert_eq!(loaded.settings.lid, Some(Secret::new("second")));
        assert_eq!(gather(&file, &[], &[("lid_secret_file", "")]).expect("good").settings.lid, None);
    }

    #[test]
    fn a_file_without_a_usable_secret_is_named_with_its_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("empty"), "\n").expect("a file");
        std::fs::write(path("hush"), "hush").expect("a file");
        for (name, why) in [("missing", "No such file"), ("empty", "is empty"), ("", "directory")] {
            let path = path(name);
            let error = error("", &[("STARLING_LID_SECRET_FILE", &path)]);
            assert!(error.starts_with(&format!("lid_secret_file: {path}: ")), "{error}");
            assert!(error.contains(why) && error.ends_with("(set by STARLING_LID_SECRET_FILE)"), "{error}");
        }
        let error = error("", &[("WATER_URL_FILE", &path("hush"))]);
        assert!(error.starts_with("water_url_file: ") && error.contains("is not a URL"), "{error}");
        assert!(!error.replace(&path("hush"), "").contains("hush"), "{error}");
    }

    #[test]
    fn a_secret_and_its_file_can_not_both_be_given() {
        let both = error("lid_secret = \"hush\"", &[("STARLING_LID_SECRET_FILE", "/none")]);
        assert_eq!(both, "STARLING_LID_SECRET_FILE: can't be set together with lid_secret; remove one");
        let both = error("", &[("WATER_URL", "sea://w"), ("STARLING_WATER_URL_FILE", "/none")]);
        assert_eq!(both, "STARLING_WATER_URL_FILE: can't be set together with WATER_URL; remove one");
    }

    #[test]
    fn a_misspelt_variable_is_told_what_may_have_been_meant() {
        let loaded = gather("", &[("STARLING_CUSP", "1"), ("STARLING_PORT_8080_TCP", "tcp://10.0.0.1")], &[]);
        let loaded = loaded.expect("unknown variables are only noted");
        assert_eq!(loaded.unknown_variables, ["STARLING_CUSP", "STARLING_PORT_8080_TCP"]);
        assert_eq!(loaded.near_variable("STARLING_CUSP").as_deref(), Some("STARLING_CUPS"));
        assert_eq!(loaded.near_variable("STARLING_PORT_8080_TCP"), None);
    }

    #[test]
    fn what_has_changed_is_named_by_its_key() {
        let before = gather("boil_seconds = 9\ncups = 4", &[], &[]).expect("good");
        let after = gather("lid_secret = \"x\"\n[shelves.a]\ncups = 1", &[], &[]).expect("good");
        assert_eq!(after.changes_from(&before), ["boil_seconds", "lid_secret", "shelves"]);
        assert!(before.changes_from(&before).is_empty());
    }

    #[test]
    fn secrets_are_masked_where_settings_are_shown() {
        let loaded = gather("lid_secret = \"hush\"\nwater_url = \"sea://a:hush@w\"", &[], &[]).expect("good");
        let shown: Vec<_> = loaded
            .catalogue()
            .settings
            .iter()
            .filter_map(|setting| loaded.shown(setting, &Place::of(setting.key)))
            .collect();
        assert_eq!(shown, ["90", "\"sea://a:********@w\"", "\"********\"", "4"]);
        assert!(!format!("{:?}", loaded.settings).contains("hush"));
    }
}

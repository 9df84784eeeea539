//! From file, variables and flags to a checked configuration.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use starling_database::DatabaseAddress;
use starling_gateway::Proxies;

use crate::settings::{self, Kind, Setting};
use crate::tenants::{self, OwnLimits};

/// A bad configuration: what is wrong, with the key that it is about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadConfig(pub String);

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The file.
    File,
    /// A variable.
    Variable,
    /// A flag.
    Flag,
}

/// What was set, by whom.
#[derive(Clone, Debug, Default)]
pub struct Values {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// Limits of single tenants, from the file.
    pub tenants: HashMap<String, OwnLimits>,
    /// Variables that look like settings and are none.
    pub unknown_variables: Vec<String>,
}

impl Values {
    /// Gathers defaults, the file, variables and flags; the later one wins.
    pub fn gather(
        file: Option<&Path>,
        variables: impl Iterator<Item = (OsString, OsString)>,
        flags: impl Iterator<Item = (&'static Setting, String)>,
    ) -> Result<Values, BadConfig> {
        let mut values = Values::default();
        for setting in settings::all().filter(|setting| !setting.default.is_empty()) {
            values.values.insert(setting.key, (setting.default.to_owned(), Origin::Default));
        }
        if let Some(file) = file {
            values.read_file(file)?;
        }
        values.read_variables(variables)?;
        for (setting, value) in flags {
            values.set(setting, value, Origin::Flag, &format!("--{}", setting.flag()))?;
        }
        Ok(values)
    }

    /// What holds for a key, and since when; `None`: nothing.
    pub fn get(&self, key: &str) -> Option<(&str, Origin)> {
        self.values
            .get(key)
            .map(|(value, origin)| (value.as_str(), *origin))
            .filter(|(value, _)| !value.is_empty())
    }

    /// The keys of the settings that do not have the value that they have in `before`; `tenants` stands for their limits.
    pub fn changes_from(&self, before: &Values) -> Vec<&'static str> {
        let value = |values: &Values, key| values.get(key).map(|(value, _)| value.to_owned());
        let mut changed: Vec<&str> = settings::all()
            .map(|setting| setting.key)
            .filter(|key| value(self, key) != value(before, key))
            .collect();
        if self.tenants != before.tenants {
            changed.push("tenants");
        }
        changed
    }

    /// The text of a key.
    pub fn text(&self, key: &'static str) -> Option<String> {
        self.get(key).map(|(value, _)| value.to_owned())
    }

    /// The value of a key, which has a default.
    pub fn parsed<T: FromStr>(&self, key: &'static str) -> Result<T, BadConfig>
    where
        T::Err: Display,
    {
        let (value, _) = self.get(key).ok_or_else(|| BadConfig(format!("{key}: is missing")))?;
        value.parse().map_err(|error| BadConfig(format!("{key}: `{value}`: {error}")))
    }

    /// A duration in seconds.
    pub fn seconds(&self, key: &'static str) -> Result<Duration, BadConfig> {
        self.parsed(key).map(Duration::from_secs)
    }

    /// A list, comma-separated.
    pub fn list(&self, key: &'static str) -> Vec<String> {
        let text = self.text(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }

    fn set(
        &mut self,
        setting: &'static Setting,
        value: String,
        origin: Origin,
        name: &str,
    ) -> Result<(), BadConfig> {
        // Files and variables often end with a line end. Of a secret every byte counts.
        let value = if setting.is_secret() { value } else { value.trim().to_owned() };
        check(setting, &value).map_err(|wanted| {
            let shown =
                if setting.is_secret() || setting.kind == Kind::Url { "the value" } else { value.as_str() };
            BadConfig(format!("{name}: `{shown}` is not {wanted}"))
        })?;
        self.values.insert(setting.key, (value, origin));
        Ok(())
    }

    fn read_file(&mut self, path: &Path) -> Result<(), BadConfig> {
        let name = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| BadConfig(format!("--config: {name}: {error}")))?;
        self.read_text(&name, &text)
    }

    /// Reads the text of a file of that name.
    pub fn read_text(&mut self, name: &dyn Display, text: &str) -> Result<(), BadConfig> {
        let table: toml::Table = text.parse().map_err(|error| no_toml(name, text, &error))?;
        for (key, value) in table {
            if key == "tenants" {
                self.tenants = tenants::read(&value)?;
                continue;
            }
            let setting =
                settings::find(&key).ok_or_else(|| unknown(&format!("{name}: unknown key"), &key))?;
            let value = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                toml::Value::Array(list) => list
                    .iter()
                    .map(|item| {
                        item.as_str()
                            .map(str::to_owned)
                            .ok_or_else(|| BadConfig(format!("{key}: not a list of texts")))
                    })
                    .collect::<Result<Vec<_>, _>>()?
                    .join(","),
                _ => return Err(BadConfig(format!("{key}: not a text, number or switch"))),
            };
            self.set(setting, value, Origin::File, &key)?;
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
        for (name, value) in given {
            let known = settings::all()
                .find(|setting| setting.variable == Some(&*name) || setting.variable() == name);
            match known {
                Some(setting) => {
                    let value =
                        value.into_string().map_err(|_| BadConfig(format!("{name}: is not UTF-8")))?;
                    self.set(setting, value, Origin::Variable, &name)?;
                }
                // Kubernetes makes variables of this kind for a service that is called starling.
                None if name.starts_with("STARLING_") => self.unknown_variables.push(name),
                None => {}
            }
        }
        Ok(())
    }
}

/// What is wrong with a text that is no TOML, and where. Without the line itself, which may hold a secret.
fn no_toml(name: &dyn Display, text: &str, error: &toml::de::Error) -> BadConfig {
    let before = error.span().and_then(|span| text.get(..span.start));
    let place = before.map_or(String::new(), |before| {
        let line = before.split('\n').count();
        let column = before.chars().rev().take_while(|character| *character != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    match error.span().and_then(|span| unquoted(text, span.start)) {
        Some(key) => {
            BadConfig(format!("{name}: {place}the value of `{key}` must stand in quotes: {key} = \"…\""))
        }
        None => BadConfig(format!("{name}: {place}{}", error.message())),
    }
}

/// The key whose value, on the line of this place, is a text without quotes.
fn unquoted(text: &str, place: usize) -> Option<&str> {
    let start = text.get(..place)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text.get(start..)?.lines().next()?;
    let (key, value) = line.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_text = value.starts_with(|first: char| !matches!(first, '"' | '\'' | '[' | '{' | '#'));
    (is_key && is_text).then_some(key)
}

/// An unknown key, with the known one that looks most like it.
fn unknown(what: &str, key: &str) -> BadConfig {
    match nearest(key, settings::all().map(|setting| setting.key)) {
        Some(near) => BadConfig(format!("{what} `{key}`; did you mean `{near}`?")),
        None => BadConfig(format!("{what} `{key}`")),
    }
}

/// The variable of a setting that looks most like this one, if one comes close.
pub fn near_variable(name: &str) -> Option<String> {
    let variables: Vec<String> = settings::all().map(Setting::variable).collect();
    let short = |variable: &str| variable.trim_start_matches("STARLING_").to_owned();
    let given = short(name);
    let names: Vec<String> = variables.iter().map(|variable| short(variable)).collect();
    let near = nearest(&given, names.iter().map(String::as_str))?;
    Some(format!("STARLING_{near}"))
}

/// The name that differs least from this one, if it may have been meant: one slip for every four characters.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (slips, near) = known.map(|known| (strsim::damerau_levenshtein(known, name), known)).min()?;
    (slips <= (name.len() / 4).max(1)).then_some(near)
}

/// Whether a value is of its setting's kind; else what was wanted.
fn check(setting: &Setting, value: &str) -> Result<(), String> {
    let number = |from: u64, to: u64| {
        let fits = value.parse::<u64>().is_ok_and(|number| (from..=to).contains(&number));
        if fits { Ok(()) } else { Err(format!("a whole number from {from} to {to}")) }
    };
    match setting.kind {
        Kind::Text | Kind::Secret => Ok(()),
        Kind::Url if value.contains("://") => Ok(()),
        Kind::Url => Err("a URL".into()),
        Kind::Address => value
            .parse::<SocketAddr>()
            .map(|_| ())
            .map_err(|_| "an address and port such as 127.0.0.1:8080".into()),
        Kind::Number(max) => number(0, max),
        Kind::Positive(max) => number(1, max),
        Kind::Switch if matches!(value, "true" | "false") => Ok(()),
        Kind::Switch => Err("true or false".into()),
        Kind::Word(words) if words.contains(&value) => Ok(()),
        Kind::Word(words) => Err(format!("one of {}", words.join(", "))),
    }
}

/// The file beside the database file in which the secret that was made is kept; `None`: nowhere.
pub fn secret_file(database_url: &str) -> Result<Option<PathBuf>, BadConfig> {
    Ok(match database_address(database_url)? {
        DatabaseAddress::Postgres(_) => Some(PathBuf::from("data/starling.secret")),
        DatabaseAddress::Sqlite(path) => {
            (path != Path::new(":memory:")).then(|| path.with_extension("secret"))
        }
    })
}

/// Where the database is.
pub fn database_address(database_url: &str) -> Result<DatabaseAddress, BadConfig> {
    database_url.parse().map_err(|error: starling_database::Error| BadConfig(error.to_string()))
}

/// Addresses and networks of load balancers.
pub fn proxies(values: &Values) -> Result<Proxies, BadConfig> {
    let given = values.list("trusted_proxies");
    Proxies::new(given.iter().map(String::as_str))
        .map_err(|error| BadConfig(format!("trusted_proxies: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gather(file: &str, variables: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Values, BadConfig> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("starling.toml");
        std::fs::write(&path, file).expect("a file");
        let variables = variables.iter().map(|(name, value)| (name.into(), value.into()));
        let flags = flags.iter().map(|(key, value)| (settings::find(key).expect("key"), (*value).to_owned()));
        Values::gather(Some(&path), variables, flags)
    }

    #[test]
    fn flags_win_over_variables_over_the_file_over_defaults() {
        let values = gather(
            "heartbeat_seconds = 1\nreplay_limit = 2\ntopic_history = 3",
            &[("STARLING_REPLAY_LIMIT", "20"), ("STARLING_TOPIC_HISTORY", "30"), ("REDIS_URL", "redis://r")],
            &[("topic_history", "300")],
        )
        .expect("good");
        assert_eq!(values.get("heartbeat_seconds"), Some(("1", Origin::File)));
        assert_eq!(values.get("replay_limit"), Some(("20", Origin::Variable)));
        assert_eq!(values.get("topic_history"), Some(("300", Origin::Flag)));
        assert_eq!(values.get("redis_url"), Some(("redis://r", Origin::Variable)));
        assert_eq!(values.get("drain_seconds"), Some(("30", Origin::Default)));
    }

    #[test]
    fn white_space_around_a_value_is_no_part_of_it_but_of_a_secret() {
        let values = gather(
            "node = ' n '",
            &[
                ("DATABASE_URL", "postgres://h/data\r\n"),
                ("STARLING_SHARDS", "2\n"),
                ("STARLING_JWT_SECRET", "s \n"),
            ],
            &[("redis_url", "\tredis://r\n")],
        )
        .expect("good");
        for (key, value) in [
            ("database_url", "postgres://h/data"),
            ("redis_url", "redis://r"),
            ("shards", "2"),
            ("node", "n"),
            ("jwt_secret", "s \n"),
        ] {
            assert_eq!(values.get(key).map(|(value, _)| value), Some(value), "{key}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error =
            |file, variables: &[_]| gather(file, variables, &[]).map(|_| ()).expect_err("bad").to_string();
        assert!(error("hartbeat_seconds = 1", &[]).contains("did you mean `heartbeat_seconds`?"));
        assert!(error("[tenants.acme]\nconections = 1", &[]).contains("did you mean `connections`?"));
        assert!(
            error("heartbeat_seconds = 0", &[])
                .contains("heartbeat_seconds: `0` is not a whole number from 1")
        );
        assert!(
            error("", &[("STARLING_LISTEN", "here")]).contains("STARLING_LISTEN: `here` is not an address")
        );
        assert!(!error("redis_url = \"user:password@host\"", &[]).contains("password"));
    }

    #[test]
    fn what_is_no_toml_is_placed_and_not_repeated() {
        let error = |file| gather(file, &[], &[]).map(|_| ()).expect_err("bad").to_string();
        for (file, place) in [
            ("shards = 1\njwt_secret = \"hush\nshards = 2", "line 2, column 19: "),
            ("jwt_secret = hush", "line 1, column 14: "),
            ("jwt_secret = \"ä\" hush", "line 1, column 18: "),
            ("jwt_secret = 'hush'\njwt_secret = 'hush'", "line 2, column 1: "),
        ] {
            let error = error(file);
            assert!(error.contains(&format!("starling.toml: {place}")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_text_without_quotes_is_told_to_stand_in_quotes() {
        for line in ["listen = 0.0.0.0:8080", "log = debug", "database_url = postgres://ann:hush@db/x"] {
            let error =
                gather(&format!("shards = 1\n{line}"), &[], &[]).map(|_| ()).expect_err("bad").to_string();
            let key = line.split(' ').next().expect("a key");
            assert!(
                error.contains(&format!("the value of `{key}` must stand in quotes: {key} = \"…\"")),
                "{error}"
            );
            assert!(error.contains("line 2") && !error.contains("hush"), "{error}");
        }
        let other = gather("listen = \"open", &[], &[]).map(|_| ()).expect_err("bad").to_string();
        assert!(!other.contains("must stand in quotes"), "{other}");
    }

    #[test]
    fn a_misspelt_variable_is_told_what_may_have_been_meant() {
        assert_eq!(near_variable("STARLING_LISTNE").as_deref(), Some("STARLING_LISTEN"));
        assert_eq!(near_variable("STARLING_REPLY_LIMIT").as_deref(), Some("STARLING_REPLAY_LIMIT"));
        for of_kubernetes in ["STARLING_PORT_8080_TCP", "STARLING_SERVICE_HOST", "STARLING_PORT"] {
            assert_eq!(near_variable(of_kubernetes), None, "{of_kubernetes}");
        }
    }

    #[test]
    fn what_has_changed_is_named_by_its_key() {
        let before = gather("heartbeat_seconds = 9\nlog = \"info\"", &[], &[]).expect("good");
        let after = gather("log = \"debug\"\n[tenants.acme]\nconnections = 1", &[], &[]).expect("good");
        assert_eq!(after.changes_from(&before), ["heartbeat_seconds", "log", "tenants"]);
        assert!(before.changes_from(&before).is_empty());
    }

    #[test]
    fn unknown_variables_are_only_noted() {
        let values = gather("", &[("STARLING_PORT_8080_TCP", "tcp://10.0.0.1")], &[]).expect("good");
        assert_eq!(values.unknown_variables, ["STARLING_PORT_8080_TCP"]);
    }

    #[test]
    fn every_default_is_a_good_value() {
        for setting in settings::all().filter(|setting| !setting.default.is_empty()) {
            assert_eq!(check(setting, setting.default), Ok(()), "{}", setting.key);
        }
    }
}

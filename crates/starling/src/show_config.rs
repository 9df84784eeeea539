//! The configuration, shown to people.

use std::fmt::Write;

use crate::config::{Origin, Values};
use crate::settings::{self, Kind, Setting};
use crate::tenants;

/// The configuration that holds, as a file that could be used, secrets masked.
pub fn effective(values: &Values) -> String {
    let mut out = String::new();
    for (section, of_section) in settings::SECTIONS {
        let _ = writeln!(out, "# {section}");
        for setting in *of_section {
            match values.get(setting.key) {
                None => {
                    let _ = writeln!(out, "# {} is not set", setting.key);
                }
                Some((value, origin)) => {
                    let value = written(setting, value);
                    let from = match origin {
                        Origin::Default => "",
                        Origin::File => "  # from the file",
                        Origin::Variable => "  # from a variable",
                        Origin::Flag => "  # from a flag",
                    };
                    let _ = writeln!(out, "{} = {value}{from}", setting.key);
                }
            }
        }
        out.push('\n');
    }
    let mut tenants: Vec<_> = values.tenants.iter().collect();
    tenants.sort_by_key(|(name, _)| *name);
    for (name, limits) in tenants {
        let _ = writeln!(out, "[tenants.{}]", tenants::key(name));
        for (key, limit) in limits.entries() {
            let _ = writeln!(out, "{key} = {limit}");
        }
        out.push('\n');
    }
    out
}

/// The reference of all settings: `docs/configuration.md`.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\n<!-- Made by `starling config --markdown`; `cargo xtask docs` writes it anew. -->\n\n\
         Every setting is a key of the TOML file that `--config` names, a flag and an environment variable: the key \
         `resume_window_seconds` is the flag `--resume-window-seconds` and the variable `STARLING_RESUME_WINDOW_SECONDS`. \
         Flags win over variables, variables over the file. `starling config` prints what holds, secrets masked.\n\n\
         An unknown key or flag, or a bad value, ends the start with exit status 64 and a message that names it, before a port \
         is bound. An unknown `STARLING_…` variable is only warned of.\n",
    );
    for (section, of_section) in settings::SECTIONS {
        let _ = write!(out, "\n## {section}\n\n| key | default | meaning |\n|---|---|---|\n");
        for setting in *of_section {
            let default =
                if setting.default.is_empty() { "–".into() } else { format!("`{}`", setting.default) };
            let also = setting.variable.map(|name| format!(" Also `{name}`.")).unwrap_or_default();
            let words = match setting.kind {
                Kind::Word(words) => format!(" One of `{}`.", words.join("`, `")),
                _ => String::new(),
            };
            let _ = writeln!(out, "| `{}` | {default} | {}{words}{also} |", setting.key, setting.help);
        }
    }
    out.push_str(
        "\n## Limits of single tenants\n\nIn the file only. What is not named here holds for all tenants by the settings \
         above.\n\n```toml\n[tenants.acme]\nuser_writes_per_minute = 600\nconnections = 5000\nconversations = 100000\n```\n\n\
         A name with a `.`, `:` or `@` stands in quotes: `[tenants.\"acme.example\"]`.\n",
    );
    out
}

fn written(setting: &Setting, value: &str) -> String {
    match setting.kind {
        Kind::Secret => format!("\"{MASK}\""),
        Kind::Number(_) | Kind::Positive(_) | Kind::Switch => value.to_owned(),
        Kind::Url => toml::Value::String(masked(value)).to_string(),
        _ => toml::Value::String(value.to_owned()).to_string(),
    }
}

/// What stands for a secret.
const MASK: &str = "********";

/// A URL without its passwords, also where it can't be parsed. PostgreSQL's may hold a `/` or a `?` as they are, so what comes
/// before the last `@` is what may be secret, not what a URL's grammar takes for it.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return MASK.into() };
    let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
    let place = match place.rsplit_once('@') {
        // The password may hold the `?`, and nobody can tell where it ends.
        None if query.is_some_and(|query| query.contains('@')) => return format!("{scheme}://{MASK}"),
        None => place.to_owned(),
        Some((user, host)) => match user.split_once(':') {
            None => place.to_owned(),
            Some((user, _)) => format!("{user}:{MASK}@{host}"),
        },
    };
    match query {
        None => format!("{scheme}://{place}"),
        Some(query) => {
            let pairs: Vec<_> = query.split('&').map(masked_pair).collect();
            format!("{scheme}://{place}?{}", pairs.join("&"))
        }
    }
}

/// A pair of a query, without its value where that is a password.
fn masked_pair(pair: &str) -> String {
    match pair.split_once('=') {
        Some((name, _)) if name.to_ascii_lowercase().ends_with("password") => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_tenants_can_be_read_back() {
        let mut given = Values::default();
        let file = "[tenants.acme]\nconnections = 3\n[tenants.\"a:b\"]\nconversations = 4\n\
                    [tenants.\"a.b\"]\nuser_writes_per_minute = 5\n[tenants.\"a@b\"]\nconnections = 6";
        given.read_text(&"given", file).expect("good");
        let shown = effective(&given);
        let mut again = Values::default();
        again.read_text(&"shown", &shown).expect(&shown);
        assert_eq!((given.tenants.len(), again.tenants), (4, given.tenants), "{shown}");
    }

    #[test]
    fn passwords_are_masked() {
        assert_eq!(masked("postgres://ann:secret@db/x"), "postgres://ann:********@db/x");
        assert_eq!(
            masked("redis-sentinel://h:1?sentinelPassword=secret&a=b"),
            "redis-sentinel://h:1?sentinelPassword=********&a=b"
        );
        assert_eq!(masked("sqlite://data/starling.db"), "sqlite://data/starling.db");
        assert_eq!(masked("postgres://a:p@ss@db/x"), "postgres://a:********@db/x");
        assert_eq!(
            masked("postgres://h/x?password=secret&sslpassword=secret&a=b"),
            "postgres://h/x?password=********&sslpassword=********&a=b"
        );
    }

    #[test]
    fn a_password_is_masked_whatever_stands_in_it() {
        assert_eq!(masked("postgres://ann:se/cr/et@db/x"), "postgres://ann:********@db/x");
        assert_eq!(masked("postgres://ann:s/e:c@r/et@db/x?a=b"), "postgres://ann:********@db/x?a=b");
        assert_eq!(masked("redis://:se/cret@h:1/2"), "redis://:********@h:1/2");
        // tokio-postgres takes these, too.
        assert_eq!(masked("postgres://ann:se?cret@db/x"), "postgres://********");
        assert_eq!(masked("postgres://ann:se?password=cret@db/x"), "postgres://********");
        assert_eq!(masked("redis-sentinel://h:1?sentinelPassword=se@cret"), "redis-sentinel://********");
    }

    #[test]
    fn what_is_no_password_is_shown() {
        assert_eq!(masked("postgres://ann@db/x"), "postgres://ann@db/x");
        assert_eq!(masked("postgres://db:5432/x?sslmode=require"), "postgres://db:5432/x?sslmode=require");
        let with_both = "postgres://ann:secret@db/x?application_name=a@b";
        assert_eq!(masked(with_both), "postgres://ann:********@db/x?application_name=a@b");
        assert_eq!(masked("sqlite://data/a@b.db"), "sqlite://data/a@b.db");
    }
}

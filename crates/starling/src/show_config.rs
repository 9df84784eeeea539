//! The configuration, shown to people.

use std::fmt::Write;

use starling_settings::{Given, Heading, Origin, Place, Setting};

use crate::config::Values;

/// The effective configuration as a file that could be used, with secrets masked.
pub fn effective(values: &Values) -> String {
    let mut out = String::new();
    for heading in Heading::ALL {
        let _ = writeln!(out, "# {}", heading.title());
        for setting in values.catalogue().settings.iter().filter(|setting| setting.heading == heading) {
            let place = Place::of(setting.key);
            let _ = match values.shown(setting, &place) {
                None => writeln!(out, "# {} is not set", setting.key),
                Some(value) => writeln!(out, "{} = {value}{}", setting.key, origin(values.given(&place))),
            };
        }
        out.push('\n');
    }
    for (table, settings) in &values.catalogue().tables {
        for name in values.sections(table.key) {
            let _ = writeln!(out, "[{}.{}]", table.key, key(name));
            for setting in settings {
                let place = Place { section: Some((table.key, name.to_owned())), key: setting.key };
                if let Some(value) = values.shown(setting, &place) {
                    let _ = writeln!(out, "{} = {value}", setting.key);
                }
            }
            out.push('\n');
        }
    }
    out
}

/// A comment that says where a value comes from; nothing for a default.
fn origin(given: Option<&Given>) -> String {
    let Some(given) = given else { return String::new() };
    let source = match given.origin {
        Origin::File => "the file",
        Origin::Variable => "a variable",
        Origin::Flag => "a flag",
    };
    match &given.path {
        None => format!("  # from {source}"),
        Some(path) => format!("  # from {path:?}, named by {source}"),
    }
}

/// The name of a section as a key of TOML: in quotes where it has to be.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if name.bytes().all(bare) {
        return name.to_owned();
    }
    toml::Value::String(name.to_owned()).to_string()
}

/// The reference of all settings: `docs/configuration.md`.
pub fn reference() -> String {
    let values = Values::default();
    let mut out = String::from(INTRODUCTION);
    for heading in Heading::ALL {
        let _ = write!(out, "\n## {}\n\n{TABLE}", heading.title());
        for setting in values.catalogue().settings.iter().filter(|setting| setting.heading == heading) {
            rows(&mut out, setting);
        }
    }
    for (table, settings) in &values.catalogue().tables {
        let _ = write!(
            out,
            "\n## `[{}.NAME]`\n\nOnly in the file. {}\n\n```toml\n",
            table.key,
            table.help.trim()
        );
        match table.example {
            Some(example) => out.push_str(example),
            None => {
                let _ = writeln!(out, "[{}.acme]", table.key);
                for setting in settings.iter().filter(|setting| setting.shape.bare) {
                    let _ = writeln!(out, "{} = 1000", setting.key);
                }
            }
        }
        out.push_str("```\n\n");
        if (table.check)("acme.example").is_ok() {
            let key = table.key;
            let _ = write!(
                out,
                "A name with a `.`, `:` or `@` stands in quotes: `[{key}.\"acme.example\"]`.\n\n"
            );
        }
        out.push_str(TABLE);
        settings.iter().for_each(|setting| rows(&mut out, setting));
    }
    out
}

const INTRODUCTION: &str = "# Configuration

<!-- Made by `starling config --markdown`; `cargo xtask docs` writes it anew. -->

Every setting is a key of the TOML file that `--config` names, a flag and an environment variable: the key `resume_window_seconds` is the flag `--resume-window-seconds` and the variable `STARLING_RESUME_WINDOW_SECONDS`. Flags win over variables, variables over the file. `starling config` prints the effective configuration, with secrets masked.

An unknown key or flag, or a bad value, ends the start with exit status 64 and a message that names it, before a port is bound. An unknown `STARLING_…` variable is only reported in a warning.

## Secrets as files

A secret can stand in a file of its own, as Kubernetes, Docker and systemd mount them: the key, flag or variable then ends with `_file` and names the file. `STARLING_JWT_SECRET_FILE=/run/secrets/jwt` is `jwt_secret` with the contents of `/run/secrets/jwt`. One line end behind the secret is removed.

A secret that is given both directly and by a file, and a file that is missing, empty, longer than 64 KiB or not UTF-8, end the start with exit status 64. The message names the key and the file, and never shows the contents.

After SIGHUP the files are read again. A changed secret needs a restart, and the log names it; so does every setting except `log`, `tls_certificate_file` and `tls_key_file`.
";

const TABLE: &str = "| key | default | values | meaning |\n|---|---|---|---|\n";

/// The rows of a setting in the reference.
fn rows(out: &mut String, setting: &Setting) {
    for name in setting.names() {
        let also = name.other_variable.as_ref().map(|name| format!(" Also `{name}`.")).unwrap_or_default();
        let _ = if name.is_path {
            writeln!(out, "| `{}` | – | FILE | File that holds `{}`.{also} |", name.key, setting.key)
        } else {
            let default = setting.shape.default.as_ref();
            let default = default.map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
            let allowed = setting.shape.allowed.as_deref().unwrap_or(setting.shape.placeholder);
            writeln!(out, "| `{}` | {default} | {allowed} | {}{also} |", name.key, setting.help())
        };
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
        let tenants = |values: &Values| -> Vec<_> {
            values.settings.hub.tenants.iter().map(|(name, limits)| (name.to_owned(), *limits)).collect()
        };
        assert_eq!((tenants(&given).len(), tenants(&again)), (4, tenants(&given)), "{shown}");
    }

    #[test]
    fn names_are_keys_of_their_own() {
        for name in ["acme", "a.b", "a:b", "a@b.example", "-", "1", "a_b"] {
            let mut values = Values::default();
            values.read_text(&"file", &format!("[tenants.{}]\nconnections = 1", key(name))).expect("good");
            assert_eq!(values.sections("tenants"), [name]);
        }
        // Without quotes where they are not needed.
        assert_eq!(key("acme-1_x"), "acme-1_x");
    }
}

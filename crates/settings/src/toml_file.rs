//! What can be wrong with a text that is no TOML.

use std::fmt::Display;

use crate::bad_config::BadConfig;

/// Parses a file of this name.
pub(crate) fn parse(name: &dyn Display, text: &str) -> Result<toml::Table, BadConfig> {
    text.parse().map_err(|error| no_toml(name, text, &error))
}

/// The text of a value of a setting; `None`: it is of no kind that a setting has.
pub(crate) fn text_of(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
        toml::Value::Array(list) => {
            let texts: Option<Vec<&str>> = list.iter().map(toml::Value::as_str).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
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

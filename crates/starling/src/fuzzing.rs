//! A way for the fuzz target `config` to the reading of a configuration file. No part of what this crate promises.

use crate::config::{self, Values};
use crate::settings::{self, Kind};

/// Reads a configuration file.
///
/// # Panics
/// When a number that was let in is not one, or is beyond its limit.
pub fn config(text: &str) {
    let mut values = Values::default();
    if values.read_text(&"starling.toml", text).is_err() {
        return;
    }
    for setting in settings::all() {
        let Some((value, _)) = values.get(setting.key) else { continue };
        if let Kind::Number(max) | Kind::Positive(max) = setting.kind {
            assert!(value.parse::<u64>().is_ok_and(|number| number <= max), "{}: {value}", setting.key);
        }
    }
    let _ = config::proxies(&values);
    for limits in values.tenants.values() {
        let _ = limits.entries().count();
    }
}

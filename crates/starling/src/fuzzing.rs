//! Access to the reading of a configuration file, for the fuzz target `config`. No part of what this crate promises.

use crate::config::Values;
use crate::show_config::effective;

/// Reads a configuration file, and shows it as `starling config` does.
///
/// # Panics
/// When a file that was accepted can't be read again as it is shown.
pub fn config(text: &str) {
    let mut values = Values::default();
    if values.read_text(&"starling.toml", text).is_err() {
        return;
    }
    let shown = effective(&values);
    let again = Values::default().read_text(&"shown", &shown);
    assert!(again.is_ok(), "{shown}");
}

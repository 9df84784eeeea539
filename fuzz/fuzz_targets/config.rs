//! The configuration file: read or refused, and no secret of it is shown in the refusal.
#![no_main]
#![allow(dead_code, reason = "the program's own files, of which the reading is called")]

#[path = "../../crates/starling/src/config.rs"]
mod config;
#[path = "../../crates/starling/src/settings.rs"]
mod settings;
#[path = "../../crates/starling/src/tenants.rs"]
mod tenants;

use config::Values;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut values = Values::default();
    if values.read_text(&"starling.toml", text).is_err() {
        return;
    }
    for setting in settings::all() {
        // What was let in is of the kind that the start reads.
        let Some((value, _)) = values.get(setting.key) else { continue };
        if let settings::Kind::Number(max) | settings::Kind::Positive(max) = setting.kind {
            assert!(value.parse::<u64>().is_ok_and(|number| number <= max), "{}: {value}", setting.key);
        }
    }
    let _ = config::proxies(&values);
    for limits in values.tenants.values() {
        let _ = limits.entries().count();
    }
});

//! Settings: described once, beside the field that holds the value.
//!
//! [`settings!`] declares a struct whose fields are settings. From that one description follow the key in the file, the flag, the
//! variables, the default, the help and the reference in `docs/configuration.md`. [`Loaded::gather`] fills the struct from all
//! sources; the parts of the program take its typed fields.

mod bad_config;
mod heading;
mod kind;
mod kinds;
mod loaded;
mod nearest;
mod secret;
mod secret_file;
mod section;
mod setting;
mod table;
mod toml_file;

pub use bad_config::BadConfig;
pub use heading::Heading;
pub use kind::{Kind, Masking, Shape};
pub use kinds::{
    Address, Choice, Count, Elements, OptionalChoice, OptionalCount, OptionalUrl, Parsed, Path, Seconds,
    SecretText, Switch, Text, UrlText, address, bytes, choice, count, elements, list, optional_choice,
    optional_count, parsed, path, seconds, secret, secret_url, secret_url_or, switch, text, url,
};
pub use loaded::{Given, Loaded, Origin, Place};
pub use secret::{MASK, Secret, Url};
pub use section::{Field, Section, Slot, Visitor};
pub use setting::{Catalogue, Name, Setting};
pub use table::{Entries, NamedTable, Table};

/// The seconds of a day: no timeout of a node is longer.
pub const DAY_SECONDS: u64 = 86_400;
/// The largest count: what 32 bits hold.
pub const COUNT_MAX: u64 = u32::MAX as u64;

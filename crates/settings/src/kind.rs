//! What the value of a setting may be.

use crate::secret::{MASK, Url};

/// A kind of value: how its text is read, and what holds when nothing is given.
pub trait Kind {
    /// The typed value.
    type Value;

    /// The value when nothing is given.
    fn initial(&self) -> Self::Value;

    /// Reads a value.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that begins with the key. Never repeats a value that is masked.
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// What values look like.
    fn shape(&self) -> Shape;
}

/// What values of a setting look like, for help and documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// What stands for a value in the help, such as `SECONDS`.
    pub placeholder: &'static str,
    /// Which values are allowed, where that can be listed: `1 to 3600`.
    pub allowed: Option<String>,
    /// The text of the default; `None`: nothing is set.
    pub default: Option<String>,
    /// How the value is masked.
    pub masking: Masking,
    /// Whether values are written without quotes in TOML.
    pub bare: bool,
    /// Whether the value may stand in a file of its own, as secrets do that a container platform mounts.
    pub may_be_file: bool,
}

impl Shape {
    /// A shape without a default, masking or restriction.
    pub fn of(placeholder: &'static str) -> Shape {
        Shape {
            placeholder,
            allowed: None,
            default: None,
            masking: Masking::None,
            bare: false,
            may_be_file: false,
        }
    }
}

impl Shape {
    /// A value as it can be shown in a TOML file: masked where it has to be.
    pub fn toml(&self, text: &str) -> String {
        let shown = match self.masking {
            Masking::None if self.bare => return text.to_owned(),
            Masking::None => text.to_owned(),
            Masking::Passwords => Url::new(text).masked(),
            Masking::All => MASK.to_owned(),
        };
        toml::Value::String(shown).to_string()
    }
}

/// How a value is masked wherever it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masking {
    /// It is shown.
    None,
    /// A URL: passwords in it are masked.
    Passwords,
    /// All of it is masked. Every byte of it counts, white space too.
    All,
}

//! Why the program ends, other than well.

use std::fmt::Display;

use starling_settings::BadConfig;

/// Exit status of a bad configuration or command line (EX_USAGE of sysexits.h).
pub const BAD_CONFIG: u8 = 64;
/// Exit status of every other failure.
const FAILED: u8 = 1;

/// Why the program ends, other than well.
pub struct Failure {
    /// What to tell the operator.
    pub message: String,
    /// The exit status.
    pub code: u8,
}

impl Failure {
    /// A failure at run time that a setting is about. The message begins with the key once, whether the error names it or not.
    pub fn about(key: &str, error: impl Display) -> Failure {
        let message = error.to_string();
        let named = message.starts_with(&format!("{key}: "));
        Failure { message: if named { message } else { format!("{key}: {message}") }, code: FAILED }
    }
}

impl From<BadConfig> for Failure {
    fn from(bad: BadConfig) -> Failure {
        Failure { message: bad.to_string(), code: BAD_CONFIG }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { message: format!("{error:#}"), code: FAILED }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_before_a_message() {
        assert_eq!(Failure::about("redis_url", "no answer").message, "redis_url: no answer");
        assert_eq!(Failure::about("redis_url", "redis_url: too old").message, "redis_url: too old");
    }
}

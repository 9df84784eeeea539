//! The parts of an outcome, as both databases store them.

use std::time::Duration;

use crate::{AttemptOutcome, ERROR_BYTES_MAX, Outcome};

/// The parts of an [`Outcome`].
pub(crate) struct Parts<'a> {
    pub outcome: AttemptOutcome,
    pub retry_in: Option<Duration>,
    pub result: Option<&'a str>,
    pub error: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub fn of(outcome: &'a Outcome) -> Self {
        let ended = |outcome| Parts { outcome, retry_in: None, result: None, error: None };
        match outcome {
            Outcome::Done(result) => Parts { result: result.as_deref(), ..ended(AttemptOutcome::Done) },
            Outcome::Failed { error, retry_in } => {
                Parts { retry_in: *retry_in, error: Some(shortened(error)), ..ended(AttemptOutcome::Failed) }
            }
            Outcome::HandedBack => ended(AttemptOutcome::HandedBack),
            Outcome::Cancelled => ended(AttemptOutcome::Cancelled),
        }
    }
}

/// Cuts an error off at the limit, between two characters, and before a zero byte, which PostgreSQL does not store.
fn shortened(error: &str) -> &str {
    let error = error.split('\0').next().unwrap_or_default();
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_off_between_two_characters() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened("be\0hind"), "be");
        let long = "ä".repeat(ERROR_BYTES_MAX);
        assert_eq!(shortened(&format!("x{long}")).len(), ERROR_BYTES_MAX - 1);
    }
}

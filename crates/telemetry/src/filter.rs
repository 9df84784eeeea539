//! Log filter in the syntax of `RUST_LOG`, checked for typing errors that would silence the log.

use tracing_subscriber::{EnvFilter, Registry, reload};

use crate::TRACE_TARGET;
use crate::error::TelemetryError;

/// Log levels, from the fewest lines to the most.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// Prefix of all targets in Starling's own crates.
const OWN_TARGETS: &str = "starling";

/// Handle that changes the log filter while the process runs.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    pub(crate) fn new(handle: reload::Handle<EnvFilter, Registry>) -> LogFilter {
        LogFilter { handle }
    }

    /// Replaces the filter. `filter` uses the syntax of `RUST_LOG`.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`]; the old filter then stays in use.
    pub fn change(&self, filter: &str) -> Result<(), TelemetryError> {
        let filter = parse(filter)?;
        self.handle.reload(filter).map_err(|error| TelemetryError::Filter(error.to_string()))
    }
}

/// Checks a filter in the syntax of `RUST_LOG` without installing it.
///
/// # Errors
/// [`TelemetryError::Filter`].
pub fn check_filter(filter: &str) -> Result<(), TelemetryError> {
    parse(filter).map(drop)
}

pub(crate) fn parse(filter: &str) -> Result<EnvFilter, TelemetryError> {
    let words: Vec<&str> = filter.split(',').map(str::trim).collect();
    words.iter().try_for_each(|word| check_word(word))?;
    let filter = words.join(",");
    // Some targets stay silent unless the operator names them (a later directive replaces an earlier one): spans for traces; the clients of Redis
    // and RabbitMQ, which report each broken connection several times, where Starling logs one line per outage, and whole messages that were
    // returned; and what the PostgreSQL client logs of each statement, which includes the texts of messages.
    EnvFilter::try_new(format!("{TRACE_TARGET}=off,fred=off,lapin=off,tokio_postgres=info,{filter}"))
        .map_err(|error| TelemetryError::Filter(error.to_string()))
}

/// Refuses a bare word that is neither a level nor a target in Starling. `EnvFilter` would read it as the target of another crate,
/// and Starling would log nothing.
fn check_word(word: &str) -> Result<(), TelemetryError> {
    let is_bare = word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
        || matches!(word.parse::<u8>(), Ok(0..=5));
    if word.is_empty() || !is_bare || is_level || word.starts_with(OWN_TARGETS) {
        return Ok(());
    }
    let lower = word.to_ascii_lowercase();
    let near = LEVELS.iter().map(|level| (strsim::damerau_levenshtein(level, &lower), level)).min();
    let near = match near {
        Some((0..=2, level)) => Some(level),
        _ => LEVELS.iter().find(|level| lower.starts_with(*level)),
    };
    Err(TelemetryError::Filter(match near {
        Some(level) => format!("`{word}` is not a level; did you mean `{level}`?"),
        None => format!(
            "`{word}` is not a level ({}); to log another crate, write `{word}=info`",
            LEVELS.join(", ")
        ),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(filter: &str) -> Option<String> {
        check_filter(filter).err().map(|error| error.to_string())
    }

    #[test]
    fn filters_that_show_something_are_taken() {
        for filter in [
            "",
            "info",
            "WARN",
            "off",
            "3",
            "info,starling_hub=debug",
            "starling_gateway",
            "warn,hyper=debug",
            "starling::trace=debug",
            "hyper::proto=trace",
            "starling_hub[append{lane=1}]=debug,info",
            " info , fred=debug",
        ] {
            assert_eq!(problem(filter), None, "{filter}");
        }
    }

    #[test]
    fn misspelt_levels_are_refused_with_the_level_that_was_meant() {
        for (filter, level) in [
            ("inof", "info"),
            ("ifno", "info"),
            ("debgu", "debug"),
            ("warning", "warn"),
            ("eror", "error"),
            ("starling_hub=debug,INOF", "info"),
            ("information", "info"),
        ] {
            let problem = problem(filter).unwrap();
            assert!(problem.contains(&format!("did you mean `{level}`?")), "{filter}: {problem}");
        }
    }

    #[test]
    fn a_word_that_would_silence_the_log_is_refused() {
        assert!(problem("verbose").unwrap().contains("write `verbose=info`"));
        assert!(problem("starling_hub=loud").is_some());
    }
}

//! Starling: conversations that do not break.
//!
//! The start, as a story: read the command line, check the whole configuration, open the ports, then begin to work.

mod cli;
mod config;
mod first_link;
#[doc(hidden)]
pub mod fuzzing;
mod metrics_port;
mod output;
mod reload;
#[cfg(feature = "sabotage")]
mod sabotage;
mod serve;
mod settings;
mod setup;
mod show_config;
mod signals;
mod tenants;

use std::fmt::Display;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use cli::Subcommand;
use output::{print, warn};

/// Exit status of a bad configuration (EX_USAGE of sysexits.h).
const BAD_CONFIG: u8 = 64;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the program as its command line and its environment say. Answers its exit status.
pub fn main() -> ExitCode {
    let (subcommand, matches) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // `--help` and `--version` come this way, too.
            let code = if error.use_stderr() { BAD_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&subcommand, matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            warn(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(subcommand: &Subcommand, matches: ArgMatches) -> Result<(), Failure> {
    if let Subcommand::ShowConfig { markdown: true } = subcommand {
        return print(&show_config::reference());
    }
    let values = cli::values(&matches)?;
    for name in &values.unknown_variables {
        let hint =
            config::near_variable(name).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        warn(&format!("warning: the variable {name} is unknown and is ignored{hint}"));
    }
    match subcommand {
        Subcommand::ShowConfig { .. } => {
            setup::Setup::check(&values)?;
            print(&show_config::effective(&values))
        }
        Subcommand::Token { user, tenant, scope, ttl_seconds } => {
            let token = setup::token(&values, user, tenant, scope, *ttl_seconds)?;
            print(&format!("{token}\n"))
        }
        Subcommand::Migrate { restored } => serve::migrate(&values, *restored),
        Subcommand::Serve => serve::serve(&values, Arc::new(move || cli::values(&matches))),
    }
}

/// Why the program ends, other than well.
pub struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// A failure at run time that a setting is about. The key stands in front of the message once, whether the error names it or not.
    fn about(key: &str, error: impl Display) -> Failure {
        let message = error.to_string();
        let named = message.starts_with(&format!("{key}: "));
        Failure { message: if named { message } else { format!("{key}: {message}") }, code: 1 }
    }
}

impl From<config::BadConfig> for Failure {
    fn from(bad: config::BadConfig) -> Failure {
        Failure { message: bad.to_string(), code: BAD_CONFIG }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Failure {
        Failure { message: format!("{error:#}"), code: 1 }
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

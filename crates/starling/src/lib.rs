//! Starling: conversations that do not break.
//!
//! The start, as a story: read the command line, check the whole configuration, open the ports, then begin to work.

mod cli;
mod config;
mod first_link;
mod metrics_port;
#[cfg(feature = "sabotage")]
mod sabotage;
mod serve;
mod settings;
mod setup;
mod show_config;
mod tenants;

use std::process::ExitCode;

use cli::Wish;
use config::Values;

/// Exit status of a bad configuration (EX_USAGE of sysexits.h).
const BAD_CONFIG: u8 = 64;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the program as its command line and its environment say. Answers its exit status.
pub fn main() -> ExitCode {
    let (wish, matches) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // `--help` and `--version` come this way, too.
            let code = if error.use_stderr() { BAD_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    if let Wish::ShowConfig { markdown: true } = wish {
        print!("{}", show_config::reference());
        return ExitCode::SUCCESS;
    }
    let done = cli::values(&matches).map_err(Failure::from).and_then(|values| run(&wish, &values));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("starling: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(wish: &Wish, values: &Values) -> Result<(), Failure> {
    for name in &values.unknown_variables {
        eprintln!("starling: warning: the variable {name} is unknown and is ignored");
    }
    match wish {
        Wish::ShowConfig { .. } => {
            setup::Setup::check(values)?;
            print!("{}", show_config::effective(values));
            Ok(())
        }
        Wish::Token { user, tenant, scope, ttl_seconds } => {
            let token = setup::token(values, user, tenant, scope, *ttl_seconds)?;
            println!("{token}");
            Ok(())
        }
        Wish::Migrate => serve::migrate(values),
        Wish::Serve => serve::serve(values),
    }
}

/// Why the program ends, other than well.
pub struct Failure {
    message: String,
    code: u8,
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

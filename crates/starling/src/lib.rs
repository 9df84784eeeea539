//! Starling: conversations that do not break.
//!
//! The start, as a story: read the command line, check the whole configuration, open the ports, then begin to work.

mod capacity;
mod check;
mod cli;
mod config;
mod database;
mod doctor;
mod failure;
mod first_link;
#[doc(hidden)]
pub mod fuzzing;
mod gateway_node;
mod healthcheck;
mod keys;
mod layers;
mod metrics_port;
mod migrate;
mod outbound;
mod output;
mod own_secret;
mod probes;
mod process;
mod redis;
mod reload;
mod roles;
mod serve;
mod setup;
mod show_config;
mod signals;
mod terminal;
mod token;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use cli::Subcommand;
use config::Values;
use failure::{BAD_CONFIG, Failure};
#[doc(hidden)]
pub use layers::{Layer, Layers};
use output::{print, warn};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs the program as its command line and its environment say. Returns its exit status.
pub fn main() -> ExitCode {
    main_with(&Layers::default())
}

/// Like [`main`], with layers around parts of the node.
#[doc(hidden)]
pub fn main_with(layers: &Layers) -> ExitCode {
    let (subcommand, matches) = match cli::parse(std::env::args_os()) {
        Ok(parsed) => parsed,
        Err(error) => {
            // `--help` and `--version` come this way, too.
            let code = if error.use_stderr() { BAD_CONFIG } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(&subcommand, matches, layers) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            warn(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}

fn run(subcommand: &Subcommand, matches: ArgMatches, layers: &Layers) -> Result<(), Failure> {
    if let Subcommand::ShowConfig { markdown: true } = subcommand {
        return print(&show_config::reference());
    }
    // An estimate has nothing to do with the configuration of this node.
    if let Subcommand::Capacity(request) = subcommand {
        return print(&capacity::capacity(request)?);
    }
    let values = cli::values(&matches)?;
    warn_of_unknown_variables(&values);
    let config = &values.settings;
    match subcommand {
        Subcommand::Capacity(request) => print(&capacity::capacity(request)?),
        Subcommand::ShowConfig { .. } => {
            setup::Setup::check(config)?;
            print(&show_config::effective(&values))
        }
        Subcommand::Token(request) => print(&format!("{}\n", token::token(config, request)?)),
        Subcommand::Migrate { restored } => migrate::migrate(config, *restored, layers),
        Subcommand::Healthcheck { ready } => healthcheck::healthcheck(config, *ready),
        Subcommand::Doctor(request) => doctor::doctor(&values, request),
        Subcommand::Check(request) => check::check(config, request),
        Subcommand::Serve => serve::serve(&values, Arc::new(move || cli::values(&matches)), layers),
    }
}

fn warn_of_unknown_variables(values: &Values) {
    for name in &values.unknown_variables {
        let near = values.near_variable(name);
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        warn(&format!("warning: the variable {name} is unknown and is ignored{hint}"));
    }
}

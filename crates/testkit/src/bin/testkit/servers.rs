//! `testkit with COMMAND`: runs a command beside servers of its own.

use std::process::ExitCode;

use anyhow::{Context, Result};
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use tokio::process::Command;

use crate::cluster::stop_signals;

/// Runs a command beside a Redis and a PostgreSQL, whose addresses are in its environment: `REDIS_URL` and `DATABASE_URL`.
#[derive(clap::Args)]
pub struct Arguments {
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Runs the command. Returns its exit status, if it ended by itself.
pub async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let stopped = stop_signals()?;
    let code = tokio::select! {
        code = beside_servers(arguments) => code?,
        () = stopped => None,
    };
    // By now the servers have been dropped, which ended them.
    starling_testkit::remove_own()?;
    Ok(code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn beside_servers(arguments: &Arguments) -> Result<Option<i32>> {
    let (redis, postgres) = tokio::try_join!(Redis::start(), Postgres::start())?;
    let (program, words) = arguments.command.split_first().context("a command")?;
    let mut command = Command::new(program);
    command.args(words).env("REDIS_URL", redis.url()).env("DATABASE_URL", postgres.url());
    let status = command.kill_on_drop(true).status().await.with_context(|| format!("run {program}"))?;
    Ok(status.code())
}

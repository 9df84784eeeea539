//! What a developer of Starling does, as `cargo xtask COMMAND`.

mod autobahn;
mod dist;
mod docs;
mod excerpt;
mod fuzz;
mod install;
mod kubernetes;
mod output;
mod rust;
mod schedule;
mod step;
mod test;
mod upgrade;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// What a developer of Starling does.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Checks and tests everything, and installs what is missing for that
    Test(test::Arguments),
    /// Runs the Autobahn cases against the WebSocket listener and codec
    Autobahn(autobahn::Arguments),
    /// Runs a cluster on this machine to try: nodes, Redis, PostgreSQL and a load balancer
    Cluster(Tool),
    /// Injects faults under load, and counts lost, duplicated, reordered and altered messages
    Torture(Tool),
    /// Kills a node that holds very many clients, and measures how they come back
    Storm(Tool),
    /// Lets connections race for the same sessions, through several nodes and with Redis failing
    Race(Tool),
    /// Replaces nodes of the previous release by nodes of this one under load, goes back, and counts as the torture does
    Upgrade(upgrade::Arguments),
    /// Installs, scales, upgrades, kills, rolls back and uninstalls in a Kubernetes cluster, while clients talk
    Kubernetes(kubernetes::Arguments),
    /// Runs all tests that start Docker, also those that take minutes: three nodes of Compose, and a Swarm
    Containers,
    /// Counts the instructions of handshakes, commands and deliveries with callgrind
    Instructions(Tool),
    /// Runs Starling beside Centrifugo, Socket.IO, socketioxide, Nchan, NATS and a bare limit program, and writes tables with ratios
    Peers(Tool),
    /// Measures how Starling's costs grow with members, sessions, load and nodes
    Growth(Tool),
    /// Runs Starling's jobs beside graphile-worker, pg-boss and BullMQ, and writes tables with ratios
    Jobs(Tool),
    /// Measures claims of jobs while another session holds an old snapshot
    HeldSnapshot(Tool),
    /// Writes the tables and charts of docs/performance.md anew from the results of all
    Performance(Tool),
    /// Feeds everything that parses bytes from strangers with the inputs of a fuzzer
    Fuzz(fuzz::Arguments),
    /// Makes everything that a release consists of, in one folder, and lists the checks before it
    Dist(dist::Arguments),
    /// Writes the pages that are generated from the program
    Docs(docs::Arguments),
}

/// Arguments of a program of the workspace, which is built and run.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct Tool {
    /// Arguments of the tool; `--help` lists them. `--debug` or `--release` says how Starling is built
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether everything was as it should be.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Autobahn(arguments) => autobahn::run(&arguments),
        Command::Cluster(tool) => tool.run("testkit", "cluster", true),
        Command::Torture(tool) => tool.run("torture", "faults", false),
        // Its ten thousand clients must not be what takes the time.
        Command::Storm(tool) => tool.start(&workspace::release_program("torture")?, "storm", true),
        Command::Race(tool) => tool.run("torture", "race", true),
        Command::Upgrade(arguments) => upgrade::run(&arguments),
        Command::Kubernetes(arguments) => kubernetes::run(&arguments),
        Command::Containers => {
            install::packages()?;
            workspace::build_debug()?;
            rust::all_containers()
        }
        Command::Instructions(tool) => {
            install::packages()?;
            tool.run("costs", "instructions", true)
        }
        Command::Peers(tool) => tool.measure("compare"),
        Command::Growth(tool) => tool.measure("growth"),
        Command::Jobs(tool) => tool.jobs(),
        Command::HeldSnapshot(tool) => {
            let program = workspace::build_inside()?;
            tool.start_with("peers", "held-snapshot", &program)
        }
        Command::Performance(tool) => {
            workspace::build_debug()?;
            let status = workspace::debug_command("peers")?.arg("pages").args(tool.arguments).status()?;
            Ok(status.success())
        }
        Command::Fuzz(arguments) => fuzz::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments),
        Command::Docs(arguments) => docs::run(&arguments),
    }
}

impl Tool {
    /// Builds the load generator and the limit program as releases, then does what [`Tool::run`] does with `peers`.
    fn measure(self, command: &str) -> Result<bool> {
        install::packages()?;
        workspace::build_load()?;
        self.run("peers", command, true)
    }

    /// Builds the program that does jobs inside a process as Starling is built, then does what [`Tool::run`] does with `peers`.
    fn jobs(mut self) -> Result<bool> {
        let given = |flag: &str| self.arguments.iter().any(|argument| argument == flag);
        if given("--help") {
            return self.run("peers", "jobs", true);
        }
        let inside = if given("--debug") {
            workspace::build_debug()?;
            workspace::debug_program("peers-jobs")?
        } else {
            workspace::build_inside()?
        };
        self.arguments.splice(0..0, ["--inside".to_owned(), inside.display().to_string()]);
        self.run("peers", "jobs", true)
    }

    /// Builds a tool, and lets it run a program that is built. Returns whether it succeeded.
    fn start_with(self, tool: &str, command: &str, program: &Path) -> Result<bool> {
        workspace::build_debug()?;
        let mut tool = workspace::debug_command(tool)?;
        Ok(tool.arg(command).arg("--program").arg(program).args(self.arguments).status()?.success())
    }

    /// Builds Starling and the tool, and runs the tool. Returns whether it succeeded.
    fn run(self, program: &str, command: &str, release_by_default: bool) -> Result<bool> {
        workspace::build_debug()?;
        self.start(&workspace::debug_program(program)?, command, release_by_default)
    }

    /// Builds Starling, and runs a tool that is built. Returns whether it succeeded.
    fn start(self, tool: &Path, command: &str, release_by_default: bool) -> Result<bool> {
        let mut arguments = self.arguments;
        let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let names_program = given("--program") || given("--help");
        let release = given("--release") || (release_by_default && !given("--debug"));
        arguments
            .retain(|argument| argument != "--debug" && (argument != "--release" || command == "faults"));
        if !names_program {
            let starling = workspace::build_program(release)?;
            arguments.splice(0..0, ["--program".to_owned(), starling.display().to_string()]);
        }
        let status = workspace::command(tool).arg(command).args(arguments).status()?;
        Ok(status.success())
    }
}

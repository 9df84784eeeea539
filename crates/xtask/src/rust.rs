//! The Rust tests: most have a process each, and some share servers in the threads of one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};

use crate::output::Print;
use crate::step::Outcome;
use crate::workspace::{cargo, root};
use crate::{install, workspace};

/// Test programs whose tests share servers and nodes: one start of PostgreSQL, Redis and three nodes serves all of `contract`. The profile
/// `beside-shared` of cargo-nextest leaves them out.
const SHARED: [&str; 5] = ["contract", "conformance", "jobs", "postgres", "webhooks"];
/// The test program that starts Docker. `beside-shared` leaves it out, too.
const CONTAINERS: &str = "containers";
/// How many of its tests run at the same time.
const CONTAINER_TESTS: &str = "3";
/// The tests of these programs that start servers of their own, and run with cargo-nextest.
const APART: &str = "balance::";
/// Threads of a program whose tests share servers. They mostly wait.
const THREADS: &str = "6";
/// The longest time for such a program. It prints the names of tests that take longer than a minute.
const LIMIT: &str = "15m";

/// Notes where the test programs are. The steps that run them then leave cargo to the checks of the code.
pub fn list(print: Print<'_>) -> Outcome {
    let programs = Mutex::new(Vec::new());
    let keep = |line: &str| match program_of(line) {
        Some(program) => programs.lock().unwrap_or_else(PoisonError::into_inner).push(program),
        None => print(line),
    };
    let built = Outcome::of(cargo().args(["test", "--workspace", "--no-run"]), &keep);
    let programs = programs.into_inner().unwrap_or_else(PoisonError::into_inner);
    built.and(write_lists(&programs).into())
}

fn write_lists(programs: &[String]) -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    for name in SHARED.into_iter().chain([CONTAINERS]) {
        ensure!(programs.iter().any(|program| is_named(program, name)), "there is no test program {name}");
    }
    fs::write(folder.join("shared"), programs.join("\n")).context("note the test programs")?;
    let mut nextest = Command::new(install::tools()?.join("cargo-nextest"));
    let list = ["nextest", "list", "--workspace", "--list-type", "binaries-only", "--message-format", "json"];
    save(nextest.current_dir(root()).args(list), &folder.join("nextest.json"))?;
    save(cargo().args(["metadata", "--format-version", "1"]), &folder.join("cargo.json"))
}

/// Runs the tests that have a process each.
pub fn apart(print: Print<'_>) -> Outcome {
    let command = || {
        let (tools, folder) = (install::tools()?, folder()?);
        let mut nextest = Command::new(tools.join("cargo-nextest"));
        nextest.args(["nextest", "run", "--no-fail-fast", "--profile", "beside-shared"]);
        nextest.arg("--binaries-metadata").arg(folder.join("nextest.json"));
        nextest.arg("--cargo-metadata").arg(folder.join("cargo.json")).current_dir(root());
        Ok(nextest)
    };
    match command() {
        Ok(command) => Outcome::of(&command, print),
        Err(error) => Err(error).into(),
    }
}

/// Runs the tests that share servers, one program after the other.
pub fn shared(print: Print<'_>) -> Outcome {
    let list = folder().and_then(|folder| fs::read_to_string(folder.join("shared")).context("read the list"));
    let list = match list {
        Ok(list) => list,
        Err(error) => return Err(error).into(),
    };
    let programs = list.lines().filter(|program| SHARED.iter().any(|name| is_named(program, name)));
    programs.fold(Ok(()).into(), |outcome: Outcome, program| {
        outcome.and(run(program, &["--quiet", "--test-threads", THREADS, "--skip", APART], print))
    })
}

/// Runs the tests that start Docker. Their output is shown, since it tells what this machine does not allow.
pub fn containers(print: Print<'_>) -> Outcome {
    let list = folder().and_then(|folder| fs::read_to_string(folder.join("shared")).context("read the list"));
    let program = list.and_then(|list| {
        let program = list.lines().find(|program| is_named(program, CONTAINERS)).map(str::to_owned);
        program.context("there is no test program of containers")
    });
    match program {
        Ok(program) => run(&program, &["--nocapture", "--test-threads", CONTAINER_TESTS], print),
        Err(error) => Err(error).into(),
    }
}

/// Runs the tests that start Docker, also those that take minutes. Returns whether all passed.
pub fn all_containers() -> Result<bool> {
    let mut cargo = workspace::cargo();
    cargo.args(["test", "--package", "starling-deployment", "--test", CONTAINERS, "--"]);
    cargo.args(["--include-ignored", "--nocapture", "--test-threads", CONTAINER_TESTS]);
    Ok(cargo.status().context("run cargo")?.success())
}

/// Runs a test program with these arguments.
fn run(program: &str, arguments: &[&str], print: Print<'_>) -> Outcome {
    print(program);
    let mut command = Command::new("timeout");
    command.args(["--verbose", LIMIT]).arg(root().join(program)).args(arguments).current_dir(root());
    Outcome::of(&command, print)
}

/// Runs a command, and writes what it prints to a file.
fn save(command: &mut Command, file: &Path) -> Result<()> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    fs::write(file, output.stdout).with_context(|| format!("write {}", file.display()))
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::target()?.join("tests"))
}

/// The program that a line of `cargo test --no-run` names: `Executable tests/NAME.rs (PROGRAM)`.
fn program_of(line: &str) -> Option<String> {
    let (_, program) = line.trim_start().strip_prefix("Executable ")?.rsplit_once('(')?;
    Some(program.strip_suffix(')')?.to_owned())
}

/// Whether a program is a test program of this name: `…/deps/NAME-HASH`.
fn is_named(program: &str, name: &str) -> bool {
    let file = program.rsplit('/').next().unwrap_or(program);
    file.rsplit_once('-').is_some_and(|(own, _hash)| own == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_programs_are_found_in_what_cargo_prints() {
        let line = "  Executable tests/contract/main.rs (target/debug/deps/contract-92c0129de02ed411)";
        let program = program_of(line).unwrap();
        assert_eq!(program, "target/debug/deps/contract-92c0129de02ed411");
        assert!(is_named(&program, "contract") && !is_named(&program, "tract"));
        assert!(!is_named("/x/deps/postgres_more-1", "postgres"));
        assert_eq!(program_of("    Finished `test` profile (unoptimized) in 3 s"), None);
    }
}

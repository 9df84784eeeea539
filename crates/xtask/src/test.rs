//! `cargo xtask test`: everything that has to hold before a change goes in.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::step::{Count, Outcome};
use crate::workspace::{cargo, debug_program, root, target};
use crate::{autobahn, docs, install};

/// Folders with a `package.json`, whose scripts `test` and `test:…` are run.
const JAVASCRIPT: [(&str, &[&str]); 2] =
    [("clients/js", &["test", "test:node"]), ("crates/gateway/console-tests", &["test", "test:clients"])];

/// Checks and tests everything, and installs what is missing for that.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs only the step of this name; the summary lists the steps
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
    /// Leaves out the steps that take long and seldom fail: torture, Autobahn, rustdoc and JavaScript
    #[arg(long)]
    quick: bool,
}

/// A line of the summary.
struct Step {
    name: &'static str,
    quick: bool,
    run: fn() -> Outcome,
}

/// All steps, in their order.
const STEPS: [Step; 11] = [
    step("install", || install::all().into()),
    step("format", format),
    step("clippy", || {
        Outcome::of(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    }),
    // The tests that follow find everything built: programs, tests and examples, with the same features.
    step("build", || Outcome::of(cargo().args(["build", "--workspace", "--all-targets"]))),
    step("rust", rust),
    step("generated-docs", || docs::check().into()),
    slow("torture", || of(debug_program("torture"), |torture| torture.args(["faults", "--short"]))),
    slow("autobahn", autobahn::representative),
    slow("rustdoc", rustdoc),
    slow("clients/js", || javascript(0)),
    slow("console", || javascript(1)),
];

const fn step(name: &'static str, run: fn() -> Outcome) -> Step {
    Step { name, quick: true, run }
}

const fn slow(name: &'static str, run: fn() -> Outcome) -> Step {
    Step { name, quick: false, run }
}

/// Runs the steps, and prints a summary. Returns whether all succeeded.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let wanted = |step: &&Step| match &arguments.only {
        Some(name) => step.name == name,
        None => step.quick || !arguments.quick,
    };
    let steps: Vec<&Step> = STEPS.iter().filter(wanted).collect();
    if steps.is_empty() {
        bail!("the steps are {}", STEPS.map(|step| step.name).join(", "));
    }
    let mut summary = Summary::default();
    for step in steps {
        println!("\n=== {} ===", step.name);
        let begun = Instant::now();
        let outcome = (step.run)();
        summary.add(step.name, begun.elapsed(), outcome);
    }
    print!("{}", summary.text());
    Ok(summary.failures.is_empty())
}

fn format() -> Outcome {
    let formatted = Outcome::of(cargo().args(["fmt", "--all", "--check"]));
    // The programs of the fuzzer have a lock file of their own, which nothing else here reads.
    let lock = ["tree", "--locked", "--depth", "0", "--manifest-path", "fuzz/Cargo.toml"];
    formatted.and(Outcome::of(cargo().args(lock)))
}

fn rust() -> Outcome {
    of(nextest(), |nextest| nextest.args(["run", "--workspace", "--no-fail-fast"]))
}

/// The test runner, from the folder of tools.
fn nextest() -> Result<Command> {
    let mut command = Command::new(install::tools()?.join("cargo-nextest"));
    command.arg("nextest").current_dir(root());
    Ok(command)
}

fn rustdoc() -> Outcome {
    // With examples, so that dependencies have the features of the step clippy and are not checked again. The program Starling is
    // left out, since it has the name of its library.
    let mut words = vec!["doc", "--workspace", "--no-deps", "--lib", "--examples"];
    words.extend(
        ["xtask", "torture", "testkit", "starling-sabotaged"].into_iter().flat_map(|bin| ["--bin", bin]),
    );
    Outcome::of(cargo().args(words).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Runs the scripts of a folder beside a Redis and a PostgreSQL. They find the program in `STARLING_BIN`.
fn javascript(folder: usize) -> Outcome {
    let (folder, scripts) = JAVASCRIPT[folder];
    let folder = root().join(folder);
    let installed =
        Outcome::of(npm(&folder, &mut Command::new("npm")).args(["ci", "--no-audit", "--no-fund"]));
    scripts.iter().fold(installed, |outcome, script| {
        let with = debug_program("testkit").and_then(|mut testkit| {
            testkit
                .args(["with", "npm", "run", script])
                .env("STARLING_BIN", target()?.join("debug/starling"));
            Ok(testkit)
        });
        outcome.and(of(with, |testkit| npm(&folder, testkit)))
    })
}

fn npm<'a>(folder: &Path, command: &'a mut Command) -> &'a mut Command {
    command.current_dir(folder)
}

/// The outcome of a command that has to be found first.
fn of(command: Result<Command>, finish: impl FnOnce(&mut Command) -> &mut Command) -> Outcome {
    match command {
        Ok(mut command) => Outcome::of(finish(&mut command)),
        Err(error) => Err(error).into(),
    }
}

/// What is printed at the end.
#[derive(Default)]
struct Summary {
    lines: String,
    count: Count,
    failures: String,
}

impl Summary {
    /// Adds a step. One that failed without a failed test (a check, a build, a runner that died) counts as one failure.
    fn add(&mut self, name: &str, took: Duration, outcome: Outcome) {
        let Outcome { mut count, result } = outcome;
        if let Err(error) = &result {
            count.failed = count.failed.max(1);
            let _ = writeln!(self.failures, "=== {name} failed: {error:#}");
        }
        let word = if count.failed == 0 { "ok" } else { "failed" };
        let _ = write!(self.lines, "{name:<20} {word:<6} {:>7.1} s", took.as_secs_f64());
        if count != Count::default() {
            let _ = write!(self.lines, "   {} passed, {} failed", count.passed, count.failed);
        }
        self.lines.push('\n');
        self.count = self.count + count;
    }

    fn text(&self) -> String {
        let Count { passed, failed } = self.count;
        format!("\n{}\n=== summary ===\n{}\n{passed} passed, {failed} failed\n", self.failures, self.lines)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn the_last_line_is_the_sum_and_a_failed_check_counts_as_one() {
        let mut summary = Summary::default();
        summary.add(
            "rust",
            Duration::ZERO,
            Outcome { count: Count { passed: 5, failed: 0 }, result: Ok(()) },
        );
        assert!(summary.failures.is_empty() && summary.text().ends_with("\n\n5 passed, 0 failed\n"));
        summary.add("clippy", Duration::ZERO, Err(anyhow!("warnings")).into());
        assert!(
            summary.text().ends_with("\n\n5 passed, 1 failed\n")
                && summary.text().contains("clippy failed: warnings")
        );
    }
}

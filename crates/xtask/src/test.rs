//! `cargo xtask test`: everything that has to hold before a change goes in.

use std::fmt::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::output::{Print, print};
use crate::schedule::{self, Ended, Step};
use crate::step::{Count, Outcome};
use crate::workspace::{cargo, debug_command, root, target};
use crate::{autobahn, docs, install, rust};

/// The folder of the JavaScript client, with a `package.json`.
const CLIENT: &str = "clients/js";
/// The folder of the tests of the console page and of the clients in `docs/clients.md`.
const CONSOLE_TESTS: &str = "crates/gateway/console-tests";

/// Checks and tests everything, and installs what is missing for that.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs only the step of this name and those that it needs; the summary lists the steps
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
    /// Leaves out the steps that take long and seldom fail: torture, Autobahn, rustdoc and JavaScript
    #[arg(long)]
    quick: bool,
}

/// All steps in the order in which they are shown, in three rows after the build. The step `rust` is one. Everything that shares servers
/// or starts large ones follows one after the other in the second row: on two processors, more of them at the same time would finish no
/// sooner, and each would wait for the others until its time is over. Checks of the code are the third row, and give way to both.
static STEPS: [Step; 17] = [
    step("install", &[], &[], |_| install::all().into()),
    step("format", &[], &[], format),
    step("dependencies", &["install"], &[], dependencies),
    // The tests that follow find everything built: programs, tests and examples, with the same features.
    step("build", &[], &["format"], build),
    step("list", &["install", "build"], &[], rust::list),
    step("rust", &["list"], &[], rust::apart),
    step("rust-shared", &["list"], &[], rust::shared),
    step("generated-docs", &["build"], &[], |_| docs::check().into()),
    step("clippy", &[], &["list"], clippy),
    slow("rustdoc", &[], &["clippy"], rustdoc),
    slow("containers", &["list"], &["rust-shared"], rust::containers),
    slow("torture", &["install", "build"], &["containers"], torture),
    slow("autobahn", &["install", "build"], &["torture"], autobahn::representative),
    slow("packages", &["install"], &["autobahn"], packages),
    slow("console", &["packages", "build"], &["packages"], |print| {
        javascript(CONSOLE_TESTS, &["test"], print)
    }),
    slow("clients/js", &["packages", "build"], &["console"], |print| {
        javascript(CLIENT, &["test", "test:node"], print)
    }),
    // It installs the client's packages anew.
    slow("clients", &["packages", "build"], &["clients/js"], |print| {
        javascript(CONSOLE_TESTS, &["test:clients"], print)
    }),
];

type Names = &'static [&'static str];

const fn step(name: &'static str, needs: Names, after: Names, run: fn(Print<'_>) -> Outcome) -> Step {
    Step { name, quick: true, needs, after, run }
}

const fn slow(name: &'static str, needs: Names, after: Names, run: fn(Print<'_>) -> Outcome) -> Step {
    Step { name, quick: false, needs, after, run }
}

/// Runs the steps, and prints a summary. Returns whether all succeeded.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let steps = wanted(arguments)?;
    let begun = Instant::now();
    let mut summary = Summary::default();
    for Ended { name, took, outcome } in schedule::run(&steps, print) {
        summary.add(name, took, outcome);
    }
    println!("{}", summary.text(begun.elapsed()));
    Ok(summary.failures.is_empty())
}

/// The steps to run.
fn wanted(arguments: &Arguments) -> Result<Vec<&'static Step>> {
    let Some(only) = &arguments.only else {
        return Ok(STEPS.iter().filter(|step| step.quick || !arguments.quick).collect());
    };
    let mut names = vec![only.as_str()];
    // Each step needs steps before it only.
    for step in STEPS.iter().rev() {
        if names.contains(&step.name) {
            names.extend(step.needs);
        }
    }
    let steps: Vec<&Step> = STEPS.iter().filter(|step| names.contains(&step.name)).collect();
    if steps.is_empty() {
        bail!("the steps are {}", STEPS.each_ref().map(|step| step.name).join(", "));
    }
    Ok(steps)
}

fn format(print: Print<'_>) -> Outcome {
    let formatted = Outcome::of(cargo().args(["fmt", "--all", "--check"]), print);
    // The programs of the fuzzer have a lock file of their own, which nothing else here reads.
    let lock = ["tree", "--locked", "--depth", "0", "--manifest-path", "fuzz/Cargo.toml"];
    formatted.and(Outcome::of(cargo().args(lock), print))
}

/// Asks cargo-deny, from the folder of tools, whether all dependencies follow the rules of `deny.toml`.
fn dependencies(print: Print<'_>) -> Outcome {
    let deny = install::tools().map(|tools| Command::new(tools.join("cargo-deny")));
    let check = ["check", "bans", "licenses", "sources"];
    of(deny, |deny| deny.args(check).current_dir(root()), print)
}

fn build(print: Print<'_>) -> Outcome {
    Outcome::of(cargo().args(["build", "--workspace", "--all-targets"]), print)
}

fn clippy(print: Print<'_>) -> Outcome {
    Outcome::of(
        in_background(&cargo()).args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        print,
    )
}

fn torture(print: Print<'_>) -> Outcome {
    of(debug_command("torture"), |torture| torture.args(["faults", "--short"]), print)
}

fn rustdoc(print: Print<'_>) -> Outcome {
    // With examples, so that dependencies have the features of the step clippy and are not checked again. The program Starling is
    // left out, since it has the name of its library.
    let mut words = vec!["doc", "--workspace", "--no-deps", "--lib", "--examples"];
    words.extend(
        ["xtask", "torture", "testkit", "costs", "starling-sabotaged"]
            .into_iter()
            .flat_map(|bin| ["--bin", bin]),
    );
    Outcome::of(in_background(&cargo()).args(words).env("RUSTDOCFLAGS", "-D warnings"), print)
}

/// The same command, which gives way to others: tests that run meanwhile get the processor first.
fn in_background(command: &Command) -> Command {
    let mut nice = Command::new("nice");
    nice.args(["-n", "10"]).arg(command.get_program());
    if let Some(folder) = command.get_current_dir() {
        nice.current_dir(folder);
    }
    nice
}

/// Installs the packages that the JavaScript tests need.
fn packages(print: Print<'_>) -> Outcome {
    [CLIENT, CONSOLE_TESTS].iter().fold(Ok(()).into(), |outcome: Outcome, folder| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--no-audit", "--no-fund"]).current_dir(root().join(folder));
        outcome.and(Outcome::of(&npm, print))
    })
}

/// Runs scripts of a folder's `package.json`, each beside a Redis and a PostgreSQL. They find the program in `STARLING_BIN`.
fn javascript(folder: &str, scripts: &[&str], print: Print<'_>) -> Outcome {
    scripts.iter().fold(Ok(()).into(), |outcome: Outcome, script| {
        let with = debug_command("testkit").and_then(|mut testkit| {
            testkit
                .args(["with", "npm", "run", script])
                .env("STARLING_BIN", target()?.join("debug/starling"));
            Ok(testkit)
        });
        outcome.and(of(with, |testkit| testkit.current_dir(root().join(folder)), print))
    })
}

/// The outcome of a command that has to be found first.
fn of(
    command: Result<Command>,
    finish: impl FnOnce(&mut Command) -> &mut Command,
    print: Print<'_>,
) -> Outcome {
    match command {
        Ok(mut command) => Outcome::of(finish(&mut command), print),
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
        let Outcome { mut count, excerpt, result } = outcome;
        if let Err(error) = &result {
            count.failed = count.failed.max(1);
            let _ = writeln!(self.failures, "=== {name} failed: {error:#}");
            excerpt.lines().iter().for_each(|line| _ = writeln!(self.failures, "{line}"));
        }
        let word = if count.failed == 0 { "ok" } else { "failed" };
        let _ = write!(self.lines, "{name:<20} {word:<6} {:>7.1} s", took.as_secs_f64());
        if count != Count::default() {
            let _ = write!(self.lines, "   {} passed, {} failed", count.passed, count.failed);
        }
        self.lines.push('\n');
        self.count = self.count + count;
    }

    fn text(&self, took: Duration) -> String {
        let Count { passed, failed } = self.count;
        let (failures, lines, seconds) = (&self.failures, &self.lines, took.as_secs_f64());
        format!(
            "\n{failures}\n=== summary ===\n{lines}{:<20} {seconds:>14.1} s\n\n{passed} passed, {failed} failed",
            "whole"
        )
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn steps_wait_only_for_steps_that_are_before_them_in_the_list() {
        for (at, step) in STEPS.iter().enumerate() {
            for name in step.needs.iter().chain(step.after) {
                assert!(STEPS[..at].iter().any(|before| before.name == *name), "{}: {name}", step.name);
            }
        }
    }

    #[test]
    fn the_last_line_is_the_sum_and_a_failed_check_counts_as_one() {
        let mut summary = Summary::default();
        summary.add(
            "rust",
            Duration::ZERO,
            Outcome { count: Count { passed: 5, failed: 0 }, ..Outcome::from(Ok(())) },
        );
        assert!(
            summary.failures.is_empty() && summary.text(Duration::ZERO).ends_with("\n\n5 passed, 0 failed")
        );
        summary.add("clippy", Duration::ZERO, Err(anyhow!("warnings")).into());
        assert!(
            summary.text(Duration::ZERO).ends_with("\n\n5 passed, 1 failed")
                && summary.text(Duration::ZERO).contains("clippy failed: warnings")
        );
    }
}

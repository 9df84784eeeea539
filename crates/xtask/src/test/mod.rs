//! `cargo xtask test`: everything that has to hold before a change goes in.

mod count;
mod javascript;
mod names;
mod runner;
mod silent;
mod summary;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use starling_testkit::install::{self, Tool};

use crate::{autobahn, docs, torture, workspace};
use count::Count;
use javascript::Suite;
use runner::Task;
use summary::{Outcome, Summary};

/// Checks and tests everything, and installs what is missing for that.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs one step alone (the summary lists them), or the Rust tests of one package
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Leaves out what takes long and seldom fails: the faults, the Autobahn cases, the documentation, JavaScript and the browser
    #[arg(long)]
    quick: bool,
}

/// Runs the steps one after the other, also after one has failed. Returns whether all went well.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let steps = chosen(arguments)?;
    let mut summary = Summary::default();
    for step in steps {
        println!("\n=== {} ===", step.name);
        let begun = Instant::now();
        let outcome = step.run().await;
        if let Err(error) = &outcome.result {
            println!("=== {} failed: {error:#}", step.name);
        }
        summary.add(&step.name, begun.elapsed(), outcome);
    }
    starling_testkit::sweep_leftovers()?;
    print!("{summary}");
    Ok(summary.is_sound())
}

/// One line of the summary.
struct Step {
    name: String,
    work: Work,
}

enum Work {
    /// Installs what is missing.
    Install(Vec<Tool>),
    /// Holds the generated pages against the program that the build step made.
    CheckDocs,
    /// Runs the Autobahn cases.
    Autobahn,
    /// Breaks everything that can break for a few seconds each.
    Torture,
    /// Runs programs one after the other.
    Run(Vec<Task>),
    /// Runs the tests of a JavaScript part.
    JavaScript(Suite),
}

impl Step {
    fn new(name: &str, tasks: impl IntoIterator<Item = Task>) -> Self {
        Self { name: name.to_owned(), work: Work::Run(tasks.into_iter().collect()) }
    }

    async fn run(&self) -> Outcome {
        // A program that ran for too long has told its counts before this.
        match tokio::time::timeout(runner::LIMIT + Duration::from_secs(60), self.work()).await {
            Ok(outcome) => outcome,
            Err(_) => Outcome::check(Err(anyhow!("it ran for too long"))),
        }
    }

    async fn work(&self) -> Outcome {
        match &self.work {
            Work::Install(tools) => {
                let tools = tools.clone();
                let installed = tokio::task::spawn_blocking(move || install::ensure_installed(&tools)).await;
                Outcome::check(installed.map_err(anyhow::Error::from).and_then(|inner| inner))
            }
            Work::CheckDocs => {
                let program = workspace::target().map(|target| target.join("debug/starling"));
                Outcome::check(match program {
                    Ok(program) => docs::check(&program).await,
                    Err(error) => Err(error),
                })
            }
            Work::Autobahn => autobahn().await,
            Work::Torture => torture_briefly().await,
            Work::Run(tasks) => runner::run_all(tasks).await,
            Work::JavaScript(suite) => suite.run().await,
        }
    }
}

async fn autobahn() -> Outcome {
    match autobahn::representative().await {
        Ok(report) => {
            print!("{report}");
            let count = Count { passed: report.passed(), failed: report.failed() };
            let result = if report.is_sound() { Ok(()) } else { Err(anyhow!("cases have failed")) };
            Outcome { count, ..Outcome::check(result) }
        }
        Err(error) => Outcome::check(Err(error)),
    }
}

async fn torture_briefly() -> Outcome {
    match torture::short().await {
        Ok(torture::Tally { passed, failed }) => {
            let result = if failed == 0 { Ok(()) } else { Err(anyhow!("something broke")) };
            Outcome { count: Count { passed, failed }, ..Outcome::check(result) }
        }
        Err(error) => Outcome::check(Err(error)),
    }
}

fn chosen(arguments: &Arguments) -> Result<Vec<Step>> {
    let mut all = steps(arguments.quick)?;
    let Some(only) = &arguments.only else { return Ok(all) };
    if let Some(at) = all.iter().position(|step| step.name == *only) {
        return Ok(vec![all.swap_remove(at)]);
    }
    let manifest = workspace::package(only);
    if manifest.is_none() {
        let names: Vec<&str> = all.iter().map(|step| step.name.as_str()).collect();
        bail!("no step and no package is named {only}; the steps are {}", names.join(", "));
    }
    let tests = Task::cargo(&["test", "--no-fail-fast", "--package", only]).counting(count::cargo);
    Ok(vec![Step::new(only, [tests])])
}

fn steps(quick: bool) -> Result<Vec<Step>> {
    let tools = if quick {
        vec![Tool::Redis, Tool::Postgres, Tool::PgBouncer, Tool::Nginx]
    } else {
        Tool::ALL.to_vec()
    };
    let mut steps = vec![
        Step { name: "install".to_owned(), work: Work::Install(tools) },
        Step::new(
            "format",
            [
                Task::cargo(&["fmt", "--all", "--check"]),
                // The fuzz targets have a lock file of their own, which nothing else would miss before they are built.
                Task::cargo(&["tree", "--locked", "--depth", "0", "--manifest-path", "fuzz/Cargo.toml"]),
            ],
        ),
        Step::new(
            "clippy",
            [Task::cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])],
        ),
        // With all targets, so that the tests below find their dependencies built with the same features.
        Step::new("build", [Task::cargo(&["build", "--workspace", "--all-targets"])]),
        Step::new("rust", [Task::cargo(&["test", "--workspace", "--no-fail-fast"]).counting(count::cargo)]),
        Step { name: "generated-docs".to_owned(), work: Work::CheckDocs },
    ];
    if !quick {
        steps.push(Step { name: "torture".to_owned(), work: Work::Torture });
        steps.push(Step { name: "autobahn".to_owned(), work: Work::Autobahn });
        let doc = Task::cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings");
        steps.push(Step::new("rustdoc", [doc]));
        for suite in javascript::suites()? {
            steps.push(Step { name: suite.name.clone(), work: Work::JavaScript(suite) });
        }
    }
    Ok(steps)
}

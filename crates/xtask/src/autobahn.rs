//! `cargo xtask autobahn`: the cases of the Autobahn test suite against Starling's listener, shards and WebSocket codec, through the
//! example `echo` of the gateway. The Python package kosoku contains Autobahn's own case files.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::output::{Print, print};
use crate::step::Outcome;
use crate::{install, workspace};

/// Groups of cases that take seconds.
const QUICK_GROUPS: [&str; 9] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"];
/// The groups on compression, and how many kinds of data and negotiation each has. A case sends a thousand messages.
const COMPRESSION_GROUPS: [(u32, u32); 2] = [(12, 5), (13, 7)];
/// The cases of each kind that the test runs: messages of 16 bytes (too short to be compressed), 64, 1,024 and 16,384 bytes, and
/// fragmented ones.
const COMPRESSION_CASES: [u32; 5] = [1, 2, 4, 7, 11];

/// Runs the Autobahn cases, and installs what is missing for that.
#[derive(clap::Args)]
pub struct Arguments {
    /// Runs only these cases: an id, or a prefix with a star (9.*). All by default
    #[arg(value_name = "CASE")]
    cases: Vec<String>,
    /// Builds without optimisation, which is faster to build and slower to run
    #[arg(long)]
    debug: bool,
}

/// Runs the cases and prints the verdicts. Returns whether none has failed.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let mut build = workspace::cargo();
    build.args(["build", "--workspace", "--example", "echo"]);
    if !arguments.debug {
        build.arg("--release");
    }
    Outcome::of(&build, &print).result?;
    let profile = if arguments.debug { "debug" } else { "release" };
    let outcome = cases(profile, &arguments.cases, &print)?;
    outcome.result.map(|()| true)
}

/// Runs the cases that are worth their time in every test, all except for most of those on compression, against the debug build.
pub fn representative(print: Print<'_>) -> Outcome {
    let mut ids = QUICK_GROUPS.map(str::to_owned).to_vec();
    for (group, kinds) in COMPRESSION_GROUPS {
        for kind in 1..=kinds {
            ids.extend(COMPRESSION_CASES.map(|case| format!("{group}.{kind}.{case}")));
        }
    }
    cases("debug", &ids, print).unwrap_or_else(|error| Err(error).into())
}

fn cases(profile: &str, ids: &[String], print: Print<'_>) -> Result<Outcome> {
    let python = install::tools()?.join("python");
    let echo = Echo::start(&workspace::target()?.join(profile).join("examples/echo"))?;
    let script = workspace::root().join("crates/xtask/src/autobahn.py");
    let mut client = Command::new(python);
    client.arg(script).arg(&echo.address).args(ids).current_dir(workspace::root());
    Ok(Outcome::of(&client, print))
}

/// The server under test, ended when this is dropped.
struct Echo {
    address: String,
    process: Child,
}

impl Echo {
    fn start(program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("127.0.0.1:0").stdin(Stdio::null()).stdout(Stdio::piped());
        let mut process = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("its output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("echo on ").with_context(|| format!("the echo says {line}"));
        Ok(Self { address: address?.to_owned(), process })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // An error says that it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

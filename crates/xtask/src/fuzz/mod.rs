//! `cargo xtask fuzz`: everything that reads bytes from strangers is fed what a fuzzer thinks of.
//!
//! The targets are the functions of `crates/fuzz-targets`, whose programs are in `fuzz/`, a workspace of its own. They are libFuzzer's, built with coverage but without a sanitizer, so that
//! the stable toolchain does: what is looked for are panics, broken assertions, overflows, endless loops and memory without bound.
//! Seeds stand in `fuzz/seeds`; what the fuzzer finds worth keeping, and the inputs that broke something, stay in the build's folder.

mod build;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::workspace;
use target::{Report, Target};

/// How long each target runs where nobody says.
const SECONDS: u64 = 60;
/// How many run at once.
const AT_ONCE: usize = 3;

/// Feeds everything that reads bytes from strangers with what a fuzzer thinks of.
#[derive(clap::Args)]
pub struct Arguments {
    /// The targets; all without any
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, default_value_t = SECONDS, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Gives a target this input alone, as after a failure
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    input: Option<PathBuf>,
}

/// Builds and runs targets. Returns whether all held.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let names = chosen(&arguments.targets)?;
    if let Some(input) = &arguments.input {
        let [name] = names.as_slice() else { bail!("name the one target that this input is for") };
        ensure!(input.is_file(), "{} is no file", input.display());
        let programs = build::targets(&names).await?;
        return Target::new(name, &programs)?.replay(input).await;
    }
    fuzz(&names, Duration::from_secs(arguments.seconds)).await
}

/// Returns whether all held.
async fn fuzz(names: &[String], time: Duration) -> Result<bool> {
    let programs = build::targets(names).await?;
    println!("{} targets, {} s each, {AT_ONCE} at a time", names.len(), time.as_secs());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for name in names {
        let (target, places) = (Target::new(name, &programs)?, places.clone());
        running.spawn(async move {
            let _place = places.acquire_owned().await?;
            target.run(time).await
        });
    }
    let mut all_held = true;
    println!("{}", Report::HEAD);
    let finished = async {
        while let Some(ended) = running.join_next().await {
            let report = ended.context("a target's task")??;
            println!("{report}");
            all_held &= report.held();
        }
        Ok(())
    };
    tokio::select! {
        result = finished => result.map(|()| all_held),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            bail!("interrupted");
        }
    }
}

/// The targets of these names; all where there are none.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let known = known()?;
    if names.is_empty() {
        return Ok(known);
    }
    for name in names {
        ensure!(known.contains(name), "no target is named {name}; there are {}", known.join(", "));
    }
    Ok(names.to_vec())
}

/// The names of all targets.
fn known() -> Result<Vec<String>> {
    let folder = workspace::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_not_there_is_named() {
        let error = chosen(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("nothing") && error.contains("websocket"), "{error}");
    }
}

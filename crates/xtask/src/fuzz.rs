//! `cargo xtask fuzz`: libFuzzer searches for inputs that break a parser.
//!
//! The targets are the functions of `crates/fuzz-targets`, whose programs are in `fuzz/`, a workspace of its own. They are built with
//! coverage but without a sanitizer, so that the stable toolchain does: the fuzzer looks for panics, broken assertions, overflows,
//! endless loops and memory without bound. The corpus and the inputs that broke something stay in the build folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail, ensure};

use crate::workspace;

/// Makes the compiler count which edges of the program are taken, for libFuzzer to see; as `cargo fuzz` does without a sanitizer.
/// Checks that a release leaves out are in.
const FLAGS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "--cfg=fuzzing",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
/// Limits for each target: the longest input in bytes, the memory in MiB, and the time for one input in seconds.
const LIMITS: [&str; 3] = ["-max_len=16384", "-rss_limit_mb=1024", "-timeout=60"];
/// How many targets run at the same time.
const CONCURRENCY: usize = 3;
/// Lines of a failed target's log that are shown.
const LINES_SHOWN: usize = 40;

/// Feeds everything that parses bytes from strangers with the inputs of a fuzzer.
#[derive(clap::Args)]
pub struct Arguments {
    /// The targets; all by default
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// How long each target runs
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Gives a target only this input, as after a failure
    #[arg(long, value_name = "FILE", conflicts_with = "seconds")]
    input: Option<PathBuf>,
}

/// Builds and runs targets. Returns whether none was broken.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let names = chosen(&arguments.targets)?;
    let folder = workspace::target()?.join("fuzz");
    let programs = build(&names, &folder)?;
    if let Some(input) = &arguments.input {
        let [name] = names.as_slice() else { bail!("name the one target that this input is for") };
        return Ok(Command::new(programs.join(name)).args(LIMITS).arg(input).status()?.success());
    }
    println!("{} targets, {} s each, {CONCURRENCY} at a time", names.len(), arguments.seconds);
    let (waiting, broken) = (Mutex::new(names.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                loop {
                    let Some(name) = waiting.lock().ok().and_then(|mut names| names.next()) else { return };
                    let result = fuzz(name, &programs, &folder, arguments.seconds);
                    if let (Err(error), Ok(mut broken)) = (result, broken.lock()) {
                        println!("{name:<14} FAILED\n{error:#}");
                        broken.push(name.as_str());
                    }
                }
            });
        }
    });
    Ok(broken.lock().is_ok_and(|broken| broken.is_empty()))
}

/// Runs a target for so many seconds. An error tells how it was broken.
fn fuzz(name: &str, programs: &Path, folder: &Path, seconds: u64) -> Result<()> {
    let [corpus, findings] = ["corpus", "findings"].map(|kind| folder.join(kind).join(name));
    for folder in [&corpus, &findings] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let path = folder.join(format!("{name}.log"));
    let log = File::create(&path).with_context(|| format!("write {}", path.display()))?;
    let mut command = Command::new(programs.join(name));
    command.args(LIMITS).arg(format!("-max_total_time={seconds}"));
    // The slash makes it a folder.
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(&corpus).arg(workspace::root().join("fuzz/seeds").join(name));
    let status = command.stdout(log.try_clone()?).stderr(log).status().context("start the target")?;
    let log = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
    let lines: Vec<&str> = log.lines().collect();
    if !status.success() {
        let end = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
        let input = log.lines().find_map(|line| line.split_once("Test unit written to "));
        let input =
            input.map(|(_, path)| format!("\nagain: cargo xtask fuzz {name} --input {}", path.trim()));
        bail!("{end}\n{status}{}", input.unwrap_or_default());
    }
    let done = lines.iter().rev().find(|line| line.contains("DONE")).copied().unwrap_or_default();
    println!("{name:<14} {done}");
    Ok(())
}

/// Builds these targets, and returns the folder of their programs.
fn build(names: &[String], folder: &Path) -> Result<PathBuf> {
    let version = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("the host of rustc")?;
    let mut command = workspace::cargo();
    command.current_dir(workspace::root().join("fuzz")).args(["build", "--release", "--locked"]);
    // With a target named, build scripts and macros are spared the flags.
    command.args(["--target", host]).arg("--target-dir").arg(folder);
    command.args(names.iter().flat_map(|name| ["--bin", name]));
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    ensure!(command.status().context("run cargo")?.success(), "the fuzz targets could not be built");
    Ok(folder.join(host).join("release"))
}

/// The targets of these names; all if there are none.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let programs = fs::read_dir(workspace::root().join("fuzz/fuzz_targets")).context("read the targets")?;
    let stems = programs.flatten().filter_map(|entry| Some(entry.path().file_stem()?.to_str()?.to_owned()));
    let mut known: Vec<String> = stems.collect();
    known.sort();
    if names.is_empty() {
        return Ok(known);
    }
    for name in names {
        ensure!(known.contains(name), "no target is named {name}; there are {}", known.join(", "));
    }
    Ok(names.to_vec())
}

//! One target at work.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command;
use tokio::time::timeout;

use super::build;
use crate::workspace;

/// The longest input, bytes: beyond what any of the parsers' limits needs to be met.
const INPUT_BYTES_MAX: u32 = 16 << 10;
/// A target that needs more memory than this has failed, MiB.
const RSS_MIB_MAX: u32 = 1_024;
/// An input that takes longer than this has failed, seconds. The usual one takes microseconds.
const INPUT_SECONDS_MAX: u32 = 60;
/// How much longer than its time a target may take to read its corpus and to end.
const GRACE: Duration = Duration::from_secs(600);
/// Lines of a failed target's log that are shown.
const LINES_SHOWN: usize = 40;

/// A target that is built.
pub struct Target {
    name: String,
    program: PathBuf,
    /// What it keeps between runs.
    corpus: PathBuf,
    /// Inputs that broke something.
    findings: PathBuf,
    log: PathBuf,
}

/// How a run went.
pub struct Report {
    name: String,
    status: Option<ExitStatus>,
    /// Inputs that were tried.
    inputs: u64,
    /// Edges of the program that were taken.
    edges: u64,
    /// Inputs in the corpus.
    corpus: u64,
    /// The input that broke something.
    finding: Option<String>,
    log: String,
}

impl Target {
    /// The target of this name, whose program is in that folder.
    pub fn new(name: &str, programs: &Path) -> Result<Self> {
        let folder = build::folder()?;
        let [corpus, findings, logs] = ["corpus", "findings", "logs"].map(|kind| folder.join(kind));
        let target = Self {
            name: name.to_owned(),
            program: programs.join(name),
            corpus: corpus.join(name),
            findings: findings.join(name),
            log: logs.join(format!("{name}.log")),
        };
        for folder in [&target.corpus, &target.findings, &logs] {
            std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(target)
    }

    /// Runs it for this time.
    pub async fn run(&self, time: Duration) -> Result<Report> {
        let log =
            std::fs::File::create(&self.log).with_context(|| format!("write {}", self.log.display()))?;
        let mut command = self.command();
        command.arg(&self.corpus).arg(workspace::root().join("fuzz/seeds").join(&self.name));
        command.arg(format!("-max_total_time={}", time.as_secs())).arg("-print_final_stats=1");
        command.stdout(log.try_clone()?).stderr(log);
        let mut child = command.spawn().with_context(|| format!("start {}", self.program.display()))?;
        // Dropped, and so killed, where it does not end.
        let status =
            timeout(time + GRACE, child.wait()).await.ok().transpose().context("wait for its end")?;
        let log = String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned();
        Ok(Report::read(&self.name, status, log))
    }

    /// Gives it one input, and shows what happens. Returns whether it held.
    pub async fn replay(&self, input: &Path) -> Result<bool> {
        let mut child = self.command().arg(input).spawn().context("start the target")?;
        Ok(child.wait().await?.success())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        command.arg(format!("-rss_limit_mb={RSS_MIB_MAX}"));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        // With the slash it is a folder.
        command.arg(format!("-artifact_prefix={}/", self.findings.display()));
        command
    }
}

impl Report {
    /// What stands above the lines of all reports.
    pub const HEAD: &str = "target               inputs      edges     corpus";

    /// Whether nothing broke.
    pub fn held(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    fn read(name: &str, status: Option<ExitStatus>, log: String) -> Self {
        let number = |words: &str, marker: &str| {
            let line = log.lines().rev().find(|line| line.contains(words))?;
            let after = line.split_once(marker)?.1.trim_start();
            after.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let finding =
            log.lines().find_map(|line| line.split_once("Test unit written to ").map(|(_, path)| path));
        Self {
            inputs: number("stat::number_of_executed_units", "units:").unwrap_or_default(),
            edges: number(" cov: ", "cov:").unwrap_or_default(),
            corpus: number(" corp: ", "corp:").unwrap_or_default(),
            finding: finding.map(|path| path.trim().to_owned()),
            name: name.to_owned(),
            status,
            log,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, inputs, edges, corpus, .. } = self;
        write!(f, "{name:<15} {inputs:>11} {edges:>10} {corpus:>10}")?;
        if self.held() {
            return Ok(());
        }
        writeln!(f, "   FAILED")?;
        let lines: Vec<&str> = self.log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES_SHOWN)..] {
            writeln!(f, "    {line}")?;
        }
        match (&self.finding, self.status) {
            (Some(path), _) => {
                writeln!(f, "  the input: {path}")?;
                write!(f, "  again:     cargo xtask fuzz {name} --input {path}")
            }
            (None, Some(status)) => write!(f, "  it ended with {status}"),
            (None, None) => write!(f, "  it did not end"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    const LOG: &str = "INFO: Running with entropic power schedule (0xFF, 100).\n\
        #8192\tpulse  cov: 321 ft: 900 corp: 80/3Kb lim: 80 exec/s: 4096 rss: 40Mb\n\
        #98765\tDONE   cov: 400 ft: 999 corp: 93/4Kb lim: 160 exec/s: 9876 rss: 50Mb\n\
        Done 98765 runs in 11 second(s)\n\
        stat::number_of_executed_units: 98765\n\
        stat::average_exec_per_sec:     8978\n";

    #[test]
    fn the_figures_of_a_run_are_read() {
        let report = Report::read("json", Some(ExitStatus::default()), LOG.to_owned());
        assert!(report.held());
        assert_eq!((report.inputs, report.edges, report.corpus), (98_765, 400, 93));
        assert_eq!(report.to_string().lines().count(), 1);
    }

    #[test]
    fn a_finding_is_named_with_the_command_that_plays_it_again() {
        let log = format!(
            "{LOG}==7== ERROR: libFuzzer: deadly signal\nartifact_prefix='/f/'; Test unit written to /f/crash-1\n"
        );
        let report = Report::read("json", Some(ExitStatus::from_raw(77 << 8)), log);
        assert!(!report.held());
        let text = report.to_string();
        assert!(
            text.contains("deadly signal") && text.ends_with("cargo xtask fuzz json --input /f/crash-1"),
            "{text}"
        );
    }

    #[test]
    fn one_that_does_not_end_has_failed() {
        let report = Report::read("json", None, String::new());
        assert!(!report.held() && report.to_string().contains("did not end"));
    }
}

//! Runs a program, shows what it writes, and counts the tests in it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::count::Count;
use super::summary::Outcome;
use crate::workspace;

/// How long one program may run. A test that hangs should fail, and not the machine that waits for it.
const LIMIT: Duration = Duration::from_secs(50 * 60);

/// A program to run.
#[derive(Clone)]
pub struct Task {
    program: OsString,
    args: Vec<String>,
    env: Vec<(String, OsString)>,
    folder: PathBuf,
    /// Reads the counts out of a line.
    count: fn(&str) -> Option<Count>,
}

impl Task {
    /// A program, run in the root of the workspace.
    pub fn new(program: impl Into<OsString>, args: &[&str]) -> Self {
        Self {
            program: program.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            folder: workspace::root(),
            count: |_| None,
        }
    }

    /// Cargo.
    pub fn cargo(args: &[&str]) -> Self {
        Self::new(workspace::cargo(), args)
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Sets the folder that it runs in.
    pub fn folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Counts tests in its output.
    pub fn counting(mut self, count: fn(&str) -> Option<Count>) -> Self {
        self.count = count;
        self
    }

    /// Runs it to its end.
    pub async fn run(&self) -> Outcome {
        let mut count = Count::default();
        let result = self.run_counting(&mut count).await;
        Outcome { count, result: result.with_context(|| self.to_string()) }
    }

    async fn run_counting(&self, count: &mut Count) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().cloned()).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = Group(command.spawn().context("start")?);
        let output = child.0.stdout.take().context("its output")?;
        let run = async {
            self.show(output, count).await?;
            child.0.wait().await.context("wait for its end")
        };
        let status = tokio::select! {
            status = timeout(LIMIT, run) => status.context("it ran for too long")??,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                bail!("interrupted");
            }
        };
        if !status.success() {
            bail!("{status}");
        }
        Ok(())
    }

    async fn show(&self, output: ChildStdout, count: &mut Count) -> Result<()> {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            *count += (self.count)(text.trim_end()).unwrap_or_default();
            line.clear();
        }
        Ok(())
    }
}

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program);
        write!(f, "{} {}", program.to_string_lossy(), self.args.join(" "))
    }
}

/// Runs programs one after the other, also after one has failed. The first failure is the whole's.
pub async fn run_all(tasks: &[Task]) -> Outcome {
    let mut whole = Outcome::check(Ok(()));
    for task in tasks {
        whole = whole.then(task.run().await);
    }
    whole
}

/// A child with its children, ended together.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // A child that was waited for has no id any more.
        let pid = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::count;

    #[tokio::test]
    async fn counts_over_all_lines_and_keeps_the_status() {
        let script = "echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; echo 'test result: FAILED. 1 passed; 4 failed; 0 ignored'; exit 101";
        let outcome = Task::new("sh", &["-c", script]).counting(count::cargo).run().await;
        assert_eq!(outcome.count, Count { passed: 3, failed: 4 });
        let text = format!("{:#}", outcome.result.unwrap_err());
        assert!(text.contains("101") && text.starts_with("sh -c"), "{text}");
    }

    #[tokio::test]
    async fn what_comes_after_a_failure_is_run_and_counted() {
        let fails =
            Task::new("sh", &["-c", "echo '# pass 1'; echo '# fail 1'; exit 1"]).counting(count::node);
        let passes = Task::new("sh", &["-c", "echo '# pass 2'"]).counting(count::node);
        let outcome = run_all(&[fails, passes]).await;
        assert_eq!(outcome.count, Count { passed: 3, failed: 1 });
        assert!(outcome.result.is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_failure() {
        assert!(Task::new("no-such-program-anywhere", &[]).run().await.result.is_err());
    }
}

//! Runs a program, shows what it writes, counts the tests in it, and ends what hangs.

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
use super::names::{Failure, Names};
use super::silent;
use super::summary::Outcome;
use crate::workspace;

/// How long one program may run.
pub const LIMIT: Duration = Duration::from_secs(50 * 60);

/// How long a program that runs tests may write nothing. A test that hangs should fail alone, and not all that come after
/// it.
const SILENCE_MAX: Duration = Duration::from_secs(15 * 60);

/// A program to run.
#[derive(Clone)]
pub struct Task {
    program: OsString,
    args: Vec<String>,
    env: Vec<(String, OsString)>,
    folder: PathBuf,
    /// Reads the counts out of a line.
    count: Option<fn(&str) -> Option<Count>>,
    silence_max: Duration,
}

impl Task {
    /// A program, run in the root of the workspace.
    pub fn new(program: impl Into<OsString>, args: &[&str]) -> Self {
        Self {
            program: program.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            env: Vec::new(),
            folder: workspace::root(),
            count: None,
            silence_max: SILENCE_MAX,
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
        self.count = Some(count);
        self
    }

    /// Runs it to its end.
    pub async fn run(&self) -> Outcome {
        let mut seen = Seen::default();
        let result = self.run_counting(&mut seen).await.with_context(|| self.to_string());
        Outcome { count: seen.count, failures: seen.failures(), result }
    }

    async fn run_counting(&self, seen: &mut Seen) -> Result<()> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).envs(self.env.iter().cloned()).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
        let mut child = Group(command.spawn().context("start")?);
        let output = child.0.stdout.take().context("its output")?;
        let id = child.0.id().context("its id")?;
        let run = async {
            self.show(output, id, seen).await?;
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

    async fn show(&self, output: ChildStdout, id: u32, seen: &mut Seen) -> Result<()> {
        let mut lines = BufReader::new(output);
        let mut line = Vec::new();
        loop {
            // What was read of a line stays in it when the time is up.
            let read = match timeout(self.silence_max, lines.read_until(b'\n', &mut line)).await {
                Ok(read) => read?,
                Err(_) if self.count.is_none() => continue,
                Err(_) => {
                    seen.silent(silent::end(id), self.silence_max);
                    continue;
                }
            };
            if read == 0 {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            if let Some(count) = self.count {
                let text = text.trim_end();
                seen.count += count(text).unwrap_or_default();
                seen.names.read(text);
            }
            line.clear();
        }
    }
}

/// What was seen in the output of a program that runs tests.
#[derive(Default)]
struct Seen {
    count: Count,
    names: Names,
    hung: Vec<Failure>,
}

impl Seen {
    /// A program wrote nothing for so long that it was ended, in this state.
    fn silent(&mut self, ended: Vec<silent::Ended>, after: Duration) {
        let running = self.names.take_running();
        let minutes = after.as_secs_f64() / 60.0;
        for silent::Ended { program, threads } in ended {
            println!("{program} wrote nothing for {minutes:.1} minutes, and was ended");
            self.count.failed += 1;
            let mut lines: Vec<String> =
                running.iter().map(|name| format!("had not ended: {name}")).collect();
            lines.extend(threads);
            self.hung.push(Failure { name: format!("{program}, which hung"), lines });
        }
    }

    fn failures(self) -> Vec<Failure> {
        let mut failures = self.hung;
        failures.extend(self.names.into_failures());
        failures
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
    async fn what_hangs_is_ended_and_what_comes_after_it_is_run() {
        // As cargo does: one program after the other, whatever comes of them.
        let script = "exec 2>/dev/null
            sh -c 'echo test a::b has been running for over 60 seconds; exec sleep 600' || true
            echo 'test result: ok. 2 passed; 0 failed; 0 ignored'; exit 101";
        let mut task = Task::new("sh", &["-c", script]).counting(count::cargo);
        task.silence_max = Duration::from_secs(3);
        let outcome = task.run().await;
        assert_eq!(outcome.count, Count { passed: 2, failed: 1 });
        let [Failure { name, lines }] = &outcome.failures[..] else { panic!("{:?}", outcome.failures) };
        assert!(name.contains("sleep") && name.contains("hung"), "{name}");
        assert_eq!(lines[0], "had not ended: a::b");
        assert!(lines[1].contains("sleep"), "its thread is told: {lines:?}");
    }

    #[tokio::test]
    async fn a_program_without_tests_may_be_silent() {
        let mut task = Task::new("sh", &["-c", "sleep 0.3"]);
        task.silence_max = Duration::from_millis(50);
        task.run().await.result.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_a_failure() {
        assert!(Task::new("no-such-program-anywhere", &[]).run().await.result.is_err());
    }
}

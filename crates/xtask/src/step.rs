//! The commands that a step of the test runs, and how many tests passed and failed in them.

use std::io::{BufRead, BufReader};
use std::ops::Add;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::excerpt::Excerpt;
use crate::output::Print;

/// The longest time that one command may take. Single tests that hang are ended by the test runners.
const LIMIT: &str = "50m";
/// How long after the end of a command its output may stay open.
const AFTER_END: Duration = Duration::from_secs(10);
/// How often to look whether a command that prints nothing has ended.
const LOOK: Duration = Duration::from_millis(200);
/// How many lines may wait to be printed.
const LINES_AHEAD: usize = 1_000;

/// Passed and failed tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

impl Add for Count {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// How a step ended.
pub struct Outcome {
    /// The tests in it.
    pub count: Count,
    /// What its output says of failures.
    pub excerpt: Excerpt,
    /// An error if it failed.
    pub result: Result<()>,
}

impl From<Result<()>> for Outcome {
    fn from(result: Result<()>) -> Self {
        Self { count: Count::default(), excerpt: Excerpt::default(), result }
    }
}

impl Outcome {
    /// Runs a command, prints its output, and counts the tests in it.
    pub fn of(command: &Command, print: Print<'_>) -> Self {
        let mut outcome = Self::from(Ok(()));
        let read = |line: &str, outcome: &mut Self| {
            print(line);
            outcome.count = outcome.count + count_of(line).unwrap_or_default();
            outcome.excerpt.read(line);
        };
        let result = show(command, |line| read(line, &mut outcome)).with_context(|| shown(command));
        Self { result, ..outcome }
    }

    /// This outcome together with that of a later command, which runs even if this one failed.
    pub fn and(mut self, later: Self) -> Self {
        self.excerpt.append(later.excerpt);
        Self { count: self.count + later.count, excerpt: self.excerpt, result: self.result.and(later.result) }
    }
}

/// Runs a command, and gives each line that it prints to `read_line`.
fn show(command: &Command, mut read_line: impl FnMut(&str)) -> Result<()> {
    let (output, input) = std::io::pipe().context("make a pipe")?;
    let mut limited = Command::new("timeout");
    limited.args(["--foreground", "--kill-after=30", LIMIT]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().context("a folder to run in")?);
    limited.stdin(Stdio::null()).stdout(input.try_clone()?).stderr(input);
    let mut child = limited.spawn().context("start")?;
    // It holds the writing end of the pipe, which would stay open.
    drop(limited);
    let (read, lines) = sync_channel(LINES_AHEAD);
    std::thread::spawn(move || {
        let lines = BufReader::new(output).split(b'\n').map_while(Result::ok);
        // Nobody listens any more if the output stays open for too long.
        lines
            .map(|line| String::from_utf8_lossy(&line).into_owned())
            .try_for_each(|line| read.send(line).ok())
    });
    let mut ended: Option<Instant> = None;
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(line) => read_line(&line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        match ended {
            Some(at) => ensure!(at.elapsed() < AFTER_END, "something that it started still runs"),
            None => ended = child.try_wait().context("look for its end")?.map(|_| Instant::now()),
        }
    }
    let status = child.wait().context("wait for its end")?;
    if status.success() { Ok(()) } else { Err(anyhow!("{status}")) }
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The tests that a closing line of a test runner counts: cargo-nextest, `cargo test`, `node --test`, or `N passed, N failed`.
fn count_of(line: &str) -> Option<Count> {
    if let Some((word, number)) =
        line.strip_prefix("# ").or(line.strip_prefix("ℹ ")).and_then(|l| l.split_once(' '))
    {
        let number = number.parse().ok()?;
        return match word {
            "pass" => Some(Count { passed: number, failed: 0 }),
            "fail" | "cancelled" => Some(Count { passed: 0, failed: number }),
            _ => None,
        };
    }
    let counts = if let Some(rest) = line.trim_start().strip_prefix("Summary [") {
        rest.split_once(" run: ")?.1
    } else if let Some(rest) = line.strip_prefix("test result: ") {
        rest.split_once(". ")?.1
    } else if line.ends_with(" failed") && line.contains(" passed, ") {
        line
    } else {
        return None;
    };
    let number = |what: &str| {
        let mut parts = counts.split([',', ';']).filter_map(|part| part.trim().split_once(' '));
        parts
            .find(|(_, rest)| rest.starts_with(what))
            .and_then(|(number, _)| number.parse().ok())
            .unwrap_or(0)
    };
    let failed = number("failed") + number("timed out") + number("exec failed");
    Some(Count { passed: number("passed"), failed })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn the_closing_lines_of_test_runners_are_counted() {
        for (line, passed, failed) in [
            (
                "     Summary [  12.345s] 10 tests run: 7 passed (1 slow), 2 failed, 1 timed out, 3 skipped",
                7,
                3,
            ),
            ("     Summary [   0.100s] 1 test run: 1 passed, 0 skipped", 1, 0),
            ("test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; finished in 1.5s", 12, 3),
            ("# pass 7", 7, 0),
            ("ℹ fail 2", 0, 2),
            ("22 passed, 1 failed", 22, 1),
        ] {
            assert_eq!(count_of(line), Some(Count { passed, failed }), "{line}");
        }
        for line in [
            "    test result: ok. 1 passed; 0 failed",
            "test a ... ok",
            "running 3 tests",
            "# tests 9",
            "# Subtest: pass 4",
            "3 of them failed",
        ] {
            assert_eq!(count_of(line), None, "{line}");
        }
    }

    #[test]
    fn output_is_counted_over_all_lines_and_the_status_is_kept() {
        let script = "echo '2 passed, 0 failed'; echo '1 passed, 4 failed' >&2; exit 101";
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir("/");
        let lines = Mutex::new(Vec::new());
        let print = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let outcome = Outcome::of(&command, &print).and(Outcome::from(Ok(())));
        assert_eq!(lines.into_inner().unwrap(), ["2 passed, 0 failed", "1 passed, 4 failed"]);
        assert_eq!(outcome.count, Count { passed: 3, failed: 4 });
        assert!(format!("{:#}", outcome.result.unwrap_err()).contains("101"));
    }
}

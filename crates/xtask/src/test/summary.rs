//! What is printed at the end.

use std::fmt;
use std::time::Duration;

use anyhow::Result;

use super::count::Count;
use super::names::Failure;

/// How a step ended.
#[derive(Debug)]
pub struct Outcome {
    /// The tests in it.
    pub count: Count,
    /// Those of them that failed, as far as they are known by name.
    pub failures: Vec<Failure>,
    /// An error when it failed.
    pub result: Result<()>,
}

impl Outcome {
    /// Of a step without tests.
    pub fn check(result: Result<()>) -> Self {
        Self { count: Count::default(), failures: Vec::new(), result }
    }

    /// Of this and then that.
    pub fn then(mut self, next: Self) -> Self {
        self.count += next.count;
        self.failures.extend(next.failures);
        Self { result: self.result.and(next.result), ..self }
    }
}

/// All steps.
#[derive(Default)]
pub struct Summary {
    lines: Vec<Line>,
}

struct Line {
    name: String,
    took: Duration,
    count: Count,
    failed: bool,
    failures: Vec<Failure>,
    error: Option<String>,
}

impl Summary {
    /// Adds a step. One that failed without a failed test (a check, a build, a runner that died) counts as one failure, so
    /// that the last line never looks better than the whole.
    pub fn add(&mut self, name: &str, took: Duration, outcome: Outcome) {
        let Outcome { mut count, failures, result } = outcome;
        if result.is_err() && count.failed == 0 {
            count.failed = 1;
        }
        self.lines.push(Line {
            name: name.to_owned(),
            took,
            count,
            failed: count.failed > 0,
            failures,
            error: result.err().map(|error| format!("{error:#}")),
        });
    }

    /// Whether everything went well.
    pub fn is_sound(&self) -> bool {
        !self.lines.iter().any(|line| line.failed)
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = Count::default();
        for Line { name, failures, error, .. } in &self.lines {
            if let Some(error) = error {
                writeln!(f, "\n=== {name} failed: {error}")?;
            }
            for Failure { name: test, lines } in failures {
                writeln!(f, "{test}")?;
                lines.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
            }
        }
        writeln!(f, "\n=== summary ===")?;
        for Line { name, took, count, failed, .. } in &self.lines {
            let word = if *failed { "failed" } else { "ok" };
            write!(f, "{name:<30} {word:<6} {:>7.1} s", took.as_secs_f64())?;
            if count.passed + count.failed > 0 {
                write!(f, "   {} passed, {} failed", count.passed, count.failed)?;
            }
            writeln!(f)?;
            whole += *count;
        }
        writeln!(f, "\n{} passed, {} failed", whole.passed, whole.failed)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    fn outcome(passed: u64, failed: u64, result: Result<()>) -> Outcome {
        Outcome { count: Count { passed, failed }, failures: Vec::new(), result }
    }

    #[test]
    fn the_last_line_is_the_sum_and_alone() {
        let mut summary = Summary::default();
        let took = Duration::from_millis(1500);
        summary.add("format", took, Outcome::check(Ok(())));
        summary.add("rust", took, outcome(5, 0, Ok(())));
        assert!(summary.is_sound());
        assert!(summary.to_string().ends_with("\n\n5 passed, 0 failed\n"), "{summary}");
    }

    #[test]
    fn a_step_that_failed_without_a_failed_test_counts_as_one() {
        let mut summary = Summary::default();
        summary.add("clippy", Duration::ZERO, Outcome::check(Err(anyhow!("warnings"))));
        summary.add("rust", Duration::ZERO, outcome(2, 0, Err(anyhow!("SIGSEGV"))));
        assert!(!summary.is_sound());
        assert!(summary.to_string().ends_with("\n\n2 passed, 2 failed\n"), "{summary}");
    }

    #[test]
    fn what_failed_stands_at_the_end_with_its_words() {
        let mut summary = Summary::default();
        let failures = vec![Failure { name: "a::b".to_owned(), lines: vec!["no luck".to_owned()] }];
        let failed = Outcome { failures, ..outcome(2, 1, Err(anyhow!("exit status: 101"))) };
        summary.add("rust", Duration::ZERO, Outcome::check(Ok(())).then(failed));
        let text = summary.to_string();
        assert!(text.starts_with("\n=== rust failed: exit status: 101\na::b\n    no luck\n"), "{text}");
    }
}

//! What a failed step's output says of its failures, so that its reader does not have to search thousands of lines.

/// Most lines of one excerpt.
const LINES_MAX: usize = 40;
/// Most lines after the first one of a failure.
const FOLLOWING: usize = 5;
/// Most characters of a line.
const LENGTH_MAX: usize = 300;

/// The lines that tell of failures, each with some of those that follow it.
#[derive(Debug, Default)]
pub struct Excerpt {
    lines: Vec<String>,
    /// The number of lines that still belong to the last failure.
    following: usize,
}

impl Excerpt {
    /// Takes a line of the output, if it tells of a failure.
    pub fn read(&mut self, line: &str) {
        if begins_failure(line) {
            self.following = FOLLOWING + 1;
        } else if is_noise(line) {
            self.following = 0;
        }
        if self.following > 0 && self.lines.len() < LINES_MAX && !line.trim().is_empty() {
            self.following -= 1;
            self.lines.push(line.chars().take(LENGTH_MAX).collect());
        }
    }

    /// Adds the excerpt of a later command.
    pub fn append(&mut self, mut later: Excerpt) {
        self.lines.append(&mut later.lines);
        self.lines.truncate(LINES_MAX);
    }

    /// Returns the lines.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Whether a line is the first one about a failure, in what Rust's tests, cargo and Node print.
fn begins_failure(line: &str) -> bool {
    let line = line.trim_start();
    let begins = ["Error: ", "error: ", "error[", "not ok ", "FAIL [", "TIMEOUT ["];
    begins.iter().any(|begin| line.starts_with(begin))
        || (line.starts_with("thread '") && line.contains(" panicked at "))
}

/// Whether a line begins what tells nothing of the failure.
fn is_noise(line: &str) -> bool {
    let line = line.trim_start().to_lowercase();
    line.starts_with("stack backtrace") || line.starts_with("note: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_kept_with_what_follows_and_without_its_backtrace() {
        let output = "running 2 tests\ntest a ... ok\nError: nodes to be ready\n\nCaused by:\n    0: no answer\n\n\
                      Stack backtrace:\n   0: anyhow\n   1: more\nthread 'b' panicked at src/b.rs:3:5:\n1 is not 2\n\
                      note: run with `RUST_BACKTRACE=1`\ntest result: FAILED\nnot ok 3 - talks\n  ---\n  error: 'late'";
        let mut excerpt = Excerpt::default();
        output.lines().for_each(|line| excerpt.read(line));
        let expected = [
            "Error: nodes to be ready",
            "Caused by:",
            "    0: no answer",
            "thread 'b' panicked at src/b.rs:3:5:",
            "1 is not 2",
            "not ok 3 - talks",
            "  ---",
            "  error: 'late'",
        ];
        assert_eq!(excerpt.lines(), expected);
    }

    #[test]
    fn an_excerpt_stays_short() {
        let mut excerpt = Excerpt::default();
        (0..1_000).for_each(|_| excerpt.read(&format!("Error: {}", "x".repeat(1_000))));
        assert_eq!(excerpt.lines().len(), LINES_MAX);
        assert!(excerpt.lines().iter().all(|line| line.len() == LENGTH_MAX));
    }
}

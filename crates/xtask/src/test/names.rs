//! Which tests failed and with which words, and which have begun and not ended.

use std::collections::BTreeSet;

/// How many lines of a failed test's output are kept.
const LINES_MAX: usize = 30;

/// How many failed tests are kept with their words.
const FAILURES_MAX: usize = 20;

/// What the lines of a test runner say of single tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    failures: Vec<Failure>,
    /// Tests that are said to take long, and have not ended since.
    running: BTreeSet<String>,
    /// The failure whose output is being read.
    open: Option<usize>,
}

/// A test that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    pub name: String,
    /// The beginning of its output.
    pub lines: Vec<String>,
}

impl Names {
    /// Reads a line of `cargo test` or of `node --test`.
    pub fn read(&mut self, line: &str) {
        if let Some(index) = self.open {
            let ends = line.starts_with("---- ") || line == "failures:" || line.starts_with("test result: ");
            if !ends {
                let lines = &mut self.failures[index].lines;
                if lines.len() < LINES_MAX && !(lines.is_empty() && line.is_empty()) {
                    lines.push(line.to_owned());
                }
                return;
            }
            self.open = None;
        }
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            self.open = self.failures.iter().position(|failure| failure.name == name);
        } else if let Some((_, name)) = line.strip_prefix("not ok ").and_then(|rest| rest.split_once(" - ")) {
            self.failed(name);
        } else if let Some(rest) = line.strip_prefix("test ") {
            self.read_result(rest);
        }
    }

    fn read_result(&mut self, rest: &str) {
        if let Some((name, _)) = rest.split_once(" has been running for over ") {
            self.running.insert(name.to_owned());
        } else if let Some((name, result)) = rest.rsplit_once(" ... ") {
            self.running.remove(name);
            if result.starts_with("FAILED") {
                self.failed(name);
            }
        }
    }

    fn failed(&mut self, name: &str) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { name: name.to_owned(), lines: Vec::new() });
        }
    }

    /// Whoever ran them is gone. Returns the tests that it had not ended.
    pub fn take_running(&mut self) -> Vec<String> {
        self.open = None;
        std::mem::take(&mut self.running).into_iter().collect()
    }

    /// The failures.
    pub fn into_failures(self) -> Vec<Failure> {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Names {
        let mut names = Names::default();
        text.lines().for_each(|line| names.read(line));
        names
    }

    #[test]
    fn a_failed_test_is_kept_with_its_words() {
        let names = read(
            "test a::one ... ok\ntest a::two ... FAILED\ntest b ... FAILED\n\nfailures:\n\n\
             ---- a::two stdout ----\n\nthread 'a::two' panicked\nno luck\n---- b stdout ----\nError: none\n\n\
             failures:\n    a::two\n    b\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n",
        );
        let failure = |name: &str, lines: &[&str]| Failure {
            name: name.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let expected =
            [failure("a::two", &["thread 'a::two' panicked", "no luck"]), failure("b", &["Error: none", ""])];
        assert_eq!(names.into_failures(), expected);
    }

    #[test]
    fn a_test_that_has_not_ended_is_known() {
        let mut names = read(
            "test a has been running for over 60 seconds\ntest b has been running for over 60 seconds\n\
             test b ... ok\ntest c ... ok\n",
        );
        assert_eq!(names.take_running(), ["a"]);
        assert!(names.take_running().is_empty() && names.into_failures().is_empty());
    }

    #[test]
    fn what_node_says_is_read_too() {
        let failures = read("ok 1 - it works\nnot ok 2 - it holds\n  ---\n").into_failures();
        assert_eq!(failures.iter().map(|failure| &*failure.name).collect::<Vec<_>>(), ["it holds"]);
    }

    #[test]
    fn long_output_is_cut() {
        let long = "line\n".repeat(10 * LINES_MAX);
        let failures = read(&format!("test a ... FAILED\n---- a stdout ----\n{long}")).into_failures();
        assert_eq!(failures[0].lines.len(), LINES_MAX);
    }
}

//! How many tests a runner says have passed and failed.

use std::ops::AddAssign;

/// Tests that were run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub passed: u64,
    pub failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Reads a line of `cargo test`: `test result: ok. 3 passed; 0 failed; …`.
pub fn cargo(line: &str) -> Option<Count> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let number = |word: &str| {
        let part = counts.split("; ").find_map(|part| part.strip_suffix(word))?;
        part.trim().parse().ok()
    };
    Some(Count { passed: number("passed")?, failed: number("failed")? })
}

/// Reads a line of `node --test`, in either of its forms: `# pass 3` or `ℹ fail 0`. Cancelled tests have failed.
pub fn node(line: &str) -> Option<Count> {
    let (word, number) = line.strip_prefix("# ").or_else(|| line.strip_prefix("ℹ "))?.split_once(' ')?;
    let number = number.parse().ok()?;
    match word {
        "pass" => Some(Count { passed: number, failed: 0 }),
        "fail" | "cancelled" => Some(Count { passed: 0, failed: number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_cargo_says() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.5s";
        assert_eq!(cargo(line), Some(Count { passed: 12, failed: 3 }));
        assert_eq!(cargo("test result_of_x ... ok"), None);
        assert_eq!(cargo("running 3 tests"), None);
    }

    #[test]
    fn reads_what_node_says_in_both_forms() {
        assert_eq!(node("# pass 7"), Some(Count { passed: 7, failed: 0 }));
        assert_eq!(node("ℹ fail 2"), Some(Count { passed: 0, failed: 2 }));
        assert_eq!(node("# cancelled 1"), Some(Count { passed: 0, failed: 1 }));
        assert_eq!(node("# tests 9"), None);
        assert_eq!(node("# Subtest: pass 4"), None);
    }
}

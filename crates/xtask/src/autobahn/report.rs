//! What the cases gave.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context, Result, bail, ensure};

/// What the cases gave.
#[derive(Debug)]
pub struct Report {
    cases: Vec<Case>,
}

#[derive(Debug)]
struct Case {
    /// Such as 1.2.3.
    id: String,
    verdict: Verdict,
    /// What was seen, where it did not plainly pass.
    seen: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Passed,
    /// What the standard demands is done, what it advises is not.
    NonStrict,
    /// The standard leaves it open.
    Informational,
    Failed,
}

const VERDICTS: [(Verdict, &str); 4] = [
    (Verdict::Passed, "passed"),
    (Verdict::NonStrict, "non-strict"),
    (Verdict::Informational, "informational"),
    (Verdict::Failed, "failed"),
];

impl Report {
    /// Reads a line for each case.
    ///
    /// # Errors
    /// A line that is none, or no case at all.
    pub fn read(lines: &str) -> Result<Report> {
        let cases = lines.lines().map(|line| Case::read(line).with_context(|| line.to_owned()));
        let cases = cases.collect::<Result<Vec<_>>>()?;
        ensure!(!cases.is_empty(), "no case was run");
        Ok(Report { cases })
    }

    /// Whether no case has failed.
    pub fn is_sound(&self) -> bool {
        self.failed() == 0
    }

    /// How many have failed.
    pub fn failed(&self) -> u64 {
        self.count(|case| case.verdict == Verdict::Failed)
    }

    /// How many have not.
    pub fn passed(&self) -> u64 {
        self.count(|case| case.verdict != Verdict::Failed)
    }

    /// The cases that have failed.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.cases.iter().filter(|case| case.verdict == Verdict::Failed);
        failed.map(|case| case.id.clone()).collect()
    }

    /// With what the cases gave that were run once more.
    pub fn amended(mut self, again: Report) -> Report {
        for case in again.cases {
            if let Some(before) = self.cases.iter_mut().find(|before| before.id == case.id) {
                *before = case;
            }
        }
        self
    }

    fn count(&self, of: impl Fn(&Case) -> bool) -> u64 {
        self.cases.iter().filter(|case| of(case)).count() as u64
    }
}

impl Case {
    fn read(line: &str) -> Result<Case> {
        let mut fields = line.splitn(3, '\t');
        let (id, verdict) = (fields.next().context("no id")?, fields.next().context("no verdict")?);
        let verdict = match verdict {
            "OK" => Verdict::Passed,
            "NON-STRICT" => Verdict::NonStrict,
            "INFORMATIONAL" => Verdict::Informational,
            "FAILED" => Verdict::Failed,
            other => bail!("{other} is no verdict"),
        };
        Ok(Case { id: id.to_owned(), verdict, seen: fields.next().unwrap_or_default().to_owned() })
    }

    fn group(&self) -> u32 {
        self.id.split('.').next().and_then(|group| group.parse().ok()).unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: BTreeMap<u32, Vec<Verdict>> = BTreeMap::new();
        for case in &self.cases {
            groups.entry(case.group()).or_default().push(case.verdict);
        }
        row(f, "group", VERDICTS.map(|(_, name)| name.to_owned()))?;
        for (group, verdicts) in &groups {
            row(f, &format!("{group}.*"), counts(verdicts))?;
        }
        let all: Vec<Verdict> = self.cases.iter().map(|case| case.verdict).collect();
        row(f, "all", counts(&all))?;
        for (verdict, name) in &VERDICTS[1..] {
            for case in self.cases.iter().filter(|case| case.verdict == *verdict) {
                writeln!(f, "{name} {} {}", case.id, case.seen)?;
            }
        }
        Ok(())
    }
}

fn counts(verdicts: &[Verdict]) -> [String; 4] {
    VERDICTS.map(|(of, _)| verdicts.iter().filter(|verdict| **verdict == of).count().to_string())
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, cells: [String; 4]) -> fmt::Result {
    write!(f, "{name:<6}")?;
    for cell in cells {
        write!(f, " {cell:>13}")?;
    }
    writeln!(f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_counts_by_group_and_names_what_is_not_plainly_passed() {
        let lines =
            "1.1.1\tOK\t\n1.1.2\tFAILED\tUNCLEAN no close\n10.1.1\tNON-STRICT\t\n7.1.6\tINFORMATIONAL\t\n";
        let report = Report::read(lines).expect("report");
        assert!(!report.is_sound());
        assert_eq!((report.passed(), report.failed()), (3, 1));
        assert_eq!(report.failures(), ["1.1.2"]);
        let lines: Vec<String> = report
            .to_string()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "group passed non-strict informational failed",
                "1.* 1 0 0 1",
                "7.* 0 0 1 0",
                "10.* 0 1 0 0",
                "all 1 1 1 1",
                "non-strict 10.1.1",
                "informational 7.1.6",
                "failed 1.1.2 UNCLEAN no close",
            ]
        );
    }

    #[test]
    fn nothing_and_noise_are_no_reports() {
        assert!(Report::read("").is_err());
        assert!(Report::read("Traceback").is_err());
        assert!(Report::read("1.1.1\tUNIMPLEMENTED").is_err());
    }

    #[test]
    fn a_case_that_was_run_once_more_counts_once() {
        let first = Report::read("1.1.1\tOK\t\n1.1.2\tFAILED\tlate\n1.1.3\tFAILED\twrong\n").expect("report");
        let again = Report::read("1.1.2\tOK\t\n1.1.3\tFAILED\twrong\n").expect("report");
        let report = first.amended(again);
        assert_eq!((report.passed(), report.failures()), (2, vec!["1.1.3".to_owned()]));
    }
}

//! What was found, for people and for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::examination::{Examination, Finding, Verdict};
use crate::setup::VERSION;
use crate::terminal::{Look, Paint};

/// Columns that a line has at most.
const WIDTH: usize = 100;
/// Where the text of a finding begins.
const INDENT: usize = 26;

/// The findings as one JSON object, with a line end.
pub fn json(examination: &Examination) -> String {
    let finding = |finding: &Finding| {
        let mut value = json!({
            "section": finding.section,
            "subject": finding.subject,
            "verdict": finding.verdict.name(),
            "found": finding.found,
        });
        if let Some(advice) = &finding.advice {
            value["advice"] = advice.as_str().into();
        }
        value
    };
    let findings: Vec<Value> = examination.findings().iter().map(finding).collect();
    let report = json!({
        "version": VERSION,
        "problems": examination.problems(),
        "warnings": examination.count(Verdict::Warning),
        "findings": findings,
    });
    format!("{report:#}\n")
}

/// The findings for people: a line for each, and what to do below it.
pub fn text(examination: &Examination, paint: Paint) -> String {
    let mut out = String::new();
    let mut section = "";
    for finding in examination.findings() {
        if finding.section != section {
            section = finding.section;
            let _ = write!(out, "\n{}\n", paint.text(Look::Strong, section));
        }
        write_finding(&mut out, finding, paint);
    }
    let count = |verdict, one: &str, many: &str| match examination.count(verdict) {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    };
    let problems = count(Verdict::Problem, "problem", "problems");
    let look = if examination.problems() > 0 { Look::Bad } else { Look::Good };
    let warnings = count(Verdict::Warning, "warning", "warnings");
    let look_of_warnings = if examination.count(Verdict::Warning) > 0 { Look::Doubtful } else { Look::Good };
    let good = examination.count(Verdict::Good);
    let _ = writeln!(
        out,
        "\n{}, {}, {good} good",
        paint.text(look, &problems),
        paint.text(look_of_warnings, &warnings)
    );
    out
}

fn write_finding(out: &mut String, finding: &Finding, paint: Paint) {
    let (mark, look) = match finding.verdict {
        Verdict::Good => ("✓", Look::Good),
        Verdict::Warning => ("!", Look::Doubtful),
        Verdict::Problem => ("✗", Look::Bad),
        Verdict::Skipped => ("–", Look::Quiet),
    };
    let subject = format!("{:<width$}", finding.subject, width = INDENT - 5);
    let subject = if finding.subject.chars().count() > INDENT - 5 { format!("{subject}  ") } else { subject };
    let mut lines = wrapped(&finding.found, WIDTH - INDENT).into_iter();
    let first = lines.next().unwrap_or_default();
    let painted = |text: &str| match finding.verdict {
        Verdict::Problem | Verdict::Skipped => paint.text(look, text),
        _ => text.to_owned(),
    };
    let _ = writeln!(out, "  {} {subject} {}", paint.text(look, mark), painted(&first));
    for line in lines {
        let _ = writeln!(out, "{:INDENT$}{}", "", painted(&line));
    }
    let Some(advice) = &finding.advice else { return };
    for (number, line) in wrapped(advice, WIDTH - INDENT - 2).into_iter().enumerate() {
        let arrow = if number == 0 { "→ " } else { "  " };
        let _ = writeln!(out, "{:INDENT$}{arrow}{line}", "");
    }
}

/// The text in lines of at most this many characters, unless a single word is longer.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { break };
        let long = line.chars().count() + 1 + word.chars().count() > width;
        if line.is_empty() {
            line.push_str(word);
        } else if long {
            lines.push(word.to_owned());
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination() -> Examination {
        let mut examination = Examination::default();
        examination.section("database");
        examination.good("reachable", "in 2.0 ms");
        examination.problem("encoding", "is SQL_ASCII", "make another database");
        examination.section("clock");
        examination.skipped("difference", "nothing to compare with");
        examination
    }

    #[test]
    fn a_finding_is_a_line_with_what_to_do_below() {
        let text = text(&examination(), Paint::never());
        assert!(text.contains("\ndatabase\n  ✓ reachable             in 2.0 ms\n"), "{text}");
        assert!(text.contains("✗ encoding              is SQL_ASCII\n"), "{text}");
        assert!(text.contains("\n                          → make another database\n"), "{text}");
        assert!(text.ends_with("\n1 problem, 0 warnings, 1 good\n"), "{text}");
    }

    #[test]
    fn programs_get_the_same_as_people() {
        let report: Value = serde_json::from_str(&json(&examination())).expect("JSON");
        assert_eq!((&report["problems"], &report["warnings"]), (&json!(1), &json!(0)));
        let encoding = json!({"section": "database", "subject": "encoding", "verdict": "problem",
            "found": "is SQL_ASCII", "advice": "make another database"});
        assert_eq!(
            (&report["findings"][1], report["findings"].as_array().map(Vec::len)),
            (&encoding, Some(3))
        );
    }

    #[test]
    fn long_texts_are_broken_between_words() {
        assert_eq!(wrapped("a bb ccc dddd", 4), ["a bb", "ccc", "dddd"]);
        assert_eq!(wrapped("longer than four", 4), ["longer", "than", "four"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}

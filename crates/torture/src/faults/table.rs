//! The outcome as a table for the terminal.

use std::fmt::Write;

use super::measure::Percentiles;
use super::outcome::{Memory, Outcome, milliseconds};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const RED: &str = "\x1b[31;1m";
const GREEN: &str = "\x1b[32m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// The columns after the name: title and width. The six in the middle must be 0.
const COLUMNS: [(&str, usize); 13] = [
    ("sent", 8),
    ("acked", 8),
    ("delivered", 10),
    ("lost", 5),
    ("doubled", 8),
    ("swapped", 8),
    ("altered", 8),
    ("unkept", 7),
    ("repeated", 9),
    ("noticed", 9),
    ("recovered", 10),
    ("delivery p50/p99/max", 24),
    ("memory MB", 10),
];
/// The columns that must be 0.
pub const ZEROS: std::ops::Range<usize> = 3..9;

/// Renders the table and the notes on each case, with or without colours.
pub fn table(outcomes: &[Outcome], colours: bool) -> String {
    let paint = |code: &'static str| if colours { code } else { "" };
    let (bold, dim, plain) = (paint(BOLD), paint(DIM), paint(PLAIN));
    let names = outcomes.iter().map(|outcome| outcome.name.len()).max().unwrap_or(0).max("fault".len());
    let mut text = String::new();
    let mut head = format!("{:<names$}", "fault");
    for (title, width) in COLUMNS {
        let _ =
            if title == "memory MB" { write!(head, "   {title}") } else { write!(head, "{title:>width$}") };
    }
    let _ = writeln!(text, "{bold}{head}{plain}\n{dim}{}{plain}", "─".repeat(head.chars().count() + 24));
    for outcome in outcomes {
        let name_colour = if outcome.is_sound() { "" } else { paint(RED) };
        let _ = write!(text, "{name_colour}{:<names$}{plain}", outcome.name);
        for (index, ((_, width), cell)) in COLUMNS.iter().zip(cells(outcome)).enumerate() {
            let colour = match (ZEROS.contains(&index), cell == "0") {
                (true, true) => paint(GREEN),
                (true, false) => paint(RED),
                (false, _) => "",
            };
            let _ = if index + 1 == COLUMNS.len() {
                write!(text, "   {cell}")
            } else {
                write!(text, "{colour}{cell:>width$}{plain}")
            };
        }
        text.push('\n');
    }
    text.push('\n');
    for outcome in outcomes {
        let _ = writeln!(text, "{bold}{}{plain} {dim}{}{plain}", outcome.name, outcome.about);
        for note in &outcome.notes {
            let _ = writeln!(text, "  {note}");
        }
        for warning in &outcome.warnings {
            let _ = writeln!(text, "  {}slower than promised:{plain} {warning}", paint(YELLOW));
        }
        for failure in &outcome.failures {
            let _ = writeln!(text, "  {}FAILED:{plain} {failure}", paint(RED));
        }
    }
    text
}

/// The cells of a line, in the order of [`COLUMNS`].
pub fn cells(outcome: &Outcome) -> [String; 13] {
    let (measures, verdict) = (&outcome.measures, &outcome.measures.verdict);
    [
        measures.sent.to_string(),
        verdict.acknowledged.to_string(),
        verdict.messages.to_string(),
        verdict.lost.to_string(),
        verdict.doubled.to_string(),
        verdict.out_of_order.to_string(),
        // Strays are messages of conversations in which the client is no member, such as another tenant's.
        (verdict.altered + verdict.strays).to_string(),
        verdict.unkept.to_string(),
        measures.repeated.to_string(),
        measures.detect.map_or("–".to_owned(), milliseconds),
        match measures.recover {
            _ if outcome.windows.is_empty() => "–".to_owned(),
            None => "not yet".to_owned(),
            Some(took) if took < 0.001 => "at once".to_owned(),
            Some(took) => milliseconds(took),
        },
        percentiles(&measures.deliver),
        memory(&outcome.memory),
    ]
}

fn percentiles(percentiles: &Percentiles) -> String {
    let ms = |seconds: f64| match seconds * 1e3 {
        ms if ms < 9.95 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    };
    format!("{} / {} / {} ms", ms(percentiles.p50), ms(percentiles.p99), ms(percentiles.max))
}

/// The memory of the nodes before and after, in megabytes: `31 30 32 → 34 33 29`.
fn memory(nodes: &[Memory]) -> String {
    let list = |of: fn(&Memory) -> Option<u64>| {
        nodes.iter().filter_map(of).map(|bytes| (bytes >> 20).to_string()).collect::<Vec<_>>().join(" ")
    };
    format!("{} → {}", list(|memory| memory.before), list(|memory| memory.after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::report::tests::outcome;

    #[test]
    fn columns_stand_below_their_titles_and_what_is_wrong_is_red() {
        let mut bad = outcome("redis-stop");
        bad.measures.verdict.lost = 3;
        bad.failures.push("3 lost".to_owned());
        let text = table(&[outcome("a-very-long-name"), bad.clone()], false);
        let lines: Vec<&str> = text.lines().collect();
        let end = |line: &str, word: &str| line.find(word).map(|at| line[..at + word.len()].chars().count());
        assert_eq!(end(lines[0], "lost"), end(lines[3], " 3 ").map(|end| end - 1), "{text}");
        assert!(text.contains("FAILED: 3 lost") && !text.contains('\x1b'), "{text}");
        assert!(table(&[bad], true).contains(&format!("{RED}    3{PLAIN}")));
    }
}

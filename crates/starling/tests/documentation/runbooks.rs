//! `docs/runbooks`: every alert has a page, every page has its alerts and the same sections, and the log lines that pages quote exist.

use std::path::Path;

use crate::exchange::fenced;
use crate::pages::{entries, page, pages};

/// The sections of a runbook, in their order.
const SECTIONS: [&str; 7] = [
    "\n**First**",
    "\n## What users notice\n",
    "\n## Confirm\n",
    "\n## Causes\n",
    "\n## Never\n",
    "\n## Over\n",
    "\n## The threshold\n",
];

/// An alert of the rules that are delivered.
struct Alert {
    name: String,
    severity: String,
    /// The name of its page's file.
    runbook: String,
}

/// All alerts.
fn alerts() -> Vec<Alert> {
    let rules = page("helm/starling/files/rules/alerts.yaml");
    let after = |text: &str, key: &str| {
        let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no {key:?} in {text}"));
        let end = rest.find(['\n', ' ', ',', '}']).unwrap_or(rest.len());
        rest[..end].to_owned()
    };
    let read = |rule: &str| Alert {
        name: after(&format!("alert: {rule}"), "alert: "),
        severity: after(rule, "severity: "),
        runbook: after(rule, "runbook: docs/runbooks/"),
    };
    rules.split("- alert: ").skip(1).map(read).collect()
}

#[test]
fn every_alert_has_a_runbook_that_names_it_and_a_row_in_the_index() {
    let (alerts, index) = (alerts(), page("docs/runbooks/README.md"));
    assert!(alerts.len() > 20, "only {} alerts were found", alerts.len());
    let mut faults = Vec::new();
    for Alert { name, severity, runbook } in &alerts {
        let named = format!("`{name}` ({severity})");
        if !page(&format!("docs/runbooks/{runbook}")).contains(&named) {
            faults.push(format!("docs/runbooks/{runbook} does not say {named}"));
        }
        let row = format!("| `{name}` | {severity} |");
        let row = index.lines().find(|line| line.starts_with(&row));
        if !row.is_some_and(|row| row.contains(&format!("]({runbook})"))) {
            faults.push(format!("docs/runbooks/README.md: no row of {name} ({severity}) leads to {runbook}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_runbook_belongs_to_an_alert_and_has_the_same_sections() {
    let alerts = alerts();
    for path in entries("docs/runbooks") {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if name == "README.md" {
            continue;
        }
        assert!(alerts.iter().any(|alert| alert.runbook == name), "no alert leads to {name}");
        let text = std::fs::read_to_string(&path).unwrap();
        let places = SECTIONS.map(|section| text.find(section));
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{name} lacks a section: {places:?}"
        );
    }
}

#[test]
fn every_log_line_that_a_page_quotes_is_in_the_program() {
    let mut sources = String::new();
    for member in entries("crates") {
        read_sources(&member.join("src"), &mut sources);
    }
    let mut checked = 0;
    for (path, text) in pages() {
        for (_, _, lines) in fenced(&text, "text log") {
            for line in lines {
                assert!(sources.contains(line), "{}: nothing logs {line:?}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} lines were found");
}

/// Appends all sources of a folder, with the lines of each text joined as the compiler joins them.
fn read_sources(folder: &Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read_sources(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut parts = text.split("\\\n");
            sources.push_str(parts.next().unwrap_or_default());
            parts.for_each(|part| sources.push_str(part.trim_start()));
        }
    }
}

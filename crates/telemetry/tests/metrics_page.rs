//! The table of metrics, `docs/metrics.md` and the code must agree.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use starling_telemetry::catalogue::{self, Kind};

#[test]
fn the_page_is_made_from_the_table() {
    let path = repository().join("docs/metrics.md");
    let wanted = catalogue::page();
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/metrics.md is not up to date; run this test with UPDATE=1");
}

#[test]
fn every_metric_in_the_code_stands_in_the_table() {
    let metrics = catalogue::metrics().chain(catalogue::CACHES.metrics);
    let table: BTreeMap<&str, Kind> = metrics.map(|metric| (metric.name, metric.kind)).collect();
    let mut found = BTreeSet::new();
    for file in sources(&repository().join("crates")) {
        let text = fs::read_to_string(&file).unwrap();
        let macros =
            [("counter!(", Kind::Counter), ("gauge!(", Kind::Gauge), ("histogram!(", Kind::Histogram)];
        let is_the_table = file.ends_with("src/catalogue.rs");
        if is_the_table || !macros.iter().any(|(call, _)| text.contains(call)) {
            continue;
        }
        for name in text.split('"').filter(|literal| is_metric_name(literal)) {
            assert!(table.contains_key(name), "{name} in {} is not in the catalogue", file.display());
            found.insert(name.to_owned());
        }
        for (call, kind) in macros {
            for arguments in text.split(call).skip(1) {
                let name = arguments.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next());
                let Some(name) = name.filter(|name| is_metric_name(name)) else { continue };
                assert_eq!(table.get(name), Some(&kind), "{name} in {}", file.display());
            }
        }
    }
    assert!(found.len() > 40, "only {} metrics were found in the code", found.len());
}

fn is_metric_name(literal: &str) -> bool {
    literal.strip_prefix("starling_").is_some_and(|rest| {
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the Rust files of all crates, without tests, benches and examples.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !matches!(name.as_str(), "tests" | "benches" | "examples" | "target" | "fuzz") {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

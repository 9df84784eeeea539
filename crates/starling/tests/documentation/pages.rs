//! What all pages have in common: the things that they name exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The text of a page, by its path from the repository's root.
pub fn page(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All pages, with their folder's path.
pub fn pages() -> Vec<(PathBuf, String)> {
    let mut found: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md"]
        .map(|name| root().join(name))
        .into();
    for folder in ["docs", "docs/operating", "docs/runbooks"] {
        let pages = entries(folder).into_iter();
        found.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    let installed = entries("deploy").into_iter().chain([root().join("helm/starling"), root().join("k8s")]);
    found.extend(installed.map(|folder| folder.join("README.md")).filter(|page| page.exists()));
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect()
}

/// What is in a folder, by its path from the repository's root.
pub fn entries(folder: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut entries: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// What stands between `](` and `)`, outside of fenced blocks.
fn links(text: &str) -> Vec<&str> {
    let outside = text.split("\n```").step_by(2);
    outside.flat_map(|part| part.split("](").skip(1).filter_map(|rest| rest.split(')').next())).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let lower = heading.trim_start_matches('#').trim().to_lowercase();
    lower
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut checked = 0;
    for (path, text) in pages() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, fragment) = link.split_once('#').unwrap_or((link, ""));
            let folder = path.parent().expect("a folder");
            let target = if file.is_empty() { path.clone() } else { folder.join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !fragment.is_empty() {
                let text = std::fs::read_to_string(&target).unwrap();
                let found = text.lines().any(|line| line.starts_with('#') && anchor(line) == fragment);
                assert!(found, "{}: {link} has no such heading", path.display());
            }
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links were found");
}

#[test]
fn every_metric_that_a_page_names_is_in_the_list_of_metrics() {
    let listed = page("docs/metrics.md");
    let known: BTreeSet<&str> = listed.split('`').filter(|word| word.starts_with("starling_")).collect();
    for (path, text) in pages() {
        let words = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .filter(|word| word.starts_with("starling_"));
        for word in words.filter(|word| !NO_METRICS.contains(word) && !is_crate(word)) {
            let plain =
                ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
            assert!(known.contains(word) || known.contains(plain), "{}: {word}", path.display());
        }
    }
}

/// Names with the prefix of metrics that are none of the program's: tables, functions and roles of the database, secrets of a Swarm, and
/// the metric that `deploy/backup/backup.sh` writes.
const NO_METRICS: [&str; 11] = [
    "starling_migrations",
    "starling_jobs_migrations",
    "starling_webhooks_migrations",
    "starling_append",
    "starling_b",
    "starling_node",
    "starling_jwt_secret",
    "starling_database_url",
    "starling_database_url_2",
    "starling_redis_url",
    "starling_backup_completed_timestamp_seconds",
];

/// Whether this is a crate, as it stands in logs.
fn is_crate(word: &str) -> bool {
    let folder = word.strip_prefix("starling_").map(|name| name.replace('_', "-"));
    folder.is_some_and(|folder| root().join("crates").join(folder).is_dir())
}

#[test]
fn links_and_anchors_are_found() {
    assert_eq!(links("[a](b.md) and\n```sh\n[no](no)\n```\n[c](#d)"), ["b.md", "#d"]);
    assert_eq!(anchor("### `subscribe` and `unsubscribe`"), "subscribe-and-unsubscribe");
}

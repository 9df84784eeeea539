//! `docs/security.md`: every test and every fuzz target that the threat model names is there.

use std::path::{Path, PathBuf};

use crate::pages::page;

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let text = page("docs/security.md");
    let mut checked = 0;
    for row in text.lines().filter(|line| line.starts_with("| ")) {
        // The last column is the one of tests.
        let Some(cell) = row.trim_end_matches('|').rsplit('|').next() else { continue };
        let named: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let is_head = ["shown by", "---"].contains(&cell.trim());
        assert!(is_head || !named.is_empty(), "nothing shows this: {row}");
        for name in named {
            assert!(exists(name), "{name} is no test");
            checked += 1;
        }
    }
    assert!(checked > 60, "only {checked} names were found");
}

#[test]
fn every_test_of_the_hostile_suite_and_every_fuzz_target_is_in_the_threat_model() {
    let text = page("docs/security.md");
    let root = root();
    for file in files(&root.join("crates/starling/tests/hostile")) {
        let module = file.file_stem().unwrap().to_str().unwrap();
        let source = std::fs::read_to_string(&file).unwrap();
        for test in tests_of(&source) {
            let name = format!("`hostile::{module}::{test}`");
            // Tokens that are odd and good are no attack.
            assert!(text.contains(&name) || test.contains("harmless") || test.contains("nonsense"), "{name}");
        }
    }
    for file in files(&root.join("fuzz/fuzz_targets")) {
        let name = format!("`fuzz {}`", file.file_stem().unwrap().to_str().unwrap());
        assert!(text.contains(&name), "{name}");
    }
}

/// The names of the tests in a source: of each function that follows a test's attribute.
fn tests_of(source: &str) -> impl Iterator<Item = &str> {
    let lines = source.lines().zip(source.lines().skip(1));
    lines
        .filter(|(line, _)| line.trim_start().starts_with("#[test]") || line.contains("#[tokio::test"))
        .filter_map(|(_, next)| next.split_once("fn ").and_then(|(_, rest)| rest.split('(').next()))
}

/// Whether a test of this name, as the page writes it, is in the sources.
fn exists(name: &str) -> bool {
    let root = root();
    if let Some(target) = name.strip_prefix("fuzz ") {
        return root.join("fuzz/fuzz_targets").join(target).with_extension("rs").is_file();
    }
    if name.ends_with(".test.js") {
        return root.join(name).is_file();
    }
    let parts: Vec<&str> = name.split("::").collect();
    let [suite, modules @ .., test] = parts.as_slice() else { return false };
    let folders = [
        root.join("crates/starling/tests").join(suite),
        root.join("crates").join(suite).join("tests"),
        root.join("crates").join(suite).join("src"),
    ];
    let written = format!("fn {test}(");
    folders.iter().any(|folder| {
        let file = folder.join(modules.join("/")).with_extension("rs");
        std::fs::read_to_string(file).is_ok_and(|source| source.contains(&written))
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn names_of_tests_are_told_from_names_of_nothing() {
    assert!(exists("documentation::security::names_of_tests_are_told_from_names_of_nothing"));
    assert!(exists("fuzz websocket") && !exists("fuzz nothing"));
    assert!(!exists("documentation::security::nothing") && !exists("nothing"));
}

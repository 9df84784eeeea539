//! The version is the workspace's, in all places that name it.

use std::path::{Path, PathBuf};

use crate::pages::page;

/// The version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Files outside of `deploy`, `helm`, `k8s` and the pages that name the version, with what stands before it.
const PLACES: [(&str, &str); 6] = [
    ("helm/starling/Chart.yaml", "\nversion: "),
    ("helm/starling/Chart.yaml", "\nappVersion: "),
    ("deploy/docker/Dockerfile", "ARG VERSION="),
    ("clients/js/package.json", "\n  \"version\": \""),
    ("clients/js/package-lock.json", "\n  \"version\": \""),
    (
        "crates/gateway/src/http/snapshots/starling_gateway__http__openapi__tests__openapi.snap",
        "\"version\": \"",
    ),
];
/// What stands before the version of Starling in files that may also name versions of other things.
const BEFORE: [&str; 4] =
    ["starling:", "app.kubernetes.io/version: ", "newTag: ", "\"node\": \"node-1\", \"version\": \""];

/// The versions in a text that follow these words, as far as they begin with a digit.
fn versions<'a>(text: &'a str, before: &str) -> Vec<&'a str> {
    let after = text.split(before).skip(1);
    let version = |rest: &'a str| {
        let rest = rest.trim_start_matches('"');
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '+'));
        &rest[..end.unwrap_or(rest.len())]
    };
    after.map(version).filter(|version| version.starts_with(|c: char| c.is_ascii_digit())).collect()
}

/// All files below a folder of the repository.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path(), found),
            false => found.push(entry.path()),
        }
    }
}

#[test]
fn every_place_names_the_version_of_the_workspace() {
    for (path, before) in PLACES {
        let text = page(path);
        assert!(!versions(&text, before).is_empty(), "{path}: no version behind {before:?}");
        for version in versions(&text, before) {
            assert_eq!(version, VERSION, "{path}: behind {before:?}");
        }
    }
}

#[test]
fn images_labels_and_examples_name_no_other_version() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    // Pages on upgrades name other versions.
    let mut found: Vec<PathBuf> =
        ["docs/http.md", "docs/operating/health.md"].map(|page| root.join(page)).into();
    ["deploy", "helm", "k8s"].iter().for_each(|folder| files(&root.join(folder), &mut found));
    let mut checked = 0;
    for path in found.into_iter().filter(|path| !path.ends_with("README.md")) {
        // Others are pictures.
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for before in BEFORE {
            for version in versions(&text, before) {
                assert_eq!(version, VERSION, "{}: behind {before:?}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked >= 10, "only {checked} places were found");
}

#[test]
fn every_crate_takes_its_version_from_the_workspace() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut checked = 0;
    for entry in std::fs::read_dir(crates).unwrap().flatten() {
        let Ok(manifest) = std::fs::read_to_string(entry.path().join("Cargo.toml")) else { continue };
        assert!(manifest.contains("\nversion.workspace = true\n"), "{}", entry.path().display());
        checked += 1;
    }
    assert!(checked >= 10, "only {checked} crates were found");
}

#[test]
fn a_version_that_differs_is_found() {
    let text = "image: starling:9.8.7-rc.1\nnewTag: \"0.0.1\"\nstarling:latest starling:";
    assert_eq!(versions(text, "starling:"), ["9.8.7-rc.1"]);
    assert_eq!(versions(text, "newTag: "), ["0.0.1"]);
}

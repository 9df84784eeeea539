//! The rules of the code are clippy's: a crate with a `clippy.toml` of its own has those of the workspace, too.

use std::path::Path;

fn rules(path: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn hub_and_gateway_have_the_rules_of_the_workspace_and_those_of_the_simulation() {
    let (root, hub) = (rules("clippy.toml"), rules("crates/hub/clippy.toml"));
    assert_eq!(hub, rules("crates/gateway/clippy.toml"));
    let missing: Vec<&String> = root.iter().filter(|rule| !hub.contains(rule)).collect();
    assert!(missing.is_empty(), "crates/hub/clippy.toml lacks {missing:?}");
    for banned in [
        "std::time::Instant",
        "std::time::SystemTime",
        "std::collections::HashMap",
        "std::collections::HashSet",
        "rand::random",
        "rand::rng",
        "uuid::Uuid::new_v4",
        "uuid::Uuid::now_v7",
        "tokio::sync::watch::channel",
        "metrics::counter",
        "tokio::spawn",
        "tokio::runtime::Handle::spawn",
    ] {
        let rule = format!("path = \"{banned}\"");
        assert!(hub.iter().any(|line| line.contains(&rule)), "nothing forbids {banned}");
    }
}

/// All Rust files of the program below a folder, tests left out.
fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The calls of `error!` in a file whose texts are put together at run time.
fn formatted_errors(source: &str) -> Vec<&str> {
    let calls = source.split("error!(").skip(1).map(|rest| &rest[..end_of_call(rest)]);
    calls.filter(|call| call.contains('{') && call.contains('"')).collect()
}

/// Where the parenthesis closes that stands before this text.
fn end_of_call(rest: &str) -> usize {
    let (mut depth, mut in_text) = (1, false);
    for (place, byte) in rest.bytes().enumerate() {
        match byte {
            b'"' => in_text = !in_text,
            b'(' if !in_text => depth += 1,
            b')' if !in_text => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place;
        }
    }
    rest.len()
}

#[test]
fn the_text_of_an_error_in_the_log_is_a_constant_so_that_a_report_quotes_nothing() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let (mut found, mut checked) = (Vec::new(), 0);
    for name in std::fs::read_dir(crates).unwrap().flatten() {
        let folder = name.path().join("src");
        if folder.is_dir() {
            sources(&folder, &mut found);
        }
    }
    for path in found {
        let source = std::fs::read_to_string(&path).unwrap();
        // Other macros end like this one, and have nothing to do with the log.
        let source = source.replace("compile_error!(", "").replace("syn::error!(", "");
        assert_eq!(formatted_errors(&source), Vec::<&str>::new(), "{}", path.display());
        checked += source.matches("tracing::error!(").count();
    }
    assert!(checked >= 8, "only {checked} errors were found");
    assert_eq!(formatted_errors("error!(f(x), \"it (is) {x}\"), error!(\"it is\") {").len(), 1);
}

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
    for banned in ["std::time::Instant", "std::time::SystemTime", "rand::random", "metrics::counter"] {
        let rule = format!("path = \"{banned}\"");
        assert!(hub.iter().any(|line| line.contains(&rule)), "nothing forbids {banned}");
    }
}

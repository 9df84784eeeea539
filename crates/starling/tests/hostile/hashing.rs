//! Maps with keys from strangers use a secret hash seed.

use std::path::{Path, PathBuf};

/// Hashers with a fixed seed, by name. An attacker who knows the seed can choose keys that all collide.
const FIXED: [&str; 7] = [
    "FixedState",
    "fxhash",
    "FxHash",
    "rustc_hash",
    "BuildHasherDefault",
    "fnv::",
    "ahash::AHasher::default",
];

#[test]
fn keys_of_strangers_are_hashed_with_random_seeds() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut read = 0;
    for entry in std::fs::read_dir(crates).unwrap() {
        let folder = entry.unwrap().path();
        // Code that only tests and developers run receives no keys from strangers.
        if ["costs", "fuzz-targets", "testkit", "torture", "xtask"].iter().any(|name| folder.ends_with(name))
        {
            continue;
        }
        for file in sources(&folder.join("src")) {
            let text = std::fs::read_to_string(&file).unwrap();
            for name in FIXED {
                assert!(!text.contains(name), "{}: {name}", file.display());
            }
            read += 1;
        }
    }
    assert!(read > 150, "only {read} files were read");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

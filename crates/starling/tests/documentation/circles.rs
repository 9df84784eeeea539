//! The files of a crate do not use each other in circles, so that each can be understood after those that it uses.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use crate::file_uses::{Files, Uses, uses};

/// The circles that stay: the crate, the files, and the reason.
const ACCEPTED: &[(&str, &[&str], &str)] = &[
    (
        "settings",
        &["section.rs", "setting.rs", "table.rs"],
        "a section consists of settings, and the value of a setting may be a table of sections",
    ),
    (
        "jobs",
        &[
            "postgres/claim.rs",
            "postgres/finish.rs",
            "postgres/inspect.rs",
            "postgres/locks.rs",
            "postgres/mod.rs",
            "postgres/overview.rs",
            "postgres/schedules.rs",
            "postgres/upkeep.rs",
        ],
        "older than this rule: what `mod.rs` has for reading columns belongs in a file of its own",
    ),
    ("jobs", &["sqlite/claim.rs", "sqlite/limited.rs"], "older than this rule: both begin jobs with `start`"),
];

/// Returns the files that a file uses, also through others, and for each the file that uses it on a shortest way.
fn reached<'a>(uses: &'a Uses, start: &'a str) -> BTreeMap<&'a str, &'a str> {
    let (mut reached, mut queue) = (BTreeMap::new(), VecDeque::from([start]));
    while let Some(user) = queue.pop_front() {
        for file in uses.get(user).into_iter().flat_map(BTreeMap::keys) {
            if !reached.contains_key(file.as_str()) {
                reached.insert(file.as_str(), user);
                queue.push_back(file);
            }
        }
    }
    reached
}

/// Returns the circles of a crate: the files of each, and the uses on a shortest way round.
fn circles(uses: &Uses) -> Vec<(BTreeSet<&str>, Vec<String>)> {
    let (mut circles, mut known) = (Vec::new(), BTreeSet::<&str>::new());
    for start in uses.keys().map(String::as_str) {
        let from_here = reached(uses, start);
        if known.contains(start) || !from_here.contains_key(start) {
            continue;
        }
        let files = from_here.keys().copied().filter(|file| reached(uses, file).contains_key(start));
        let files: BTreeSet<&str> = files.collect();
        known.extend(&files);
        let (mut way, mut at) = (Vec::new(), start);
        while way.is_empty() || at != start {
            let user = from_here[at];
            way.insert(0, format!("{user} uses {} of {at}", uses[user][at]));
            at = user;
        }
        circles.push((files, way));
    }
    circles
}

/// Reads the sources in a folder, by their paths below `src`.
fn sources(folder: &Path, path: &str, files: &mut Files) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let (place, path) = (entry.path(), format!("{path}{name}"));
        if place.is_dir() {
            sources(&place, &format!("{path}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(path, fs::read_to_string(place).unwrap());
        }
    }
}

#[test]
fn the_files_of_a_crate_form_no_circles_but_those_with_a_reason() {
    let is_root = |file: &&String| match file.strip_prefix("bin/") {
        Some(file) => !file.contains('/') || file.ends_with("/main.rs"),
        None => ["lib.rs", "main.rs"].contains(&file.as_str()),
    };
    let (mut found, mut accepted, mut read) = (Vec::new(), BTreeSet::new(), 0);
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap().flatten() {
        let (name, mut files) = (entry.file_name().into_string().unwrap(), Files::new());
        sources(&entry.path().join("src"), "", &mut files);
        read += files.len();
        for root in files.keys().filter(is_root) {
            for (circle, way) in circles(&uses(root, &files)) {
                let fits = |(of, files, _): &(&str, &[&str], &str)| {
                    *of == name && circle.iter().all(|file| files.contains(file))
                };
                match ACCEPTED.iter().position(fits) {
                    Some(place) => _ = accepted.insert(place),
                    None => found.push(format!("{name} {circle:?}: {}", way.join(", "))),
                }
            }
        }
    }
    assert!(found.is_empty(), "a type in a file of its own often ends a circle:\n{}", found.join("\n"));
    let is_gone = |place: &usize| !accepted.contains(place);
    let gone: Vec<_> = (0..ACCEPTED.len()).filter(is_gone).map(|place| ACCEPTED[place]).collect();
    assert!(gone.is_empty(), "these are no circles any more: {gone:?}");
    assert!(read > 700, "only {read} files were read");
}

#[test]
fn a_circle_is_found_through_reexports_and_neither_tests_nor_comments_make_one() {
    let mut files = Files::from(
        [
            ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::Room;\n"),
            ("a.rs", "use crate::b::{\n    Log, self,\n};\npub struct Room(Log);\n"),
            ("b/mod.rs", "mod inner;\n#[cfg(test)]\nmod tests;\n\npub(crate) use inner::*;\n"),
            ("b/inner.rs", "pub struct Log {\n    room: Option<Box<crate::Room>>,\n}\n"),
            ("b/tests.rs", "use crate::c::Page;\n"),
            ("c.rs", "use crate::Room;\nuse std::fmt;\npub struct Page(Room);\n"),
        ]
        .map(|(path, source)| (path.to_owned(), source.to_owned())),
    );
    let found = uses("lib.rs", &files);
    assert_eq!(found["c.rs"].keys().collect::<Vec<_>>(), ["a.rs"]);
    let expected = ["a.rs uses Log of b/inner.rs", "b/inner.rs uses Room of a.rs"].map(str::to_owned);
    assert_eq!(circles(&found), [(BTreeSet::from(["a.rs", "b/inner.rs"]), expected.to_vec())]);

    let log = "// crate::Room\npub struct Log;\n\n#[cfg(test)]\nmod tests {\n    use crate::Room;\n}\n";
    files.insert("b/inner.rs".to_owned(), log.to_owned());
    assert_eq!(circles(&uses("lib.rs", &files)), []);
}

//! Which files of a crate use which others.
//!
//! `use` and other paths are read line by line, as rustfmt lays them out, and re-exports are followed to the file with the item. Calls of
//! methods are not seen, nor what macros and modules in blocks use.

use std::collections::{BTreeMap, BTreeSet};

/// The words before the name of an item.
const KINDS: [&str; 9] = ["const", "enum", "fn", "macro_rules", "static", "struct", "trait", "type", "union"];

/// The sources of a crate, by their paths in its folder `src`.
pub type Files = BTreeMap<String, String>;
/// The segments of a path in the code.
type Segments = Vec<String>;
/// For each file, the files that it uses, and one item that it uses of each.
pub type Uses = BTreeMap<String, BTreeMap<String, String>>;

/// What a file says.
#[derive(Default)]
struct Module {
    file: String,
    items: BTreeSet<String>,
    /// The paths to which `use` gives names. Those of `use …::*` have the name `*`.
    names: Vec<(String, Segments)>,
    /// The paths to what the file itself uses.
    used: Vec<Segments>,
}

type Modules = BTreeMap<Segments, Module>;

/// Reads a file, and those of the modules that it declares. `at`: the path of its module.
fn read(at: &[String], file: &str, files: &Files, modules: &mut Modules) {
    let mut module = Module { file: file.to_owned(), ..Module::default() };
    let (mut code, mut passed_on) = (String::new(), Vec::new());
    let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
    let is_root = at.is_empty() || name == "mod.rs";
    let folder = if is_root { folder } else { file.trim_end_matches(".rs") };
    let source = without_tests(&files[file]);
    let mut lines = source.into_iter();
    while let Some(line) = lines.next() {
        let bare = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ").map_or("", |(_, bare)| bare),
            Some(rest) => rest.trim_start(),
            None => line,
        };
        if let Some(tree) = bare.strip_prefix("use ") {
            let mut tree = tree.to_owned();
            while !tree.ends_with(';') {
                tree += lines.next().unwrap_or(";").trim();
            }
            let first = module.names.len();
            read_tree(&[], tree.trim_end_matches(';'), &mut module.names);
            let paths = module.names[first..].iter().cloned();
            match bare == line {
                true => module.used.extend(paths.map(|(_, path)| path)),
                false => passed_on.extend(paths),
            }
        } else if let Some(name) = bare.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            let place = format!("{folder}/{name}");
            let place = place.trim_start_matches('/');
            let at = [at, &[name.to_owned()]].concat();
            for file in [format!("{place}.rs"), format!("{place}/mod.rs")] {
                if files.contains_key(&file) {
                    read(&at, &file, files, modules);
                }
            }
        } else {
            if !line.starts_with(' ') {
                let words = words(line).skip_while(|word| !KINDS.contains(word));
                module.items.extend(words.map(str::to_owned).find(|word| !KINDS.contains(&word.as_str())));
            }
            code += line;
            code.push('\n');
        }
    }
    let paths = code.split(|c: char| !is_word(c) && c != ':').map(segments);
    module.used.extend(paths.filter(|path| path.len() > 1));
    // A file that only passes an item on does not use it.
    let words: BTreeSet<&str> = words(&code).collect();
    let is_used = |(name, _): &(String, Segments)| words.contains(name.as_str());
    module.used.extend(passed_on.into_iter().filter(is_used).map(|(_, path)| path));
    modules.insert(at.to_vec(), module);
}

/// Returns the lines of a source without comments, what only tests see, and modules in blocks.
fn without_tests(source: &str) -> Vec<&str> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let mut kept = Vec::new();
    let mut lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" || line.contains("mod ") && line.ends_with('{') {
            let is_last = |next: &&str| depth(next) == depth(line) && next.ends_with(['}', ';', ',']);
            lines.find(is_last);
        } else {
            kept.push(line.split(" // ").next().unwrap_or(line));
        }
    }
    kept
}

/// Reads the names that the tree of a `use` gives to paths.
fn read_tree(before: &[String], tree: &str, names: &mut Vec<(String, Segments)>) {
    if let Some((start, inner)) = tree.split_once('{') {
        let (before, mut depth) = ([before, &segments(start)].concat(), 0);
        let inner = inner.strip_suffix('}').unwrap_or(inner);
        let parts = inner.split(|c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        parts.filter(|part| !part.trim().is_empty()).for_each(|part| read_tree(&before, part.trim(), names));
        return;
    }
    let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
    let mut path = [before, &segments(path)].concat();
    path.pop_if(|last| last == "self");
    let name = match name {
        _ if tree.ends_with('*') => "*",
        "" => path.last().map_or("", String::as_str),
        name => name,
    };
    names.push((name.to_owned(), path.clone()));
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty())
}

fn segments(path: &str) -> Segments {
    words(path).map(str::to_owned).collect()
}

/// Returns the file with the item that a path in a module names, and the item. `None`: it is a module, or of another crate.
fn find(modules: &Modules, at: &[String], path: &[String], hops: usize) -> Option<(String, String)> {
    let supers = path.iter().take_while(|segment| *segment == "super").count();
    let (mut at, mut rest, mut is_own) = match path.first()?.as_str() {
        "crate" => (Vec::new(), &path[1..], true),
        "self" => (at.to_vec(), &path[1..], true),
        _ => (at[..at.len().checked_sub(supers)?].to_vec(), &path[supers..], supers > 0),
    };
    loop {
        let (module, name) = (modules.get(&at)?, rest.first()?);
        let inner = [at.as_slice(), &rest[..1]].concat();
        if modules.contains_key(&inner) {
            (at, rest, is_own) = (inner, &rest[1..], true);
            continue;
        }
        let here = (module.file.clone(), name.clone());
        if module.items.contains(name) {
            return Some(here);
        }
        if let Some((_, path)) = module.names.iter().find(|(given, _)| given == name) {
            let path = [path.as_slice(), &rest[1..]].concat();
            return find(modules, &at, &path, hops.checked_sub(1)?);
        }
        let globs = module.names.iter().filter(|(given, _)| given == "*");
        let is_there = |(file, item): &(String, String)| {
            modules.values().any(|module| module.file == *file && module.items.contains(item))
        };
        let from =
            |path: &Segments| find(modules, &at, &[path.as_slice(), rest].concat(), hops.checked_sub(1)?);
        let found = globs.filter_map(|(_, path)| from(path)).find(is_there);
        // Macros define items that are not seen.
        return found.or(is_own.then_some(here));
    }
}

/// Returns which files of a crate use which others. `root`: its first file.
pub fn uses(root: &str, files: &Files) -> Uses {
    let (mut modules, mut uses) = (Modules::new(), Uses::new());
    read(&[], root, files, &mut modules);
    for (at, module) in &modules {
        let found = module.used.iter().filter_map(|path| find(&modules, at, path, 20));
        for (file, item) in found.filter(|(file, _)| *file != module.file) {
            uses.entry(module.file.clone()).or_default().entry(file).or_insert(item);
        }
    }
    uses
}

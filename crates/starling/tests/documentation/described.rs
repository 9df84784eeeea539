//! The protocol's list of commands and events (`crates/wire/src/protocol/command.rs` and `event.rs`) against what describes it once more:
//! `docs/protocol.md` and the JavaScript client. Each test names all places that are missing.

use starling_wire::protocol::{EventKind, FieldInfo, Operation};

use crate::pages::page;

/// Fails with all faults at once.
fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|found| found == word)
}

/// The sections of a page: heading and text.
fn sections(page: &str) -> Vec<(&str, &str)> {
    page.split("\n## ")
        .flat_map(|part| part.split("\n### "))
        .filter_map(|section| section.split_once('\n'))
        .collect()
}

/// The text between a line and the next one that is `end`.
fn block<'a>(text: &'a str, begin: &str, end: &str) -> &'a str {
    let after = text.split_once(begin).unwrap_or_else(|| panic!("{begin:?} is not there")).1;
    after.split_once(end).unwrap_or_else(|| panic!("{begin:?} does not end")).0
}

#[test]
fn the_page_describes_every_command_with_its_fields_and_an_example() {
    let page = page("docs/protocol.md");
    let mut faults = Vec::new();
    for operation in Operation::ALL {
        let op = operation.name();
        let heading = format!("`{op}`");
        let Some((_, section)) = sections(&page).into_iter().find(|(title, _)| title.contains(&heading))
        else {
            faults.push(format!("docs/protocol.md: no heading names `{op}`"));
            continue;
        };
        if !page.contains(&format!("\"op\": \"{op}\"")) {
            faults.push(format!("docs/protocol.md: no example of `{op}`"));
        }
        for field in operation.fields() {
            if !section.contains(&format!("`{field}`")) && !section.contains(&format!("\"{field}\":")) {
                faults.push(format!("docs/protocol.md: the section on `{op}` lacks its field `{field}`"));
            }
        }
        if let Some(scope) = operation.scope() {
            let row = page.lines().find(|line| line.starts_with(&format!("| `{scope}")));
            if !row.is_some_and(|row| row.contains(&heading)) {
                faults
                    .push(format!("docs/protocol.md: the scope `{scope}` of `{op}` is not among the scopes"));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn the_page_lists_every_event_with_its_fields_and_has_an_example() {
    let page = page("docs/protocol.md");
    let mut faults = Vec::new();
    for event in EventKind::ALL {
        let ev = event.name();
        let optional = |field: &FieldInfo| if field.is_optional { "?" } else { "" };
        let fields = event.fields().iter().map(|field| format!("`{}`{}", field.name, optional(field)));
        let row = format!("| `{ev}` | {}", fields.collect::<Vec<_>>().join(", "));
        if !page.lines().any(|line| line.starts_with(&row)) {
            faults.push(format!("docs/protocol.md, Events: no row begins with: {row}"));
        }
        if !page.contains(&format!("\"ev\": \"{ev}\"")) {
            faults.push(format!("docs/protocol.md: no example of the event `{ev}`"));
        }
    }
    assert_none(&faults);
}

#[test]
fn the_javascript_client_sends_every_command_with_its_fields() {
    let (types, client) = (page("clients/js/starling.d.ts"), page("clients/js/starling.js"));
    let class = block(&types, "export class Starling {", "\n}");
    let mut faults = Vec::new();
    for operation in Operation::ALL {
        let op = operation.name();
        if !client.contains(&format!("request(\"{op}\"")) && !client.contains(&format!("op: \"{op}\"")) {
            faults.push(format!("clients/js/starling.js: nothing sends `{op}`"));
        }
        let Some((_, rest)) = class.split_once(&format!("\n  {op}(")) else {
            faults.push(format!("clients/js/starling.d.ts: the class has no method `{op}`"));
            continue;
        };
        // `connect` takes what the client was made with.
        let signature = match operation {
            Operation::Connect => block(&types, "export interface Options {", "\n}"),
            _ => rest.split("Promise<").next().unwrap_or_default(),
        };
        for field in operation.fields().iter().filter(|field| !has_word(signature, field)) {
            faults.push(format!("clients/js/starling.d.ts: `{op}` does not take `{field}`"));
        }
    }
    assert_none(&faults);
}

#[test]
fn the_javascript_client_types_every_event_with_its_fields() {
    let types = page("clients/js/starling.d.ts");
    let events = block(&types, "export interface Events {", "\n}");
    let mut faults = Vec::new();
    for event in EventKind::ALL {
        let ev = event.name();
        let Some((_, line)) = events.split_once(&format!("\n  {ev}: ")) else {
            faults.push(format!("clients/js/starling.d.ts: `Events` lacks `{ev}`"));
            continue;
        };
        let line = line.lines().next().unwrap_or_default();
        let typed = match line.strip_suffix(';') {
            Some(name) if !name.contains(['{', ' ']) => {
                block(&types, &format!("export interface {name} {{"), "\n}")
            }
            _ => line,
        };
        for field in event.fields() {
            let optional = has_word(typed, field.name) && typed.contains(&format!("{}?:", field.name));
            if !has_word(typed, field.name) {
                faults.push(format!("clients/js/starling.d.ts: the event `{ev}` lacks `{}`", field.name));
            } else if field.is_optional && !optional {
                faults.push(format!("clients/js/starling.d.ts: `{}` of `{ev}` may be absent", field.name));
            }
        }
    }
    assert_none(&faults);
}

#[test]
fn sections_blocks_and_words_are_found() {
    assert_eq!(sections("x\n## A `b`\ntext\n### c\nmore"), [("A `b`", "text"), ("c", "more")]);
    assert_eq!(block("a {\n b\n}\n", "a {", "\n}"), "\n b");
    assert!(has_word("a?: log_id, b", "b") && !has_word("log_id", "log"));
}

//! Examples in Markdown: from fenced blocks to lines that can be played.

use serde_json::Value;

/// A fenced block whose first word is `text` and whose second one says that it is to be played.
#[derive(Debug)]
pub struct Block {
    /// Where it begins, for messages.
    pub line: usize,
    /// What follows the second word, such as `drain`.
    pub mode: String,
    /// What happens, in order.
    pub lines: Vec<Line>,
}

/// A line of an exchange.
#[derive(Debug)]
pub enum Line {
    /// A client sends a frame.
    Sends(String, Value),
    /// A client gets a frame.
    Gets(String, Value),
    /// The node closes a client's socket with this code.
    Closes(String, u16),
    /// A client's connection breaks.
    Breaks(String),
    /// A user calls a node over HTTP: method, path, body.
    Calls(String, String, String, Value),
    /// A node is asked to end.
    Terminates,
}

impl Line {
    /// The client that it is about.
    pub fn client(&self) -> Option<&str> {
        match self {
            Line::Sends(client, _)
            | Line::Gets(client, _)
            | Line::Closes(client, _)
            | Line::Breaks(client) => Some(client),
            Line::Calls(..) | Line::Terminates => None,
        }
    }
}

/// The blocks of a page that begin with ```` ```text KIND ````, with the number of their line and the rest of that line.
pub fn fenced<'a>(page: &'a str, kind: &str) -> Vec<(usize, &'a str, Vec<&'a str>)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```").filter(|info| !info.is_empty()) else { continue };
        let inside: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
        if let Some(mode) = info.strip_prefix(kind) {
            blocks.push((number + 1, mode.trim(), inside));
        }
    }
    blocks
}

/// The exchanges of a page.
pub fn exchanges(page: &str) -> Vec<Block> {
    let blocks = fenced(page, "text exchange").into_iter();
    blocks
        .map(|(line, mode, inside)| {
            let mut entries: Vec<String> = Vec::new();
            for text in inside {
                match (text.strip_prefix(' '), entries.last_mut()) {
                    (Some(rest), Some(last)) => last.push_str(rest),
                    _ => entries.push(text.to_owned()),
                }
            }
            let lines = entries.iter().map(|entry| read(entry, line)).collect();
            Block { line, mode: mode.to_owned(), lines }
        })
        .collect()
}

fn read(entry: &str, block: usize) -> Line {
    let frame = |text: &str| {
        serde_json::from_str(text)
            .unwrap_or_else(|error| panic!("the block in line {block}: {error}: {text}"))
    };
    let (client, rest) =
        entry.split_once(' ').unwrap_or_else(|| panic!("the block in line {block}: {entry}"));
    let client = client.to_owned();
    if let Some(text) = rest.strip_prefix("→ ") {
        Line::Sends(client, frame(text))
    } else if let Some(text) = rest.strip_prefix("← ") {
        Line::Gets(client, frame(text))
    } else if let Some(call) = rest.strip_prefix("⇒ ") {
        let mut words = call.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_default();
        let (method, path, body) = (word().to_owned(), word().to_owned(), word());
        let body = if body.is_empty() { Value::Null } else { frame(body) };
        Line::Calls(client, method, path, body)
    } else if rest == "✕" {
        Line::Breaks(client)
    } else if let Some(code) = rest.strip_prefix("✕ ").and_then(|code| code.parse().ok()) {
        Line::Closes(client, code)
    } else if rest == "SIGTERM" {
        Line::Terminates
    } else {
        panic!("the block in line {block}: no line of an exchange: {entry}")
    }
}

#[test]
fn an_exchange_is_read_line_by_line() {
    let page = "# A\n```json\n{}\n```\n```text exchange drain\nada → {\"id\": 1,\n   \"op\": \"ping\"}\nada ← {\"id\": 1}\nbob ✕\nbob ✕ 4401\nada ⇒ PATCH /v1/c {\"a\": 1}\nnode-1 SIGTERM\n```\n";
    let blocks = exchanges(page);
    assert_eq!((blocks.len(), blocks[0].line, blocks[0].mode.as_str()), (1, 5, "drain"));
    let shown: Vec<String> = blocks[0].lines.iter().map(|line| format!("{line:?}")).collect();
    assert_eq!(shown.len(), 6);
    assert!(matches!(&blocks[0].lines[0], Line::Sends(who, frame) if who == "ada" && frame["op"] == "ping"));
    assert!(matches!(&blocks[0].lines[3], Line::Closes(who, 4401) if who == "bob"));
    assert!(matches!(&blocks[0].lines[4], Line::Calls(who, method, path, body)
        if who == "ada" && method == "PATCH" && path == "/v1/c" && body["a"] == 1));
    assert!(matches!(&blocks[0].lines[5], Line::Terminates));
}

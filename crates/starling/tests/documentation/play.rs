//! Plays an exchange against nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Upgrade};
use starling_testkit::http::Request;
use starling_testkit::node::Node;

use crate::compare::Bindings;
use crate::exchange::{Block, Line};

/// How long anything may take that is documented to come; `typing` ends after 6 s.
const SOON: Duration = Duration::from_secs(20);
/// The id of commands by which the player finds out that nothing more is under way.
const SETTLE: u64 = 9_007_199_254_740_991;

/// Clients in the middle of a story.
pub struct Stage<'a> {
    /// The first node, and the one that second sockets go to.
    nodes: [&'a Node; 2],
    clients: BTreeMap<String, Actor>,
    bindings: Bindings,
}

struct Actor {
    client: Client,
    /// What came and was not asked for yet.
    frames: Vec<Value>,
}

impl<'a> Stage<'a> {
    /// A stage without clients.
    pub fn new(nodes: [&'a Node; 2]) -> Self {
        Self { nodes, clients: BTreeMap::new(), bindings: Bindings::default() }
    }

    /// Plays a block, and fails where the node does otherwise.
    pub async fn play(&mut self, block: &Block) {
        let here = format!("docs/protocol.md, the block in line {}", block.line);
        for actor in self.clients.values_mut() {
            actor.settle().await;
            actor.frames.clear();
        }
        self.enter(block).await;
        for line in &block.lines {
            self.act(line, &here).await;
        }
        for name in block.lines.iter().filter_map(Line::client) {
            if let Some(actor) = self.clients.get_mut(name) {
                actor.settle().await;
                assert_eq!(actor.frames, [] as [Value; 0], "{here}: {name} got this, and it is not shown");
            }
        }
    }

    /// Connects those who are not connected yet, but for those whom the block shows doing so.
    async fn enter(&mut self, block: &Block) {
        let mut seen = Vec::new();
        for line in &block.lines {
            let Some(name) = line.client().filter(|name| !seen.contains(name)) else { continue };
            seen.push(name);
            let connects = matches!(line, Line::Sends(_, frame) if frame["op"] == "connect");
            if connects || !self.clients.contains_key(name) {
                let mut actor = self.open(name).await;
                if !connects && block.mode != "unconnected" {
                    actor.client.hello(json!({"token": self.nodes[0].token(user(name))})).await.unwrap();
                }
                self.clients.insert(name.to_owned(), actor);
            }
        }
    }

    async fn open(&self, name: &str) -> Actor {
        let node = self.nodes[usize::from(name.ends_with('2'))];
        let client = Upgrade::to(&node.ws_url()).encoding(Encoding::Json).open().await.unwrap();
        Actor { client, frames: Vec::new() }
    }

    async fn act(&mut self, line: &Line, here: &str) {
        match line {
            Line::Sends(name, frame) => {
                if frame["op"] == "connect" && !self.clients.contains_key(name) {
                    let actor = self.open(name).await;
                    self.clients.insert(name.clone(), actor);
                }
                let node = self.nodes[0];
                let frame = self.bindings.filled(frame, &|user| node.token(user));
                self.actor(name, here).client.send_value(&frame).await.unwrap();
            }
            Line::Gets(name, documented) => {
                let received = self
                    .actor(name, here)
                    .frame_like(documented, &format!("{here}: {name} ← {documented}"))
                    .await;
                if let Some(difference) = self.bindings.difference("", documented, &received) {
                    panic!("{here}: {difference}\nshown:    {documented}\nreceived: {received}");
                }
            }
            Line::Closes(name, code) => {
                let mut actor =
                    self.clients.remove(name).unwrap_or_else(|| panic!("{here}: {name} has no socket"));
                let closed = actor.client.closed(SOON).await.unwrap();
                assert_eq!(closed.code, Some(*code), "{here}: {name}'s socket");
            }
            Line::Breaks(name) => {
                let actor =
                    self.clients.remove(name).unwrap_or_else(|| panic!("{here}: {name} has no socket"));
                actor.client.cut();
            }
            Line::Calls(name, method, path, body) => {
                let node = self.nodes[0];
                let mut call = Request::new(method, &format!("{}{path}", node.http_url()));
                call = call.bearer(&node.token(user(name)));
                if !body.is_null() {
                    call = call.json(body);
                }
                let answer = call.send().await.unwrap();
                assert!((200..300).contains(&answer.status), "{here}: {method} {path}: {}", answer.text());
            }
            Line::Terminates => self.nodes[0].begin_termination().unwrap(),
        }
    }

    fn actor(&mut self, name: &str, here: &str) -> &mut Actor {
        self.clients.get_mut(name).unwrap_or_else(|| panic!("{here}: {name} has no socket"))
    }
}

impl Actor {
    /// The frame that a documented one is about: the reply under its id, or the next event of its name and place.
    async fn frame_like(&mut self, documented: &Value, what: &str) -> Value {
        let same = |frame: &Value| {
            let keys: &[&str] =
                if documented.get("ev").is_some() { &["ev", "conversation", "topic"] } else { &["id", "ev"] };
            keys.iter().all(|key| frame.get(key) == documented.get(key))
        };
        loop {
            if let Some(at) = self.frames.iter().position(same) {
                return self.frames.remove(at);
            }
            let message = self.client.next_raw(SOON).await;
            let message =
                message.unwrap_or_else(|failure| panic!("{what}: {failure}; what came: {:?}", self.frames));
            self.frames.extend(self.client.encoding().decode(&message).unwrap());
        }
    }

    /// Reads until nothing is under way, if it is connected at all.
    async fn settle(&mut self) {
        let ping = json!({"id": SETTLE, "op": "ping"});
        self.client.send_value(&ping).await.unwrap();
        self.frame_like(&json!({"id": SETTLE}), "a ping").await;
    }
}

/// Whose socket it is: `ada2` is Ada's second one.
fn user(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

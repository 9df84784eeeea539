//! One connection of a client.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::super::node::Node;
use super::super::pipe::Pipe;

/// How long a reply may take before the client tries another node.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// One connection.
pub struct Connection {
    pub node: Rc<Node>,
    pub pipe: Pipe,
    next_id: u64,
    /// Commands without a reply, by id, and until when the client waits.
    pub awaited: BTreeMap<u64, (Awaited, Instant)>,
    pub connected: bool,
    /// Since when the client had been away before.
    pub away_since: Option<Instant>,
    /// Joined conversations; for those joined on this connection, who is online.
    pub joined: BTreeMap<String, Option<BTreeMap<String, bool>>>,
    pub join_again_at: Instant,
    /// When to move to another node, as the node asked.
    pub leave_at: Option<Instant>,
    /// Whether the node asked this client to move.
    pub told: bool,
    /// Whether the client opened a later connection of the session, which breaks. It may have replaced this one before.
    pub rivalled: bool,
}

/// A command without a reply.
pub enum Awaited {
    Connect,
    Join(String),
    Send(String),
    Typing(String),
    Read,
}

/// How a connection ended, and what the client does then.
pub enum Over {
    /// It goes for good.
    Quit,
    /// It connects again.
    Lost,
    /// It connects again after this time.
    Away(Duration),
    /// It connects again, and the node does not notice the loss for this time.
    Vanished(Duration),
    /// It opens another connection, and after this time one more, with which it continues.
    Raced(Duration),
    /// It continues on the other connection, which it opened before this one ended.
    Moved(Box<(Rc<Node>, Pipe)>),
}

impl Connection {
    /// Makes a connection on which nothing has been sent.
    pub fn new(node: Rc<Node>, pipe: Pipe, away_since: Option<Instant>) -> Connection {
        Connection {
            node,
            pipe,
            next_id: 1,
            awaited: BTreeMap::new(),
            connected: false,
            away_since,
            joined: BTreeMap::new(),
            join_again_at: Instant::now(),
            leave_at: None,
            told: false,
            rivalled: false,
        }
    }

    /// Sends a command.
    pub fn ask(&mut self, awaited: Awaited, mut command: Value) {
        command["id"] = self.next_id.into();
        self.pipe.send(&command);
        self.awaited.insert(self.next_id, (awaited, Instant::now() + PATIENCE));
        self.next_id += 1;
    }

    /// Whether the client waits for the reply to a join of this conversation.
    pub fn is_joining(&self, conversation: &str) -> bool {
        self.awaited
            .values()
            .any(|(awaited, _)| matches!(awaited, Awaited::Join(name) if name == conversation))
    }
}

//! The protocols of the peers: how a client gets ready, publishes, and keeps alive. Deliveries need no protocol: the marker is looked for in what
//! arrives.

mod centrifugo;
mod nats;
mod nchan;
mod raw;
mod socketio;
mod starling;

use serde::{Deserialize, Serialize};

/// The protocol of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// The limit program's: `SUB room`, `PUB room payload`.
    Raw,
    /// Socket.IO 5 over Engine.IO 4.
    Socketio,
    /// Nchan: the room is in the path, each frame is a payload.
    Nchan,
    /// NATS, whose messages may cross the borders of frames.
    Nats,
    /// Centrifugo, in JSON.
    Centrifugo,
    /// Starling's topics, in JSON.
    StarlingTopic,
    /// Starling's topics, in MessagePack.
    StarlingTopicMsgpack,
    /// Starling's conversations, in JSON.
    StarlingConversation,
}

/// What a connection does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sends, and receives nothing.
    Publisher,
    /// Receives, and sends nothing.
    Subscriber,
    /// Sends and receives.
    Member,
    /// Makes conversations, and joins none.
    Maker,
}

impl Role {
    /// Whether it is in its room.
    pub fn receives(self) -> bool {
        matches!(self, Self::Subscriber | Self::Member)
    }
}

/// A connection as its dialect sees it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// What it does.
    pub role: Role,
    /// Its room.
    pub room: usize,
    /// Its token, where tokens are needed.
    pub token: &'a str,
    /// How many steps of the dialect it has taken.
    pub stage: u8,
}

/// What a frame means while a connection gets ready.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing yet.
    Wait,
    /// One step is done, and something was sent.
    Next,
    /// The connection is ready.
    Ready,
    /// The server refused, for this reason.
    Refused(String),
}

/// A server's answer to what was sent under an id.
#[derive(Debug, PartialEq, Eq)]
pub struct Reply {
    /// The id.
    pub id: u64,
    /// The error, if it is one.
    pub error: Option<String>,
}

/// Ids from here on are those of messages; the smaller ones are used while a connection gets ready.
pub const FIRST_ID: u64 = 16;

impl Dialect {
    /// The path of the upgrade.
    pub fn path(self, role: Role, room: usize) -> String {
        match self {
            Self::Raw | Self::Nats => "/".to_owned(),
            Self::Socketio => "/socket.io/?EIO=4&transport=websocket".to_owned(),
            Self::Nchan => nchan::path(role, room),
            Self::Centrifugo => "/connection/websocket".to_owned(),
            Self::StarlingTopic | Self::StarlingTopicMsgpack | Self::StarlingConversation => {
                "/v1/ws".to_owned()
            }
        }
    }

    /// The WebSocket subprotocol, if there is one.
    pub fn subprotocol(self) -> Option<&'static str> {
        match self {
            Self::StarlingTopic | Self::StarlingConversation => Some("starling.v1.json"),
            Self::StarlingTopicMsgpack => Some("starling.v1.msgpack"),
            _ => None,
        }
    }

    /// Writes what a client sends first.
    pub fn begin(self, client: &Client<'_>, out: &mut Vec<u8>) -> Step {
        match self {
            Self::Raw => raw::begin(client, out),
            Self::Nchan => Step::Ready,
            // Here the server speaks first.
            Self::Socketio | Self::Nats => Step::Wait,
            Self::Centrifugo => centrifugo::begin(out),
            _ => starling::begin(self, client, out),
        }
    }

    /// Handles a frame that arrives before the connection is ready.
    pub fn step(self, client: &Client<'_>, frame: &[u8], out: &mut Vec<u8>) -> Step {
        match self {
            Self::Raw => raw::step(frame),
            Self::Nchan => Step::Wait,
            Self::Socketio => socketio::step(client, frame, out),
            Self::Nats => nats::step(client, frame, out),
            Self::Centrifugo => centrifugo::step(client, frame, out),
            _ => starling::step(self, client, frame, out),
        }
    }

    /// Writes a message.
    pub fn publish(self, out: &mut Vec<u8>, id: u64, room: usize, payload: &[u8]) {
        match self {
            Self::Raw => raw::publish(out, room, payload),
            Self::Nchan => nchan::publish(out, payload),
            Self::Socketio => socketio::publish(out, room, payload),
            Self::Nats => nats::publish(out, room, payload),
            Self::Centrifugo => centrifugo::publish(out, id, room, payload),
            _ => starling::publish(self, out, id, room, payload),
        }
    }

    /// Calls `each` for every reply in a frame.
    pub fn replies(self, frame: &[u8], each: impl FnMut(Reply)) {
        match self {
            Self::Raw | Self::Nchan | Self::Socketio | Self::Nats => {}
            Self::Centrifugo => centrifugo::replies(frame, each),
            _ => starling::replies(self, frame, each),
        }
    }

    /// What to send back when a frame is the server's own question for a sign of life, and the kind of the frame.
    pub fn keep_alive(self, frame: &[u8]) -> Option<(u8, &'static [u8])> {
        match self {
            Self::Socketio => socketio::keep_alive(frame),
            Self::Centrifugo => centrifugo::keep_alive(frame),
            Self::Nats => nats::keep_alive(frame),
            _ => None,
        }
    }

    /// Whether the server answers each message.
    pub fn acknowledges(self) -> bool {
        !matches!(self, Self::Raw | Self::Nchan | Self::Socketio | Self::Nats)
    }

    /// Whether messages may cross the borders of frames.
    pub fn is_stream(self) -> bool {
        self == Self::Nats
    }

    /// Whether rooms are conversations, which must be made before somebody can join them.
    pub fn makes_conversations(self) -> bool {
        self == Self::StarlingConversation
    }

    /// Writes the command that makes a conversation with these users.
    pub fn create(self, out: &mut Vec<u8>, id: u64, room: usize, users: &[usize]) {
        starling::create(self, out, id, room, users);
    }
}

/// The number at the beginning of some bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames;

    /// The payload of the only frame in the output.
    fn sent(out: &mut Vec<u8>) -> String {
        let frame = frames::first(out).unwrap();
        assert_eq!(frame.end, out.len());
        let mut payload = out[frame.begin..].to_vec();
        frames::unmask(&mut payload, frame.mask.unwrap());
        out.clear();
        String::from_utf8(payload).unwrap()
    }

    /// Plays the frames of a server to a subscriber of room 3. Returns what the subscriber sends.
    fn play(dialect: Dialect, frames: &[&str]) -> Vec<String> {
        let (mut out, mut said) = (Vec::new(), Vec::new());
        let mut client = Client { role: Role::Subscriber, room: 3, token: "secret", stage: 0 };
        let mut last = dialect.begin(&client, &mut out);
        for frame in frames {
            if !out.is_empty() {
                said.push(sent(&mut out));
            }
            assert_ne!(last, Step::Ready, "{dialect:?} is ready before {frame}");
            last = dialect.step(&client, frame.as_bytes(), &mut out);
            if last == Step::Next {
                client.stage += 1;
            }
        }
        assert_eq!(last, Step::Ready, "{dialect:?}");
        said
    }

    #[test]
    fn each_dialect_subscribes_as_its_server_expects() {
        assert_eq!(play(Dialect::Raw, &["OK"]), ["SUB r3"]);
        let said = play(Dialect::Socketio, &["0{\"sid\":\"x\"}", "40{\"sid\":\"y\"}", "430[]"]);
        assert_eq!(said, ["40", "420[\"sub\",\"r3\"]"]);
        let said = play(Dialect::Nats, &["INFO {}\r\n", "PONG\r\n"]);
        assert!(said[0].contains("\r\nSUB r3 1\r\nPING\r\n"), "{said:?}");
        let replies = ["{\"id\":1,\"connect\":{}}", "{\"id\":2,\"subscribe\":{}}"];
        let said = play(Dialect::Centrifugo, &replies);
        assert_eq!(said[1], "{\"id\":2,\"subscribe\":{\"channel\":\"r3\"}}");
        let replies = ["{\"id\":1,\"ok\":{\"session\":\"s\"}}", "{\"id\":2,\"ok\":{}}"];
        let said = play(Dialect::StarlingTopic, &replies);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said[0]).unwrap()["token"], "secret");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&said[1]).unwrap()["topic"], "r3");
    }

    #[test]
    fn a_refusal_names_its_reason() {
        let client = Client { role: Role::Member, room: 0, token: "", stage: 0 };
        let mut out = Vec::new();
        for (dialect, frame) in [
            (Dialect::StarlingTopic, "{\"id\":1,\"error\":{\"code\":\"unauthorized\",\"message\":\"no\"}}"),
            (Dialect::Centrifugo, "{\"id\":1,\"error\":{\"code\":101,\"message\":\"unauthorized\"}}"),
        ] {
            let Step::Refused(reason) = dialect.step(&client, frame.as_bytes(), &mut out) else {
                panic!("{dialect:?} takes a refusal for something else");
            };
            assert!(reason.contains("unauthorized"), "{reason}");
        }
    }

    #[test]
    fn replies_are_told_from_events() {
        let mut found = Vec::new();
        let events = b"{\"ev\":\"publication\",\"data\":\"x\"}";
        Dialect::StarlingTopic.replies(events, |reply| found.push(reply));
        Dialect::StarlingTopic.replies(b"{\"id\":20,\"ok\":{}}", |reply| found.push(reply));
        let lines = b"{\"push\":{\"channel\":\"r0\"}}\n{\"id\":21,\"publish\":{}}\n{\"id\":22,\"error\":{\"code\":1}}";
        Dialect::Centrifugo.replies(lines, |reply| found.push(reply));
        let ids: Vec<(u64, bool)> = found.iter().map(|reply| (reply.id, reply.error.is_some())).collect();
        assert_eq!(ids, [(20, false), (21, false), (22, true)]);
    }
}

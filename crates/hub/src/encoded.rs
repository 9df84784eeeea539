//! An event that is encoded once per encoding, and framed once, for all sockets of this node.

use std::sync::OnceLock;

use bytes::Bytes;
use starling_wire::protocol::{self, Encoding, Event};

/// An event and its finished frames.
#[derive(Debug)]
pub struct Encoded {
    source: Source,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// When it happened (a commit, a publish), Unix microseconds, to measure delivery; 0: not measured.
    pub happened_at_us: u64,
}

#[derive(Debug)]
enum Source {
    Event(Event),
    /// The event as JSON, from another node; its finished JSON frame is in `json` from the start.
    Remote,
}

impl Encoded {
    /// An event of this node.
    pub fn new(event: impl Into<Event>) -> Encoded {
        Encoded::at(event, 0)
    }
    /// An event that happened at a time, Unix microseconds.
    pub fn at(event: impl Into<Event>, happened_at_us: u64) -> Encoded {
        Encoded {
            source: Source::Event(event.into()),
            json: OnceLock::new(),
            msgpack: OnceLock::new(),
            happened_at_us,
        }
    }
    /// An event of another node, which sent its JSON.
    pub fn from_json(payload: &[u8], happened_at_us: u64) -> Encoded {
        let json = OnceLock::from(protocol::frame(Encoding::Json, payload));
        Encoded { source: Source::Remote, json, msgpack: OnceLock::new(), happened_at_us }
    }
    /// The finished, unmasked WebSocket frame.
    pub fn frame(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Json => self.json.get_or_init(|| self.encode(Encoding::Json)),
            Encoding::MsgPack => self.msgpack.get_or_init(|| self.encode(Encoding::MsgPack)),
        }
    }
    /// The event as JSON, without a frame around it: what other nodes get.
    pub fn json_payload(&self) -> Bytes {
        protocol::payload_of(self.frame(Encoding::Json))
    }

    fn encode(&self, encoding: Encoding) -> Bytes {
        match &self.source {
            Source::Event(event) => protocol::encode_event_frame(encoding, event),
            Source::Remote => {
                let json = self.json.get().map(protocol::payload_of).unwrap_or_default();
                let text = std::str::from_utf8(&json).unwrap_or("null");
                match protocol::json_to_msgpack(text) {
                    Ok(payload) => protocol::frame(encoding, &payload),
                    Err(error) => {
                        // Only a node of another make could send this; an empty map is an event that clients ignore.
                        tracing::error!(%error, "an event from another node is not JSON");
                        protocol::frame(encoding, &[0x80])
                    }
                }
            }
        }
    }
}

//! An event that is encoded and framed once per encoding, for all connections of this node.

use std::sync::OnceLock;

use bytes::Bytes;
use starling_wire::protocol::{self, Encoding, Event};

/// An event and its finished frames.
#[derive(Debug)]
pub struct Encoded {
    source: Source,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// When the event happened (its commit or publish), Unix microseconds, to measure delivery; 0: not measured.
    pub happened_at_us: u64,
}

#[derive(Debug)]
enum Source {
    Event(Event),
    /// An event of another node, which sent it as JSON. Its JSON frame is in `json` from the start.
    Remote,
}

impl Encoded {
    /// Wraps an event of this node.
    pub fn new(event: impl Into<Event>) -> Encoded {
        Encoded::at(event, 0)
    }
    /// Wraps an event that happened at this time, Unix microseconds.
    pub fn at(event: impl Into<Event>, happened_at_us: u64) -> Encoded {
        Encoded {
            source: Source::Event(event.into()),
            json: OnceLock::new(),
            msgpack: OnceLock::new(),
            happened_at_us,
        }
    }
    /// Wraps an event of another node, which sent it as JSON.
    pub fn from_json(payload: &[u8], happened_at_us: u64) -> Encoded {
        let json = OnceLock::from(protocol::frame(Encoding::Json, payload));
        Encoded { source: Source::Remote, json, msgpack: OnceLock::new(), happened_at_us }
    }
    /// Returns the finished, unmasked WebSocket frame.
    pub fn frame(&self, encoding: Encoding) -> &Bytes {
        match encoding {
            Encoding::Json => self.json.get_or_init(|| self.encode(Encoding::Json)),
            Encoding::MsgPack => self.msgpack.get_or_init(|| self.encode(Encoding::MsgPack)),
        }
    }
    /// Returns the event as JSON without a frame, as other nodes get it.
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
                        // Only a faulty node could send this. Clients ignore an empty map.
                        tracing::error!(%error, "an event from another node is not JSON");
                        protocol::frame(encoding, &[0x80])
                    }
                }
            }
        }
    }
}

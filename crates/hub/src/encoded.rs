//! An event that is encoded once per encoding, and framed once, for all sockets of this node.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use starling_model::{ConversationName, TopicName, UserName};
use starling_wire::protocol::{self, Encoding, Event, Json, Message, Timestamp};

/// An event and its finished frames.
#[derive(Debug)]
pub struct Encoded {
    source: Source,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
    /// When it happened (a commit, a publish), Unix microseconds, to measure delivery; 0: not measured.
    pub happened_at_us: u64,
}

/// What an event says, owning its parts.
#[derive(Clone, Debug)]
pub enum OwnedEvent {
    /// See [`Event::Message`].
    Message {
        /// Where.
        conversation: ConversationName,
        /// Its number.
        seq: u64,
        /// Its id.
        id: u128,
        /// Who it stands under.
        sender: UserName,
        /// Who speaks.
        role: &'static str,
        /// The text.
        content: Arc<str>,
        /// A JSON object.
        metadata: Option<Json>,
        /// When it was committed.
        at: Timestamp,
    },
    /// See [`Event::Read`].
    Read {
        /// Where.
        conversation: ConversationName,
        /// Who.
        user: UserName,
        /// Up to and with this number.
        seq: u64,
    },
    /// See [`Event::Typing`].
    Typing {
        /// Where.
        conversation: ConversationName,
        /// Who.
        user: UserName,
        /// Whether.
        typing: bool,
    },
    /// See [`Event::Presence`].
    Presence {
        /// Where.
        conversation: ConversationName,
        /// Who.
        user: UserName,
        /// Which.
        online: bool,
        /// When last.
        last_seen: Option<Timestamp>,
    },
    /// See [`Event::Member`].
    Member {
        /// Where.
        conversation: ConversationName,
        /// Who.
        user: UserName,
        /// Which.
        member: bool,
    },
    /// See [`Event::Updated`].
    Updated {
        /// Where.
        conversation: ConversationName,
        /// Shown to people.
        title: Option<Arc<str>>,
        /// A JSON object.
        metadata: Option<Json>,
    },
    /// See [`Event::Deleted`].
    Deleted {
        /// Where.
        conversation: ConversationName,
        /// Which log is gone.
        log: Arc<str>,
    },
    /// See [`Event::Publication`].
    Publication {
        /// Where.
        topic: TopicName,
        /// Its number.
        offset: u64,
        /// Any value.
        data: Json,
        /// Who published it.
        sender: Option<UserName>,
    },
    /// See [`Event::Draining`].
    Draining {
        /// When to open a second socket.
        reconnect_after_ms: u64,
    },
}

#[derive(Debug)]
enum Source {
    Event(OwnedEvent),
    /// The event as JSON, from another node; its finished JSON frame is in `json` from the start.
    Remote,
}

impl Encoded {
    /// An event of this node.
    pub fn new(event: OwnedEvent) -> Encoded {
        Encoded::at(event, 0)
    }
    /// An event that happened at a time, Unix microseconds.
    pub fn at(event: OwnedEvent, happened_at_us: u64) -> Encoded {
        Encoded {
            source: Source::Event(event),
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
            Source::Event(event) => protocol::encode_event_frame(encoding, &event.borrow()),
            Source::Remote => {
                let json = self.json.get().map(protocol::payload_of).unwrap_or_default();
                let text = std::str::from_utf8(&json).unwrap_or("null");
                match protocol::json_to_msgpack(text) {
                    Ok(payload) => protocol::frame(encoding, &payload),
                    Err(error) => {
                        // Only a node of another make could send this; an empty map is an event that clients ignore.
                        tracing::error!(%error, "an event of another node is no JSON");
                        protocol::frame(encoding, &[0x80])
                    }
                }
            }
        }
    }
}

impl OwnedEvent {
    fn borrow(&self) -> Event<'_> {
        match self {
            OwnedEvent::Message { conversation, seq, id, sender, role, content, metadata, at } => {
                Event::Message(Message {
                    conversation,
                    seq: *seq,
                    id: *id,
                    sender,
                    role,
                    content,
                    metadata: metadata.as_ref(),
                    at: *at,
                })
            }
            OwnedEvent::Read { conversation, user, seq } => Event::Read { conversation, user, seq: *seq },
            OwnedEvent::Typing { conversation, user, typing } => {
                Event::Typing { conversation, user, typing: *typing }
            }
            OwnedEvent::Presence { conversation, user, online, last_seen } => {
                Event::Presence { conversation, user, online: *online, last_seen: *last_seen }
            }
            OwnedEvent::Member { conversation, user, member } => {
                Event::Member { conversation, user, member: *member }
            }
            OwnedEvent::Updated { conversation, title, metadata } => {
                Event::Updated { conversation, title: title.as_deref(), metadata: metadata.as_ref() }
            }
            OwnedEvent::Deleted { conversation, log } => Event::Deleted { conversation, log },
            OwnedEvent::Publication { topic, offset, data, sender } => {
                Event::Publication { topic, offset: *offset, data, sender: sender.as_deref() }
            }
            OwnedEvent::Draining { reconnect_after_ms } => {
                Event::Draining { reconnect_after_ms: *reconnect_after_ms }
            }
        }
    }
}

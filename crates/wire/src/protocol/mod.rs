//! Starling's client protocol, version 1: commands, replies, events, error and close codes, in two encodings.

mod close;
mod command;
mod decode;
mod encode;
mod error;
mod event;
mod json;
mod json_reader;
mod json_text;
mod msgpack_reader;
mod msgpack_writer;
mod object_writer;
mod operation;
mod reader;
mod reply;
mod timestamp;
mod transcode;
mod uuid;

pub use close::CloseReason;
pub use command::*;
pub use decode::{decode, decode_create, decode_patch, decode_publish, decode_send};
pub use encode::{encode_error_frame, encode_event_frame, encode_ok_frame, frame, payload_of};
pub use error::{ErrorBody, ErrorCode};
pub use event::*;
pub use json::Json;
pub use reader::DEPTH_MAX;
pub use reply::*;
pub use timestamp::Timestamp;
pub use transcode::{NotTranscodable, json_to_msgpack};

/// How frames are encoded, agreed by sub-protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `starling.v1.json`: text frames.
    Json,
    /// `starling.v1.msgpack`: binary frames.
    MsgPack,
}

impl Encoding {
    /// The sub-protocol's name.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Encoding::Json => "starling.v1.json",
            Encoding::MsgPack => "starling.v1.msgpack",
        }
    }
}

/// A client's frame is at most this long (128 KiB), all fragments together, inflated.
pub const CLIENT_FRAME_BYTES_MAX: usize = 128 * 1024;
/// A message's text, bytes of UTF-8 (64 KiB).
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// A message's or conversation's metadata, bytes as compact JSON (16 KiB).
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// A publication's data, bytes as compact JSON (64 KiB).
pub const DATA_BYTES_MAX: usize = 64 * 1024;
/// An idempotency key, characters.
pub const KEY_CHARS_MAX: usize = 64;
/// A conversation's title, bytes of UTF-8 (1 KiB).
pub const TITLE_BYTES_MAX: usize = 1024;
/// The id of a conversation's log, characters.
pub const LOG_CHARS_MAX: usize = 32;
/// Members named in one `create`; more are added one by one.
pub const CREATE_MEMBERS_MAX: usize = 1000;
/// Cursors and topics together in one `resume`.
pub const RESUME_ENTRIES_MAX: usize = 1000;
/// Messages in a page of `history` where the client does not say how many.
pub const HISTORY_LIMIT: u32 = 50;
/// Messages in a page of `history` at most.
pub const HISTORY_LIMIT_MAX: u32 = 200;

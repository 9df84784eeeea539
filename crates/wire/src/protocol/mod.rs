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
mod position;
mod reader;
mod reply;
mod timestamp;
mod transcode;
mod uuid;

pub use close::CloseReason;
pub use command::*;
pub use decode::{decode, decode_create, decode_object, decode_patch, decode_publish, decode_send};
pub use encode::{encode_error_frame, encode_event_frame, encode_ok_frame, frame, payload_of};
pub use error::{ErrorBody, ErrorCode};
pub use event::*;
pub use json::Json;
pub use position::{Cursor, TopicPosition};
pub use reader::DEPTH_MAX;
pub use reply::*;
pub use timestamp::Timestamp;
pub use transcode::{NotTranscodable, json_to_msgpack};

/// The encoding of frames, agreed by subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// `starling.v1.json`: text frames.
    Json,
    /// `starling.v1.msgpack`: binary frames.
    MsgPack,
}

impl Encoding {
    /// Returns the subprotocol's name.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Encoding::Json => "starling.v1.json",
            Encoding::MsgPack => "starling.v1.msgpack",
        }
    }
}

/// Most bytes of a client's frame, after all fragments were joined and inflated (128 KiB).
pub const CLIENT_FRAME_BYTES_MAX: usize = 128 * 1024;
/// Most bytes of a message's text, as UTF-8 (64 KiB).
pub const CONTENT_BYTES_MAX: usize = 64 * 1024;
/// Most bytes of a message's or conversation's metadata, as compact JSON (16 KiB).
pub const METADATA_BYTES_MAX: usize = 16 * 1024;
/// Most bytes of a publication's data, as compact JSON (64 KiB).
pub const DATA_BYTES_MAX: usize = 64 * 1024;
/// Most characters of an idempotency key.
pub const KEY_CHARS_MAX: usize = 64;
/// Most bytes of a conversation's title, as UTF-8 (1 KiB).
pub const TITLE_BYTES_MAX: usize = 1024;
/// Most characters of the id of a log.
pub const LOG_CHARS_MAX: usize = 32;
/// Most members in one `create`. More can be added one by one.
pub const CREATE_MEMBERS_MAX: usize = 1000;
/// Most cursors and topics, together, in one `resume`.
pub const RESUME_ENTRIES_MAX: usize = 1000;
/// Number of messages in a page of `history` without a `limit`.
pub const HISTORY_LIMIT: u32 = 50;
/// Most messages in a page of `history`.
pub const HISTORY_LIMIT_MAX: u32 = 200;

//! The WebSocket codec, server side: RFC 6455, and RFC 7692 in [`deflate`].
//!
//! It does no I/O: a [`Decoder`] is fed what was read from a socket and gives messages, borrowed from the very buffer they were
//! read into wherever they came whole. Between messages it owns no buffer. The functions that make frames give finished
//! bytes, which can be shared by any number of sockets, since a server does not mask.
//!
//! The vocabulary (operation codes, close codes, headers, masks) is that of `fastwebsockets`; reading and writing are not, since
//! its sockets keep buffers, write each frame by itself, know no deflate and have no limit over continuations.

mod decode_error;
mod decoder;
pub mod deflate;
mod feed;
mod frame;
mod handshake;
mod header;
mod incoming;
mod mask;

pub use decode_error::DecodeError;
pub use decoder::{Decoder, DecoderConfig};
pub use fastwebsockets::OpCode;
pub use feed::Feed;
pub use frame::{
    CONTROL_PAYLOAD_BYTES_MAX, FrameBuffer, close_frame, close_reply, payload_of, ping_frame, pong_frame,
};
pub use handshake::{UpgradeError, accept_key, choose_subprotocol, validate_upgrade};
pub use incoming::Incoming;
pub use mask::unmask;

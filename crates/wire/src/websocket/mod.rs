//! WebSocket codec for servers: RFC 6455, and RFC 7692 in [`deflate`].
//!
//! The codec does no I/O. A [`Decoder`] is fed the bytes read from a socket and returns messages. A message that arrived complete
//! borrows from the buffer that it was read into. Between messages the decoder owns no buffer. The functions that build frames return
//! finished bytes, which any number of connections can share, since a server does not mask.
//!
//! Operation codes, close codes, headers and masks come from `fastwebsockets`. Its reading and writing are not used: its sockets keep
//! buffers, write each frame separately, do not support deflate and do not limit fragmented messages.

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

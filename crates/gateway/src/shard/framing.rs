//! The form in which a connection's client wants its frames.

use bytes::Bytes;
use starling_hub::{CommandError, Encoded, Reply};
use starling_wire::protocol::{self, Encoding};
use starling_wire::websocket::deflate::{Deflater, Params};

use crate::metrics::METRICS;

/// The compression level of permessage-deflate: fast, since it is paid per socket and frame.
const DEFLATE_LEVEL: u32 = 1;

/// The form of a connection's frames: its sub-protocol, and permessage-deflate if that was negotiated.
pub(super) struct Framing {
    encoding: Encoding,
    deflater: Option<Box<Deflater>>,
}

impl Framing {
    /// The form that a handshake agreed on.
    pub fn new(encoding: Encoding, deflate: Option<Params>) -> Framing {
        Framing { encoding, deflater: deflate.map(|params| Box::new(Deflater::new(params, DEFLATE_LEVEL))) }
    }

    /// The encoding of its messages.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether frames leave as they are shared by all connections of the encoding.
    pub fn is_shared(&self) -> bool {
        self.deflater.is_none()
    }

    /// The frame of an event, shared with all connections that get it.
    pub fn event(&self, event: &Encoded) -> Bytes {
        event.frame(self.encoding).clone()
    }

    /// The frame of an answer.
    pub fn reply(&self, id: u64, reply: &Result<Reply, CommandError>) -> Bytes {
        match reply {
            Ok(ok) => ok.frame(self.encoding, id),
            Err(error) => {
                METRICS.command_error(error.code);
                protocol::encode_error_frame(self.encoding, id, &error.body())
            }
        }
    }

    /// A finished frame as it goes out: compressed where that was negotiated.
    pub fn outgoing(&mut self, frame: Bytes) -> Bytes {
        match &mut self.deflater {
            Some(deflater) => deflater.compress(&frame),
            None => frame,
        }
    }
}

//! Gives the fuzz targets access to parsers that are otherwise private. Not part of this crate's API.

use bytes::Bytes;

use crate::node_message::{self, Received};

/// Decodes a publication of another node and encodes it again. Returns whether it was of this version.
///
/// # Panics
/// Panics if the encoded form differs from what was decoded.
pub fn node_message(body: &Bytes) -> bool {
    let of = node_message::traceparent_of(body).map(str::to_owned);
    let Some(heard) = node_message::decode(body) else { return false };
    let again = match &heard {
        Received::Message(message) => {
            assert_eq!(message.traceparent.as_deref(), of.as_deref());
            let header = node_message::MessageHeader {
                conversation: message.conversation,
                tenant: &message.tenant,
                name: &message.name,
                seq: message.seq,
                log: message.log,
                committed_at_us: message.committed_at_us,
                traceparent: message.traceparent.as_deref(),
            };
            node_message::encode_message(&header, &message.payload)
        }
        Received::Interest(message) => message.encode(),
        Received::Other(message) => message.encode(),
    };
    assert_eq!(node_message::decode(&again).as_ref(), Some(&heard));
    true
}

//! Ways for the fuzz targets to parsers that nobody else calls from outside. No part of what this crate promises.

use bytes::Bytes;

use crate::node_message::{self, Heard};

/// Reads what another node may have sent, writes it again, and says whether it was of this version.
///
/// # Panics
/// Where what was understood is not written as it was read.
pub fn node_message(body: &Bytes) -> bool {
    let of = node_message::traceparent_of(body).map(str::to_owned);
    let Some(heard) = node_message::decode(body) else { return false };
    let again = match &heard {
        Heard::Message(message) => {
            assert_eq!(message.traceparent.as_deref(), of.as_deref());
            node_message::encode_message(
                message.conversation,
                &message.tenant,
                &message.name,
                message.seq,
                message.committed_at_us,
                message.traceparent.as_deref(),
                &message.payload,
            )
        }
        Heard::Other(message) => message.encode(),
    };
    assert_eq!(node_message::decode(&again).as_ref(), Some(&heard));
    true
}

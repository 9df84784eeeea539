//! Data from other nodes through Redis: frames, and the messages in them.

use bytes::Bytes;

/// Reads a frame of the fan-out and the messages in it.
pub fn node_message(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    starling_hub::fuzzing::node_message(&bytes);
    for body in starling_fanout::redis::fuzzing::frame(bytes.clone(), b"node-1") {
        assert!(body.len() <= bytes.len());
        starling_hub::fuzzing::node_message(&body);
    }
}

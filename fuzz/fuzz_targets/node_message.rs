//! What comes from other nodes by way of Redis: frames, and the messages in them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    starling_hub::fuzzing::node_message(&bytes);
    for body in starling_fanout::redis::fuzzing::frame(bytes.clone(), b"node-1") {
        assert!(body.len() <= bytes.len());
        starling_hub::fuzzing::node_message(&body);
    }
});

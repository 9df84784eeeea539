//! What Redis answers: sessions, nodes, presence, topics, whatever stands under their keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>, u8)| {
    let (parts, list, bits) = input;
    starling_session_store::redis::fuzzing::records(&parts, bits & 1 == 0);
    starling_fanout::redis::fuzzing::topic_answers(&parts, usize::from(bits >> 1), &list);
});

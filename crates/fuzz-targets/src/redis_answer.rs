//! Responses of Redis: sessions, nodes, presence and topics, whatever their keys contain.

use crate::value;

/// Reads whatever Redis may answer.
pub fn redis_answer(bytes: &[u8]) {
    let Some(input) = value::<(Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>, u8)>(bytes) else { return };
    let (parts, list, bits) = input;
    starling_session_store::redis::fuzzing::records(&parts, bits & 1 == 0);
    starling_fanout::redis::fuzzing::topic_answers(&parts, usize::from(bits >> 1), &list);
}

//! Answers of the backends of hooks: any body is a decision or refused, and no decision is more than a client may send.

use starling_webhooks::{Verdict, fuzzing};
use starling_wire::protocol::{CONTENT_BYTES_MAX, METADATA_BYTES_MAX};

/// Reads an answer, to a question about a message and to another one.
pub fn hook_answer(bytes: &[u8]) {
    match fuzzing::hook_answer(bytes, true) {
        Some(Verdict::Allow(rewrite)) => {
            if let Some(content) = rewrite.content {
                assert!(content.len() <= CONTENT_BYTES_MAX && !content.contains('\0'));
            }
            if let Some(metadata) = rewrite.metadata {
                assert!(metadata.as_str().len() <= METADATA_BYTES_MAX);
                let value = serde_json::from_str::<serde_json::Value>(metadata.as_str());
                assert!(value.is_ok_and(|value| value.is_object()), "metadata that is no object");
            }
        }
        Some(Verdict::Refuse(message)) => {
            assert!((1..=1024).contains(&message.len()) && !message.contains('\0'));
        }
        Some(Verdict::Unavailable(_)) => panic!("an answer is a decision"),
        None => {}
    }
    if let Some(Verdict::Allow(rewrite)) = fuzzing::hook_answer(bytes, false) {
        assert_eq!((rewrite.content, rewrite.metadata), (None, None), "only messages are rewritten");
    }
}

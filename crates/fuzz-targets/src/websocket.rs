//! Bytes of a socket: every split of them gives the same messages, within the limits.

use starling_wire::websocket::deflate::Params;
use starling_wire::websocket::{Decoder, DecoderConfig, Incoming};

use crate::value;

const LIMIT: u32 = 2000;

/// Holds that any split of the bytes gives the same messages, within the limits.
pub fn websocket(bytes: &[u8]) {
    let Some(input) = value::<(bool, u8, Vec<u8>)>(bytes) else { return };
    let (deflate, step, bytes) = input;
    let whole = messages(deflate, bytes.len(), &bytes);
    assert_eq!(messages(deflate, usize::from(step), &bytes), whole);
}

fn messages(deflate: bool, step: usize, bytes: &[u8]) -> Vec<String> {
    let params = Params {
        server_no_context_takeover: false,
        client_no_context_takeover: false,
        server_max_window_bits: 15,
        client_max_window_bits: 15,
    };
    let mut decoder = Decoder::new(DecoderConfig {
        frame_bytes_max: LIMIT,
        message_bytes_max: LIMIT,
        deflate: deflate.then_some(params),
    });
    let mut seen = Vec::new();
    for chunk in bytes.chunks(step.max(1)) {
        let mut scratch = chunk.to_vec();
        let mut feed = decoder.feed(&mut scratch);
        while let Some(incoming) = feed.next() {
            match incoming {
                Ok(Incoming::Text(text)) => assert!(text.len() <= LIMIT as usize),
                Ok(Incoming::Binary(bytes)) => assert!(bytes.len() <= LIMIT as usize),
                Ok(Incoming::Ping(bytes) | Incoming::Pong(bytes)) => assert!(bytes.len() <= 125),
                Ok(Incoming::Close(_, reason)) => assert!(reason.len() <= 123),
                // If a compressed message has several faults, the split decides which one is found first.
                Err(_) if deflate => {
                    seen.push("error".to_owned());
                    continue;
                }
                Err(_) => {}
            }
            seen.push(format!("{incoming:?}"));
        }
    }
    assert!(!decoder.is_ended() || decoder.is_idle());
    seen
}

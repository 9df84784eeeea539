//! permessage-deflate: no offer and no data does harm, and compressed data is restored exactly.

use starling_wire::protocol::{Encoding, frame};
use starling_wire::websocket::deflate::{DeflateConfig, Deflater, Inflater, Params, negotiate};
use starling_wire::websocket::payload_of;

use crate::value;

const LIMIT: usize = 10_000;

/// Holds that no offer and no compressed data does harm, and that what is compressed comes back.
pub fn deflate(bytes: &[u8]) {
    let Some(input) = value::<(u8, bool, Vec<Vec<u8>>)>(bytes) else { return };
    let (bits, takeover, messages) = input;
    let params = Params {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: 9 + bits % 7,
        client_max_window_bits: 9 + bits % 7,
    };
    let (mut deflater, mut reader) = (Deflater::new(params, u32::from(bits)), Inflater::new(params));
    let mut stranger = Inflater::new(params);
    let mut broken = false;
    for message in messages {
        if let Ok(header) = std::str::from_utf8(&message) {
            let _ = negotiate(header, DeflateConfig::default());
        }
        if !broken {
            let mut out = Vec::new();
            broken = stranger.inflate(&message, true, &mut out, LIMIT).is_err();
            assert!(out.len() <= LIMIT + 64);
        }
        let plain = frame(Encoding::MsgPack, &message);
        let compressed = deflater.compress(&plain);
        if compressed != plain {
            let mut out = Vec::new();
            let read = reader.inflate(payload_of(&compressed), true, &mut out, message.len());
            assert_eq!(read, Ok(()));
            assert_eq!(out, message);
        }
    }
}

use bytes::Bytes;

use super::*;
use crate::protocol::{Encoding, frame};
use crate::websocket::{DecodeError, Decoder, DecoderConfig, Incoming, payload_of, unmask};

const OPEN: DeflateConfig = DeflateConfig {
    server_no_context_takeover: false,
    client_no_context_takeover: false,
    server_max_window_bits: 15,
    client_max_window_bits: 15,
};

fn params(takeover: bool, bits: u8) -> Params {
    Params {
        server_no_context_takeover: !takeover,
        client_no_context_takeover: !takeover,
        server_max_window_bits: bits,
        client_max_window_bits: bits,
    }
}

fn decoder(params: Params, message_bytes_max: u32) -> Decoder {
    Decoder::new(DecoderConfig { frame_bytes_max: 1 << 20, message_bytes_max, deflate: Some(params) })
}

/// Returns a client's frame, masked with zeros, so that the payload stays readable.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, 0xfe];
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

/// Returns the only text message in an input.
fn text(decoder: &mut Decoder, mut input: Vec<u8>) -> Result<String, DecodeError> {
    let mut feed = decoder.feed(&mut input);
    match feed.next() {
        Some(Ok(Incoming::Text(text))) => Ok(text.to_owned()),
        Some(Err(error)) => Err(error),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let mut kept = decoder(params(true, 15), 100);
    let hello = Ok("Hello".to_owned());
    // 7.2.3.1: one block; in two frames; 7.2.3.2: with the context of the previous message.
    assert_eq!(text(&mut kept, client_frame(0xc1, b"\xf2\x48\xcd\xc9\xc9\x07\x00")), hello);
    let parts = [client_frame(0x41, b"\xf2\x48\xcd"), client_frame(0x80, b"\xc9\xc9\x07\x00")].concat();
    assert_eq!(text(&mut kept, parts), hello);
    assert_eq!(text(&mut kept, client_frame(0xc1, b"\xf2\x00\x11\x00\x00")), hello);
    // 7.2.3.3: not compressed; 7.2.3.4: a final block; 7.2.3.5: two blocks. And an uncompressed message in between.
    assert_eq!(text(&mut kept, client_frame(0xc1, b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00")), hello);
    assert_eq!(text(&mut kept, client_frame(0x81, b"Hello")), hello);
    assert_eq!(text(&mut kept, client_frame(0xc1, b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00")), hello);
    assert_eq!(
        text(&mut kept, client_frame(0xc1, b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00")),
        hello
    );
    // 7.2.3.6: an empty message.
    assert_eq!(text(&mut kept, client_frame(0xc1, b"\x00")), Ok(String::new()));
}

#[test]
fn what_the_server_compresses_a_client_can_read() {
    let mut random = 1u32;
    let mut noise = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b' ' + (random >> 25) as u8 % 90)
    };
    for takeover in [true, false] {
        for bits in 9..=15 {
            let mut deflater = Deflater::new(params(takeover, bits), 6);
            let mut client = decoder(params(takeover, bits), 1 << 20);
            for length in [0, 1, 31, 32, 33, 1000, 1000, 40_000, 500, 200_000] {
                let repetitive: String = "the same words again ".chars().cycle().take(length).collect();
                let noisy: String = std::iter::repeat_with(&mut noise).take(length).collect();
                for payload in [repetitive, noisy] {
                    let plain = frame(Encoding::Json, payload.as_bytes());
                    let compressed = deflater.compress(&plain);
                    // Without context takeover it never grows.
                    assert!(takeover || compressed.len() <= plain.len());
                    assert_eq!(text(&mut client, as_client(&compressed)), Ok(payload));
                }
            }
            assert_eq!(deflater.stream_is_kept(), takeover);
        }
    }
}

/// Converts a server's frame to a client's.
fn as_client(frame: &Bytes) -> Vec<u8> {
    let payload = payload_of(frame);
    let mask = [1, 2, 3, 4];
    let mut masked = frame[..frame.len() - payload.len()].to_vec();
    masked[1] |= 0x80;
    masked.extend_from_slice(&mask);
    let start = masked.len();
    masked.extend_from_slice(payload);
    unmask(&mut masked[start..], mask, 0);
    masked
}

#[test]
fn repetition_becomes_short_and_context_makes_it_shorter() {
    let plain =
        frame(Encoding::Json, br#"{"ev":"message","conversation":"team","content":"hello, hello, hello"}"#);
    let mut kept = Deflater::new(params(true, 15), 6);
    let first = kept.compress(&plain);
    assert_eq!(first[0], 0xc1);
    assert!(first.len() < plain.len());
    assert!(kept.compress(&plain).len() < 20);
    // Without context takeover equal frames give equal results, so one can serve all connections.
    let mut forgetful = Deflater::new(params(false, 15), 6);
    assert_eq!(forgetful.compress(&plain), forgetful.compress(&plain));
}

#[test]
fn control_and_short_frames_stay_as_they_are() {
    let mut deflater = Deflater::new(params(true, 15), 6);
    for plain in [crate::websocket::ping_frame(), frame(Encoding::MsgPack, b"\x80"), Bytes::new()] {
        assert_eq!(deflater.compress(&plain), plain);
    }
    assert!(!deflater.stream_is_kept());
}

#[test]
fn what_inflates_beyond_the_limit_is_refused_early() {
    let bomb = Deflater::new(params(false, 15), 9).compress(&frame(Encoding::Json, &vec![b'a'; 4 << 20]));
    assert!(bomb.len() < 10_000);
    let mut input = as_client(&bomb);
    let mut decoder = decoder(params(false, 15), 10_000);
    // The first hundred bytes decompress to more than the limit; the rest need not arrive.
    let mut feed = decoder.feed(&mut input[..100]);
    assert_eq!(feed.next(), Some(Err(DecodeError::TooBig)));
    let mut out = Vec::new();
    let result = Inflater::new(params(false, 15)).inflate(payload_of(&bomb), true, &mut out, 1000);
    assert_eq!(result, Err(InflateError::TooBig));
    assert!(out.capacity() <= 1001 + 64, "{}", out.capacity());
}

#[test]
fn the_limit_is_exact() {
    let plain = frame(Encoding::Json, &[b'a'; 5000]);
    let compressed = Deflater::new(params(false, 15), 6).compress(&plain);
    assert!(text(&mut decoder(params(false, 15), 5000), as_client(&compressed)).is_ok());
    assert_eq!(text(&mut decoder(params(false, 15), 4999), as_client(&compressed)), Err(DecodeError::TooBig));
}

#[test]
fn what_is_no_deflate_is_refused() {
    let error =
        text(&mut decoder(params(true, 15), 1000), client_frame(0xc1, b"\xff\xff\xff\xff")).unwrap_err();
    assert_eq!((error, error.close_reason().code()), (DecodeError::NotDeflate, 1007));
    // Text is checked after decompression: 0xff in a stored block.
    let error =
        text(&mut decoder(params(true, 15), 1000), client_frame(0xc1, b"\x00\x01\x00\xfe\xff\xff\x00"));
    assert_eq!(error, Err(DecodeError::NotUtf8));
    // Only the first frame of a message may say that it is compressed.
    let parts = [client_frame(0x41, b"\xf2\x48\xcd"), client_frame(0xc0, b"\xc9\xc9\x07\x00")].concat();
    assert_eq!(text(&mut decoder(params(true, 15), 1000), parts), Err(DecodeError::ReservedBit));
}

#[test]
fn offers_are_answered() {
    let small = DeflateConfig { server_max_window_bits: 10, client_max_window_bits: 11, ..OPEN };
    for (offer, config, response) in [
        ("permessage-deflate", OPEN, Some("permessage-deflate")),
        ("Permessage-Deflate ;  client_max_window_bits", OPEN, Some("permessage-deflate")),
        (
            "permessage-deflate; client_max_window_bits=12",
            OPEN,
            Some("permessage-deflate; client_max_window_bits=12"),
        ),
        (
            "permessage-deflate; client_max_window_bits=8",
            OPEN,
            Some("permessage-deflate; client_max_window_bits=8"),
        ),
        (
            "permessage-deflate; server_max_window_bits=9",
            OPEN,
            Some("permessage-deflate; server_max_window_bits=9"),
        ),
        (
            "permessage-deflate; server_max_window_bits=\"15\"",
            OPEN,
            Some("permessage-deflate; server_max_window_bits=15"),
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            OPEN,
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        (
            "permessage-deflate",
            DeflateConfig::default(),
            Some("permessage-deflate; server_no_context_takeover; client_no_context_takeover"),
        ),
        ("permessage-deflate", small, Some("permessage-deflate; server_max_window_bits=10")),
        (
            "permessage-deflate; client_max_window_bits; server_max_window_bits=9",
            small,
            Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=11"),
        ),
        // The first acceptable offer counts.
        (
            "x-webkit-deflate-frame, permessage-deflate; server_max_window_bits=8, permessage-deflate",
            OPEN,
            Some("permessage-deflate"),
        ),
        ("x; y=\"a, permessage-deflate; \", permessage-deflate; unknown", OPEN, None),
        ("permessage-deflate; server_max_window_bits=8", OPEN, None),
        ("permessage-deflate; server_max_window_bits", OPEN, None),
        ("permessage-deflate; server_max_window_bits=16", OPEN, None),
        ("permessage-deflate; server_max_window_bits=09", OPEN, None),
        ("permessage-deflate; client_max_window_bits=7", OPEN, None),
        ("permessage-deflate; client_max_window_bits=\"9", OPEN, None),
        ("permessage-deflate; server_no_context_takeover=1", OPEN, None),
        ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", OPEN, None),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", OPEN, None),
        ("permessage-deflate;", OPEN, None),
        ("", OPEN, None),
    ] {
        let agreed = negotiate(offer, config);
        assert_eq!(agreed.as_ref().map(|(_, response)| response.as_str()), response, "{offer}");
    }
    let (agreed, _) = negotiate("permessage-deflate; client_max_window_bits=10", OPEN).unwrap();
    assert_eq!(
        agreed,
        Params {
            server_no_context_takeover: false,
            client_no_context_takeover: false,
            server_max_window_bits: 15,
            client_max_window_bits: 10
        }
    );
}

proptest::proptest! {
    #[test]
    fn no_header_makes_negotiation_panic(header in "(permessage-deflate|; |, |=|\"|server_max_window_bits|9|\\PC){0,12}") {
        let _ = negotiate(&header, OPEN);
    }

    #[test]
    fn inflating_in_parts_is_the_same_as_at_once(
        payload in proptest::collection::vec(0u8..4, 32..3000),
        cut: proptest::sample::Index,
    ) {
        let plain = frame(Encoding::MsgPack, &payload);
        let compressed = Deflater::new(params(false, 12), 6).compress(&plain);
        if compressed != plain {
            let body = payload_of(&compressed);
            let (first, second) = body.split_at(cut.index(body.len()));
            let mut out = Vec::new();
            let mut inflater = Inflater::new(params(false, 12));
            proptest::prop_assert_eq!(inflater.inflate(first, false, &mut out, 3000), Ok(()));
            proptest::prop_assert_eq!(inflater.inflate(second, true, &mut out, 3000), Ok(()));
            proptest::prop_assert_eq!(out, payload);
        }
    }

    #[test]
    fn no_bytes_make_inflating_panic_or_exceed_the_limit(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
    ) {
        let mut out = Vec::new();
        let _ = Inflater::new(params(true, 15)).inflate(&bytes, true, &mut out, 1000);
        proptest::prop_assert!(out.capacity() <= 1100);
    }
}

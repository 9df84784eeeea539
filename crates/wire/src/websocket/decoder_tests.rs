use super::*;
use crate::websocket::deflate::Params;

const LIMIT: u32 = 1000;

/// What came out of a decoder, owned.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
    Error(DecodeError),
}

fn decoder(deflate: Option<Params>) -> Decoder {
    Decoder::new(DecoderConfig { frame_bytes_max: LIMIT, message_bytes_max: LIMIT, deflate })
}

/// Feeds chunks of an input and gathers everything.
fn feed(decoder: &mut Decoder, chunks: &[&[u8]]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for chunk in chunks {
        let mut scratch = chunk.to_vec();
        let mut feed = decoder.feed(&mut scratch);
        while let Some(incoming) = feed.next() {
            seen.push(match incoming {
                Ok(Incoming::Text(text)) => Seen::Text(text.to_owned()),
                Ok(Incoming::Binary(bytes)) => Seen::Binary(bytes.to_vec()),
                Ok(Incoming::Ping(bytes)) => Seen::Ping(bytes.to_vec()),
                Ok(Incoming::Pong(bytes)) => Seen::Pong(bytes.to_vec()),
                Ok(Incoming::Close(code, reason)) => Seen::Close(code, reason.to_owned()),
                Err(error) => Seen::Error(error),
            });
        }
    }
    seen
}

fn decode(input: &[u8]) -> Vec<Seen> {
    feed(&mut decoder(None), &[input])
}

/// A masked frame as a client sends it; `first` is the first byte.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut frame = vec![first];
    match payload.len() {
        0..=125 => frame.push(0x80 | payload.len() as u8),
        126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    let start = frame.len();
    frame.extend_from_slice(payload);
    unmask(&mut frame[start..], mask, 0);
    frame
}

#[test]
fn whole_messages_are_given_and_nothing_is_kept() {
    let mut input = client_frame(0x81, "héllo".as_bytes());
    input.extend(client_frame(0x82, &[7; 300]));
    input.extend(client_frame(0x89, b"p"));
    input.extend(client_frame(0x8a, b""));
    let mut decoder = decoder(None);
    let seen = feed(&mut decoder, &[&input]);
    assert_eq!(
        seen,
        [Seen::Text("héllo".into()), Seen::Binary(vec![7; 300]), Seen::Ping(b"p".into()), Seen::Pong(vec![])]
    );
    assert!(decoder.is_idle());
}

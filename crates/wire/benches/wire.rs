//! The codec and the encoders: what each frame costs before any socket is involved.

#![expect(missing_docs, reason = "the macro of Criterion makes functions without them")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use starling_model::{ConversationName, UserName};
use starling_wire::protocol::{Encoding, Event, Message, Timestamp, decode, encode_event_frame};
use starling_wire::websocket::{Decoder, DecoderConfig};

const TEXT: &str = "A message of 64 bytes, which is a usual length in conversations.";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A `send` in JSON.
fn send() -> Vec<u8> {
    format!(r#"{{"id":7,"op":"send","conversation":"general","key":"key-000007","content":"{TEXT}"}}"#)
        .into_bytes()
}

/// A client's frame with this payload.
fn masked(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let frame = masked(&send());
    for frames in [1, 64] {
        let bytes = frame.repeat(frames);
        group.throughput(Throughput::Elements(frames as u64));
        group.bench_function(format!("read {frames} frames"), |bencher| {
            let limits =
                DecoderConfig { frame_bytes_max: 131_072, message_bytes_max: 131_072, deflate: None };
            let mut decoder = Decoder::new(limits);
            bencher.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    let mut feed = decoder.feed(bytes);
                    while let Some(incoming) = feed.next() {
                        black_box(incoming.is_ok());
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn commands(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    let json = send();
    let object: serde_json::Value = serde_json::from_slice(&json).unwrap_or_default();
    let msgpack = rmp_serde::to_vec(&object).unwrap_or_default();
    for (name, encoding, frame) in
        [("JSON", Encoding::Json, json), ("MessagePack", Encoding::MsgPack, msgpack)]
    {
        assert!(decode(encoding, &frame).is_ok_and(|request| request.command.is_ok()), "{name}");
        group.bench_function(format!("send, {name}"), |bencher| {
            bencher.iter(|| decode(encoding, black_box(&frame)));
        });
    }
    group.finish();
}

fn events(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    let (Ok(conversation), Ok(sender)) = (ConversationName::parse("general"), UserName::parse("ann")) else {
        return;
    };
    let event = Event::from(Message {
        conversation,
        seq: 123_456,
        id: 0x0192_3c5e_8f00_7000_8000_0000_0000_0001,
        sender,
        role: "user",
        content: Arc::from(TEXT),
        metadata: None,
        at: Timestamp(1_764_500_000_000),
    });
    for (name, encoding) in [("JSON", Encoding::Json), ("MessagePack", Encoding::MsgPack)] {
        group.bench_function(format!("message, {name}"), |bencher| {
            bencher.iter(|| encode_event_frame(encoding, black_box(&event)));
        });
    }
    group.finish();
}

criterion_group!(benches, codec, commands, events);
criterion_main!(benches);

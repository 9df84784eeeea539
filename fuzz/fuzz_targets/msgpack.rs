//! Frames in MessagePack: a value that is accepted is JSON that goes back to MessagePack.
#![no_main]

use libfuzzer_sys::fuzz_target;
use starling_wire::protocol::{Command, Encoding, decode, json_to_msgpack};

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = decode(Encoding::MsgPack, bytes) else { return };
    assert!(request.id > 0);
    let value = match request.command {
        Ok(Command::Publish { data, .. }) => Some(data),
        Ok(Command::Send(send)) => send.metadata,
        Ok(Command::Create(create)) => create.metadata,
        _ => None,
    };
    if let Some(value) = value {
        json_to_msgpack(value.as_str()).expect("what was accepted can be sent on");
    }
});

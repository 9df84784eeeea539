//! Frames in MessagePack: an accepted value is valid JSON that can be converted back to MessagePack.

use starling_wire::protocol::{Command, Encoding, decode, json_to_msgpack};

/// Holds that what was accepted in MessagePack can be sent on as JSON and back.
pub fn msgpack(bytes: &[u8]) {
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
}

//! Frames and HTTP bodies in JSON: accepted input can be converted to MessagePack and means the same there.

use starling_wire::protocol::{
    Command, Encoding, decode, decode_create, decode_object, decode_patch, decode_publish, decode_send,
    json_to_msgpack,
};

/// Holds that a frame in JSON means the same when it is carried over to MessagePack.
pub fn json(bytes: &[u8]) {
    for value in decode_object(bytes).into_iter().flat_map(std::collections::BTreeMap::into_values).flatten()
    {
        serde_json::from_str::<serde_json::Value>(value.as_str()).expect("a value is JSON");
    }
    let _ = (decode_create(bytes), decode_publish(bytes), decode_patch(bytes), decode_send("c", bytes));
    let Ok(request) = decode(Encoding::Json, bytes) else { return };
    let (Ok(command), Ok(text)) = (request.command, std::str::from_utf8(bytes)) else { return };
    // Unknown fields may contain values that MessagePack cannot express.
    let Ok(frame) = json_to_msgpack(text) else { return };
    let again = decode(Encoding::MsgPack, &frame).expect("it was a frame in JSON");
    assert_eq!(again.id, request.id);
    let again = again.command.expect("it was a command in JSON");
    assert_eq!(again.op(), command.op());
    if let (Command::Publish { data, .. }, Command::Publish { data: again, .. }) = (&command, &again) {
        assert_eq!(json_to_msgpack(data.as_str()), json_to_msgpack(again.as_str()));
    } else if !matches!(command, Command::Send(_) | Command::Create(_)) {
        assert_eq!(again, command);
    }
}

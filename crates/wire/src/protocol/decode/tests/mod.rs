//! Decoding, in both encodings alike.

mod bodies;
mod commands;
mod fields;
mod frames;

use super::super::*;

/// Decodes a command in both encodings: from this JSON, and from its transcoded form.
fn both(json: &str) -> [Result<Request, NotAFrame>; 2] {
    [decode(Encoding::Json, json.as_bytes()), decode(Encoding::MsgPack, &json_to_msgpack(json).unwrap())]
}

fn accepted(json: &str) -> Command {
    let [from_json, from_msgpack] = both(json);
    assert_eq!(from_json, from_msgpack, "{json}");
    from_json.unwrap().command.unwrap_or_else(|bad| panic!("{json}: {}", bad.message))
}

fn refused(json: &str) -> BadRequest {
    let [from_json, from_msgpack] = both(json);
    assert_eq!(from_json, from_msgpack, "{json}");
    from_json.unwrap().command.expect_err(json)
}

fn refused_bytes(encoding: Encoding, frame: &[u8]) -> String {
    decode(encoding, frame).unwrap().command.unwrap_err().message
}

fn json(text: &str) -> Json {
    Json::from_compact(text)
}

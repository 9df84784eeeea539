//! Decodes bytes into commands.
//!
//! A frame is read once, from left to right, without building a tree or copying it. Unknown fields are skipped. `null` for an optional
//! field means that it is absent. Of repeated keys the last one counts. Integers are from 0 to 2^53-1. Their value counts, not how it is
//! written (`5`, `5.0`, `5e0`; in MessagePack any of the integer and float formats).

pub(super) mod build;
pub(super) mod fields;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use fields::{Field, Fields};

use super::json_reader::JsonReader;
use super::msgpack_reader::MsgPackReader;
use super::reader::{Kind, Malformed, Reader};
use super::{
    BadRequest, Command, Create, Encoding, ErrorCode, Json, NotAFrame, Patch, PostedMessage, Request,
};

/// Decodes a client's frame, which has been unmasked and inflated.
///
/// # Errors
///
/// The bytes are not one object with a usable `id`, and the connection must be closed with 4400. Other errors of the frame are in
/// [`Request::command`].
pub fn decode(encoding: Encoding, frame: &[u8]) -> Result<Request, NotAFrame> {
    let read = match encoding {
        Encoding::Json => match std::str::from_utf8(frame) {
            Ok(text) => Fields::read(&mut JsonReader::new(text)),
            Err(_) => Err(Malformed("not UTF-8")),
        },
        Encoding::MsgPack => Fields::read(&mut MsgPackReader::new(frame)),
    };
    let mut fields = read.map_err(|malformed| NotAFrame(malformed.0.to_owned()))?;
    let id = match fields.id {
        Field::Value(id @ 1..) => id,
        Field::Absent => return Err(NotAFrame("it has no `id`".to_owned())),
        _ => return Err(NotAFrame("`id` must be an integer from 1 to 2^53-1".to_owned())),
    };
    let is_connect = matches!(&fields.op, Field::Value(op) if op == "connect");
    Ok(Request { id, command: command(&mut fields), is_connect })
}

/// Decodes the body of `POST /v1/conversations`.
///
/// # Errors
///
/// Names the field that is wrong.
pub fn decode_create(body: &[u8]) -> Result<Create, BadRequest> {
    build::create(&mut body_fields(body)?)
}

/// Decodes the body of `POST /v1/conversations/{conversation}/messages`.
///
/// # Errors
///
/// Names the field that is wrong. The conversation's name comes from the path and is checked, too.
pub fn decode_send(conversation: &str, body: &[u8]) -> Result<PostedMessage, BadRequest> {
    build::posted_message(conversation, body_fields(body)?)
}

/// Decodes the `data` in the body of `POST /v1/topics/{topic}/publications`.
///
/// # Errors
///
/// Names the field that is wrong.
pub fn decode_publish(body: &[u8]) -> Result<Json, BadRequest> {
    build::data("data", body_fields(body)?.data)
}

/// Decodes the body of `PATCH /v1/conversations/{conversation}`.
///
/// # Errors
///
/// Names the field that is wrong.
pub fn decode_patch(body: &[u8]) -> Result<Patch, BadRequest> {
    build::patch(body_fields(body)?)
}

/// Decodes a body of which the caller knows the fields: each field's value as compact JSON, or what is wrong with it.
///
/// # Errors
///
/// The body is not a JSON object.
pub fn decode_object(body: &[u8]) -> Result<BTreeMap<String, Result<Json, BadRequest>>, BadRequest> {
    let read = std::str::from_utf8(body).map_err(|_| Malformed("not UTF-8")).and_then(object);
    read.map_err(|malformed| BadRequest {
        code: ErrorCode::BadRequest,
        message: format!("the body is not a JSON object: {}", malformed.0),
    })
}

fn object(text: &str) -> Result<BTreeMap<String, Result<Json, BadRequest>>, Malformed> {
    let mut reader = JsonReader::new(text);
    if reader.kind()? != Kind::Object {
        return Err(Malformed("not an object"));
    }
    let (mut fields, mut entries) = (BTreeMap::new(), reader.enter_object()?);
    while let Some(key) = reader.key(&mut entries)? {
        let value = reader.value()?.map_err(|fault| build::fault_of_value(&key, fault));
        fields.insert(key.into_owned(), value);
    }
    reader.finish()?;
    match reader.frame_fault() {
        None => Ok(fields),
        Some(_) => Err(Malformed("its values are nested too deeply")),
    }
}

/// Builds a command from a frame's fields.
fn command(fields: &mut Fields<'_>) -> Result<Command, BadRequest> {
    build::whole_frame(fields)?;
    let op = build::text("op", std::mem::take(&mut fields.op))?;
    Command::from_fields(build::operation(&op)?, fields)
}

fn body_fields(body: &[u8]) -> Result<Fields<'_>, BadRequest> {
    let read = match std::str::from_utf8(body) {
        Ok(text) => Fields::read(&mut JsonReader::new(text)),
        Err(_) => Err(Malformed("not UTF-8")),
    };
    let fields = read.map_err(|malformed| BadRequest {
        code: ErrorCode::BadRequest,
        message: format!("the body is not a JSON object: {}", malformed.0),
    })?;
    build::whole_frame(&fields)?;
    Ok(fields)
}

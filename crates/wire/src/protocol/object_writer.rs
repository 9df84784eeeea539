//! Writes an object field by field in either encoding, so that an event is described only once.

use std::sync::Arc;

use starling_model::{ConversationName, TopicName, UserName};

use super::json_text::{push_integer, push_string};
use super::msgpack_writer as msgpack;
use super::transcode::push_transcoded;
use super::{Json, Timestamp, uuid};

/// Writes one object. The keys need no escapes, since they are words of the protocol.
pub(super) trait ObjectWriter {
    fn text(&mut self, key: &'static str, text: &str);
    fn integer(&mut self, key: &'static str, number: u64);
    fn boolean(&mut self, key: &'static str, truth: bool);
    fn json(&mut self, key: &'static str, json: &Json);
    fn end(self);
}

/// Writes an object as JSON.
pub(super) struct JsonObject<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> JsonObject<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> JsonObject<'a> {
        out.push(b'{');
        JsonObject { out }
    }

    #[inline]
    fn key(&mut self, key: &'static str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

impl ObjectWriter for JsonObject<'_> {
    #[inline]
    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        push_string(self.out, text);
    }
    #[inline]
    fn integer(&mut self, key: &'static str, number: u64) {
        self.key(key);
        push_integer(self.out, number);
    }
    #[inline]
    fn boolean(&mut self, key: &'static str, truth: bool) {
        self.key(key);
        self.out.extend_from_slice(if truth { b"true" } else { b"false" });
    }
    #[inline]
    fn json(&mut self, key: &'static str, json: &Json) {
        self.key(key);
        self.out.extend_from_slice(json.as_str().as_bytes());
    }
    fn end(self) {
        self.out.push(b'}');
    }
}

/// Writes an object as a MessagePack map. The number of its fields is at its head and is set at the end.
pub(super) struct MsgPackObject<'a> {
    out: &'a mut Vec<u8>,
    head: usize,
    fields: usize,
}

impl<'a> MsgPackObject<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> MsgPackObject<'a> {
        let head = out.len();
        msgpack::push_map_head(out, 0);
        MsgPackObject { out, head, fields: 0 }
    }

    #[inline]
    fn key(&mut self, key: &'static str) {
        self.fields += 1;
        msgpack::push_str(self.out, key);
    }
}

impl ObjectWriter for MsgPackObject<'_> {
    #[inline]
    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        msgpack::push_str(self.out, text);
    }
    #[inline]
    fn integer(&mut self, key: &'static str, number: u64) {
        self.key(key);
        msgpack::push_uint(self.out, number);
    }
    #[inline]
    fn boolean(&mut self, key: &'static str, truth: bool) {
        self.key(key);
        msgpack::push_bool(self.out, truth);
    }
    #[inline]
    fn json(&mut self, key: &'static str, json: &Json) {
        self.key(key);
        // Only a value that did not come through `decode` can fail here. The rest of the frame stays valid.
        if push_transcoded(self.out, json.as_str()).is_err() {
            self.out.push(msgpack::NIL);
        }
    }
    fn end(self) {
        msgpack::set_map_head(self.out, self.head, self.fields);
    }
}

/// A type that a field of an object may have.
pub(super) trait Field {
    /// Whether the field may be absent.
    const OPTIONAL: bool = false;

    /// Writes the field. Must be inlined, so that the key's length is a constant.
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str);

    /// Returns about how many bytes the value takes beyond those of a number.
    fn size(&self) -> usize {
        0
    }
}

macro_rules! text_field {
    ($($Text:ty),*) => { $(
        impl Field for $Text {
            #[inline(always)]
            fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
                object.text(key, self);
            }
            fn size(&self) -> usize {
                self.len()
            }
        }
    )* };
}

text_field!(ConversationName, TopicName, UserName, Arc<str>, &'static str);

impl Field for u64 {
    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        object.integer(key, *self);
    }
}

/// The id of a message.
impl Field for u128 {
    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        object.text(key, uuid::text(*self, &mut [0; uuid::LENGTH]));
    }
}

impl Field for bool {
    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        object.boolean(key, *self);
    }
}

impl Field for Timestamp {
    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        object.text(key, self.text(&mut Default::default()));
    }
}

impl Field for Json {
    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        object.json(key, self);
    }
    fn size(&self) -> usize {
        self.as_str().len()
    }
}

impl<F: Field> Field for Option<F> {
    const OPTIONAL: bool = true;

    #[inline(always)]
    fn write(&self, object: &mut impl ObjectWriter, key: &'static str) {
        if let Some(value) = self {
            value.write(object, key);
        }
    }
    fn size(&self) -> usize {
        self.as_ref().map_or(0, Field::size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_as_many_fields_as_were_written() {
        const KEYS: [&str; 17] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
        for count in [0, 1, 15, 16, 17] {
            let mut out = b"before".to_vec();
            let mut object = MsgPackObject::begin(&mut out);
            for (number, key) in KEYS[..count].iter().enumerate() {
                object.integer(key, number as u64);
            }
            object.end();
            let read: std::collections::BTreeMap<String, u64> = rmp_serde::from_slice(&out[6..]).unwrap();
            assert_eq!(read.len(), count);
        }
    }
}

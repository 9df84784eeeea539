//! Writes an object field by field, in either encoding, so that an event is described once.

use super::Json;
use super::json_text::{push_integer, push_string};
use super::msgpack_writer as msgpack;
use super::transcode::push_transcoded;

/// Writes one object. Keys are words of ours, which need no escapes.
pub(super) trait ObjectWriter {
    /// Starts an object of so many fields.
    fn begin(&mut self, fields: usize);
    fn text(&mut self, key: &'static str, text: &str);
    fn integer(&mut self, key: &'static str, number: u64);
    fn boolean(&mut self, key: &'static str, truth: bool);
    fn json(&mut self, key: &'static str, json: &Json);
    fn end(&mut self);
}

pub(super) struct JsonObject<'a>(pub(super) &'a mut Vec<u8>);

impl JsonObject<'_> {
    fn key(&mut self, key: &'static str) {
        if self.0.last() != Some(&b'{') {
            self.0.push(b',');
        }
        self.0.push(b'"');
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

impl ObjectWriter for JsonObject<'_> {
    fn begin(&mut self, _fields: usize) {
        self.0.push(b'{');
    }
    fn text(&mut self, key: &'static str, text: &str) {
        self.key(key);
        push_string(self.0, text);
    }
    fn integer(&mut self, key: &'static str, number: u64) {
        self.key(key);
        push_integer(self.0, number);
    }
    fn boolean(&mut self, key: &'static str, truth: bool) {
        self.key(key);
        self.0.extend_from_slice(if truth { b"true" } else { b"false" });
    }
    fn json(&mut self, key: &'static str, json: &Json) {
        self.key(key);
        self.0.extend_from_slice(json.as_str().as_bytes());
    }
    fn end(&mut self) {
        self.0.push(b'}');
    }
}

pub(super) struct MsgPackObject<'a>(pub(super) &'a mut Vec<u8>);

impl ObjectWriter for MsgPackObject<'_> {
    fn begin(&mut self, fields: usize) {
        msgpack::push_map_head(self.0, fields);
    }
    fn text(&mut self, key: &'static str, text: &str) {
        msgpack::push_str(self.0, key);
        msgpack::push_str(self.0, text);
    }
    fn integer(&mut self, key: &'static str, number: u64) {
        msgpack::push_str(self.0, key);
        msgpack::push_uint(self.0, number);
    }
    fn boolean(&mut self, key: &'static str, truth: bool) {
        msgpack::push_str(self.0, key);
        msgpack::push_bool(self.0, truth);
    }
    fn json(&mut self, key: &'static str, json: &Json) {
        msgpack::push_str(self.0, key);
        // Only a value that did not come through `decode` can fail here. The frame stays whole without it.
        if push_transcoded(self.0, json.as_str()).is_err() {
            self.0.push(msgpack::NIL);
        }
    }
    fn end(&mut self) {}
}

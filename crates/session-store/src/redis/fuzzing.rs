//! Entry points of the fuzz targets to private parsers. Not part of the crate's interface.

use std::sync::Arc;
use std::time::Instant;

use fred::types::Value;

use super::list::{self, Position};
use super::presence;
use super::registry;
use super::reply::Reply;
use super::sessions::Answer;

/// Reads an answer of Redis with these parts as each kind of record that the store keeps. `None` is nil. With `numbers`, a part that
/// looks like a number is one.
pub fn records(parts: &[Option<Vec<u8>>], numbers: bool) {
    let value = |part: &Option<Vec<u8>>| {
        let Some(part) = part else { return Value::Null };
        let number = std::str::from_utf8(part).ok().and_then(|text| text.parse::<i64>().ok());
        match number.filter(|_| numbers) {
            Some(number) => Value::Integer(number),
            None => Value::from(part.as_slice()),
        }
    };
    let answer = Value::Array(parts.iter().map(value).collect());
    let _ = Answer::read(answer.clone());
    for entry in presence::entries(answer.clone()) {
        let _ = entry.present();
    }
    if let Ok((_, nodes)) = registry::read(Instant::now(), answer.clone()) {
        let nodes = Arc::new(nodes);
        let _ = list::summary("s", &"t".into(), None, Reply::of(answer), &nodes);
    }
}

/// Reads the cursor of a page of sessions, which a client sends.
///
/// # Panics
/// If a cursor is not the same after it was read, written and read again.
pub fn cursor(text: &str) {
    if let Some(position) = Position::read(text) {
        let written = position.written();
        assert_eq!(Position::read(&written).map(|again| again.written()), Some(written));
    }
}

//! Entry points of the fuzz targets to private parsers. Not part of the crate's interface.

use bytes::Bytes;
use fred::types::Value;

use super::frame::Frame;
use super::topics;

/// Reads a message of Redis as a link does, and returns the bodies of its publications.
pub fn frame(frame: Bytes, own: &[u8]) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    match Frame::read(frame, own) {
        Ok(Frame::Publications(count, mut items)) => {
            for _ in 0..count {
                let Ok(publication) = items.publication() else { break };
                bodies.push(publication.body);
            }
        }
        Ok(Frame::Topics(count, mut items)) => {
            for _ in 0..count {
                let Ok(item) = items.topic() else { break };
                bodies.push(item.body);
            }
        }
        Ok(Frame::OlderTopics(count, mut items, _)) => {
            for _ in 0..count {
                let Ok(item) = items.older_topic(None) else { break };
                bodies.push(item.body);
            }
        }
        Ok(Frame::Direct(body)) => bodies.push(body),
        Ok(Frame::Probe(_) | Frame::Check { .. } | Frame::Own) | Err(_) => {}
    }
    bodies
}

/// Reads an answer of Redis to the commands on topics. It has these parts, of which `None` is nil, and one list among them.
pub fn topic_answers(parts: &[Option<Vec<u8>>], list_at: usize, list: &[Option<Vec<u8>>]) {
    let value =
        |part: &Option<Vec<u8>>| part.as_ref().map_or(Value::Null, |part| Value::from(part.as_slice()));
    let mut answer: Vec<Value> = parts.iter().map(value).collect();
    let _ = topics::read_positions(Value::Array(answer.clone()), parts.len() / 2);
    let list = Value::Array(list.iter().map(value).collect());
    let at = list_at.min(answer.len());
    answer.insert(at, list);
    let _ = topics::read_history(Value::Array(answer));
}

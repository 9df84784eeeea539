//! Starling's protocol, as `docs/protocol.md` describes it. It does not use Starling's own code.

use serde_json::{Value, json};

use super::{Client, Dialect, Reply, Role, Step, number};
use crate::frames::{BINARY, TEXT, write_client};

/// Tells the keys of one run from those of another; a key is remembered by the server.
static RUN: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", now.as_micros())
});

pub fn begin(dialect: Dialect, client: &Client<'_>, out: &mut Vec<u8>) -> Step {
    write(dialect, out, &json!({"id": 1, "op": "connect", "token": client.token}));
    Step::Wait
}

pub fn step(dialect: Dialect, client: &Client<'_>, frame: &[u8], out: &mut Vec<u8>) -> Step {
    let id = u64::from(client.stage) + 1;
    let mut found = None;
    replies(dialect, frame, |reply| found = Some(reply));
    match found.filter(|reply| reply.id == id) {
        None => Step::Wait,
        Some(Reply { error: Some(error), .. }) => Step::Refused(error),
        Some(_) if client.stage == 1 || matches!(client.role, Role::Publisher | Role::Maker) => Step::Ready,
        Some(_) => {
            let command = if dialect.makes_conversations() {
                json!({"id": 2, "op": "join", "conversation": format!("r{}", client.room)})
            } else {
                json!({"id": 2, "op": "subscribe", "topic": format!("r{}", client.room)})
            };
            write(dialect, out, &command);
            Step::Next
        }
    }
}

pub fn publish(dialect: Dialect, out: &mut Vec<u8>, id: u64, room: usize, payload: &[u8]) {
    let run = RUN.as_str();
    match dialect {
        Dialect::StarlingConversation => {
            let head = format!(
                "{{\"id\":{id},\"op\":\"send\",\"conversation\":\"r{room}\",\"key\":\"{run}-{id}\",\"content\":\""
            );
            write_client(out, TEXT, &[head.as_bytes(), payload, b"\"}"]);
        }
        Dialect::StarlingTopic => {
            let head = format!("{{\"id\":{id},\"op\":\"publish\",\"topic\":\"r{room}\",\"data\":\"");
            write_client(out, TEXT, &[head.as_bytes(), payload, b"\"}"]);
        }
        _ => {
            let text = String::from_utf8_lossy(payload);
            write(
                dialect,
                out,
                &json!({"id": id, "op": "publish", "topic": format!("r{room}"), "data": text}),
            );
        }
    }
}

pub fn create(dialect: Dialect, out: &mut Vec<u8>, id: u64, room: usize, users: &[usize]) {
    let members: Vec<String> = users.iter().map(|user| format!("u{user}")).collect();
    write(
        dialect,
        out,
        &json!({"id": id, "op": "create", "conversation": format!("r{room}"), "members": members}),
    );
}

pub fn replies(dialect: Dialect, frame: &[u8], mut each: impl FnMut(Reply)) {
    if dialect == Dialect::StarlingTopicMsgpack {
        // Events begin with `ev`, and are not read.
        if frame.get(1..4) != Some(b"\xa2ev")
            && let Ok(reply) = rmp_serde::from_slice::<Value>(frame)
            && let Some(id) = reply["id"].as_u64()
        {
            each(Reply { id, error: reply.get("error").map(Value::to_string) });
        }
        return;
    }
    let Some(id) = frame.strip_prefix(b"{\"id\":").and_then(number) else { return };
    let is_error = memchr::memmem::find(&frame[..frame.len().min(40)], b",\"error\":").is_some();
    each(Reply { id, error: is_error.then(|| String::from_utf8_lossy(frame).into_owned()) });
}

fn write(dialect: Dialect, out: &mut Vec<u8>, command: &Value) {
    if dialect == Dialect::StarlingTopicMsgpack {
        // A command of texts and numbers can always be written.
        let bytes = rmp_serde::to_vec(command).unwrap_or_default();
        write_client(out, BINARY, &[&bytes]);
    } else {
        write_client(out, TEXT, &[command.to_string().as_bytes()]);
    }
}

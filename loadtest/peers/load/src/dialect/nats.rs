//! NATS over WebSocket: its text protocol in frames of bytes.

use super::{Client, Role, Step};
use crate::frames::{BINARY, write_client};

pub fn step(client: &Client<'_>, frame: &[u8], out: &mut Vec<u8>) -> Step {
    if frame.starts_with(b"-ERR") {
        return Step::Refused(String::from_utf8_lossy(frame).into_owned());
    }
    match client.stage {
        0 if frame.starts_with(b"INFO") => {
            let mut lines = String::from("CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true}\r\n");
            if client.role != Role::Publisher {
                lines.push_str(&format!("SUB r{} 1\r\n", client.room));
            }
            // The answer says that the lines before have been handled.
            lines.push_str("PING\r\n");
            write_client(out, BINARY, &[lines.as_bytes()]);
            Step::Next
        }
        1 if memchr::memmem::find(frame, b"PONG").is_some() => Step::Ready,
        _ => Step::Wait,
    }
}

pub fn publish(out: &mut Vec<u8>, room: usize, payload: &[u8]) {
    let head = format!("PUB r{room} {}\r\n", payload.len());
    write_client(out, BINARY, &[head.as_bytes(), payload, b"\r\n"]);
}

pub fn keep_alive(frame: &[u8]) -> Option<(u8, &'static [u8])> {
    frame.starts_with(b"PING\r\n").then_some((BINARY, b"PONG\r\n"))
}

//! Centrifugo's client protocol in JSON. A frame may hold several lines.

use super::{Client, Reply, Role, Step, number};
use crate::frames::{TEXT, write_client};

pub fn begin(out: &mut Vec<u8>) -> Step {
    write_client(out, TEXT, &[b"{\"id\":1,\"connect\":{}}"]);
    Step::Wait
}

pub fn step(client: &Client<'_>, frame: &[u8], out: &mut Vec<u8>) -> Step {
    let id = u64::from(client.stage) + 1;
    let mut found = None;
    replies(frame, |reply| {
        if reply.id == id {
            found = Some(reply);
        }
    });
    match found {
        None => Step::Wait,
        Some(Reply { error: Some(error), .. }) => Step::Refused(error),
        Some(_) if client.stage == 1 || client.role == Role::Publisher => Step::Ready,
        Some(_) => {
            let subscribe = format!("{{\"id\":2,\"subscribe\":{{\"channel\":\"r{}\"}}}}", client.room);
            write_client(out, TEXT, &[subscribe.as_bytes()]);
            Step::Next
        }
    }
}

pub fn publish(out: &mut Vec<u8>, id: u64, room: usize, payload: &[u8]) {
    let head = format!("{{\"id\":{id},\"publish\":{{\"channel\":\"r{room}\",\"data\":\"");
    write_client(out, TEXT, &[head.as_bytes(), payload, b"\"}}"]);
}

pub fn replies(frame: &[u8], mut each: impl FnMut(Reply)) {
    for line in frame.split(|byte| *byte == b'\n') {
        let Some(rest) = line.strip_prefix(b"{\"id\":") else { continue };
        let Some(id) = number(rest) else { continue };
        let is_error = memchr::memmem::find(rest, b",\"error\":").is_some();
        each(Reply { id, error: is_error.then(|| String::from_utf8_lossy(line).into_owned()) });
    }
}

pub fn keep_alive(frame: &[u8]) -> Option<(u8, &'static [u8])> {
    (frame == b"{}").then_some((TEXT, b"{}"))
}

//! Socket.IO 5 over Engine.IO 4, with the events of `socketio/server.js` and `socketioxide/src/main.rs`.

use super::{Client, Role, Step};
use crate::frames::{TEXT, write_client};

pub fn step(client: &Client<'_>, frame: &[u8], out: &mut Vec<u8>) -> Step {
    match client.stage {
        0 if frame.starts_with(b"0{") => write_client(out, TEXT, &[b"40"]),
        1 if frame.starts_with(b"40") && client.role == Role::Publisher => return Step::Ready,
        1 if frame.starts_with(b"40") => {
            write_client(out, TEXT, &[format!("420[\"sub\",\"r{}\"]", client.room).as_bytes()]);
        }
        2 if frame.starts_with(b"430") => return Step::Ready,
        _ if frame.starts_with(b"44") => {
            return Step::Refused(String::from_utf8_lossy(frame).into_owned());
        }
        _ => return Step::Wait,
    }
    Step::Next
}

pub fn publish(out: &mut Vec<u8>, room: usize, payload: &[u8]) {
    write_client(out, TEXT, &[format!("42[\"pub\",\"r{room}\",\"").as_bytes(), payload, b"\"]"]);
}

pub fn keep_alive(frame: &[u8]) -> Option<(u8, &'static [u8])> {
    (frame == b"2").then_some((TEXT, b"3"))
}

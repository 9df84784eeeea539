//! The protocol of the limit program.

use super::{Client, Role, Step};
use crate::frames::{TEXT, write_client};

pub fn begin(client: &Client<'_>, out: &mut Vec<u8>) -> Step {
    if client.role == Role::Publisher {
        return Step::Ready;
    }
    write_client(out, TEXT, &[format!("SUB r{}", client.room).as_bytes()]);
    Step::Wait
}

pub fn step(frame: &[u8]) -> Step {
    if frame == b"OK" { Step::Ready } else { Step::Wait }
}

pub fn publish(out: &mut Vec<u8>, room: usize, payload: &[u8]) {
    write_client(out, TEXT, &[format!("PUB r{room} ").as_bytes(), payload]);
}

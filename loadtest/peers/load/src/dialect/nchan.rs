//! Nchan: a location for each role, and payloads as they are.

use super::Role;
use crate::frames::{TEXT, write_client};

pub fn path(role: Role, room: usize) -> String {
    let location = match role {
        Role::Publisher | Role::Maker => "pub",
        Role::Subscriber => "sub",
        Role::Member => "pubsub",
    };
    format!("/{location}/r{room}")
}

pub fn publish(out: &mut Vec<u8>, payload: &[u8]) {
    write_client(out, TEXT, &[payload]);
}

//! The names of everybody and everything that nodes know by name.

use std::sync::Arc;

/// The tenant of all users.
pub const TENANT: &str = "simulated";

/// Returns the user of a client.
pub fn user(client: usize) -> Arc<str> {
    format!("user-{client}").into()
}

/// Returns the name of a conversation.
pub fn conversation(number: usize) -> String {
    format!("room-{number}")
}

//! Numbers of conversations.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A conversation's number in the database. Not reused: a conversation that is deleted and made again under the same name has a
/// larger one, so that what was meant for the old one can't reach the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(pub i64);

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

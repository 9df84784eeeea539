//! The id of a conversation in the database.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A conversation's id in the database. It is never reused: a conversation that is deleted and created again under the same name has another
/// id, so that nothing meant for the old one reaches the new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConversationId(i64);

impl ConversationId {
    /// Makes an id from the number in the database.
    pub const fn new(number: i64) -> ConversationId {
        ConversationId(number)
    }

    /// Returns the number in the database.
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_its_number() {
        let id = ConversationId::new(-7);
        assert_eq!((format!("{id}"), format!("{id:?}")), ("-7".into(), "-7".into()));
        assert_eq!(serde_json::to_string(&Some(id)).ok().as_deref(), Some("-7"));
        assert_eq!(serde_json::from_str::<ConversationId>("-7").ok(), Some(id));
    }
}

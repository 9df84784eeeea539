//! The messages of a batch, as the functions in the database take them.

use crate::Append;

/// The messages of a batch as one array per column.
pub(super) struct Columns<'a> {
    pub ids: Vec<uuid::Uuid>,
    pub senders: Vec<&'a str>,
    pub keys: Vec<&'a str>,
    pub roles: Vec<&'static str>,
    pub contents: Vec<&'a str>,
    pub metadatas: Vec<Option<&'a str>>,
}

impl<'a> Columns<'a> {
    /// Makes the columns of these messages.
    pub fn of(messages: &[&'a Append]) -> Self {
        Self {
            ids: messages.iter().map(|message| message.id).collect(),
            senders: messages.iter().map(|message| &*message.sender).collect(),
            keys: messages.iter().map(|message| &*message.key).collect(),
            roles: messages.iter().map(|message| message.role.as_str()).collect(),
            contents: messages.iter().map(|message| &*message.content).collect(),
            metadatas: messages.iter().map(|message| message.metadata.as_deref()).collect(),
        }
    }
}

//! Where a client is in the log of a conversation, and in a topic.

/// A client's cursor in the log of a conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// The highest seq that the client has.
    pub seq: u64,
    /// The id of the log that `seq` belongs to, if the client knows it.
    pub log: Option<String>,
}

/// A position in a topic.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TopicPosition {
    /// The topic's epoch.
    pub epoch: String,
    /// The offset of a publication in this epoch.
    pub offset: u64,
}

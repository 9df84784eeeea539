//! Makes `message` events, of committed messages and of those read from the log.

use starling_conversation_store::{Append, Appended, Message};
use starling_model::ConversationName;
use starling_wire::protocol::{self, Json, Timestamp};

/// Makes the event of a message that was just committed.
pub(crate) fn committed(
    conversation: &ConversationName,
    message: Append,
    appended: &Appended,
) -> protocol::Message {
    protocol::Message {
        conversation: conversation.clone(),
        seq: appended.seq.get(),
        id: appended.id.as_u128(),
        sender: message.sender,
        role: message.role.as_str(),
        content: message.content,
        metadata: message.metadata.map(Json::from_compact),
        at: Timestamp(appended.at_ms),
    }
}

/// Makes the event of a message that was read from the log.
pub(crate) fn stored(conversation: &ConversationName, message: Message) -> protocol::Message {
    protocol::Message {
        conversation: conversation.clone(),
        seq: message.seq.get(),
        id: message.id.as_u128(),
        sender: message.sender,
        role: message.role.as_str(),
        content: message.content.into(),
        metadata: message.metadata.map(Json::from_compact),
        at: Timestamp(message.at_ms),
    }
}

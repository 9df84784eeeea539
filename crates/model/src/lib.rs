//! The nouns that every part of Starling shares: names of tenants, users, conversations and topics,
//! ids of conversations, and numbers of messages.
//!
//! Each is a type of its own, so that a call with two of them exchanged does not compile.

mod conversation_id;
mod name;
mod names;
mod seq;

pub use conversation_id::ConversationId;
pub use name::{NAME_LENGTH_MAX, NAME_RULE, NotAName, is_name};
pub use names::{ConversationName, TenantName, TopicName, UserName};
pub use seq::Seq;

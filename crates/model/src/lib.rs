//! The nouns that every part of Starling shares: names of tenants, users, conversations and topics.
//!
//! Each is a type of its own, so that a call with two of them exchanged does not compile.

mod name;
mod names;

pub use name::{NAME_LENGTH_MAX, NAME_RULE, NotAName, is_name};
pub use names::{ConversationName, TenantName, TopicName, UserName};

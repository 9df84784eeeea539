//! The way out: jobs become messages.

mod channels;
mod message;
mod publisher;

pub(crate) use publisher::Publisher;

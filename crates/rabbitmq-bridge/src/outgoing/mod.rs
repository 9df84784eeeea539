//! The way out: jobs become messages.

mod channels;
mod current;
mod message;
mod publisher;

pub(crate) use publisher::Publisher;

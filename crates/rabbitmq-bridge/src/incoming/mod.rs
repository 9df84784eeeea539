//! The way in: messages become jobs.

mod consumer;
mod dead_letters;
mod message;

pub(crate) use consumer::Intake;

pub(crate) mod fuzzing {
    pub use super::message::fuzzing::message;
}

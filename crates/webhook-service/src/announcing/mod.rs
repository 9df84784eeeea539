//! Announcements, on their way to webhooks: messages and changes of members that the log has noted, and failures that the store of jobs has
//! noted.

mod failures;
mod log;

pub(crate) use failures::FailureAnnouncer;
pub(crate) use log::LogAnnouncer;

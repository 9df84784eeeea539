//! The log of a conversation: reads for subscriptions that are behind, repairs of holes, and reports of heads that the database lost.

mod head_reports;
mod message;
mod pages;
mod repairs;
mod tag;

pub(crate) use head_reports::HeadReports;
pub(crate) use message::{committed, stored};
pub use pages::LogPage;
pub(crate) use pages::LogPages;
pub(crate) use repairs::Repairs;
pub(crate) use tag::LogTag;

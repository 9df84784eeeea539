//! The log of a conversation: reads for subscriptions that are behind, repairs of holes, and reports of heads that the database lost.

mod catch_up;
mod head_reports;
mod message;
mod repairs;
mod tag;

pub(crate) use catch_up::CatchUp;
pub use catch_up::LogPage;
pub(crate) use head_reports::HeadReports;
pub(crate) use message::{committed, stored};
pub(crate) use repairs::Repairs;
pub(crate) use tag::LogTag;

//! Sessions of this node: their connections, what they have joined, and which of several attaches holds each.

mod attachments;
mod by_name;
mod ended;
mod holding;
mod index;
mod places;
mod session;
mod table;

pub(crate) use attachments::Attachments;
pub(crate) use ended::EndedSessions;
pub(crate) use holding::{Holding, HoldingParts};
pub(crate) use places::{Place, Places};
pub use session::Session;
pub(crate) use table::{Inserted, Sessions};

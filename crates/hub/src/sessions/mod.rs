//! Sessions of this node: which socket each has, what it is in, and which of several attaches holds it.

mod attachments;
mod ended;
mod holding;
mod places;
mod session;
mod table;

pub(crate) use attachments::Attachments;
pub(crate) use ended::EndedSessions;
pub(crate) use holding::Holding;
pub(crate) use places::{Place, Places};
pub use session::Session;
pub(crate) use table::{Inserted, Sessions};

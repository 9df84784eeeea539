//! The conversations that this node knows, and their members.

pub(crate) mod deleted;
pub(crate) mod erasing;
pub(crate) mod incarnation;
pub(crate) mod members;
pub(crate) mod rooms;

pub(crate) use rooms::Rooms;

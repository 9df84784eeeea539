//! The log: appends, reads for sockets that are behind, and repairs.

pub(crate) mod append;
pub(crate) mod catch_up;
pub(crate) mod message;
pub(crate) mod repair;

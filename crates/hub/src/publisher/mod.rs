//! What the other nodes are told, and what of it was lost.

pub(crate) mod heads;
pub(crate) mod untold;

//! This node among the others: its lease, and which of them live and can be heard.

pub(crate) mod beat;
pub(crate) mod changes;
pub(crate) mod link;
pub(crate) mod loads;
pub(crate) mod peers;
pub(crate) mod standing;

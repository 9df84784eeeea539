//! Gives the benches access to parts that are otherwise private. Not part of this crate's API.

pub use crate::lane::{Bound, Lane, LaneEnd, Weigh, run};
pub use crate::room::sequencer::{Fed, Sequencer};

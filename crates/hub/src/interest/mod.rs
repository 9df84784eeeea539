//! Interest: which nodes know which conversations, so that a publication goes only to the nodes that it concerns.
//!
//! A node is interested in a conversation from before it reads it from the database until it forgets it ([`OwnInterest`]). It tells the
//! other nodes the changes, and with each beat the version and a checksum of what it has told ([`InterestMessage`]). Each node keeps what
//! the others told ([`OtherNodes`]) and takes from it the nodes that a publication is for.
//!
//! Nothing is lost if that is wrong for a while:
//!
//! - A node that was not heard lately, or missed a change of another node, counts that node as interested in everything until it has asked
//!   for its whole set. A node that has told nothing, since it runs an older version or has just started, gets what goes to everyone, and
//!   so everything goes to everyone while there is such a node.
//! - Others learn of a new interest a little after the node has read the conversation. Whatever they sent past the node meanwhile, they
//!   send to it when they learn ([`crate::publisher`]).
//! - A node that the others may have forgotten, since its lease had expired, compares everything with the database.

mod key;
mod learned;
mod message;
mod nodes;
mod others;
#[cfg(test)]
mod others_tests;
mod own;
mod router;
mod table;

pub use key::InterestKey;
pub(crate) use learned::NewRooms;
pub use message::{Announced, InterestMessage, KIND, Told};
pub(crate) use others::OtherNodes;
pub(crate) use own::OwnInterest;
pub(crate) use router::Router;

/// Most conversations of one node that are told one by one. A node that knows more counts as interested in everything.
const ROOMS_MAX: usize = 1 << 18;
/// Most pairs of a conversation and a node that are remembered: some 100 MB. A node whose set no longer fits counts as interested in
/// everything.
const PAIRS_MAX: usize = 1 << 22;

//! Counts what an operation costs: the instructions that a node executes, the commands that it sends to Redis, the statements that it
//! sends to PostgreSQL, and the memory that an idle session occupies. Counts, unlike times, are the same on a busy machine.
//!
//! `cargo xtask instructions` prints the instructions. The tests of this crate compare all counts with their [budgets](Budget).

mod budget;
mod callgrind;
mod memory;
mod operation;
mod servers;

pub use budget::{Budget, Comparison, Counts};
pub use callgrind::{CountedNode, Precision, Units};
pub use memory::session_bytes;
pub use operation::{Cost, Operation, instructions};
pub use servers::server_calls;

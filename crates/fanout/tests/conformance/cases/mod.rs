//! What is shown for every fan-out alike.

mod histories;
mod links;
mod nodes;
mod partitions;
mod topics;

pub use histories::*;
pub use links::*;
pub use nodes::*;
pub use partitions::*;
pub use topics::*;

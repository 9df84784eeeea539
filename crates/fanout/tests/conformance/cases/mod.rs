//! What is shown for every fan-out alike.

mod histories;
mod lanes;
mod links;
mod nodes;
mod topics;

pub use histories::*;
pub use lanes::*;
pub use links::*;
pub use nodes::*;
pub use topics::*;

//! Connections that the program's own commands open to a node, as a client or a probe does.

mod address;
mod request;
mod stream;

pub use address::NodeAddress;
pub use request::{Answer, Request};
pub use stream::{Stream, connect, secure};

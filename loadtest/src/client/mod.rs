//! One simulated client: a connection that speaks the protocol of `docs/protocol.md`, and as little else as possible.
//!
//! It does not use Starling's own code, so that both sides can't be wrong in the same way. It builds no object for a delivery:
//! it looks for the marker in the bytes and for the number of the message.

mod address;
mod encoding;
mod frames;
mod identity;
mod marker;
mod rooms;
mod session;
mod stream;
mod upgrade;

pub use address::{Address, Sources};
pub use encoding::Encoding;
pub use identity::Identities;
pub use marker::MARKER_BYTES;
pub use rooms::Rooms;
pub use session::{Place, Session};
pub use upgrade::delete;

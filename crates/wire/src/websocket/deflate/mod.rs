//! permessage-deflate (RFC 7692): compression of single messages, with or without the context of earlier ones.
//!
//! From the first message on, an [`Inflater`] uses about 20 KiB of memory, and a [`Deflater`] about 310 KiB with 15
//! window bits or 190 KiB with 9. Without context takeover both release it after every message.

mod deflater;
mod inflater;
mod negotiation;

pub use deflater::Deflater;
pub use inflater::{InflateError, Inflater};
pub use negotiation::{DeflateConfig, Params, negotiate};

/// Bytes that a sender removes from the end of each message and a receiver appends again (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests;

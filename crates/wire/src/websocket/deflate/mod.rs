//! permessage-deflate (RFC 7692): messages compressed one by one, with or without remembering the ones before.
//!
//! From the first message on an [`Inflater`] costs about 20 KiB of touched memory, and a [`Deflater`] about 310 KiB at 15
//! window bits, 190 KiB at 9. Without context takeover both give it back after every message.

mod deflater;
mod inflater;
mod negotiation;

pub use deflater::Deflater;
pub use inflater::{InflateError, Inflater};
pub use negotiation::{DeflateConfig, Params, negotiate};

/// What a sender leaves out at the end of each message, and a receiver puts back (RFC 7692, section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

#[cfg(test)]
mod tests;

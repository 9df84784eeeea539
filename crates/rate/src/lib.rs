//! Rate limiting by the generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"), in whole microseconds.
//!
//! A [`Rate`] says how many cells may pass in a period. An [`Allowance`] is what one subject (a connection, an address, a user) has left
//! of it: 16 bytes, without a timer. The caller passes the time in, as microseconds since any fixed moment.
//!
//! Cells that are refused stand in a [`Line`]: each is told a time of its own, one interval after the one before it. If all come back
//! when they were told to, each finds its place free and none is refused twice. If all were told when the next place is free, all but
//! one would be refused again.

mod allowance;
mod line;
mod rate;

pub use allowance::Allowance;
pub use line::Line;
pub use rate::Rate;

//! Rate limiting by the generic cell rate algorithm (ITU-T I.371, annex A, "virtual scheduling"), in whole microseconds.
//!
//! A [`Rate`] says how many cells may pass in a period. An [`Allowance`] is what one subject (a connection, an address, a user) has left
//! of it. It takes 16 bytes and needs no timer. The caller passes the time, as microseconds since any fixed moment.
//!
//! Refused cells form a [`Line`]: each gets a time to retry of its own, one interval after the one before. If all retry at their times, none is
//! refused twice. If all got the same time, all but one would be refused again.

mod allowance;
mod line;
mod rate;

pub use allowance::Allowance;
pub use line::Line;
pub use rate::Rate;

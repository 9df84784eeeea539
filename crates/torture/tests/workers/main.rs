//! Workers inside nodes that are killed, frozen, cut off and drained, in real processes.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod fairness;
mod place;
mod single_faults;
mod survival;

//! The pages under `docs/` say what is: each exchange of `docs/protocol.md` is played against a real node, and what the other
//! pages name (pages, settings, metrics, configurations of load balancers) is looked up.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod circles;
mod compare;
mod described;
mod errors;
mod exchange;
mod file_uses;
mod lints;
mod operating;
mod pages;
mod play;
mod protocol;
mod runbooks;
mod security;
mod version;

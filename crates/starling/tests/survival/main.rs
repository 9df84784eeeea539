//! What clients keep when a server fails: their session after kill -9 of the node and after FLUSHALL, the
//! presence that others see, membership, and every message of a conversation that continued while they did not read.

mod attaches;
mod cut_off;
mod database_away;
mod members;
mod presence;
mod redis;
mod restored;
mod resume;
mod slow_reader;
mod stuck_readers;
mod talk;

/// Only one test at a time, because the machine is small and times are measured.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

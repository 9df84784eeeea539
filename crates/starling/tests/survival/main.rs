//! What clients keep when something under them is gone: their session after kill -9 of the node and after FLUSHALL, the
//! others' view of who is there, who may read and write, and every message of a conversation that went on while they did not read.

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

/// One at a time: the machine is small, and times are measured.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

//! What happens when Redis, or the way to it, is broken on purpose.

mod away;
mod cuts;
mod failover;
mod flood;
mod older;
mod strangers;

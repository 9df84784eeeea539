//! A cache in three levels: decoded values in the process, entries with a version in Redis, and a [`Source`] that loads what neither has.
//!
//! The source is the source of truth. Everything else may be lost at any moment, and a cache without Redis has two levels.
//!
//! **How old a value may be.** A writer calls [`Cache::changed`] (or [`Cache::put`]) after its commit. That drops the older value here and in
//! Redis, and tells the other nodes through the [`Announcer`]; they call [`Invalidations::invalidate`]. So a change is seen everywhere within
//! a second. If the news is lost, [`CacheConfig::process_ttl`] (5 s) limits the age. While Redis is away, values come from the process, no
//! older than `process_ttl`, and from the source. When it is back, entries that were loaded before are not believed, since nobody could
//! drop them meanwhile.
//!
//! What this does not cover:
//!
//! - A node that dies between its commit and `changed` tells nobody. Its entry in Redis is served until [`CacheConfig::redis_ttl`] ends, or
//!   until the others report a [gap](Invalidations::gap), as they do when they miss that node.
//! - A failover of Redis may lose the news of the last moment. The fan-out, which has its own connections, then reports a gap.
//! - A node that starts believes what Redis holds, also if there was an outage a moment ago.
//! - A source must not answer from a replica that lags.
//!
//! **Versions.** The version of a key's value rises with each change. Every level refuses a value that is older than what it has or was
//! told of. Where a thing can be created again under its old name, put its id into the key; otherwise its first versions are not cached for
//! half a minute after the end of the older one.
//!
//! **Who loads.** Callers on one node that miss the same key share one *flight*. Among the nodes, the one that holds the key's lease in Redis
//! loads, and the others wait for its value. A lease also fences: a change breaks it, and the holder then can't store what it loaded before.
//! (Nishtala and others, "Scaling Memcache at Facebook", NSDI 2013, section 3.2.1.) Entries are loaded anew shortly before they expire, at
//! random times that depend on what loading costs. (Vattani, Chierichetti and Lowenstein, "Optimal Probabilistic Cache Stampede Prevention",
//! PVLDB 8(8), 2015: XFetch.)
//!
//! **Why no node uses it yet.** It would not pay for what nodes look up today. The hub keeps members and heads, and follows every change of the
//! conversations that its users have joined, so those need no time to live. The list of a user's conversations is one read by an index at each
//! attach: it takes PostgreSQL 8 µs of processor time together with everything else of a handshake, while the session alone takes Redis 26 µs
//! (10,000 durable sessions, `docs/performance.md`). Besides, the list contains heads, which change with every message.

mod cache;
mod config;
mod entry;
mod error;
mod filling;
mod flights;
mod invalidation;
mod levels;
mod metrics;
mod pending;
mod process;
pub mod redis;
mod source;

pub use cache::Cache;
pub use config::CacheConfig;
#[doc(hidden)]
pub use config::Mechanism;
pub use entry::Versioned;
pub use error::Error;
pub use invalidation::{Announcer, Invalidations, NoOthers};
pub use source::{Loaded, Source};

//! What a shard owns: its connections and channels.

use std::cell::RefCell;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use slab::Slab;
use starling_hub::{ChannelId, Map, SocketId};
use starling_wire::protocol::CloseReason;

use super::channel::Channel;
use super::conn::Conn;
use super::deadlines::Deadlines;
use super::settings::{Env, ShardSettings};
use crate::metrics::METRICS;

/// Length of the buffer that all sockets of a shard are read into, bytes.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;

/// A shard: one thread with its own runtime that owns its sockets and shares nothing.
pub(crate) struct Shard {
    pub env: Env,
    pub table: RefCell<Table>,
}

/// What a shard owns.
pub(crate) struct Table {
    /// Boxed, since a table that grows is copied and then half empty.
    pub(super) conns: Slab<Box<Conn>>,
    pub(super) channels: Map<ChannelId, Channel>,
    /// Rooms with something pending in this turn.
    pub(super) touched: Vec<ChannelId>,
    /// Connections with something to write.
    pub(super) dirty: Vec<u32>,
    /// Lent to each connection that reads.
    pub(super) scratch: Vec<u8>,
    /// Lent to the tick: connections for which something is due.
    pub(super) due: Vec<u32>,
    /// Seconds since the shard's start.
    pub(super) tick: u32,
    next_generation: u32,
    /// Bytes in all outboxes at the last tick.
    pub(super) queued: usize,
    /// Spreads what must not happen to all clients at once.
    pub(super) random: SmallRng,
}

impl Shard {
    /// A shard without sockets. `seed` is that of its chance.
    pub fn new(env: Env, seed: u64) -> Shard {
        Shard { env, table: RefCell::new(Table::new(seed)) }
    }
}

impl Table {
    fn new(seed: u64) -> Table {
        Table {
            conns: Slab::new(),
            channels: Map::default(),
            touched: Vec::new(),
            dirty: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            due: Vec::new(),
            tick: 0,
            next_generation: 1,
            queued: 0,
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Enters a connection, which is made from its generation and its deadlines. Returns its key.
    pub(super) fn insert(
        &mut self,
        settings: &ShardSettings,
        make: impl FnOnce(u32, Deadlines) -> Conn,
    ) -> u32 {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let conn = Box::new(make(generation, Deadlines::new(self.tick, settings, &mut self.random)));
        u32::try_from(self.conns.insert(conn)).unwrap_or(u32::MAX)
    }

    /// The connection with a key.
    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut Conn> {
        self.conns.get_mut(key as usize).map(|conn| &mut **conn)
    }

    /// The connection of a socket, if it is still that one.
    pub(super) fn conn(&mut self, socket: SocketId) -> Option<&mut Conn> {
        self.get_mut(socket.key).filter(|conn| conn.generation == socket.generation)
    }

    /// The keys of all connections.
    pub fn keys(&self) -> Vec<u32> {
        self.conns.iter().filter_map(|(key, _)| u32::try_from(key).ok()).collect()
    }

    /// Marks a connection, so that it is written to after the turn.
    pub(super) fn mark(&mut self, key: u32) {
        if let Some(conn) = self.conns.get_mut(key as usize) {
            conn.mark(key, &mut self.dirty);
        }
    }

    /// Writes to each connection that was marked, once.
    pub(super) fn flush_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut sent = 0;
        for key in dirty.drain(..) {
            if let Some(conn) = self.conns.get_mut(key as usize) {
                sent += conn.flush_marked(self.tick);
            }
        }
        self.dirty = dirty;
        if sent > 0 {
            METRICS.bytes_sent.increment(sent);
        }
    }

    /// Closes a connection from this node's side.
    pub fn close(&mut self, key: u32, reason: CloseReason, text: &str) {
        if let Some(conn) = self.conns.get_mut(key as usize) {
            conn.close(reason, text, self.tick);
            self.mark(key);
        }
    }

    /// Removes a connection, and its subscriptions from the channels.
    pub(super) fn remove(&mut self, key: u32) -> Option<Box<Conn>> {
        let mut conn = self.conns.try_remove(key as usize)?;
        for channel in conn.subs.end_all() {
            self.leave(channel, key);
        }
        Some(conn)
    }

    /// Removes a connection from a channel's list.
    pub(super) fn leave(&mut self, channel: ChannelId, key: u32) {
        if let Some(found) = self.channels.get_mut(&channel) {
            if let Some(at) = found.subs.iter().position(|sub| sub.conn == key) {
                found.subs.swap_remove(at);
            }
            if found.subs.is_empty() {
                self.channels.remove(&channel);
            }
        }
    }
}

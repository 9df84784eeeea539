//! A shard: one thread with its own runtime that owns its sockets and shares nothing.
//!
//! What comes for its sockets comes through the inbox. A *turn* takes what waits there (bounded), puts frames into the outboxes of the
//! sockets concerned, and then writes each of these sockets once: when little happens a batch is one, when much happens batches grow
//! by themselves, without timers.

mod catch_up;
mod commands;
mod conn;
mod deliver;
#[cfg(test)]
mod fixture;
mod inbox;
mod leaving;
mod outbox;
mod pace;
mod reading;
mod room;
mod socket;
mod speed;
mod task;
mod timers;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use conn::{Conn, Phase};
pub(crate) use inbox::Item;
pub use inbox::{Inbox, Inboxes};
pub(crate) use leaving::{Asked, DrainPlan};
pub(crate) use pace::{Pace, PaceLimits};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use room::ShardRoom;
use slab::Slab;
pub(crate) use socket::Socket;
use starling_hub::{Hub, Map, NodeGauges, RoomId, SocketId};
use starling_wire::websocket::deflate::DeflateConfig;
pub(crate) use task::ConnTask;
use timers::Deadlines;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::admission::Admission;
use crate::upgrade;

/// How many items one turn takes before it writes.
const TURN_MAX: usize = 512;
/// The buffer that all sockets of a shard are read into.
const SCRATCH_BYTES: usize = 64 * 1024;

/// What answers the frames of a connection.
#[derive(Clone)]
pub(crate) enum Service {
    /// Starling.
    Hub(Arc<Hub>),
    /// Gives every message back: to hold the codec against conformance suites.
    Echo,
}

/// What a shard is told.
#[derive(Clone, Debug)]
pub(crate) struct ShardSettings {
    /// How often a peer is pinged, seconds; twice as long silent, it is gone.
    pub heartbeat_s: u32,
    /// How long the first command may take, seconds.
    pub connect_timeout_s: u32,
    /// How old a connection may get, seconds; 0: as old as it likes.
    pub max_age_s: u32,
    /// Beyond this, what can be had again is dropped from a socket's outbox, bytes.
    pub outbox_bytes_soft: usize,
    /// Beyond this, the connection is closed, bytes.
    pub outbox_bytes_hard: usize,
    /// How long a client's message may be, inflated, bytes.
    pub message_bytes_max: u32,
    /// What is negotiated of permessage-deflate; `None`: nothing.
    pub deflate: Option<DeflateConfig>,
    /// Rates of one connection.
    pub pace: PaceLimits,
    /// How many sessions may begin.
    pub admission: Arc<Admission>,
    /// Sessions of all shards that were asked lately to move to other nodes.
    pub asked: Arc<Asked>,
}

/// A shard.
pub(crate) struct Shard {
    pub index: u16,
    pub service: Service,
    pub settings: ShardSettings,
    pub table: RefCell<Table>,
    pub started: Instant,
}

/// What a shard owns.
pub(crate) struct Table {
    pub conns: Slab<Conn>,
    pub rooms: Map<RoomId, ShardRoom>,
    /// Rooms with something pending in this turn.
    touched: Vec<RoomId>,
    /// Connections with something to write.
    dirty: Vec<u32>,
    /// Lent to whoever reads.
    scratch: Vec<u8>,
    /// Lent to the tick: connections for which something is due.
    due: Vec<u32>,
    /// Seconds since the shard's start.
    pub tick: u32,
    next_generation: u32,
    /// Bytes in all outboxes at the last tick.
    queued: usize,
    /// Sessions of all shards that were asked lately to move to other nodes.
    asked: Arc<Asked>,
    /// Spreads what must not happen to all at once.
    random: SmallRng,
}

/// Runs a shard on this thread until its inbox closes. `started` is told when it can serve, or why it can't.
pub(crate) fn run(
    index: u16,
    inbox: Inbox,
    service: Service,
    settings: ShardSettings,
    front: Arc<upgrade::Front>,
    started: oneshot::Sender<std::io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    let _ = started.send(Ok(()));
    let _ends_the_node = EndsTheNode;
    let shard = Shard::new(index, service, settings, starling_hub::random::number());
    let local = LocalSet::new();
    local.spawn_local(tick_forever(shard.clone()));
    local.block_on(&runtime, shard.take_turns(inbox, front));
}

/// A node with a dead shard would go on taking sockets for it and say that it is well. Its clients are better off elsewhere.
struct EndsTheNode;

impl Drop for EndsTheNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("a shard has failed; the node ends, so that its clients resume elsewhere");
            std::process::abort();
        }
    }
}

pub(crate) async fn tick_forever(shard: Rc<Shard>) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    // After a machine that stood still for some seconds the ticks that were missed would come at once, before a socket is
    // read: everybody would be taken for silent.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        shard.table.borrow_mut().on_tick(&shard.settings);
    }
}

impl Shard {
    /// A shard without sockets. [`Shard::take_turns`] and [`tick_forever`] keep it going.
    pub fn new(index: u16, service: Service, settings: ShardSettings, seed: u64) -> Rc<Shard> {
        let table = RefCell::new(Table::new(&settings, seed));
        Rc::new(Shard { index, service, settings, table, started: Instant::now() })
    }

    /// Takes what comes into the inbox, until that closes.
    pub async fn take_turns(self: Rc<Self>, mut inbox: Inbox, front: Arc<upgrade::Front>) {
        let mut items = Vec::with_capacity(TURN_MAX);
        while inbox.take(&mut items, TURN_MAX).await {
            self.turn(&mut items, &front);
            // Sockets get their turn before the next batch is taken.
            tokio::task::yield_now().await;
        }
    }

    fn turn(self: &Rc<Self>, items: &mut Vec<Item>, front: &Arc<upgrade::Front>) {
        let mut table = self.table.borrow_mut();
        for item in items.drain(..) {
            match item {
                Item::Hub(item) => table.take(item, self),
                Item::Accepted(accepted) => {
                    tokio::task::spawn_local(upgrade::serve(self.clone(), front.clone(), *accepted));
                }
                Item::Shed(count) => table.shed(count),
                Item::Drain(plan) => {
                    tokio::task::spawn_local(leaving::drain(self.clone(), plan));
                }
            }
        }
        table.flush_rooms(self);
        table.flush_dirty();
    }

    /// Microseconds since the shard's start.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The hub's counters for the node's record.
    pub fn gauges(&self) -> Option<&NodeGauges> {
        match &self.service {
            Service::Hub(hub) => Some(hub.gauges()),
            Service::Echo => None,
        }
    }
}

impl Table {
    fn new(settings: &ShardSettings, seed: u64) -> Table {
        Table {
            conns: Slab::new(),
            rooms: Map::default(),
            touched: Vec::new(),
            dirty: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            due: Vec::new(),
            tick: 0,
            next_generation: 1,
            queued: 0,
            asked: settings.asked.clone(),
            random: SmallRng::seed_from_u64(seed),
        }
    }

    /// Enters a new connection.
    pub fn insert(&mut self, make: impl FnOnce(u32) -> Conn, settings: &ShardSettings) -> u32 {
        let generation = self.next_generation;
        self.next_generation = self.next_generation.wrapping_add(1);
        let mut conn = make(generation);
        conn.deadlines = Deadlines::begin(self.tick, settings, &mut self.random);
        u32::try_from(self.conns.insert(conn)).unwrap_or(u32::MAX)
    }

    /// The connection of that name, if it is still that one.
    pub fn conn(&mut self, socket: SocketId) -> Option<&mut Conn> {
        self.conns.get_mut(socket.key as usize).filter(|conn| conn.generation == socket.generation)
    }

    /// Has a connection written to at the end of the turn.
    pub fn mark(&mut self, key: u32) {
        if let Some(conn) = self.conns.get_mut(key as usize)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Takes a connection out, and its subscriptions from the rooms.
    pub fn remove(&mut self, key: u32) -> Option<Conn> {
        let mut conn = self.conns.try_remove(key as usize)?;
        for sub in conn.subs.drain() {
            self.leave(sub.room, key);
        }
        Some(conn)
    }

    /// Takes a connection out of a room's list.
    fn leave(&mut self, room: RoomId, key: u32) {
        if let Some(found) = self.rooms.get_mut(&room) {
            if let Some(at) = found.subs.iter().position(|sub| sub.conn == key) {
                found.subs.swap_remove(at);
            }
            if found.subs.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }
}

//! What a node does each second: beat, probe, tell heads, keep presence and caches true.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_fanout::LANES;
use starling_session_store::{ConversationKey, NodeRecord, SessionState};
use starling_wire::protocol::CloseReason;
use tokio::time::{Instant, MissedTickBehavior};

use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::room::Room;

/// How often.
const TICK: Duration = Duration::from_secs(1);
/// How often a node looks whether it still hears the others.
const LISTEN: Duration = Duration::from_millis(100);
/// How often the lifetimes of presence keys are prolonged, in ticks.
const KEEP_PRESENCE_EVERY: u64 = 20 * 60;
/// How often everything is written to the session store again, in ticks: twice a day, since it forgets a session that was attached
/// and not touched for a week.
const WRITE_AGAIN_EVERY: u64 = 12 * 3_600;
/// How often delivery percentiles are taken, in ticks.
const PERCENTILES_EVERY: u64 = 2;
/// How often idle rooms are forgotten, in ticks.
const SWEEP_EVERY: u64 = 10;

impl Hub {
    pub(crate) async fn tick_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 1_u64.. {
            interval.tick().await;
            self.tick(tick).await;
        }
    }

    /// The lease is renewed apart from everything else: a database that hangs must not make a node look dead.
    pub(crate) async fn beat_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.beat().await;
        }
    }

    /// While the others can't be heard, the database is asked for what they committed: at once, and then each second. Apart from the
    /// ticks, which wait for a Redis that hangs.
    pub(crate) async fn listen_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LISTEN);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<Instant> = None;
        loop {
            interval.tick().await;
            if self.hears() {
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= TICK) {
                asked = Some(Instant::now());
                self.check_heads(&self.rooms.joined()).await;
            }
        }
    }

    /// Whether publications can be heard now; `true` where there are no other nodes.
    pub fn hears(&self) -> bool {
        self.fanout.link().is_none_or(|link| link.connected && link.subscribed) && !self.link.is_deaf()
    }

    async fn tick(self: &Arc<Self>, tick: u64) {
        self.end_lingering();
        for (room, user) in self.typing.take_expired(Instant::now()) {
            self.tell_typing(&room, &user, false);
        }
        self.write_last_seen().await;
        self.retry_overrun();
        let joined = self.rooms.joined();
        self.gauge(joined.len());
        if tick.is_multiple_of(PERCENTILES_EVERY) {
            let (p50, p99) = self.gauges.delivery.take_percentiles();
            self.gauges.delivery_p50_us.store(p50, Ordering::Relaxed);
            self.gauges.delivery_p99_us.store(p99, Ordering::Relaxed);
        }
        for room in &joined {
            room.used_at_s.store(self.seconds(), Ordering::Relaxed);
            if room.state().has_hole() {
                self.repair(room);
            }
        }
        self.check_suspects().await;
        let missed = self.missed.take();
        if !missed.is_empty() {
            let hub = self.clone();
            tokio::spawn(async move { hub.recover(&missed).await });
        }
        if self.clustered {
            self.tend_link().await;
        }
        if tick.is_multiple_of(WRITE_AGAIN_EVERY) {
            self.presence_lost.store(true, Ordering::Relaxed);
        }
        if tick.is_multiple_of(SWEEP_EVERY) {
            self.rooms.sweep(self.seconds(), false);
            self.topics.sweep();
        }
        if tick.is_multiple_of(KEEP_PRESENCE_EVERY) {
            let keys: Vec<ConversationKey> = joined.iter().map(|room| presence_key(room)).collect();
            if let Err(error) = self.session_store.keep_presence(&keys).await {
                tracing::debug!(%error, "presence could not be prolonged");
            }
        }
    }

    /// Renews this node's lease, learns who lives, and writes anew what the store lost.
    pub(crate) async fn beat(self: &Arc<Self>) {
        let record = NodeRecord { node: self.node.to_string(), ..self.record() };
        match self.session_store.beat(&record).await {
            Ok(beat) => {
                let mut known = beat.living;
                known.sort_by(|a, b| a.node.cmp(&b.node));
                let died: Vec<String> = {
                    let mut nodes = self.nodes.lock();
                    let lives = |old: &NodeRecord| known.iter().any(|new| new.node == old.node);
                    let died = nodes.iter().filter(|old| !lives(old)).map(|old| old.node.clone()).collect();
                    *nodes = known;
                    died
                };
                if !died.is_empty() {
                    self.forget_nodes(&died.iter().map(String::as_str).collect::<Vec<_>>());
                    // What a node did last, a message or a change of members, it may not have told any more.
                    let hub = self.clone();
                    tokio::spawn(async move { hub.recover_from_gap(None).await });
                }
                if beat.lost || self.presence_lost.swap(false, Ordering::Relaxed) {
                    self.write_all_again().await;
                }
            }
            Err(error) => tracing::debug!(%error, "the session store did not take the beat"),
        }
    }

    /// What this node says of itself.
    pub fn record(&self) -> NodeRecord {
        let gauges = &self.gauges;
        NodeRecord {
            node: self.name.to_string(),
            address: self.config.address.clone(),
            connections: gauges.connections.load(Ordering::Relaxed),
            sessions: (self.sessions.count() + self.lingering.count()) as u64,
            version: self.config.version.clone(),
            started_at_ms: self.started_at_ms,
            draining: gauges.draining.load(Ordering::Relaxed),
            tenants: self
                .sessions
                .per_tenant()
                .into_iter()
                .map(|(tenant, n)| (tenant.to_string(), n))
                .collect(),
            messages: gauges.messages.load(Ordering::Relaxed),
            deliveries: gauges.deliveries.load(Ordering::Relaxed),
            delivery_p50_us: gauges.delivery_p50_us.load(Ordering::Relaxed),
            delivery_p99_us: gauges.delivery_p99_us.load(Ordering::Relaxed),
        }
    }

    /// Tells everybody that this node goes, so that nobody waits for its lease.
    pub async fn leave(&self) {
        self.publish_message(0, &NodeMessage::Leaving { node: self.node.clone() });
        self.write_last_seen().await;
        if let Err(error) = self.session_store.leave(&self.node).await {
            tracing::debug!(%error, "the lease could not be ended; it runs out by itself");
        }
    }

    /// After publications may have been lost: reads what is missing, and what is cached, anew.
    pub(crate) async fn recover_from_gap(self: &Arc<Self>, lane: Option<u16>) {
        self.topics.doubt();
        let all = || (0..LANES).collect();
        self.recover(&lane.map_or_else(all, |lane| vec![lane])).await;
    }

    /// Reads anew what is known of the conversations of some lanes. What can't be read now is, with the next tick.
    async fn recover(self: &Arc<Self>, lanes: &[u16]) {
        self.rooms.sweep(self.seconds(), true);
        let mut concerned = self.rooms.joined();
        concerned.retain(|room| lanes.contains(&room.lane));
        // A database that is away is not asked for each of them.
        if self.check_heads(&concerned).await {
            for room in &concerned {
                self.refresh(room).await;
            }
        }
        self.read_presence(&concerned).await;
    }

    /// Reads a conversation's members and marks anew, and evicts who is no member any more.
    async fn refresh(self: &Arc<Self>, room: &Arc<Room>) {
        let version = room.state().members_version;
        match self.conversations.open(&room.key.tenant, &room.key.name).await {
            Ok(Some(conversation)) if conversation.id == room.conversation => {
                let before: Vec<Arc<str>> = {
                    let mut state = room.state();
                    if state.members_version != version {
                        // What was heard meanwhile is newer; what else was missed, the next look finds.
                        drop(state);
                        self.missed.enter(room.lane);
                        return;
                    }
                    let before = state.members.keys().cloned().collect();
                    state.refresh(&conversation);
                    before
                };
                for user in before {
                    if !room.is_member(&user) {
                        self.apply_member(&room.key.tenant, &room.key.name, &user, false);
                    }
                }
                if room.state().has_hole() {
                    self.repair(room);
                }
            }
            Ok(_) => self.apply_deleted(&room.key.tenant, &room.key.name, room.conversation),
            Err(error) => {
                tracing::debug!(%error, "a conversation could not be read anew; it will be with the next tick");
                self.missed.enter(room.lane);
            }
        }
    }

    /// Probes the link, tells heads, and builds a link anew that carries nothing.
    async fn tend_link(self: &Arc<Self>) {
        let nonce = self.link.next();
        let probed = self.fanout.probe(nonce).await;
        let hears = self.hears();
        METRICS.fanout_up.set(if hears { 1.0 } else { 0.0 });
        for (lane, heads) in self.committed_heads.to_tell(probed.is_err() || !hears) {
            self.publish_message(lane, &NodeMessage::Heads(heads));
        }
        if probed.is_ok() && hears {
            let unread = self.unread.take();
            if !unread.is_empty() {
                let (hub, mut rooms) = (self.clone(), self.rooms.joined());
                rooms.retain(|room| unread.contains(&room.lane));
                tokio::spawn(async move { hub.read_presence(&rooms).await });
            }
            for lane in self.untold.take() {
                self.publish_message(lane, &NodeMessage::Missed { node: self.node.clone() });
            }
        }
        if self.link.is_deaf() && self.fanout.link().is_some_and(|link| link.connected) {
            tracing::warn!("publications are not heard although the broker is connected; connecting anew");
            self.link.reset();
            self.fanout.reconnect().await;
        }
    }

    /// Writes this node's sessions and presence again, after the store lost them.
    async fn write_all_again(self: &Arc<Self>) {
        let sessions: Vec<SessionState> =
            self.sessions.all().iter().map(|session| session.to_state()).collect();
        match self.session_store.restore(&self.node, &sessions).await {
            Ok(elsewhere) => {
                for id in elsewhere {
                    if let Some(session) = self.sessions.get(&id) {
                        // The store may know less than this node: a client that moved here while it was away is where it wants
                        // to be. Coming back settles it; 4409 would tell the client to stay away.
                        self.close(&session, CloseReason::Restart);
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "sessions could not be written again; the next tick tries");
                self.presence_lost.store(true, Ordering::Relaxed);
                return;
            }
        }
        let joined = self.rooms.joined();
        if !self.rewrite_presence().await {
            self.presence_lost.store(true, Ordering::Relaxed);
        }
        self.read_presence(&joined).await;
        // Whoever read the store before this was written has taken this node's people for gone.
        self.publish_message(0, &NodeMessage::Restored { node: self.node.clone() });
    }

    fn retry_overrun(&self) {
        for room in self.rooms.joined() {
            if room.overrun.load(Ordering::Relaxed) {
                room.overrun.store(false, Ordering::Relaxed);
                if !room.tell_head(&*self.shards) {
                    room.overrun.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    fn end_lingering(&self) {
        for lingerer in self.lingering.take_expired(Instant::now()) {
            self.let_go(&lingerer);
        }
    }

    fn gauge(&self, joined: usize) {
        METRICS.sessions.set(self.sessions.count() as f64);
        METRICS.joined.set(joined as f64);
        METRICS.topics.set(self.topics.count() as f64);
        METRICS
            .append_depth
            .set(self.append_lanes.iter().map(crate::lane::Lane::depth).sum::<usize>() as f64);
        METRICS.publish_depth.set(self.publish_lane.depth() as f64);
        METRICS.topic_depth.set(self.topic_lane.depth() as f64);
        METRICS.presence_depth.set(self.presence_lane.depth() as f64);
        for pool in self.conversations.pools() {
            let gauge =
                |state| metrics::gauge!("starling_pool_connections", "pool" => pool.name, "state" => state);
            gauge("idle").set(pool.idle as f64);
            gauge("used").set(pool.size.saturating_sub(pool.idle) as f64);
        }
    }
}

pub(crate) fn presence_key(room: &Room) -> ConversationKey {
    ConversationKey { tenant: room.key.tenant.clone(), conversation: room.key.name.clone() }
}

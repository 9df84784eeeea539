//! Having again what was or may have been missed: from the log, and from the session store.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use starling_fanout::PARTITIONS;
use starling_session_store::{NotRestored, Restored, SessionRecord, Stamp, Taken};
use tokio::time::{Instant, MissedTickBehavior};

use crate::Map;
use crate::clock::TICK;
use crate::directory::members::READ_AT_ONCE;
use crate::hub::Hub;
use crate::room::Room;
use crate::sessions::Session;

/// How often this node's sessions are compared with the session store at most, however often the link breaks.
const CHECK_SESSIONS_EVERY: Duration = Duration::from_secs(10);
/// How many nodes of earlier attaches are told at once.
const TOLD_AT_ONCE: usize = 16;
/// How often a node looks whether it still hears the others.
const LISTEN: Duration = Duration::from_millis(100);

impl Hub {
    /// While this node can't hear the others, or another one can't tell or may have ended before it could, the log is asked for what
    /// they committed: at once, and then each second.
    pub(crate) async fn listen_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LISTEN);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<Instant> = None;
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            if !self.neighbours.may_lack() {
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= TICK) {
                asked = Some(Instant::now());
                self.check_heads(&self.rooms.in_use(self.seconds())).await;
            }
        }
    }

    /// Something of a lane, or of all, was or may have been missed: it is read anew, soon and once.
    pub(crate) fn miss(&self, lane: Option<u16>) {
        let lanes = lane.map_or(0..PARTITIONS, |lane| lane..lane + 1);
        for lane in lanes {
            self.missed.insert(lane);
            self.unread.insert(lane);
        }
    }

    /// Reads anew what was missed, one set of lanes after the other. What can't be read now is, a second later.
    pub(crate) async fn recover_forever(self: Arc<Self>) {
        while !self.neighbours.lifetime().has_ended() {
            let lanes = self.missed.taken().await;
            self.rooms.sweep(self.seconds(), true);
            let mut concerned = self.rooms.joined();
            concerned.retain(|room| lanes.contains(&room.lane));
            // What was read of the heads goes out before the members of thousands of conversations are read.
            if !(self.check_heads(&concerned).await && self.read_anew(&concerned).await) {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Reads anew who is there, wherever that could not be read or may be old.
    pub(crate) async fn read_presence_forever(self: Arc<Self>) {
        while !self.neighbours.lifetime().has_ended() {
            let lanes = self.unread.taken().await;
            self.rooms.doubt_presence();
            let mut rooms = self.rooms.joined();
            rooms.retain(|room| lanes.contains(&room.lane));
            if !self.read_presence(&rooms).await {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Compares this node's sessions with the session store, at once after this node may have missed what became of them.
    pub(crate) async fn check_sessions_forever(self: Arc<Self>) {
        while !self.neighbours.lifetime().has_ended() {
            self.sessions_doubted.notified().await;
            while !self.write_sessions_again().await {
                tokio::time::sleep(TICK).await;
            }
            tokio::time::sleep(CHECK_SESSIONS_EVERY).await;
        }
    }

    /// Writes this node's sessions to the store. Those that were ended, or that a later attach holds on another node, are closed; the
    /// nodes of earlier attaches are told. `false`: the store did not answer.
    pub(crate) async fn write_sessions_again(&self) -> bool {
        self.write_again(self.sessions.all()).await
    }

    /// Writes some of this node's sessions to the store, as [`Hub::write_sessions_again`].
    pub(crate) async fn write_again(&self, mut sessions: Vec<Arc<Session>>) -> bool {
        // These are closed already, and the store may not know that they were ended.
        sessions.retain(|session| !self.ended.contains(&session.id));
        let states: Vec<SessionRecord> = sessions.iter().map(|session| session.to_state()).collect();
        let Restored { refused, taken } = match self.session_store.restore(&self.node, &states).await {
            Ok(restored) => restored,
            Err(error) => {
                tracing::debug!(%error, "sessions could not be written again; that is tried anew");
                return false;
            }
        };
        let refused: Map<&str, &NotRestored> =
            refused.iter().map(|refused| (refused.session.as_str(), refused)).collect();
        for (session, written) in sessions.iter().zip(&states) {
            match refused.get(&*session.id) {
                // The message that an operator ended it did not arrive.
                Some(NotRestored { ended: true, .. }) => self.end_here(&session.id),
                // By another socket of this node, which takes its place in this moment, or breaks off and leaves it to this one.
                Some(NotRestored { node, .. }) if **node == *self.node => {}
                Some(_) => self.supersede(session),
                // Its socket dropped meanwhile, and that may have been written before.
                None if self.sessions.get(&session.id).is_none_or(|now| !Arc::ptr_eq(&now, session)) => {
                    self.writer.detach(&session.id, written.stamp);
                }
                None => {}
            }
        }
        let stamps: Map<&str, Stamp> =
            states.iter().map(|state| (state.session.as_str(), state.stamp)).collect();
        let told = futures_util::stream::iter(taken).for_each_concurrent(TOLD_AT_ONCE, async |taken| {
            let Taken { session, node } = taken;
            if let Some(stamp) = stamps.get(session.as_str()) {
                self.take_over(&session.into(), &node, *stamp).await;
            }
        });
        told.await;
        true
    }

    /// Reads members and marks of conversations anew. `false`: some could not be read, and are missed still.
    async fn read_anew(&self, rooms: &[Arc<Room>]) -> bool {
        for (index, chunk) in rooms.chunks(READ_AT_ONCE).enumerate() {
            if !self.read_members(chunk).await {
                // A database that is away is not asked for each of them.
                rooms[index * READ_AT_ONCE..].iter().for_each(|room| self.missed.insert(room.lane));
                return false;
            }
        }
        true
    }
}

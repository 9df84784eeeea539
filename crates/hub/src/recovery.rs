//! Having again what was or may have been missed: from the log, and from the session store.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::Conversation;
use starling_fanout::LANES;
use tokio::time::{Instant, MissedTickBehavior};

use crate::Map;
use crate::hub::Hub;
use crate::room::Room;
use crate::tick::TICK;

/// How often a node looks whether it still hears the others.
const LISTEN: Duration = Duration::from_millis(100);
/// How many conversations are read anew in one query, with all their members.
const ROOMS_PER_READ: usize = 200;

impl Hub {
    /// While this node can't hear the others, or another one can't tell or may have ended before it could, the log is asked for what
    /// they committed: at once, and then each second.
    pub(crate) async fn listen_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(LISTEN);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<Instant> = None;
        while self.goes_on(&mut interval).await {
            if self.hears() && !self.peers.may_owe(Instant::now()) {
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= TICK) {
                asked = Some(Instant::now());
                self.check_heads(&self.rooms.joined()).await;
            }
        }
    }

    /// Something of a lane, or of all, was or may have been missed: it is read anew, soon and once.
    pub(crate) fn miss(&self, lane: Option<u16>) {
        let lanes = lane.map_or(0..LANES, |lane| lane..lane + 1);
        for lane in lanes {
            self.missed.enter(lane);
            self.unread.enter(lane);
        }
    }

    /// Reads anew what was missed, one set of lanes after the other. What can't be read now is, a second later.
    pub(crate) async fn recover_forever(self: Arc<Self>) {
        while !self.has_left() {
            let lanes = self.missed.entered().await;
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
        while !self.has_left() {
            let lanes = self.unread.entered().await;
            self.rooms.doubt_presence();
            let mut rooms = self.rooms.joined();
            rooms.retain(|room| lanes.contains(&room.lane));
            if !self.read_presence(&rooms).await {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Reads members and marks of conversations anew, and evicts who is no member any more. `false`: some could not be read,
    /// and are missed still.
    async fn read_anew(&self, rooms: &[Arc<Room>]) -> bool {
        let mut all = true;
        for chunk in rooms.chunks(ROOMS_PER_READ) {
            let versions: Vec<u64> = chunk.iter().map(|room| room.state().members_version).collect();
            let ids: Vec<i64> = chunk.iter().map(|room| room.conversation).collect();
            let opened = match self.conversations.open_many(&ids).await {
                Ok(opened) => opened,
                Err(error) => {
                    tracing::debug!(%error, "conversations could not be read anew; they will be, later");
                    rooms.iter().for_each(|room| self.missed.enter(room.lane));
                    return false;
                }
            };
            let mut opened: Map<i64, Conversation> =
                opened.into_iter().map(|conversation| (conversation.id, conversation)).collect();
            for (room, version) in chunk.iter().zip(versions) {
                match opened.remove(&room.conversation) {
                    Some(conversation) => all &= self.refresh(room, version, &conversation),
                    None => self.apply_deleted(&room.key.tenant, &room.key.name, room.conversation),
                }
            }
        }
        all
    }

    /// Takes over what the database says of a conversation whose members were of this version when it was asked. `false`: they
    /// changed since, and it is missed still.
    fn refresh(&self, room: &Arc<Room>, version: u64, conversation: &Conversation) -> bool {
        let before: Vec<Arc<str>> = {
            let mut state = room.state();
            if state.members_version != version {
                // What was heard meanwhile is newer; what else was missed, the next look finds.
                drop(state);
                self.missed.enter(room.lane);
                return false;
            }
            let before = state.members.keys().cloned().collect();
            state.refresh(conversation);
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
        true
    }
}

//! Compares what is cached with the database: after something may have been missed, and regularly for changes that no node published.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::{Conversation, ConversationHead, ConversationId};
use tokio::time::{Instant, MissedTickBehavior};

use super::Directory;
use crate::Map;
use crate::clock::{TICK, every_second};
use crate::neighbours::{Lifetime, Neighbours};
use crate::room::Room;

/// Most heads that are read in one query.
const HEADS_PER_QUERY: usize = 5_000;
/// Most conversations that are read again in one query, with all their members.
pub(super) const CONVERSATIONS_PER_QUERY: usize = 200;
/// How often everything that is cached is compared with the database, whatever was heard. If the database responds, no change stays unknown
/// for longer.
const COMPARE: Duration = Duration::from_secs(60);
/// How often a node checks whether it still hears the others.
const LISTEN: Duration = Duration::from_millis(100);

impl Directory {
    /// Requests a comparison of a partition's conversations with the database. Requests before it begins count as one.
    pub fn reload(&self, partition: u16) {
        self.to_reload.insert(partition);
    }

    /// Compares what may have been missed, one set of partitions after the other. What can't be read is tried again a second later.
    pub async fn reload_forever(self: Arc<Self>, lifetime: Lifetime) {
        while !lifetime.has_ended() {
            let partitions = self.to_reload.taken().await;
            self.rooms.sweep(true);
            let mut concerned = self.rooms.joined();
            concerned.retain(|room| partitions.contains(&room.partition));
            // Messages that the heads show to be missing are delivered before the members of thousands of conversations are read.
            if !(self.check_heads(&concerned).await && self.read_all_members(&concerned).await) {
                tokio::time::sleep(TICK).await;
            }
        }
    }

    /// Compares the conversations with the log while messages may be missing: because this node is deaf, or another one may not have
    /// published all. It does so at once, and then each second.
    pub async fn follow_log_forever(self: Arc<Self>, neighbours: Arc<Neighbours>) {
        let mut interval = tokio::time::interval(LISTEN);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut asked: Option<Instant> = None;
        while neighbours.lifetime().next_tick(&mut interval).await {
            if !neighbours.may_miss_messages() {
                asked = None;
            } else if asked.is_none_or(|asked| asked.elapsed() >= TICK) {
                asked = Some(Instant::now());
                self.check_heads(&self.rooms.in_use()).await;
            }
        }
    }

    /// Compares everything that is cached with the database regularly. No node publishes a change whose statement the database finished
    /// only after the node that sent it had given up or died.
    pub async fn compare_forever(self: Arc<Self>) {
        let mut interval = tokio::time::interval(COMPARE);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            // If the database is down, every node knows that it may miss something.
            if self.store.ping().await.is_ok() {
                self.check_heads(&self.rooms.in_use()).await;
            }
        }
    }

    /// Checks each second which incarnation the database is in. After an outage it also compares the heads.
    pub async fn watch_incarnation_forever(self: Arc<Self>, lifetime: Lifetime) {
        let (mut interval, mut known, mut was_away) = (every_second(), None, false);
        while lifetime.next_tick(&mut interval).await {
            match self.store.incarnation().await {
                Ok(incarnation) => {
                    if known.as_ref() != Some(&incarnation) {
                        self.begin_incarnation(&incarnation);
                    }
                    if was_away {
                        // A standby that took over may lack the latest commits.
                        was_away = !self.check_heads(&self.rooms.in_use()).await;
                    }
                    known = Some(incarnation);
                }
                Err(error) => {
                    tracing::debug!(%error, "the database's incarnation could not be read");
                    was_away = true;
                }
            }
        }
    }

    /// Compares the heads of these conversations, in one query for many, and has what is missing read. `false`: the database did not
    /// respond.
    pub async fn check_heads(&self, rooms: &[Arc<Room>]) -> bool {
        for chunk in rooms.chunks(HEADS_PER_QUERY) {
            let ids: Vec<ConversationId> = chunk.iter().map(|room| room.conversation).collect();
            let heads = match self.store.heads(&ids).await {
                Ok(heads) => heads,
                Err(error) => {
                    tracing::debug!(%error, "heads could not be read; trying again with the next tick");
                    rooms.iter().for_each(|room| self.reload(room.partition));
                    return false;
                }
            };
            let heads: Map<ConversationId, ConversationHead> =
                heads.into_iter().map(|head| (head.id, head)).collect();
            let mut outdated = Vec::new();
            for room in chunk {
                match heads.get(&room.conversation) {
                    Some(head) if self.learn(room, head) => {}
                    Some(_) => outdated.push(room.clone()),
                    None => self.end(room),
                }
            }
            // Do this once for all, since it looks at all sessions of the node.
            self.outdate(&outdated);
        }
        true
    }

    /// Reads the members, read marks and heads of these conversations again, in one query, and evicts users who are no longer members.
    /// `false`: the database did not respond. They are then read later.
    pub(super) async fn read_members(&self, rooms: &[Arc<Room>]) -> bool {
        let known: Vec<u64> = rooms.iter().map(|room| room.state().members.known_version()).collect();
        let ids: Vec<ConversationId> = rooms.iter().map(|room| room.conversation).collect();
        let read = match self.store.open_many(&ids).await {
            Ok(read) => read,
            Err(error) => {
                tracing::debug!(%error, "members could not be read again; they will be, later");
                rooms.iter().for_each(|room| self.reload(room.partition));
                return false;
            }
        };
        let read: Map<ConversationId, Conversation> =
            read.into_iter().map(|conversation| (conversation.id, conversation)).collect();
        let mut outdated = Vec::new();
        for (room, known) in rooms.iter().zip(known) {
            match read.get(&room.conversation) {
                Some(conversation) if *conversation.log != *room.log => outdated.push(room.clone()),
                Some(conversation) => self.take_members(room, known, conversation),
                None => self.end(room),
            }
        }
        self.outdate(&outdated);
        true
    }

    /// Reads the members and read marks of any number of conversations again. `false`: some could not be read. They are then read later.
    async fn read_all_members(&self, rooms: &[Arc<Room>]) -> bool {
        for (index, chunk) in rooms.chunks(CONVERSATIONS_PER_QUERY).enumerate() {
            if !self.read_members(chunk).await {
                // If the database is down, don't ask it for each of the other conversations.
                rooms[index * CONVERSATIONS_PER_QUERY..].iter().for_each(|room| self.reload(room.partition));
                return false;
            }
        }
        true
    }
}

//! `read`, `typing` and `presence`.

use std::sync::Arc;

use starling_conversation_store::{LastSeen, ReadMark};
use starling_model::{ConversationName, TenantName, UserName};
use starling_session_store::PresenceEntry;
use starling_wire::protocol::{self, PresenceList, PresenceUser, Timestamp};

use crate::hub::Hub;
use crate::node_message::NodeMessage;
use crate::reply::{Answer, Handling, Reply};
use crate::room::Room;
use crate::sessions::Session;
use crate::{CommandError, Map};

impl Hub {
    /// `read`: raises the user's mark, in the database and for everybody who joined.
    pub async fn read(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
        seq: u64,
    ) -> Result<(), CommandError> {
        let room = self.member_room(tenant, user, name).await?;
        if room.state().members.get(user).is_some_and(|mark| *mark >= seq) {
            return Ok(());
        }
        let mark = ReadMark { conversation: room.conversation, user: user.clone(), seq };
        self.reads.wait(tenant, user, 1).await?;
        let turn = self.reads.turn(tenant, user).await?;
        let risen = self.conversations.mark_read(&[mark]).await?;
        drop(turn);
        if let Some(seq) = risen.into_iter().next().flatten() {
            let (tenant, name) = (room.key.tenant.clone(), room.key.name.clone());
            self.rooms.doubt_load(&tenant, &name);
            self.apply_read(&room, user, seq);
            let (conversation, user) = (Some(room.conversation), user.clone());
            self.publisher
                .publish_message(room.lane, &NodeMessage::Read { tenant, name, conversation, user, seq });
        }
        Ok(())
    }

    pub(super) fn handle_typing(
        self: Arc<Self>,
        session: Arc<Session>,
        name: ConversationName,
        typing: bool,
    ) -> Handling {
        match self.known_member_room(&session.tenant, &session.user, &name) {
            Some(Ok(room)) => {
                self.tell_typing(&room, &session.user, typing);
                Handling::Now(Ok(Reply::Empty).into())
            }
            Some(Err(error)) => Handling::Now(Err(error).into()),
            None => Handling::Async(Box::pin(async move {
                let room = self.member_room(&session.tenant, &session.user, &name).await;
                Answer::Reply(room.map(|room| {
                    self.tell_typing(&room, &session.user, typing);
                    Reply::Empty
                }))
            })),
        }
    }

    pub(crate) fn tell_typing(&self, room: &Arc<Room>, user: &UserName, typing: bool) {
        if room.is_gone() {
            return;
        }
        let event = protocol::Typing { conversation: room.key.name.clone(), user: user.clone(), typing };
        room.broadcast(&*self.shards, event, Some(user));
        let message = NodeMessage::Typing {
            tenant: room.key.tenant.clone(),
            name: room.key.name.clone(),
            conversation: Some(room.conversation),
            user: user.clone(),
            typing,
        };
        self.publisher.publish_message(room.lane, &message);
        self.typing.note(room, user, typing);
    }

    /// `presence`: every member, whether there, and since when not.
    pub async fn presence(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
    ) -> Result<PresenceList, CommandError> {
        self.reads.take(tenant, user)?;
        let room = self.member_room(tenant, user, name).await?;
        // What was known when the last socket here left is old, also where the store says that nobody is there.
        let entries = if self.publisher.is_clustered() && !room.state().online_known {
            let mut answers = self.session_store.presence(&[room.presence_key()]).await?;
            Some(answers.pop().unwrap_or_default())
        } else {
            None
        };
        // Counted before the room is locked: the shards' threads wait for it, and there may be thousands of members.
        let elsewhere = entries.as_deref().map(|entries| self.devices_elsewhere(entries));
        let mut users: Vec<PresenceUser> = {
            let state = room.state();
            let devices = |user: &UserName| match &elsewhere {
                None => state.online.devices(user),
                Some(elsewhere) => {
                    let others = elsewhere.get(user).copied().unwrap_or(0);
                    state.online.on_node(user, &self.node).saturating_add(others)
                }
            };
            let view = |user: &UserName| {
                let devices = devices(user);
                PresenceUser { user: user.clone(), online: devices > 0, devices, last_seen: None }
            };
            state.members.keys().map(view).collect()
        };
        users.sort_by(|a, b| a.user.cmp(&b.user));
        let away: Vec<UserName> =
            users.iter().filter(|user| !user.online).map(|user| user.user.clone()).collect();
        let turn = self.reads.turn(tenant, user).await?;
        let seen = self.seen(tenant, &away).await;
        drop(turn);
        for seen in seen {
            if let Ok(at) = users.binary_search_by(|user| user.user.cmp(&seen.user)) {
                users[at].last_seen = Some(Timestamp(seen.at_ms));
            }
        }
        Ok(PresenceList { users })
    }

    /// With how many sessions each user is there on other nodes.
    fn devices_elsewhere<'a>(&self, entries: &'a [PresenceEntry]) -> Map<&'a UserName, u32> {
        let mut devices: Map<&UserName, u32> = Map::default();
        for entry in entries.iter().filter(|entry| entry.node != *self.node) {
            let count = devices.entry(&entry.user).or_default();
            *count = count.saturating_add(entry.devices);
        }
        devices
    }

    /// When users were last seen: by this node a moment ago, or by the database. With the database away what it knows is left out:
    /// who is there is worth more than since when the others are not.
    pub(crate) async fn seen(&self, tenant: &TenantName, users: &[UserName]) -> Vec<LastSeen> {
        if users.is_empty() {
            return Vec::new();
        }
        let mut seen = self.conversations.last_seen(tenant, users).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "last-seen times could not be read; they are left out");
            Vec::new()
        });
        let mut fresh: Map<&UserName, i64> = Map::default();
        for user in users {
            // Locked for each by itself: the shards' threads need it too.
            let at_ms = self.last_seen.lock().of(tenant, user);
            fresh.extend(at_ms.map(|at_ms| (user, at_ms)));
        }
        for known in &mut seen {
            if let Some(at_ms) = fresh.remove(&known.user) {
                known.at_ms = known.at_ms.max(at_ms);
            }
        }
        seen.extend(fresh.into_iter().map(|(user, at_ms)| LastSeen {
            tenant: tenant.clone(),
            user: user.clone(),
            at_ms,
        }));
        seen
    }
}

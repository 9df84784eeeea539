//! `read`, `typing` and `presence`.

use std::sync::Arc;

use starling_conversation_store::ReadMark;
use starling_model::{ConversationName, Seq, TenantName, UserName};
use starling_wire::protocol::{PresenceList, PresenceUser, Timestamp};

use super::answer::{Answer, Handling};
use crate::hub::Hub;
use crate::sessions::Session;
use crate::{CommandError, Reply};

impl Hub {
    /// `read`: raises the user's read mark, in the database and for everybody who joined.
    pub async fn read(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
        seq: Seq,
    ) -> Result<(), CommandError> {
        let room = self.directory.member_room(tenant, user, name).await?;
        if room.state().members.read_mark(user).is_some_and(|mark| mark >= seq) {
            return Ok(());
        }
        let mark = ReadMark { conversation: room.conversation, user: user.clone(), seq };
        self.reads.wait(tenant, user, 1).await?;
        let turn = self.reads.turn(tenant, user).await?;
        let risen = self.store.mark_read(&[mark]).await?;
        drop(turn);
        if let Some(seq) = risen.into_iter().next().flatten() {
            self.directory.tell_read_mark(&room, user, seq);
        }
        Ok(())
    }

    pub(super) fn handle_typing(
        self: Arc<Self>,
        session: Arc<Session>,
        name: ConversationName,
        typing: bool,
    ) -> Handling {
        match self.directory.known_member_room(&session.tenant, &session.user, &name) {
            Some(Ok(room)) => {
                self.typing.set(&room, &session.user, typing);
                Handling::Now(Ok(Reply::Empty).into())
            }
            Some(Err(error)) => Handling::Now(Err(error).into()),
            None => Handling::Async(Box::pin(async move {
                let room = self.directory.member_room(&session.tenant, &session.user, &name).await;
                Answer::Reply(room.map(|room| {
                    self.typing.set(&room, &session.user, typing);
                    Reply::Empty
                }))
            })),
        }
    }

    /// `presence`: returns every member, whether they are online, and when those who are not were last seen.
    pub async fn presence(
        &self,
        tenant: &TenantName,
        user: &UserName,
        name: &ConversationName,
    ) -> Result<PresenceList, CommandError> {
        self.reads.take(tenant, user)?;
        let room = self.directory.member_room(tenant, user, name).await?;
        // Count before the room is locked. The shards' threads need the lock, and there may be thousands of members.
        let elsewhere = self.presence.elsewhere(&room).await?;
        let mut users: Vec<PresenceUser> = {
            let state = room.state();
            let devices = |user: &UserName| match &elsewhere {
                None => state.presence.online().devices(user),
                Some(elsewhere) => {
                    let others = elsewhere.get(user).copied().unwrap_or(0);
                    state.presence.online().on_node(user, &self.node).saturating_add(others)
                }
            };
            let view = |user: &UserName| {
                let devices = devices(user);
                PresenceUser { user: user.clone(), online: devices > 0, devices, last_seen: None }
            };
            state.members.users().map(view).collect()
        };
        users.sort_by(|a, b| a.user.cmp(&b.user));
        let away: Vec<UserName> =
            users.iter().filter(|user| !user.online).map(|user| user.user.clone()).collect();
        let turn = self.reads.turn(tenant, user).await?;
        let seen = self.last_seen.read(tenant, &away).await;
        drop(turn);
        for seen in seen {
            if let Ok(at) = users.binary_search_by(|user| user.user.cmp(&seen.user)) {
                users[at].last_seen = Some(Timestamp(seen.at_ms));
            }
        }
        Ok(PresenceList { users })
    }
}

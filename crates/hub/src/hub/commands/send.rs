//! `send` and `history`.

use std::sync::Arc;

use starling_conversation_store::{Range, Role};
use starling_model::{Seq, TenantName, UserName};
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{self, History, HistoryPage, Sent};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Answer, Handling};
use super::hooks::rewrite;
use crate::CommandError;
use crate::completion::Completion;
use crate::hub::Hub;
use crate::log::stored;
use crate::reads::further_reads;
use crate::room::Room;
use crate::sessions::Session;

/// How many messages a read replica may lag. Newer ones are read from the primary.
const REPLICA_LAG: u64 = 1_000;

impl Hub {
    /// Handles `send` of a connection. It does not wait if everything that it needs is cached, writes are not limited, and
    /// nobody is asked.
    pub(super) fn handle_send(
        self: Arc<Self>,
        session: &Arc<Session>,
        id: u64,
        send: protocol::Send,
    ) -> Handling {
        let waits = self.write_limits.apply_to(&session.tenant)
            || self.decider(&session.tenant, HookPoint::Send).is_some();
        let known = match waits {
            // The allowance comes first, whether the name is cached or not. Otherwise refusals would tell which names exist.
            true => None,
            false => self.directory.known_member_room(&session.tenant, &session.user, &send.conversation),
        };
        match known {
            Some(Err(error)) => return Handling::Now(Err(error).into()),
            Some(Ok(room)) => {
                let done = Completion::Socket { socket: session.socket, id, began: Instant::now() };
                self.accept(room, session.user.clone(), Role::User, send, done);
                return Handling::Later;
            }
            None => {}
        }
        let (hub, session) = (self, session.clone());
        Handling::Async(Box::pin(async move {
            let sent = hub.send(&session.tenant, &session.user, Role::User, send).await;
            Answer::Reply(sent.map(Into::into))
        }))
    }

    /// Appends a message to a conversation that its sender is a member of, and waits until it is committed. The sender's allowance is
    /// charged first, since an unknown name costs a query. The hook for messages is asked last, so that only what may happen is asked about.
    pub async fn send(
        &self,
        tenant: &TenantName,
        sender: &UserName,
        role: Role,
        mut send: protocol::Send,
    ) -> Result<Sent, CommandError> {
        self.write_limits.take(tenant, sender).await?;
        let mut room = self.directory.member_room(tenant, sender, &send.conversation).await?;
        if let Some(decider) = self.decider(tenant, HookPoint::Send) {
            let question = Question::Send {
                user: sender,
                conversation: &send.conversation,
                key: &send.key,
                content: &send.content,
                metadata: send.metadata.as_ref(),
            };
            let decided = self.ask(&decider, question).await?;
            rewrite(&mut send, decided);
            // The sender may have been removed meanwhile.
            room = self.directory.member_room(tenant, sender, &send.conversation).await?;
        }
        self.commit(room, sender.clone(), role, send).await
    }

    /// Appends a message under any user's name, member or not. The caller must have the scope `admin`.
    pub async fn send_as(
        &self,
        tenant: &TenantName,
        sender: &UserName,
        role: Role,
        send: protocol::Send,
    ) -> Result<Sent, CommandError> {
        let room = self.directory.room(tenant, sender, &send.conversation).await?;
        let room = room.ok_or_else(CommandError::no_such_conversation)?;
        self.commit(room, sender.clone(), role, send).await
    }

    /// `history`: returns a page of at most `bytes_max` bytes. It counts as a read of this user, and is refused if their allowance is used
    /// up.
    pub async fn history(
        &self,
        tenant: &TenantName,
        user: &UserName,
        history: &History,
        bytes_max: usize,
    ) -> Result<HistoryPage, CommandError> {
        self.reads.take(tenant, user)?;
        let room = self.directory.member_room(tenant, user, &history.conversation).await?;
        self.page(&room, user, history, bytes_max).await
    }

    /// Reads a page of the log, in a turn of the reader. A large page is charged to the reader as further reads.
    pub(crate) async fn page(
        &self,
        room: &Room,
        reader: &UserName,
        history: &History,
        bytes_max: usize,
    ) -> Result<HistoryPage, CommandError> {
        let range = match (history.before, history.after) {
            (Some(before), _) => Range::Before(Seq::new(before)),
            (_, Some(after)) => Range::After(Seq::new(after)),
            _ => Range::Newest,
        };
        let fresh =
            !matches!(range, Range::Before(before) if before.get() + REPLICA_LAG < room.state().head().get());
        let store = &self.store;
        let turn = self.reads.turn(&room.key.tenant, reader).await?;
        let page = store.messages(room.conversation, range, history.limit, bytes_max, fresh).await?;
        drop(turn);
        self.reads.charge(&room.key.tenant, reader, further_reads(&page));
        let conversation = &room.key.name;
        let messages = page.messages.into_iter().map(|message| stored(conversation, message)).collect();
        Ok(HistoryPage { messages, more: page.more })
    }

    async fn commit(
        &self,
        room: Arc<Room>,
        sender: UserName,
        role: Role,
        send: protocol::Send,
    ) -> Result<Sent, CommandError> {
        let (caller, answer) = oneshot::channel();
        self.accept(room, sender, role, send, Completion::Caller(caller));
        answer.await.unwrap_or_else(|_| Err(CommandError::unavailable("the node is stopping")))
    }

    fn accept(
        &self,
        room: Arc<Room>,
        sender: UserName,
        role: Role,
        send: protocol::Send,
        done: Completion<Sent>,
    ) {
        self.appends.append(room, sender, role, send, done);
    }
}

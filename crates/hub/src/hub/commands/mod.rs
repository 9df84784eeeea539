//! The commands, one function each. The WebSocket side, HTTP and tests call the same functions.

mod answer;
mod connect;
mod conversation;
mod hooks;
mod jobs;
mod join;
mod limits;
mod marks;
mod operate;
mod publish;
mod schedules;
mod send;
mod subscribe;
mod telling;
mod webhooks;

use std::sync::Arc;

pub use answer::{Answer, Handling};
pub use connect::PreparedConnect;
pub use conversation::{ConversationPage, ConversationView, Posted};
pub use hooks::HookRequest;
pub use jobs::{JobsMatching, JobsTaken, NewJobRequest, QueuesVisible, TakeRequest};
pub use join::{Attachment, PreparedJoin};
pub use operate::UserPresence;
pub use schedules::ScheduleRequest;
use starling_model::{Seq, TopicName};
use starling_wire::protocol::{Command, Cursor, Refreshed, Timestamp};
pub use subscribe::{PreparedSubscribe, TopicAttachment};
use tokio::sync::OwnedSemaphorePermit;
pub use webhooks::WebhookRequest;

use crate::hub::Hub;
use crate::sessions::Session;
use crate::{CommandError, Reply};

/// After how many milliseconds to ask again for an action on many jobs.
const BULK_RETRY_MS: u64 = 5_000;

impl Hub {
    /// Begins a command of an attached session. `id`: the command's id, which the reply needs if the result is [`Handling::Later`].
    pub fn handle(self: &Arc<Self>, session: &Arc<Session>, id: u64, command: Command) -> Handling {
        let hub = self.clone();
        let session = session.clone();
        match command {
            Command::Send(send) => hub.handle_send(&session, id, send),
            Command::Publish { topic, data } => hub.handle_publish(&session, id, topic, data),
            Command::Ping {} => Handling::Now(Ok(Reply::Empty).into()),
            Command::Connect(_) => {
                Handling::Now(Err(CommandError::conflict("this connection is connected already")).into())
            }
            Command::Leave { conversation } => match hub.attachments.leave(&session, &conversation) {
                Some(room) => Handling::Now(Answer::Leave(Some(room))),
                // Leaving a conversation that one has not joined is no error. But one that the user may not see does not exist.
                None => Handling::Async(Box::pin(async move {
                    match hub.directory.member_room(&session.tenant, &session.user, &conversation).await {
                        Ok(_) => Answer::Leave(None),
                        Err(error) => Err(error).into(),
                    }
                })),
            },
            Command::Unsubscribe { topic } => {
                Handling::Now(Answer::Leave(hub.attachments.unsubscribe(&session, &topic)))
            }
            Command::Typing { conversation, typing } => hub.handle_typing(session, conversation, typing),
            Command::Create(create) => Handling::Async(Box::pin(async move {
                let identity = session.identity();
                let created = hub.create(&identity, create).await;
                Answer::Reply(created.map(Reply::Created))
            })),
            Command::Join { conversation, after, log } => {
                // A log id means nothing without a seq.
                let cursor = after.map(|seq| Cursor { seq, log });
                Handling::Async(Box::pin(async move {
                    let joined = hub.prepare_join(session, &conversation, cursor).await;
                    joined.map_or_else(|error| Err(error).into(), Answer::Join)
                }))
            }
            Command::History(history) => Handling::Async(Box::pin(async move {
                let page = hub.history(&session.tenant, &session.user, &history, session.page_bytes()).await;
                Answer::Reply(page.map(|page| Reply::History(Box::new(page))))
            })),
            Command::Read { conversation, seq } => Handling::Async(Box::pin(async move {
                let read = hub.read(&session.tenant, &session.user, &conversation, Seq::new(seq)).await;
                Answer::Reply(read.map(|()| Reply::Empty))
            })),
            Command::Presence { conversation } => Handling::Async(Box::pin(async move {
                let list = hub.presence(&session.tenant, &session.user, &conversation).await;
                Answer::Reply(list.map(Reply::Presence))
            })),
            Command::Subscribe { topic, since } => Handling::Async(Box::pin(async move {
                let subscribed = hub.prepare_subscribe(session, topic, since).await;
                subscribed.map_or_else(|error| Err(error).into(), Answer::Subscribe)
            })),
            Command::Refresh { token } => {
                Handling::Async(Box::pin(async move { hub.refresh_token(&session, &token).await }))
            }
        }
    }

    async fn refresh_token(&self, session: &Session, token: &str) -> Answer {
        let identity = match self.authenticate(token).await {
            Ok(identity) => identity,
            Err(error) => return Err(error.into()).into(),
        };
        if identity.user != session.user || identity.tenant != session.tenant {
            return Err(CommandError::forbidden("the new token is of another user or tenant")).into();
        }
        let expires_at = Timestamp(identity.expires_at_ms);
        let lost: Vec<TopicName> = {
            let mut state = session.state();
            let topics = state.topics.iter().map(|topic| &topic.key.name);
            let lost = topics.filter(|topic| !identity.scopes.may_subscribe(topic)).cloned().collect();
            state.identity = identity;
            lost
        };
        let rooms = lost.iter().filter_map(|topic| self.attachments.unsubscribe(session, topic)).collect();
        Answer::Refreshed(Refreshed { expires_at }, rooms)
    }

    /// Runs a change to its end, even if its caller stops waiting: a client that closes its connection drops its request's future. What the
    /// database has committed must be published.
    async fn to_the_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, CommandError>> + Send + 'static,
    ) -> Result<T, CommandError> {
        let slot = self.change_slots.clone().acquire_owned().await.map_err(|_| stopping())?;
        self.keep_going(slot, change).await
    }

    /// Runs an action on many jobs to its end, as [`to_the_end`](Self::to_the_end) does. It may take minutes, so it has slots of its own,
    /// and is refused while they are taken.
    async fn bulk_to_the_end<T: Send + 'static>(
        &self,
        action: impl Future<Output = Result<T, CommandError>> + Send + 'static,
    ) -> Result<T, CommandError> {
        let slot = self.bulk_slots.clone().try_acquire_owned().map_err(|_| {
            CommandError::rate_limited("this node is busy with other actions on many jobs", BULK_RETRY_MS)
        })?;
        self.keep_going(slot, action).await
    }

    #[expect(clippy::disallowed_methods, reason = "its caller learns of a failure")]
    async fn keep_going<T: Send + 'static>(
        &self,
        slot: OwnedSemaphorePermit,
        change: impl Future<Output = Result<T, CommandError>> + Send + 'static,
    ) -> Result<T, CommandError> {
        let change = async move {
            let _slot = slot;
            change.await
        };
        self.runtime.spawn(change).await.unwrap_or_else(|_| Err(stopping()))
    }
}

fn stopping() -> CommandError {
    CommandError::unavailable("the node is stopping")
}

//! Messages of the log and changes of members, on their way to webhooks.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use starling_conversation_store::{Announced, AnnouncedMember, ConversationStore};
use starling_model::{ConversationName, UserName};
use starling_webhooks::{Error, EventId, EventType, NewEvent};
use starling_wire::protocol::{self, Json, Timestamp};
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::knowledge::Knowledge;
use crate::recorder::{Recorder, with_id};
use crate::time::about;

/// How often a node looks for what other nodes have noted, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// While there are no webhooks, only every n-th look is made, to clear announcements from before the last webhook was removed.
const LOOKS_WITHOUT: u32 = 60;
/// The most messages that are read at once. They have 80 KiB at most.
const BATCH: u16 = 100;

/// A change of members, as it is told.
#[derive(Serialize)]
struct ToldMember<'a> {
    conversation: &'a ConversationName,
    user: &'a UserName,
}

/// Records the deliveries of what the log has noted with its commits.
pub(crate) struct LogAnnouncer {
    knowledge: Arc<Knowledge>,
    recorder: Arc<Recorder>,
    /// Notified when this node has added to the log what webhooks want.
    noted: Notify,
}

impl LogAnnouncer {
    pub fn new(knowledge: Arc<Knowledge>, recorder: Arc<Recorder>) -> Self {
        Self { knowledge, recorder, noted: Notify::new() }
    }

    /// Looks at once, because this node has added something to the log that webhooks want.
    pub fn wake(&self) {
        self.noted.notify_one();
    }

    /// Records what the log has noted. Several nodes may do so at the same time: each event is recorded once. Never returns.
    pub async fn run_forever(&self, log: &dyn ConversationStore) {
        let mut looks: u32 = 0;
        loop {
            looks = looks.wrapping_add(1);
            let is_due = self.knowledge.wanted().any() || looks % LOOKS_WITHOUT == 1;
            let announced = if is_due { self.announce(log).await } else { Ok(0) };
            match announced {
                Ok(announced) if announced == usize::from(BATCH) => {}
                Ok(_) => tokio::select! {
                    () = self.noted.notified() => {}
                    () = sleep(about(LOOK_EVERY)) => {}
                },
                Err(error) => {
                    tracing::debug!(%error, "messages could not be announced");
                    sleep(about(LOOK_EVERY)).await;
                }
            }
        }
    }

    /// Announces some messages and changes of members. Returns the larger one of their numbers.
    async fn announce(&self, log: &dyn ConversationStore) -> Result<usize, Error> {
        let (members, messages) = (self.announce_members(log).await?, self.announce_messages(log).await?);
        Ok(members.max(messages))
    }

    async fn announce_members(&self, log: &dyn ConversationStore) -> Result<usize, Error> {
        let announced = log.announced_members(BATCH).await?;
        if announced.is_empty() {
            return Ok(0);
        }
        let events: Vec<NewEvent> = announced.iter().filter_map(member_event).collect();
        self.recorder.record(&events).await?;
        let positions: Vec<i64> = announced.iter().map(|member| member.position).collect();
        log.forget_announced_members(&positions).await?;
        Ok(positions.len())
    }

    async fn announce_messages(&self, log: &dyn ConversationStore) -> Result<usize, Error> {
        let announced = log.announced(BATCH).await?;
        if announced.is_empty() {
            return Ok(0);
        }
        let positions: Vec<i64> = announced.iter().map(|message| message.position).collect();
        let events: Vec<NewEvent> = announced.into_iter().filter_map(event).collect();
        self.recorder.record(&events).await?;
        log.forget_announced(&positions).await?;
        Ok(positions.len())
    }
}

/// Makes the event of a change of members. Its id is that of the change, so that it is recorded once.
fn member_event(announced: &AnnouncedMember) -> Option<NewEvent> {
    let AnnouncedMember { event, tenant, conversation, user, is_member, at_ms, .. } = announced;
    let kind = if *is_member { EventType::MemberAdded } else { EventType::MemberRemoved };
    // Plain data can always be written.
    let data = serde_json::to_string(&ToldMember { conversation, user }).unwrap_or_default();
    let new = NewEvent::new(tenant.clone(), kind, Timestamp(*at_ms), Some(conversation.to_string()), &data);
    with_id(new, EventId(*event))
}

/// Makes the event of a message. Its id is that of the message, so that it is recorded once.
fn event(announced: Announced) -> Option<NewEvent> {
    let Announced { tenant, conversation, message, .. } = announced;
    let message = message?;
    let (id, at) = (message.id, Timestamp(message.at_ms));
    let data = protocol::Message {
        conversation: conversation.clone(),
        seq: message.seq.get(),
        id: id.as_u128(),
        sender: message.sender,
        role: message.role.as_str(),
        content: message.content.into(),
        metadata: message.metadata.map(Json::from_compact),
        at,
    };
    let data = serde_json::to_string(&data).unwrap_or_default();
    let new = NewEvent::new(tenant, EventType::MessageCreated, at, Some(conversation.to_string()), &data);
    with_id(new, EventId(id))
}

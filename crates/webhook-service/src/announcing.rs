//! Messages of the log, on their way to webhooks.

use std::sync::Arc;
use std::time::Duration;

use starling_conversation_store::{Announced, ConversationStore};
use starling_webhooks::{Error, EventId, EventType, NewEvent};
use starling_wire::protocol::{self, Json, Timestamp};
use tokio::time::sleep;

use crate::WebhookService;
use crate::metrics::METRICS;
use crate::service::about;

/// How often a node looks for messages of other nodes, on average.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Each how many times it looks while there are no webhooks, for what was announced before the last one was removed.
const LOOKS_WITHOUT: u32 = 60;
/// The most messages that are read at once. They have 80 KiB at most.
const BATCH: u16 = 100;

impl WebhookService {
    /// Records the deliveries of messages that were noted with their commits. Several nodes may do so at the same time: each event is recorded once. Never
    /// returns.
    pub async fn announce_forever(self: Arc<Self>, log: Arc<dyn ConversationStore>) {
        let mut looks: u32 = 0;
        loop {
            looks = looks.wrapping_add(1);
            let is_due = self.wanted.any() || looks % LOOKS_WITHOUT == 1;
            let announced = if is_due { self.announce(&*log).await } else { Ok(0) };
            match announced {
                Ok(announced) if announced == usize::from(BATCH) => {}
                Ok(_) => tokio::select! {
                    () = self.announced_wanted.notified() => {}
                    () = sleep(about(LOOK_EVERY)) => {}
                },
                Err(error) => {
                    tracing::debug!(%error, "messages could not be announced");
                    sleep(about(LOOK_EVERY)).await;
                }
            }
        }
    }

    /// Announces some messages. Returns their number.
    async fn announce(&self, log: &dyn ConversationStore) -> Result<usize, Error> {
        let announced = log.announced(BATCH).await?;
        if announced.is_empty() {
            return Ok(0);
        }
        let positions: Vec<i64> = announced.iter().map(|message| message.position).collect();
        let events: Vec<NewEvent> = announced.into_iter().filter_map(event).collect();
        let recorded = self.store.record(&events).await?;
        METRICS.recorded.increment(recorded.len() as u64);
        self.due_wanted.notify_one();
        // If this fails, the same events are recorded again, which changes nothing.
        log.forget_announced(&positions).await?;
        Ok(positions.len())
    }
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
    match NewEvent::new(tenant, EventType::MessageCreated, at, Some(conversation.to_string()), &data) {
        Ok(mut event) => {
            event.id = EventId(id);
            Some(event)
        }
        Err(error) => {
            METRICS.lost.increment(1);
            tracing::error!(%error, %id, "a message can't be told to webhooks");
            None
        }
    }
}

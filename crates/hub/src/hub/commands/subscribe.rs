//! `subscribe`.

use std::sync::Arc;

use starling_fanout::{Position, TopicHistory};
use starling_model::TopicName;
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{self, Subscribed, TopicPosition};

use crate::CommandError;
use crate::encoded::Encoded;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::sessions::Session;
use crate::shards::ChannelId;
use crate::topics::{Topic, TopicKey, decode_publication};

/// A subscription that passed its checks. The shard attaches it with [`PreparedSubscribe::attach`], then calls
/// [`PreparedSubscribe::history`], and holds live publications back until that returns.
pub struct PreparedSubscribe {
    pub(crate) hub: Arc<Hub>,
    pub(crate) session: Arc<Session>,
    pub(crate) topic: Arc<Topic>,
    pub(crate) since: Option<Position>,
}

/// The start of a subscription.
pub struct TopicAttachment {
    /// The reply.
    pub subscribed: Subscribed,
    /// The publications that are replayed, as (offset, event), ascending.
    pub replay: Vec<(u64, Arc<Encoded>)>,
    /// The approximate size of the replay, bytes.
    pub bytes: usize,
}

impl PreparedSubscribe {
    /// Returns the topic's channel on this node.
    pub fn channel(&self) -> ChannelId {
        self.topic.channel
    }

    /// Returns the topic's name.
    pub fn name(&self) -> &TopicName {
        &self.topic.key.name
    }

    /// Attaches the session. From now on publications come through the shard's inbox. Must be called on the shard's thread, which enters
    /// the room into its table before it takes the next item from its inbox.
    pub fn attach(&self) {
        self.hub.attachments.subscribe(&self.session, &self.topic);
    }

    /// Returns the topic's position and the replay: everything that was missed, or nothing if that is more than `bytes_max`. After an error
    /// the session must be detached with [`PreparedSubscribe::undo`].
    pub async fn history(&self, bytes_max: usize) -> Result<TopicAttachment, CommandError> {
        let known = self.topic.position();
        let history = match (&self.since, known) {
            // Nothing to replay and nothing to ask, since this node has followed the topic without a gap.
            (None, Some(position)) => TopicHistory { position, recovered: false, publications: Vec::new() },
            (Some(since), Some(position)) if *since == position => {
                TopicHistory { position, recovered: true, publications: Vec::new() }
            }
            (since, _) => {
                self.hub.reads.wait(&self.session.tenant, &self.session.user, 1).await?;
                let (key, heard) = (&self.topic.key, self.topic.heard());
                let history = self.hub.fanout.topic_history(&key.tenant, &key.name, since.as_ref()).await?;
                self.topic.learn(&history.position, heard);
                history
            }
        };
        let TopicHistory { position, recovered, publications } = history;
        let bytes: usize = publications.iter().map(|(_, body)| body.len()).sum();
        let fits = bytes <= bytes_max;
        let replay: Vec<_> = if fits {
            publications.iter().filter_map(|(offset, body)| self.replayed(*offset, body)).collect()
        } else {
            Vec::new()
        };
        let bytes = if fits { bytes } else { 0 };
        let subscribed = Subscribed {
            epoch: position.epoch,
            offset: position.offset,
            recovered: recovered && fits,
            replayed: replay.len() as u64,
        };
        Ok(TopicAttachment { subscribed, replay, bytes })
    }

    /// Detaches the session from the topic again.
    pub fn undo(&self) {
        self.hub.attachments.unsubscribe(&self.session, &self.topic.key.name);
    }

    fn replayed(&self, offset: u64, body: &[u8]) -> Option<(u64, Arc<Encoded>)> {
        let (_, sender, data) = decode_publication(body)?;
        let event = protocol::Publication { topic: self.topic.key.name.clone(), offset, data, sender };
        Some((offset, Arc::new(Encoded::new(event))))
    }
}

impl Hub {
    pub(super) async fn prepare_subscribe(
        self: Arc<Self>,
        session: Arc<Session>,
        name: TopicName,
        since: Option<TopicPosition>,
    ) -> Result<PreparedSubscribe, CommandError> {
        if !session.identity().scopes.may_subscribe(&name) {
            return Err(CommandError::forbidden("the token does not allow this topic"));
        }
        {
            let state = session.state();
            let max = self.config.topics_per_session_max;
            if state.topics.len() >= max && !state.topics.contains(&name) {
                METRICS.limited_topics.increment(1);
                let message = format!("a session subscribes to at most {max} topics");
                return Err(CommandError::rate_limited(message, 1_000));
            }
        }
        if let Some(decider) = self.decider(&session.tenant, HookPoint::Subscribe) {
            let question = Question::Subscribe { user: &session.user, topic: &name };
            self.ask(&decider, question).await?;
        }
        Ok(self.subscription(session, &name, since))
    }

    pub(super) fn subscription(
        self: Arc<Self>,
        session: Arc<Session>,
        name: &TopicName,
        since: Option<TopicPosition>,
    ) -> PreparedSubscribe {
        let key = TopicKey { tenant: session.tenant.clone(), name: name.clone() };
        let topic = self.topics.enter(&key);
        let since = since.map(|since| Position { epoch: since.epoch, offset: since.offset });
        PreparedSubscribe { hub: self, session, topic, since }
    }
}

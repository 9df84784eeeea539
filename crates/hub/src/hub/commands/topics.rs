//! `subscribe`, `unsubscribe` and `publish`.

use std::sync::Arc;

use starling_auth::Identity;
use starling_fanout::{Position, TopicHistory};
use starling_model::{TenantName, TopicName, UserName};
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{self, Json, Published, Subscribed, TopicPosition};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::CommandError;
use crate::encoded::Encoded;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::reply::{Answer, Completion, Handling, Reply};
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
    ) -> Answer {
        if !session.identity().scopes.may_subscribe(&name) {
            return Err(CommandError::forbidden("the token does not allow this topic")).into();
        }
        {
            let state = session.state();
            let max = self.config.topics_per_session_max;
            if state.topics.len() >= max && !state.topics.contains(&name) {
                METRICS.limited_topics.increment(1);
                let message = format!("a session subscribes to at most {max} topics");
                return Err(CommandError::rate_limited(message, 1_000)).into();
            }
        }
        if let Some(decider) = self.decider(&session.tenant, HookPoint::Subscribe) {
            let question = Question::Subscribe { user: &session.user, topic: &name };
            if let Err(error) = self.ask(&decider, question).await {
                return Err(error).into();
            }
        }
        Answer::Subscribe(self.subscription(session, &name, since))
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

    /// `unsubscribe`: detaches the session from a topic.
    pub(super) fn unsubscribe(&self, session: &Session, name: &TopicName) -> Answer {
        Answer::Leave(self.attachments.unsubscribe(session, name))
    }

    pub(super) fn handle_publish(
        self: Arc<Self>,
        session: &Arc<Session>,
        id: u64,
        topic: TopicName,
        data: Json,
    ) -> Handling {
        if !session.state().identity.scopes.may_publish(&topic) {
            return Handling::Now(Err(CommandError::forbidden("the token does not allow this topic")).into());
        }
        let waits = self.write_limits.apply_to(&session.tenant)
            || self.decider(&session.tenant, HookPoint::Publish).is_some();
        if !waits {
            let done = Completion::Socket { socket: session.socket, id, began: Instant::now() };
            self.topic_publisher.publish(&session.tenant, &session.user, &topic, &data, done);
            return Handling::Later;
        }
        let (hub, session) = (self, session.clone());
        Handling::Async(Box::pin(async move {
            let published = hub.publish_if_allowed(&session.tenant, &session.user, &topic, &data).await;
            Answer::Reply(published.map(Reply::Published))
        }))
    }

    /// `publish`: publishes on a topic, and waits for the reply. Hooks are skipped for administrators, which act for the application itself.
    pub async fn publish_to_topic(
        &self,
        identity: &Identity,
        topic: &TopicName,
        data: &Json,
    ) -> Result<Published, CommandError> {
        if !identity.scopes.may_publish(topic) {
            return Err(CommandError::forbidden("the token does not allow this topic"));
        }
        if identity.scopes.is_admin() {
            self.write_limits.take(&identity.tenant, &identity.user).await?;
            return self.publish_data(&identity.tenant, &identity.user, topic, data).await;
        }
        self.publish_if_allowed(&identity.tenant, &identity.user, topic, data).await
    }

    /// Publishes within the user's allowance, if the hook for publications allows it.
    async fn publish_if_allowed(
        &self,
        tenant: &TenantName,
        user: &UserName,
        topic: &TopicName,
        data: &Json,
    ) -> Result<Published, CommandError> {
        self.write_limits.take(tenant, user).await?;
        if let Some(decider) = self.decider(tenant, HookPoint::Publish) {
            self.ask(&decider, Question::Publish { user, topic, data }).await?;
        }
        self.publish_data(tenant, user, topic, data).await
    }

    async fn publish_data(
        &self,
        tenant: &TenantName,
        user: &UserName,
        topic: &TopicName,
        data: &Json,
    ) -> Result<Published, CommandError> {
        let (caller, answer) = oneshot::channel();
        self.topic_publisher.publish(tenant, user, topic, data, Completion::Caller(caller));
        answer.await.unwrap_or_else(|_| Err(CommandError::unavailable("the node is stopping")))
    }
}

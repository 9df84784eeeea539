//! `publish`.

use std::sync::Arc;

use starling_auth::Identity;
use starling_model::{TenantName, TopicName, UserName};
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{Json, Published};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::answer::{Answer, Handling};
use crate::completion::Completion;
use crate::hub::Hub;
use crate::sessions::Session;
use crate::{CommandError, Reply};

impl Hub {
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

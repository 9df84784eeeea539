//! Messages that can't become jobs: they go to the dead-letter exchange, with the reason in their headers.

use std::time::Duration;

use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::timeout;

use super::message::Refusal;
use crate::Error;
use crate::check::Incoming;
use crate::connection::{BrokerConnection, within};
use crate::topology::short;

/// How long RabbitMQ may take to confirm a dead letter.
const CONFIRM_MAX: Duration = Duration::from_secs(30);
/// The delivery mode of messages that survive a restart.
const PERSISTENT: u8 = 2;

/// Where dead letters go. One at a time, so that a message that is returned is known for certain.
pub(super) struct DeadLetters<'a> {
    channel: Channel,
    bridge: &'a Incoming,
}

impl<'a> DeadLetters<'a> {
    pub async fn open(connection: &BrokerConnection, bridge: &'a Incoming) -> Result<Self, Error> {
        let channel = connection.channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(Self { channel, bridge })
    }

    /// Puts a copy of the message there. Returns when RabbitMQ has confirmed that a queue has it.
    pub async fn put(&self, delivery: &Delivery, refusal: &Refusal) -> Result<(), Error> {
        let bridge = self.bridge;
        tracing::warn!(
            bridge = bridge.name,
            reason = refusal.reason,
            error = refusal.error,
            message_id = delivery.properties.message_id().as_ref().map(|id| id.as_str()),
            dead_letter_exchange = bridge.dead_letter_exchange,
            "a message can't become a job, and goes to the dead letters"
        );
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publish = self.channel.basic_publish(
            short(&bridge.dead_letter_exchange)?,
            delivery.routing_key.clone(),
            options,
            &delivery.data,
            properties(bridge, delivery, refusal),
        );
        let confirm = within(publish).await?;
        let confirmed = timeout(CONFIRM_MAX, confirm).await;
        match confirmed.map_err(|_| Error::DeadLetter("it was not confirmed in time".into()))?? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(_)) => Err(Error::DeadLetter("no queue is bound to it".into())),
            Confirmation::Nack(_) | Confirmation::NotRequested => {
                Err(Error::DeadLetter("RabbitMQ has refused it".into()))
            }
        }
    }
}

/// The properties of a dead letter: those of the message, with the reason.
fn properties(bridge: &Incoming, delivery: &Delivery, refusal: &Refusal) -> BasicProperties {
    let given = &delivery.properties;
    let mut headers = given.headers().clone().unwrap_or_default();
    let mut add = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    add("starling-reason", refusal.reason);
    add("starling-error", &refusal.error);
    add("starling-bridge", &bridge.name);
    add("starling-exchange", delivery.exchange.as_str());
    // RabbitMQ accepts nobody else's name in that property.
    if let Some(user) = given.user_id() {
        add("starling-user-id", user.as_str());
    }
    let mut kept = BasicProperties::default().with_headers(headers).with_delivery_mode(PERSISTENT);
    // All but the user, and the time after which the message would vanish.
    if let Some(value) = given.content_type() {
        kept = kept.with_content_type(value.clone());
    }
    if let Some(value) = given.content_encoding() {
        kept = kept.with_content_encoding(value.clone());
    }
    if let Some(value) = given.priority() {
        kept = kept.with_priority(*value);
    }
    if let Some(value) = given.correlation_id() {
        kept = kept.with_correlation_id(value.clone());
    }
    if let Some(value) = given.reply_to() {
        kept = kept.with_reply_to(value.clone());
    }
    if let Some(value) = given.message_id() {
        kept = kept.with_message_id(value.clone());
    }
    if let Some(value) = given.timestamp() {
        kept = kept.with_timestamp(*value);
    }
    if let Some(value) = given.kind() {
        kept = kept.with_type(value.clone());
    }
    if let Some(value) = given.app_id() {
        kept = kept.with_app_id(value.clone());
    }
    kept
}

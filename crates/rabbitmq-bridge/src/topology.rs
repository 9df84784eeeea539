//! What a bridge needs to find in RabbitMQ: exchanges, queues and bindings.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use crate::Error;
use crate::check::{Incoming, Outgoing};
use crate::connection::within;

/// The argument of a queue that names its type.
const QUEUE_TYPE: &str = "x-queue-type";
/// The argument of a queue that names its dead-letter exchange.
const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
/// The binding of all messages.
const ALL: &str = "#";

/// Declares what a bridge in needs, or looks whether it is there. The channel is closed if something is not as it should be.
pub(crate) async fn of_incoming(channel: &Channel, bridge: &Incoming) -> Result<(), Error> {
    let passive = !bridge.declare;
    exchange(channel, &bridge.dead_letter_exchange, passive).await?;
    if passive {
        return queue(channel, &bridge.source, true, FieldTable::default()).await;
    }
    exchange(channel, &bridge.exchange, false).await?;
    let mut arguments = FieldTable::default();
    if let Some(queue_type) = bridge.queue_type {
        arguments.insert(QUEUE_TYPE.into(), AMQPValue::LongString(queue_type.as_str().into()));
    }
    // Dead letters without a queue would vanish.
    let dead_letters = bridge.dead_letter_queue();
    queue(channel, &dead_letters, false, arguments.clone()).await?;
    bind(channel, &dead_letters, &bridge.dead_letter_exchange, ALL).await?;
    // For what RabbitMQ itself gives up, such as a message of a quorum queue that was delivered too often.
    let dead_letter_exchange = bridge.dead_letter_exchange.as_str().into();
    arguments.insert(DEAD_LETTER_EXCHANGE.into(), AMQPValue::LongString(dead_letter_exchange));
    queue(channel, &bridge.source, false, arguments).await?;
    for key in &bridge.routing_keys {
        bind(channel, &bridge.source, &bridge.exchange, key).await?;
    }
    Ok(())
}

/// Declares what a bridge out needs, or looks whether it is there.
pub(crate) async fn of_outgoing(channel: &Channel, bridge: &Outgoing) -> Result<(), Error> {
    exchange(channel, &bridge.exchange, !bridge.declare).await
}

async fn exchange(channel: &Channel, name: &str, passive: bool) -> Result<(), Error> {
    let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    // RabbitMQ has made its own exchanges, and refuses to declare them.
    let options = ExchangeDeclareOptions { passive: passive || name.starts_with("amq."), ..options };
    within(channel.exchange_declare(short(name)?, ExchangeKind::Topic, options, FieldTable::default())).await
}

async fn queue(channel: &Channel, name: &str, passive: bool, arguments: FieldTable) -> Result<(), Error> {
    let options = QueueDeclareOptions { passive, durable: true, ..QueueDeclareOptions::default() };
    within(channel.queue_declare(short(name)?, options, arguments)).await.map(drop)
}

async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
    let (queue, exchange, key) = (short(queue)?, short(exchange)?, short(key)?);
    within(channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default())).await
}

/// Returns a text as names are sent.
///
/// # Errors
/// It has more than 255 bytes.
pub(crate) fn short(text: &str) -> Result<ShortString, Error> {
    ShortString::try_new(text).map_err(|error| Error::Unreachable(std::io::Error::other(error)))
}

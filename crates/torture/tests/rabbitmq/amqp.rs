//! A client of RabbitMQ that knows nothing of Starling.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long RabbitMQ may take to answer. It may just have been killed.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// A connection.
pub struct Amqp {
    _connection: Connection,
    channel: Channel,
}

impl Amqp {
    pub async fn connect(url: &str) -> Result<Self> {
        let connecting = async {
            let connection = Connection::connect(url, ConnectionProperties::default()).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok::<_, anyhow::Error>(Self { _connection: connection, channel })
        };
        timeout(ANSWER_MAX, connecting).await?
    }

    /// Publishes a persistent message. Returns when RabbitMQ has it in a queue.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        properties: BasicProperties,
        body: &[u8],
    ) -> Result<()> {
        let publishing = async {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = properties.with_delivery_mode(2);
            let confirm =
                self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
            let confirmation = confirm.await?;
            ensure!(matches!(confirmation, Confirmation::Ack(None)), "{confirmation:?}");
            Ok::<_, anyhow::Error>(())
        };
        timeout(ANSWER_MAX, publishing).await?
    }

    /// Declares a durable queue, and binds it to an exchange that is there.
    pub async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
        let (queue, exchange, key) = (queue.into(), exchange.into(), key.into());
        self.channel
            .queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default())
            .await?;
        Ok(())
    }

    /// Takes a message out of a queue, if there is one.
    pub async fn take(&self, queue: &str) -> Result<Option<Delivery>> {
        let got = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await?;
        let Some(message) = got else { return Ok(None) };
        message.delivery.ack(BasicAckOptions::default()).await?;
        Ok(Some(message.delivery))
    }
}

/// Returns the messages of a queue that nobody has. A connection of its own, since RabbitMQ closes the channel if there is no such queue.
pub async fn waiting(url: &str, queue: &str) -> Result<u32> {
    let amqp = Amqp::connect(url).await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = amqp.channel.queue_declare(queue.into(), options, FieldTable::default());
    Ok(timeout(ANSWER_MAX, declared).await??.message_count())
}

/// The text of a header.
pub fn header(delivery: &Delivery, name: &str) -> Option<String> {
    match delivery.properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        AMQPValue::LongInt(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Headers with these texts.
pub fn headers(pairs: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, value) in pairs {
        table.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    BasicProperties::default().with_headers(table)
}

/// Consumes a queue all the time, whatever happens to the broker, and counts how often each id came.
pub struct Counter {
    seen: Arc<Mutex<HashMap<String, u32>>>,
    task: JoinHandle<()>,
}

impl Counter {
    pub fn start(url: &str, queue: &'static str) -> Self {
        let seen: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
        let (url, into) = (url.to_owned(), seen.clone());
        let task = tokio::spawn(async move {
            loop {
                // It ends with the broker.
                let _ = count(&url, queue, &into).await;
                sleep(Duration::from_millis(200)).await;
            }
        });
        Self { seen, task }
    }

    /// How often each id has come.
    pub fn seen(&self) -> HashMap<String, u32> {
        self.seen.lock().clone()
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn count(url: &str, queue: &str, into: &Mutex<HashMap<String, u32>>) -> Result<()> {
    let amqp = Amqp::connect(url).await?;
    amqp.channel.basic_qos(100, BasicQosOptions::default()).await?;
    let consume = amqp.channel.basic_consume(
        queue.into(),
        "".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    let mut consumer = timeout(ANSWER_MAX, consume).await??;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let id = delivery.properties.message_id().as_ref().context("a message without an id")?.to_string();
        *into.lock().entry(id).or_default() += 1;
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}

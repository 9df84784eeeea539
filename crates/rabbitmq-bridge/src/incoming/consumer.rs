//! Consumes from a queue of RabbitMQ: makes jobs of messages, and acknowledges each after its job was committed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer};
use starling_jobs::{Enqueued, NewJob};
use tokio::sync::watch;
use tokio::time::sleep;

use super::dead_letters::DeadLetters;
use super::message::{Message, Refusal};
use crate::address::Address;
use crate::check::Incoming;
use crate::connection::{BrokerConnection, within};
use crate::metrics::IncomingMetrics;
use crate::reconnector::{Reconnector, Work};
use crate::{Error, JobSink, topology};

/// The most messages that become jobs in one transaction.
const BATCH_MAX: usize = 100;
/// The most bytes of messages that become jobs in one transaction, except for a single message.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The first time to wait when the database does not take jobs.
const DATABASE_BACKOFF_FIRST: Duration = Duration::from_millis(250);
/// The longest time to wait when the database does not take jobs.
const DATABASE_BACKOFF_MAX: Duration = Duration::from_secs(5);

/// A bridge in.
pub(crate) struct Intake {
    bridge: Incoming,
    pub reconnector: Reconnector,
    metrics: IncomingMetrics,
}

/// A bridge in, and where its jobs go.
struct Consuming<'a> {
    intake: &'a Intake,
    sink: &'a dyn JobSink,
}

#[async_trait]
impl Work for Consuming<'_> {
    async fn work(
        &self,
        connection: Arc<BrokerConnection>,
        mut ending: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        tokio::select! {
            ended = self.intake.consume(&connection, self.sink, &mut ending) => ended,
            error = connection.lost() => Err(error),
        }
    }
}

/// A message and what it becomes.
struct Received {
    delivery: Delivery,
    becomes: Result<NewJob, Refusal>,
}

impl Intake {
    pub fn new(bridge: Incoming, node: &str) -> Self {
        let metrics = IncomingMetrics::of(&bridge.name);
        let reconnector = Reconnector::new(node, "in", &bridge.name, metrics.connected.clone());
        Self { bridge, reconnector, metrics }
    }

    /// Makes jobs of messages, until `ending` says that the node ends.
    pub async fn run(&self, address: &Address, sink: &dyn JobSink, ending: watch::Receiver<bool>) {
        self.reconnector.run(address, ending, &Consuming { intake: self, sink }).await;
    }

    /// Consumes until the node ends: then it takes no further message, finishes what it has begun, and leaves the rest to others.
    async fn consume(
        &self,
        connection: &BrokerConnection,
        sink: &dyn JobSink,
        ending: &mut watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let channel = connection.channel().await?;
        topology::of_incoming(&channel, &self.bridge).await?;
        let dead_letters = DeadLetters::open(connection, &self.bridge).await?;
        within(channel.basic_qos(self.bridge.prefetch, BasicQosOptions::default())).await?;
        let mut consumer = self.begin(&channel).await?;
        self.reconnector.set_works(true);
        tracing::info!(
            bridge = self.bridge.name,
            queue = self.bridge.source,
            "messages of RabbitMQ become jobs"
        );
        loop {
            let first = tokio::select! {
                biased;
                _ = ending.wait_for(|ending| *ending) => break,
                next = consumer.next() => next.ok_or(Error::Cancelled)??,
            };
            let batch = self.gather(first, &mut consumer)?;
            let size = batch.len();
            self.metrics.unacknowledged.set(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
            let settled = self.settle(batch, &channel, &dead_letters, sink, ending).await;
            self.metrics.unacknowledged.set(0.0);
            settled?;
        }
        // What this node has and has not begun goes back when the connection is closed.
        let cancel = channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        within(cancel).await
    }

    async fn begin(&self, channel: &Channel) -> Result<Consumer, Error> {
        let consume = channel.basic_consume(
            topology::short(&self.bridge.source)?,
            // RabbitMQ chooses the consumer's name.
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        within(consume).await
    }

    /// Takes the messages that have come by now.
    fn gather(&self, first: Delivery, consumer: &mut Consumer) -> Result<Vec<Received>, Error> {
        let mut bytes = first.data.len();
        let mut batch = vec![self.receive(first)];
        while batch.len() < BATCH_MAX && bytes < BATCH_BYTES_MAX {
            match consumer.next().now_or_never() {
                Some(Some(delivery)) => {
                    let delivery = delivery?;
                    bytes += delivery.data.len();
                    batch.push(self.receive(delivery));
                }
                Some(None) | None => break,
            }
        }
        Ok(batch)
    }

    fn receive(&self, delivery: Delivery) -> Received {
        let message = Message {
            routing_key: delivery.routing_key.as_str(),
            properties: &delivery.properties,
            body: &delivery.data,
        };
        let becomes = message.job(&self.bridge);
        Received { delivery, becomes }
    }

    /// Makes jobs of the messages, and acknowledges them after the commit. Then gives the others to the dead letters.
    async fn settle(
        &self,
        batch: Vec<Received>,
        channel: &Channel,
        dead_letters: &DeadLetters<'_>,
        sink: &dyn JobSink,
        ending: &watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let (mut deliveries, mut jobs, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        for Received { delivery, becomes } in batch {
            match becomes {
                Ok(job) => {
                    deliveries.push(delivery);
                    jobs.push(job);
                }
                Err(refusal) => refused.push((delivery, refusal)),
            }
        }
        match self.add(&jobs, channel, sink, ending).await {
            Added::All(answers) => self.acknowledge(&deliveries, &answers).await?,
            // Perhaps only one of them is at fault.
            Added::Refused(_) if jobs.len() > 1 => {
                for (delivery, job) in deliveries.into_iter().zip(jobs) {
                    match self.add(std::slice::from_ref(&job), channel, sink, ending).await {
                        Added::All(answers) => self.acknowledge(&[delivery], &answers).await?,
                        Added::Refused(error) => refused.push((delivery, Refusal::new("refused", error))),
                        Added::GivenUp => return Ok(()),
                    }
                }
            }
            Added::Refused(error) => {
                refused.extend(
                    deliveries.into_iter().map(|delivery| (delivery, Refusal::new("refused", error.clone()))),
                );
            }
            Added::GivenUp => return Ok(()),
        }
        for (delivery, refusal) in &refused {
            dead_letters.put(delivery, refusal).await?;
            delivery.ack(BasicAckOptions::default()).await?;
            self.metrics.rejected.increment(1);
        }
        Ok(())
    }

    /// Adds jobs. Waits while the database is away, as long as the messages are this node's.
    async fn add(
        &self,
        jobs: &[NewJob],
        channel: &Channel,
        sink: &dyn JobSink,
        ending: &watch::Receiver<bool>,
    ) -> Added {
        if jobs.is_empty() {
            return Added::All(Vec::new());
        }
        let mut backoff = DATABASE_BACKOFF_FIRST;
        loop {
            match sink.add(jobs).await {
                Ok(answers) => return Added::All(answers),
                Err(error) if !error.is_transient() => {
                    tracing::error!(bridge = self.bridge.name, %error, "the database refuses jobs out of messages");
                    return Added::Refused("the database refuses the job".into());
                }
                Err(error) => {
                    tracing::debug!(bridge = self.bridge.name, %error, "messages wait for the database");
                }
            }
            if *ending.borrow() || !channel.status().connected() {
                return Added::GivenUp;
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(DATABASE_BACKOFF_MAX);
        }
    }

    async fn acknowledge(&self, deliveries: &[Delivery], answers: &[Enqueued]) -> Result<(), Error> {
        let added = answers.iter().filter(|answer| answer.added).count();
        self.metrics.added.increment(u64::try_from(added).unwrap_or(u64::MAX));
        self.metrics.known.increment(u64::try_from(answers.len() - added).unwrap_or(u64::MAX));
        let acks: Vec<_> =
            deliveries.iter().map(|delivery| delivery.ack(BasicAckOptions::default()).boxed()).collect();
        for acked in join_all(acks).await {
            acked?;
        }
        Ok(())
    }
}

/// What became of jobs that were to be added.
enum Added {
    /// They were committed, or were there.
    All(Vec<Enqueued>),
    /// The database will never take them all.
    Refused(String),
    /// The messages are not this node's any more, or the node ends.
    GivenUp,
}

//! The fan-out over Redis 7 or later: a single server, Sentinel, or a cluster with sharded pub/sub.
//!
//! A link has three connections (to each server of a cluster): one only subscribes, one publishes, and one reads histories. They are opened
//! and closed together. When one breaks, or the link hears nothing any more, all are closed and opened again, everything is subscribed
//! again, and a [`Delivery::Gap`](crate::Delivery::Gap) is reported. So there is one way back from every fault, and no command is ever sent
//! twice: commands under way when a link breaks fail for their callers, even if Redis has carried them out.
//!
//! A link checks itself: several times a second it publishes to a channel of its own and waits for the message to come back. On a cluster
//! it does so for each partition, in the partition's slot, since slots move one by one.
//!
//! These are the channels and keys, with `{3}` for partition 3. The prefix can be configured. In a database other than 0, channels begin
//! with `starling:v1:dbN`.
//!
//! | channel or key | what | lifetime |
//! | --- | --- | --- |
//! | `starling:v1:lanes` | publications of all partitions; without a cluster | |
//! | `starling:v1:lane:{3}` | publications of one partition; on a cluster, sharded | |
//! | `starling:v1:topics`, `starling:v1:topics:{3}` | publications on topics, in the same way | |
//! | `starling:v1:node:NAME` | publications to one node, and its probes | |
//! | `starling:v1:to:{3}:NAME` | publications of one partition to one node; on a cluster, sharded | |
//! | `starling:v1:check:{3}:NAME/xxxxxxxx` | a link's checks of the partition's slot; on a cluster, sharded | |
//! | `starling:v1:numbers:{3}` | hash: a topic's last offset for each topic on which somebody published today (see `topics/numbers.lua`); without a cluster one key for all partitions, as with the following | two days |
//! | `starling:v1:numbers:{3}:before` | the same of the day before | two days |
//! | `starling:v1:publications:{3}:HISTORY:SECONDS` | hash: the last `HISTORY` publications of each topic, the one with offset N in the place N modulo `HISTORY` | three times `SECONDS` |
//! | `starling:v1:publications:{3}:HISTORY:SECONDS:before` | the same of the `SECONDS` before | twice `SECONDS` |
//!
//! Nodes of an older version have a hash and a stream for each topic (`starling:v1:topic:{3}:TENANT/TOPIC`, `starling:v1:history:…`). As
//! long as one of them is subscribed, this version numbers and keeps there, too (`topics/publish_for_older.lua`), so that a rolling upgrade
//! leaves each topic with one numbering.

mod batches;
mod checks;
mod clients;
mod config;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod names;
mod receive;
mod shared;
mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use starling_model::{TenantName, TopicName};
use starling_redis_link::Command;

pub use self::config::RedisConfig;

use self::batches::batches;
use self::clients::{Answer, Clients, of_client};
use self::frame::{ORIGIN_MAX, Writer};
use self::link::Link;
use self::names::{Channel, Channels, Names};
use self::shared::Shared;
use crate::metrics::Metrics;
use crate::{
    BATCH_MAX, BODY_BYTES_MAX, Destination, Error, Fanout, LinkStatus, Position, Publication, Receiver,
    TopicHistory, TopicPublication,
};

/// The longest name of a node, bytes. Every frame contains it, followed by a slash and eight digits.
const NODE_MAX: usize = ORIGIN_MAX - 9;

/// Publications between nodes over Redis.
pub struct RedisFanout {
    shared: Arc<Shared>,
    link: Link,
}

impl RedisFanout {
    /// Makes a fan-out, which connects to nothing before [`Fanout::start`]. Metrics go to the recorder that is installed at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a node's name that is empty or too long.
    pub fn connect(config: RedisConfig) -> Result<Self, Error> {
        let RedisConfig { address, node, topics, prefix, command_timeout } = config;
        if node.is_empty() || node.len() > NODE_MAX {
            return Err(Error::Unsupported(format!("the node's name must have 1 to {NODE_MAX} bytes")));
        }
        // With the random part, a node that was restarted, or that shares its name by mistake, does not take others' publications for its
        // own.
        let origin = format!("{node}/{:08x}", rand::random::<u32>());
        let names = Names::new(&prefix, address.database());
        let channels = Channels::new(&names, address.is_cluster());
        let groups = 0..channels.groups().len();
        let shared = Arc::new(Shared {
            topics_keys: groups.map(|group| names.topics_keys(group, topics)).collect(),
            topics,
            node: names.of_node(&node),
            node_in: channels.own(&node),
            channels,
            names,
            writer: Writer::new(&origin),
            metrics: Metrics::register(),
            address,
            origin,
            command_timeout,
            full: AtomicBool::new(false),
        });
        Ok(Self { link: Link::new(shared.clone()), shared })
    }

    /// Checks that Redis answers, accepts this node and is recent enough.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`], [`Error::Refused`] and [`Error::Unsupported`].
    pub async fn check(&self) -> Result<(), Error> {
        let deadline = self.shared.command_timeout * 2;
        match tokio::time::timeout(deadline, clients::check(&self.shared)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Unavailable("took too long to connect".into())),
        }
    }

    fn clients(&self) -> Result<Arc<Clients>, Error> {
        self.link.clients().ok_or_else(|| Error::Unavailable(self.link.fault()))
    }

    /// Returns the commands that publish a batch: one frame for each channel, or more if one would be too large. Channels of single nodes
    /// come first.
    fn frames(&self, batch: &[Publication], clients: &Clients) -> Vec<Command> {
        let channels = &self.shared.channels;
        let mut common: Vec<Vec<&Publication>> = vec![Vec::new(); channels.groups().len()];
        let mut direct: BTreeMap<(&str, usize), Vec<&Publication>> = BTreeMap::new();
        for publication in batch {
            let group = channels.group(publication.partition);
            match &publication.to {
                Destination::Everyone => common[group].push(publication),
                Destination::Nodes(nodes) => {
                    nodes.iter().for_each(|node| direct.entry((node, group)).or_default().push(publication));
                }
            }
        }
        let mut commands = Vec::new();
        let mut add = |channel: &Channel, publications: &[&Publication]| {
            for publications in batches(publications, BATCH_MAX, |publication| publication.body.len()) {
                commands
                    .push(clients.publish_command(channel, self.shared.writer.publications(publications)));
            }
        };
        for ((node, group), publications) in &direct {
            add(&channels.of_node(*group, node), publications);
        }
        for (channel, publications) in channels.groups().iter().zip(&common) {
            add(channel, publications);
        }
        commands
    }

    async fn send_direct(&self, channel: &Channel, frame: Bytes) -> Result<(), Error> {
        let clients = self.clients()?;
        let command = clients.publish_command(channel, frame);
        published(clients.publish(vec![command]).await)
    }
}

/// Returns the first error, if there is one.
fn published(answers: Vec<Answer>) -> Result<(), Error> {
    answers.into_iter().try_for_each(|answer| answer.map(drop)).map_err(of_client)
}

#[async_trait]
impl Fanout for RedisFanout {
    async fn start(&self, receiver: Arc<dyn Receiver>) -> Result<(), Error> {
        self.link.start(receiver).await;
        Ok(())
    }

    async fn publish(&self, batch: &[Publication]) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        if let Some(large) = batch.iter().find(|publication| publication.body.len() > BODY_BYTES_MAX) {
            return Err(Error::TooLarge(large.body.len()));
        }
        let result = match self.clients() {
            Ok(clients) => {
                let commands = self.frames(batch, &clients);
                published(clients.publish(commands).await)
            }
            Err(error) => Err(error),
        };
        self.shared.metrics.published(batch, result.is_err(), started);
        result
    }

    async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
        let started = Instant::now();
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge(body.len()));
        }
        let result =
            self.send_direct(&self.shared.names.of_node(node), self.shared.writer.direct(&body)).await;
        self.shared.metrics.direct.published(1, usize::from(result.is_err()), started);
        result
    }

    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let results = match self.clients() {
            Ok(clients) => topics::publish(&self.shared, &clients, batch).await,
            Err(error) => vec![Err(error); batch.len()],
        };
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.shared.metrics.topic.published(batch.len(), failed, started);
        results
    }

    async fn topic_history(
        &self,
        tenant: &TenantName,
        topic: &TopicName,
        since: Option<&Position>,
    ) -> Result<TopicHistory, Error> {
        topics::history(&self.shared, &*self.clients()?, tenant, topic, since).await
    }

    async fn probe(&self, nonce: u64) -> Result<(), Error> {
        self.send_direct(&self.shared.node, self.shared.writer.probe(nonce)).await
    }

    async fn reconnect(&self) {
        self.link.reconnect();
    }

    fn link(&self) -> Option<LinkStatus> {
        Some(self.link.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_needs_a_name_that_fits() {
        for node in [String::new(), "n".repeat(NODE_MAX + 1)] {
            let config = RedisConfig::new("redis://redis.example".parse().expect("an address"), node);
            assert!(matches!(RedisFanout::connect(config), Err(Error::Unsupported(_))));
        }
    }
}

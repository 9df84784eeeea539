//! The fan-out over Redis 7 and later: one server, one behind Sentinel, or a cluster with sharded pub/sub.
//!
//! Three connections (per server of a cluster): one that only subscribes, one that publishes, one that reads
//! histories. They live and die together: when one breaks, or the link turns out to be deaf, all are closed and
//! opened anew, everything is subscribed again, and a [`Delivery::Gap`](crate::Delivery::Gap) tells of it. So there
//! is one way back from every fault, and no command is ever sent twice: what was under way when a link broke has
//! failed for its caller, even if Redis had taken it.
//!
//! A link is known to be alive because it hears itself: it publishes checks to a channel of its own several times a
//! second (on a cluster to one per lane, in the lane's slot, since slots move one by one).

//!
//! What a person at a console sees, with `{3}` for lane 3:
//!
//! Another prefix may be set, and in a database other than 0 channels begin with `starling:v1:dbN`.
//!
//! | channel or key | what | lifetime |
//! | --- | --- | --- |
//! | `starling:v1:lanes` | publications of all lanes; without a cluster | |
//! | `starling:v1:lane:{3}` | publications of one lane; on a cluster, sharded | |
//! | `starling:v1:node:NAME` | what is for one node | |
//! | `starling:v1:check:{3}:NAME/xxxxxxxx` | a link's checks in the lane's slot; on a cluster, sharded | |
//! | `starling:v1:epochs:{3}` | hash: the `epoch` that numberings begin with since `began`, the one `before`, `server` (the run of Redis); without a cluster one for all lanes | a day |
//! | `starling:v1:topic:{3}:TENANT/TOPIC` | hash, from the first publication on: `epoch`, `before`, `offset`, `server` (the run that the numbering is bound to) | a day |
//! | `starling:v1:history:{3}:TENANT/TOPIC` | stream: an entry `OFFSET-1` with `body` for each publication | `history_seconds` |

mod address;
mod checks;
mod clients;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod link;
mod names;
mod receive;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use self::address::Address;
use self::clients::{Clients, Order};
use self::frame::{ORIGIN_MAX, Writer};
use self::link::{Link, Shared};
use self::names::{Channel, Channels, Names, PREFIX};
use crate::meters::Meters;
use crate::{
    BATCH_BYTES_MAX, BATCH_MAX, BODY_BYTES_MAX, Error, Fanout, LinkStatus, Position, Publication, Receiver,
    TopicHistory, TopicPublication, TopicSettings,
};

/// How long a node's name may be, bytes: it stands in every frame, followed by a slash and eight digits.
const NODE_MAX: usize = ORIGIN_MAX - 9;

/// What a [`RedisFanout`] needs to know.
#[derive(Clone)]
pub struct RedisConfig {
    /// `redis://`, `rediss://`, `redis-cluster://` or `redis-sentinel://`; may hold a password.
    pub url: String,
    /// This node's name, unique among all nodes.
    pub node: String,
    /// What is kept of topics.
    pub topics: TopicSettings,
    /// What all channels and keys begin with.
    pub prefix: String,
    /// How long a command may take. Opening a link may take twice as long.
    pub command_timeout: Duration,
}

/// Publications between nodes over Redis.
pub struct RedisFanout {
    shared: Arc<Shared>,
    link: Link,
    topics: TopicSettings,
}

impl RedisConfig {
    /// The usual settings: 100 publications of a topic kept for a minute, two seconds for a command.
    pub fn new(url: impl Into<String>, node: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            node: node.into(),
            topics: TopicSettings { history: 100, history_seconds: 60 },
            prefix: PREFIX.into(),
            command_timeout: Duration::from_secs(2),
        }
    }

    /// Reads the address, and connects to nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] when it can't be used.
    pub fn check(&self) -> Result<(), Error> {
        Address::parse(&self.url).map(drop)
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("RedisConfig")
            .field("node", &self.node)
            .field("topics", &self.topics)
            .field("command_timeout", &self.command_timeout)
            .finish_non_exhaustive()
    }
}

impl RedisFanout {
    /// Reads the configuration; nothing is connected before [`Fanout::start`]. Metrics go to the recorder that is
    /// installed at this moment.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] for an address that can't be used, [`Error::Unsupported`] for a name that is empty or too
    /// long.
    pub fn connect(config: RedisConfig) -> Result<Self, Error> {
        let RedisConfig { url, node, topics, prefix, command_timeout } = config;
        let address = Address::parse(&url)?;
        if node.is_empty() || node.len() > NODE_MAX {
            return Err(Error::Unsupported(format!("the node's name must have 1 to {NODE_MAX} bytes")));
        }
        // The random part keeps a node that was started again, or wrongly shares its name, from taking others'
        // publications for its own.
        let origin = format!("{node}/{:08x}", rand::random::<u32>());
        let names = Names::new(&prefix, address.config.database);
        let shared = Arc::new(Shared {
            channels: Channels::new(&names, address.is_cluster()),
            node: names.of_node(&node),
            names,
            writer: Writer::new(&origin),
            meters: Meters::register(),
            address,
            origin,
            command_timeout,
            full: AtomicBool::new(false),
        });
        Ok(Self { link: Link::new(shared.clone()), shared, topics })
    }

    /// Whether Redis answers, and is of a version that will do.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] and [`Error::Unsupported`].
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

    /// One frame for each group of lanes, or more where one would be too large; in the order of the batch.
    fn frames(&self, batch: &[Publication], clients: &Clients) -> Vec<Order> {
        let channels = &self.shared.channels;
        let mut groups: Vec<Vec<&Publication>> = vec![Vec::new(); channels.groups().len()];
        for publication in batch {
            groups[channels.group(publication.lane)].push(publication);
        }
        let mut orders = Vec::new();
        for (channel, group) in channels.groups().iter().zip(&groups) {
            for publications in batches(group, BATCH_MAX, |publication| publication.body.len()) {
                orders.push(clients.publish_order(channel, self.shared.writer.publications(publications)));
            }
        }
        orders
    }

    async fn send_direct(&self, channel: &Channel, frame: Bytes) -> Result<(), Error> {
        let clients = self.clients()?;
        let order = clients.publish_order(channel, frame);
        clients.publish(vec![order]).await.into_iter().try_for_each(|result| result.map(|_| ()))
    }
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
                let orders = self.frames(batch, &clients);
                clients.publish(orders).await.into_iter().try_for_each(|result| result.map(|_| ()))
            }
            Err(error) => Err(error),
        };
        let failed = if result.is_err() { batch.len() } else { 0 };
        self.shared.meters.lane.published(batch.len(), failed, started);
        result
    }

    async fn publish_to(&self, node: &str, body: Bytes) -> Result<(), Error> {
        let started = Instant::now();
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLarge(body.len()));
        }
        let result =
            self.send_direct(&self.shared.names.of_node(node), self.shared.writer.direct(&body)).await;
        self.shared.meters.direct.published(1, usize::from(result.is_err()), started);
        result
    }

    async fn publish_topics(&self, batch: &[TopicPublication]) -> Vec<Result<Position, Error>> {
        if batch.is_empty() {
            return Vec::new();
        }
        let started = Instant::now();
        let results = match self.clients() {
            Ok(clients) => topics::publish(&self.shared, &clients, self.topics, batch).await,
            Err(error) => vec![Err(error); batch.len()],
        };
        let failed = results.iter().filter(|result| result.is_err()).count();
        self.shared.meters.topic.published(batch.len(), failed, started);
        results
    }

    async fn topic_history(
        &self,
        tenant: &str,
        topic: &str,
        since: Option<&Position>,
    ) -> Result<TopicHistory, Error> {
        topics::history(&self.shared, &*self.clients()?, self.topics, tenant, topic, since).await
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

/// Cuts what goes to one channel into pieces that are within the limits of one command.
fn batches<T>(items: &[T], count_max: usize, size: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut fits = |item: &T| {
            bytes += size(item);
            bytes <= BATCH_BYTES_MAX
        };
        let count = rest.iter().take(count_max).take_while(|item| fits(item)).count();
        let (batch, after) = rest.split_at(count.max(1).min(rest.len()));
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_stay_within_both_limits_and_lose_nothing() {
        for (count, size) in
            [(0, 1), (1, BODY_BYTES_MAX), (BATCH_MAX + 1, 1), (9, BODY_BYTES_MAX), (3, 700_000)]
        {
            let items = vec![size; count];
            let cut: Vec<&[usize]> = batches(&items, BATCH_MAX, |size| *size).collect();
            assert_eq!(cut.concat(), items);
            for batch in &cut {
                assert!(batch.len() <= BATCH_MAX && batch.iter().sum::<usize>() <= BATCH_BYTES_MAX);
            }
        }
    }

    #[test]
    fn a_configuration_shows_no_password() {
        let config = RedisConfig::new("redis://u:secret@redis.example", "a");
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_node_needs_a_name_that_fits() {
        for node in [String::new(), "n".repeat(NODE_MAX + 1)] {
            let config = RedisConfig::new("redis://redis.example", node);
            assert!(matches!(RedisFanout::connect(config), Err(Error::Unsupported(_))));
        }
    }
}

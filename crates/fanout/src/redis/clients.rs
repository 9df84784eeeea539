//! The connections of one link: opened together, closed together.

use std::pin::Pin;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::config::{ConnectionConfig, PerformanceConfig, TcpConfig};
use fred::types::{Builder, ClusterHash, ConnectHandle, CustomCommand, InfoKind, Value};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::link::Shared;
use super::names::Channel;
use super::topics::Scripts;
use crate::Error;

/// The oldest version of Redis that has all that is used here.
const VERSION_MIN: u32 = 7;

/// How many commands may wait for a connection.
const COMMANDS_MAX: usize = 8192;

/// How many frames may wait until this node takes them.
const FRAMES_MAX: usize = 8192;

/// What callers send commands by, for as long as the link stands.
pub(super) struct Clients {
    publisher: Client,
    reader: Client,
    cluster: bool,
    pub(super) scripts: Scripts,
    /// Told when the link is to be torn down.
    pub(super) teardown: Notify,
}

/// Connections that end with this: when it is dropped, or when the first of them breaks.
pub(super) type Lifeline = JoinSet<String>;

/// A command, and the slot that it goes to.
pub(super) struct Order {
    name: &'static str,
    slot: u16,
    arguments: Vec<Value>,
}

impl Order {
    pub(super) fn new(name: &'static str, slot: u16, arguments: Vec<Value>) -> Self {
        Self { name, slot, arguments }
    }

    fn split(self) -> (CustomCommand, Vec<Value>) {
        (CustomCommand::new_static(self.name, ClusterHash::Custom(self.slot), false), self.arguments)
    }
}

impl Clients {
    /// Connects all three; the third is the subscriber, for the link alone.
    pub(super) async fn open(shared: &Shared, lifeline: &mut Lifeline) -> Result<(Self, Client), Error> {
        let publisher = build(shared, 1)?;
        let reader = build(shared, 1)?;
        let subscriber = build(shared, FRAMES_MAX)?;
        tokio::try_join!(
            connected(connect(&publisher, lifeline)),
            connected(connect(&reader, lifeline)),
            connected(connect(&subscriber, lifeline)),
        )?;
        verify_version(&reader).await?;
        let cluster = shared.address.is_cluster();
        Ok((
            Self { publisher, reader, cluster, scripts: Scripts::default(), teardown: Notify::new() },
            subscriber,
        ))
    }

    /// The name of the command that publishes.
    pub(super) fn publish_command(&self) -> &'static str {
        if self.cluster { "SPUBLISH" } else { "PUBLISH" }
    }

    pub(super) fn publish_order(&self, channel: &Channel, frame: Bytes) -> Order {
        let arguments = vec![Value::Bytes(channel.name.clone()), Value::Bytes(frame)];
        Order::new(self.publish_command(), channel.slot, arguments)
    }

    /// Sends commands one right after the other on the publishing connection; answers in their order.
    pub(super) async fn publish(&self, orders: Vec<Order>) -> Vec<Result<Value, Error>> {
        send(&self.publisher, orders).await
    }

    /// Sends a command on the reading connection.
    pub(super) async fn read(&self, order: Order) -> Result<Value, Error> {
        let (command, arguments) = order.split();
        self.reader.custom(command, arguments).await.map_err(|error| unavailable(&error))
    }
}

/// Subscribes to channels. Without a cluster this returns before Redis has answered.
pub(super) async fn subscribe(
    shared: &Shared,
    subscriber: &Client,
    channels: impl Iterator<Item = &Channel>,
) -> Result<(), Error> {
    if shared.address.is_cluster() {
        // One by one: each may be redirected, and only the first answer of several belongs to its command.
        for channel in channels {
            subscriber.ssubscribe(channel.text()).await.map_err(|error| unavailable(&error))?;
        }
        return Ok(());
    }
    let channels: Vec<&str> = channels.map(Channel::text).collect();
    subscriber.subscribe(channels).await.map_err(|error| unavailable(&error))
}

/// Connects, asks for the version, publishes something to nobody, and closes again.
pub(super) async fn check(shared: &Shared) -> Result<(), Error> {
    let mut lifeline = Lifeline::new();
    let client = build(shared, 1)?;
    connected(connect(&client, &mut lifeline)).await?;
    verify_version(&client).await?;
    if shared.address.is_cluster() {
        return Ok(());
    }
    // Nobody listens there. Rights to channels are given apart from those to commands.
    let channel = shared.names.of_check(0, &shared.origin);
    let published: Result<i64, _> = client.publish(channel.text(), "").await;
    published.map(drop).map_err(|error| unavailable(&error))
}

fn build(shared: &Shared, frames: usize) -> Result<Client, Error> {
    let timeout = shared.command_timeout;
    // There is no reconnect policy: the client ends with its first fault, and the link opens a new one.
    Builder::from_config(shared.address.config.clone())
        .set_performance_config(PerformanceConfig {
            default_command_timeout: timeout,
            broadcast_channel_capacity: frames.max(16),
            ..PerformanceConfig::default()
        })
        .set_connection_config(connection_config(timeout))
        .build()
        .map_err(|error| Error::Address(error.details().to_owned()))
}

fn connection_config(timeout: Duration) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: timeout,
        internal_command_timeout: timeout,
        // Never sent twice: a publication that Redis had taken before the link broke would come twice.
        max_command_attempts: 1,
        max_command_buffer_len: COMMANDS_MAX,
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

/// A client's task, which ends with its owner.
struct Connection(ConnectHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that is being made.
struct Opening<'a> {
    connected: Pin<Box<dyn Future<Output = Result<(), fred::error::Error>> + Send + 'a>>,
    /// Hears why the client's task ended, if it ends.
    end: oneshot::Receiver<String>,
}

/// Starts a client's task, and gives it to the lifeline.
fn connect<'a>(client: &'a Client, lifeline: &mut Lifeline) -> Opening<'a> {
    // The client tells of its connection only those who listen at that moment, and whoever looks whether it stands and
    // listens thereafter may miss it in between. So this one listens before there is a task.
    let mut connected = Box::pin(client.wait_for_connect());
    let listens = connected.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(listens.is_pending(), "a new client is not connected");
    let mut connection = Connection(client.connect());
    let (ended, end) = oneshot::channel();
    lifeline.spawn(async move {
        let fault = match (&mut connection.0).await {
            Ok(Ok(())) => "the connection was closed".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // Nobody listens any more once the connection has stood.
        let _ = ended.send(fault.clone());
        fault
    });
    Opening { connected, end }
}

async fn connected(opening: Opening<'_>) -> Result<(), Error> {
    tokio::select! {
        result = opening.connected => result.map_err(|error| unavailable(&error)),
        fault = opening.end => Err(of_text(fault.unwrap_or_else(|_| "the connection was closed".into()))),
    }
}

/// Asks for the version. A user who has no right to that is taken: the session store warns of it.
async fn verify_version(client: &Client) -> Result<(), Error> {
    let info: String = match client.info(Some(InfoKind::Server)).await.map_err(|error| unavailable(&error)) {
        Ok(info) => info,
        Err(Error::Refused(why)) if why.contains("NOPERM") => return Ok(()),
        Err(error) => return Err(error),
    };
    let version =
        info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap_or_default().trim();
    match version.split('.').next().unwrap_or_default().parse::<u32>() {
        Ok(major) if major >= VERSION_MIN => Ok(()),
        _ => Err(Error::Unsupported(format!(
            "redis_url: Redis {VERSION_MIN} or later is needed, and this is {}",
            if version.is_empty() { "of unknown version" } else { version }
        ))),
    }
}

async fn send(client: &Client, orders: Vec<Order>) -> Vec<Result<Value, Error>> {
    let count = orders.len();
    if count == 0 {
        return Vec::new();
    }
    let mut results: Vec<Result<Value, fred::error::Error>>;
    if count == 1 {
        results = Vec::with_capacity(1);
        for order in orders {
            let (command, arguments) = order.split();
            results.push(client.custom(command, arguments).await);
        }
    } else {
        let pipeline = client.pipeline();
        for order in orders {
            let (command, arguments) = order.split();
            // Only puts it into the pipeline.
            if let Err(error) = pipeline.custom::<Value, _>(command, arguments).await {
                return vec![Err(unavailable(&error)); count];
            }
        }
        results = pipeline.try_all().await;
        // A pipeline that failed as a whole answers with one error.
        if let [Err(error)] = &results[..] {
            let error = error.clone();
            results.resize(count, Err(error));
        }
    }
    results.resize_with(count, || {
        Err(fred::error::Error::new(fred::error::ErrorKind::Protocol, "missing reply"))
    });
    results.into_iter().map(|result| result.map_err(|error| unavailable(&error))).collect()
}

fn unavailable(error: &fred::error::Error) -> Error {
    of_text(error.to_string())
}

/// What an error of the client's means.
fn of_text(text: String) -> Error {
    let refusals = [
        "WRONGPASS",
        "NOAUTH",
        "NOPERM",
        "ACL failure in script",
        "The user executing the script can't",
        "called without any password configured",
    ];
    match refusals.iter().any(|refusal| text.contains(refusal)) {
        true => Error::Refused(text),
        false => Error::Unavailable(text),
    }
}

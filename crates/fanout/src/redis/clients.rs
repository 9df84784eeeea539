//! The connections of one link: opened together, closed together.

use std::pin::Pin;
use std::task::{Context, Waker};

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, PubsubInterface};
use fred::types::{ConnectHandle, Value};
use starling_redis_link::client::{ClientConfig, client};
use starling_redis_link::{Command, check_version, version};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::names::Channel;
use super::shared::Shared;
use super::topics::{OlderNodes, Scripts};
use crate::Error;

/// The most commands that wait for a connection.
const COMMANDS_MAX: usize = 8192;

/// The most frames that wait until this node takes them.
const FRAMES_MAX: usize = 8192;

/// Why a connection ended that was closed without an error.
const CLOSED: &str = "the connection was closed";

/// The clients for commands, present while the link is up.
pub(super) struct Clients {
    publisher: Client,
    reader: Client,
    cluster: bool,
    pub(super) scripts: Scripts,
    pub(super) older_nodes: OlderNodes,
    /// Notified when the link must be closed.
    pub(super) teardown: Notify,
}

/// The tasks of a link's connections. They end when this is dropped; the link ends with the first of them.
pub(super) type Lifeline = JoinSet<String>;

/// The answer to a command.
pub(super) type Answer = Result<Value, fred::error::Error>;

impl Clients {
    /// Connects all three clients. The third one, returned apart, is the subscriber.
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
        let clients = Self {
            publisher,
            reader,
            cluster,
            scripts: Scripts::default(),
            older_nodes: OlderNodes::default(),
            teardown: Notify::new(),
        };
        Ok((clients, subscriber))
    }

    /// Returns the name of the command that publishes.
    pub(super) fn publish_name(&self) -> &'static str {
        if self.cluster { "SPUBLISH" } else { "PUBLISH" }
    }

    /// Returns the argument of PUBSUB that counts a channel's subscribers.
    pub(super) fn count_name(&self) -> &'static str {
        if self.cluster { "SHARDNUMSUB" } else { "NUMSUB" }
    }

    /// Returns the command that publishes a frame.
    pub(super) fn publish_command(&self, channel: &Channel, frame: Bytes) -> Command {
        let arguments = vec![Value::Bytes(channel.name.clone()), Value::Bytes(frame)];
        Command::in_slot(self.publish_name(), channel.slot, arguments)
    }

    /// Sends commands one right after the other on the publishing connection. Returns the answers in their order.
    pub(super) async fn publish(&self, commands: Vec<Command>) -> Vec<Answer> {
        send(&self.publisher, commands).await
    }

    /// Sends a command on the reading connection.
    pub(super) async fn read(&self, command: Command) -> Answer {
        let (name, arguments) = command.into_parts();
        self.reader.custom(name, arguments).await
    }
}

/// Subscribes to channels. Without a cluster this returns before Redis has answered.
pub(super) async fn subscribe(
    shared: &Shared,
    subscriber: &Client,
    channels: impl Iterator<Item = &Channel>,
) -> Result<(), Error> {
    if shared.address.is_cluster() {
        // One by one: each may be redirected, and the client takes only the first answer of several for that of its command.
        for channel in channels {
            subscriber.ssubscribe(channel.text()).await.map_err(of_client)?;
        }
        return Ok(());
    }
    let channels: Vec<&str> = channels.map(Channel::text).collect();
    subscriber.subscribe(channels).await.map_err(of_client)
}

/// Connects, checks the version, publishes to a channel without subscribers, and closes the connection.
pub(super) async fn check(shared: &Shared) -> Result<(), Error> {
    let mut lifeline = Lifeline::new();
    let client = build(shared, 1)?;
    connected(connect(&client, &mut lifeline)).await?;
    verify_version(&client).await?;
    if shared.address.is_cluster() {
        return Ok(());
    }
    // Nobody subscribes to this channel. Redis grants rights to channels apart from those to commands.
    let channel = shared.names.of_check(0, &shared.origin);
    let published: Result<i64, _> = client.publish(channel.text(), "").await;
    published.map(drop).map_err(of_client)
}

/// Makes a client. It does not connect again by itself: it ends with its first fault, and the link opens a new one. So no command is
/// ever sent twice: a publication that Redis had taken before the link broke would come twice.
fn build(shared: &Shared, frames_max: usize) -> Result<Client, Error> {
    let timeout = shared.command_timeout;
    let config = ClientConfig {
        command_timeout: timeout,
        connection_timeout: timeout,
        commands_max: COMMANDS_MAX,
        frames_max,
        reconnect: None,
    };
    Ok(client(&shared.address, &config)?)
}

/// A client's task, which ends when this is dropped.
struct Connection(ConnectHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A connection that is being opened.
struct Opening<'a> {
    connected: Pin<Box<dyn Future<Output = Result<(), fred::error::Error>> + Send + 'a>>,
    /// Gets the reason why the client's task ended, if it ends.
    end: oneshot::Receiver<Error>,
}

/// Starts a client's task and adds it to the lifeline.
fn connect<'a>(client: &'a Client, lifeline: &mut Lifeline) -> Opening<'a> {
    // The client reports its connection only to those who listen at that moment. One who first asks whether it is connected and listens
    // afterwards may miss the report. So this listens before the task starts.
    let mut connected = Box::pin(client.wait_for_connect());
    let listens = connected.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    debug_assert!(listens.is_pending(), "a new client is not connected");
    let mut connection = Connection(client.connect());
    let (ended, end) = oneshot::channel();
    lifeline.spawn(async move {
        let (reason, fault) = match (&mut connection.0).await {
            Ok(Ok(())) => (CLOSED.to_owned(), closed()),
            Ok(Err(error)) => (error.to_string(), of_client(error)),
            Err(error) => (error.to_string(), Error::Unavailable(error.to_string())),
        };
        // Nobody waits for it once the connection has stood.
        let _ = ended.send(fault);
        reason
    });
    Opening { connected, end }
}

async fn connected(opening: Opening<'_>) -> Result<(), Error> {
    tokio::select! {
        result = opening.connected => result.map_err(of_client),
        fault = opening.end => Err(fault.unwrap_or_else(|_| closed())),
    }
}

/// Checks the version. A user who has no right to ask for it is taken: the session store warns of it.
async fn verify_version(client: &Client) -> Result<(), Error> {
    let ask = |command: Command| {
        let (name, arguments) = command.into_parts();
        async { client.custom(name, arguments).await.map_err(Into::into) }
    };
    if let Some(version) = version(ask).await? {
        check_version(&version)?;
    }
    Ok(())
}

async fn send(client: &Client, commands: Vec<Command>) -> Vec<Answer> {
    let count = commands.len();
    if count == 0 {
        return Vec::new();
    }
    let mut answers: Vec<Answer>;
    if count == 1 {
        answers = Vec::with_capacity(1);
        for command in commands {
            let (name, arguments) = command.into_parts();
            answers.push(client.custom(name, arguments).await);
        }
    } else {
        let pipeline = client.pipeline();
        for command in commands {
            let (name, arguments) = command.into_parts();
            // This only adds it to the pipeline.
            if let Err(error) = pipeline.custom::<Value, _>(name, arguments).await {
                return vec![Err(error); count];
            }
        }
        answers = pipeline.try_all().await;
        // A pipeline that fails as a whole returns one error.
        if let [Err(error)] = &answers[..] {
            let error = error.clone();
            answers.resize(count, Err(error));
        }
    }
    answers.resize_with(count, || {
        Err(fred::error::Error::new(fred::error::ErrorKind::Protocol, "missing reply"))
    });
    answers
}

fn closed() -> Error {
    Error::Unavailable(CLOSED.into())
}

/// Translates an error of the client.
pub(super) fn of_client(error: fred::error::Error) -> Error {
    starling_redis_link::Error::from(error).into()
}

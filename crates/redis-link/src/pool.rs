//! A pool of clients that stay connected. Every call ends in bounded time, and fails at once while Redis is known to be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, LuaInterface};
use fred::types::config::Options;
use fred::types::{ConnectHandle, Value};
use metrics::Counter;
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

use crate::client::{self, ClientConfig, Reconnect};
use crate::health::Health;
use crate::{Command, Error, Fault, RedisAddress, Script};

/// The most commands that are sent at a time: some 50 KB to write, some milliseconds of Redis.
pub const PIPELINE_MAX: usize = 500;
/// The most commands that wait inside one client; beyond it a call fails at once.
const COMMANDS_MAX: usize = 50_000;
/// The most events of a client, such as errors, that wait until they are taken.
const EVENTS_MAX: usize = 32;
/// The waits between attempts to connect, milliseconds: short at first, never long.
const RECONNECT_MS: std::ops::RangeInclusive<u32> = 50..=1_000;
/// How often a command is sent if the connection breaks before its answer comes.
const ATTEMPTS_MAX: u32 = 3;

/// Settings of a [`Pool`].
#[derive(Debug)]
pub struct PoolConfig {
    /// Where Redis is.
    pub address: RedisAddress,
    /// The number of connections to each server; each is a task that writes and reads.
    pub connections: usize,
    /// The time that a call may take.
    pub command_timeout: Duration,
    /// A key that may be written to learn whether Redis accepts writes.
    pub probe_key: String,
    /// The scripts to load into a server that does not know one of them.
    pub scripts: Vec<Script>,
}

/// The counters of a pool, registered by its owner.
#[derive(Debug)]
pub struct PoolMetrics {
    /// Loads of the scripts into a server that did not know them.
    pub script_loads: Counter,
    /// Calls that failed at once because Redis was known to be away.
    pub refused: Counter,
    /// Connections that were replaced because a server was silent or had become a replica.
    pub reconnects: Counter,
}

impl PoolMetrics {
    /// Returns counters that nobody reads.
    pub fn unrecorded() -> Self {
        Self { script_loads: Counter::noop(), refused: Counter::noop(), reconnects: Counter::noop() }
    }
}

/// The connection that a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// Any, in turn.
    Any,
    /// Always the one of this number, so that a command that waited too long can't overtake the one after it.
    Fixed(usize),
}

/// Whether a command may be sent once more when the connection broke before its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resend {
    /// It has the same effect twice.
    Yes,
    /// It would count twice.
    No,
}

/// A few clients of one Redis that connect, and connect again, by themselves.
#[derive(Debug)]
pub struct Pool {
    clients: Vec<Client>,
    /// The clients' tasks, which would outlive them.
    connections: Vec<ConnectHandle>,
    /// The task that notes why connections fail.
    listener: JoinHandle<()>,
    next: AtomicUsize,
    is_cluster: bool,
    timeout: Duration,
    scripts: Vec<Script>,
    opened: Instant,
    was_connected: AtomicBool,
    health: Arc<Health>,
    once: Options,
    metrics: PoolMetrics,
}

impl Pool {
    /// Starts to connect, and goes on trying; Redis need not be there yet. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`] if the address can't be used.
    pub fn open(config: PoolConfig, metrics: PoolMetrics) -> Result<Self, Error> {
        let PoolConfig { address, connections, command_timeout: timeout, probe_key, scripts } = config;
        let client_config = ClientConfig {
            // A little less than the caller waits, so that the client gives up first and does not send the command later.
            command_timeout: timeout.mul_f32(0.95),
            connection_timeout: timeout,
            commands_max: COMMANDS_MAX,
            frames_max: EVENTS_MAX,
            reconnect: Some(Reconnect {
                wait_ms_min: *RECONNECT_MS.start(),
                wait_ms_max: *RECONNECT_MS.end(),
                silence_max: timeout * 2,
                attempts_max: ATTEMPTS_MAX,
            }),
        };
        let clients = (0..connections.max(1))
            .map(|_| client::client(&address, &client_config))
            .collect::<Result<Vec<Client>, _>>()?;
        // Before they connect, so that no failure is missed.
        let mut failures = clients[0].error_rx();
        let connections = clients.iter().map(ClientLike::connect).collect();
        let health = Health::new(clients.clone(), timeout, probe_key, metrics.reconnects.clone());
        let noting = Arc::clone(&health);
        let listener = tokio::spawn(async move {
            loop {
                match failures.recv().await {
                    Ok((error, _)) if Fault::of(&error) == Fault::Refusal => noting.refused(error.details()),
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        Ok(Self {
            clients,
            connections,
            listener,
            next: AtomicUsize::new(0),
            is_cluster: address.is_cluster(),
            timeout,
            scripts,
            opened: Instant::now(),
            was_connected: AtomicBool::new(false),
            health,
            once: Options { max_attempts: Some(1), ..Options::default() },
            metrics,
        })
    }

    /// Returns whether keys are spread over several servers.
    pub fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    /// Returns whether Redis has no memory for anything new.
    pub fn is_full(&self) -> bool {
        self.health.is_full()
    }

    /// Runs work that may make several calls, in the time that one may take.
    ///
    /// # Errors
    /// Those of the work, and [`Error::Unavailable`] when the time is up.
    pub async fn within<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begun = Instant::now();
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.health.timed_out(begun);
                Err(self.refusal_or(|| format!("Redis took longer than {:?}", self.timeout)).into())
            }
        }
    }

    /// Runs one command without a log line if Redis refuses it to this user.
    ///
    /// # Errors
    /// [`Error::Refused`], and [`Error::Unavailable`].
    pub async fn try_command(&self, command: Command) -> Result<Value, Error> {
        self.within(async {
            let client = self.client(Connection::Any)?;
            self.send(client, Resend::Yes, command).await.map_err(|error| match Fault::of(&error) {
                Fault::Refusal => error.into(),
                _ => self.refusal_or(|| error.to_string()),
            })
        })
        .await
    }

    /// Runs one command.
    ///
    /// # Errors
    /// [`Error::Refused`], and [`Error::Unavailable`].
    pub async fn call(
        &self,
        connection: Connection,
        resend: Resend,
        command: Command,
    ) -> Result<Value, Error> {
        self.within(async {
            let (begun, client) = (Instant::now(), self.client(connection)?);
            match self.send(client, resend, command.clone()).await {
                Err(error) if Fault::of(&error) == Fault::UnknownScript => {
                    Box::pin(self.load_scripts(client)).await?;
                    self.note(begun, self.send(client, resend, command).await)
                }
                outcome => self.note(begun, outcome),
            }
        })
        .await
    }

    /// Runs any number of commands that may be sent twice, [`PIPELINE_MAX`] at a time in one round trip; stops at the first error. A
    /// command that fails because of its own key alone gets null for an answer, and the others theirs.
    ///
    /// # Errors
    /// [`Error::Refused`], and [`Error::Unavailable`].
    pub async fn pipeline(
        &self,
        connection: Connection,
        commands: Vec<Command>,
    ) -> Result<Vec<Value>, Error> {
        let mut answers = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(PIPELINE_MAX) {
            let more = self
                .within(async {
                    let (begun, client) = (Instant::now(), self.client(connection)?);
                    match send_all(client, chunk).await {
                        Err(error) if Fault::of(&error) == Fault::UnknownScript => {
                            Box::pin(self.load_scripts(client)).await?;
                            self.note(begun, send_all(client, chunk).await)
                        }
                        outcome => self.note(begun, outcome),
                    }
                })
                .await?;
            if more.len() != chunk.len() {
                return Err(Error::Unavailable(format!(
                    "{} answers to {} commands",
                    more.len(),
                    chunk.len()
                )));
            }
            answers.extend(more);
        }
        Ok(answers)
    }

    /// Closes the connections after all answers.
    pub async fn close(&self) {
        for client in &self.clients {
            // An error means that the connection is gone already.
            let _ = tokio::time::timeout(self.timeout, client.quit()).await;
        }
    }

    async fn send(
        &self,
        client: &Client,
        resend: Resend,
        command: Command,
    ) -> Result<Value, fred::error::Error> {
        let (name, arguments) = command.into_parts();
        // The client's futures are large, so only the one that is used is allocated.
        match resend {
            Resend::Yes => Box::pin(client.custom(name, arguments)).await,
            Resend::No => Box::pin(client.with_options(&self.once).custom(name, arguments)).await,
        }
    }

    /// Returns the client for a call. Fails if Redis is known to be away.
    fn client(&self, connection: Connection) -> Result<&Client, Error> {
        let first = match connection {
            Connection::Any => self.next.fetch_add(1, Ordering::Relaxed),
            Connection::Fixed(number) => number,
        };
        let count = self.clients.len();
        let mut in_turn = (0..count).map(|step| &self.clients[(first + step) % count]);
        let Some(client) = in_turn.find(|client| client.is_connected()) else {
            // At the start a call waits for the first connection. Later it fails at once.
            if !self.was_connected.load(Ordering::Relaxed) && self.opened.elapsed() < self.timeout {
                return Ok(&self.clients[first % count]);
            }
            self.metrics.refused.increment(1);
            return Err(self.refusal_or(|| "there is no connection to Redis".into()));
        };
        self.was_connected.store(true, Ordering::Relaxed);
        if self.health.is_silent() {
            self.metrics.refused.increment(1);
            return Err(Error::Unavailable("Redis does not answer".into()));
        }
        Ok(client)
    }

    /// Notes what an outcome says about Redis.
    fn note<T>(&self, begun: Instant, outcome: Result<T, fred::error::Error>) -> Result<T, Error> {
        let error = match outcome {
            Ok(answer) => {
                self.health.answered();
                return Ok(answer);
            }
            Err(error) => error,
        };
        match Fault::of(&error) {
            Fault::Timeout => self.health.timed_out(begun),
            Fault::ReadOnly => self.health.renew(),
            Fault::Full => self.health.found_full(),
            Fault::Refusal => {
                self.health.refused(error.details());
                return Err(error.into());
            }
            Fault::UnknownScript | Fault::WrongType | Fault::Other => {}
        }
        Err(self.refusal_or(|| error.to_string()))
    }

    /// Returns the error for a failed call: that Redis refuses this node, if it does, and otherwise this reason.
    fn refusal_or(&self, why: impl FnOnce() -> String) -> Error {
        self.health.refusal().map_or_else(|| Error::Unavailable(why()), Error::Refused)
    }

    async fn load_scripts(&self, client: &Client) -> Result<(), Error> {
        let begun = Instant::now();
        self.metrics.script_loads.increment(1);
        for script in &self.scripts {
            let loaded: Result<String, _> = client.script_load_cluster(script.text()).await;
            self.note(begun, loaded)?;
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.abort();
        }
        self.listener.abort();
    }
}

/// Sends all commands at once and collects the answers. It does not use the client's pipelines, whose commands are written one by one: of
/// commands that wait at the same time the client writes many at once.
async fn send_all(client: &Client, commands: &[Command]) -> Result<Vec<Value>, fred::error::Error> {
    let answers = commands.iter().map(|command| async {
        let (name, arguments) = command.clone().into_parts();
        match client.custom(name, arguments).await {
            Err(error) if Fault::of(&error) == Fault::WrongType => {
                tracing::warn!(%error, "a key of Starling in Redis holds something else; it is left alone");
                Ok(Value::Null)
            }
            answer => answer,
        }
    });
    futures_util::future::try_join_all(answers.map(Box::pin)).await
}

//! The connections to Redis: a few clients, bounded waits, and not asking a Redis that is known to be away.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::error::ErrorKind;
use fred::interfaces::{ClientLike, EventInterface, LuaInterface};
use fred::types::config::{Options, ReconnectPolicy, TcpConfig, UnresponsiveConfig};
use fred::types::{Builder, ConnectHandle, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinHandle;

use super::command::Command;
use super::health::{Health, is_full, is_refusal};
use super::keys::Keys;
use super::script::Scripts;
use super::{RedisConfig, address};
use crate::Error;
use crate::meters::Meters;

/// Most commands that are sent at a time: some 50 KB to write, some milliseconds of Redis.
pub(super) const PIPELINE_MAX: usize = 500;
/// Most commands that wait inside one client; beyond it a call fails at once.
const COMMAND_BUFFER: usize = 50_000;
/// Most attaches under way at a time: enough to keep the connections busy.
const TURNS: usize = 512;
/// For how many times the time of a call an attach waits for its turn at most.
const TURN_TIMEOUTS: u32 = 4;
/// Between attempts to connect, milliseconds: soon at first, never long.
const RECONNECT_MS: std::ops::RangeInclusive<u32> = 50..=1_000;

/// Which connection a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Any, in turn.
    Any,
    /// Always the same, so that a change that waited too long can't overtake the one after it.
    Presence,
    /// As `Presence`, for changes of sessions.
    Sessions,
}

/// Whether a command may be sent once more when the connection broke before its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// It has the same effect twice.
    Yes,
    /// It would count twice.
    No,
}

#[derive(Debug)]
pub(super) struct Link {
    clients: Vec<Client>,
    /// The clients' tasks, which would outlive them.
    connections: Vec<ConnectHandle>,
    /// Hears why connections can't be made.
    listener: JoinHandle<()>,
    next: AtomicUsize,
    clustered: bool,
    timeout: Duration,
    scripts: Arc<Scripts>,
    opened: Instant,
    was_connected: AtomicBool,
    health: Arc<Health>,
    once: Options,
    /// Free places among the attaches under way.
    turns: Semaphore,
    pub(super) meters: Meters,
}

impl Link {
    pub(super) fn open(config: &RedisConfig, scripts: Arc<Scripts>) -> Result<Self, Error> {
        let parsed = address::parse(&config.url)?;
        if parsed.uses_tls() && rustls::crypto::CryptoProvider::get_default().is_none() {
            // If somebody else installs one at the same time, theirs is as good.
            let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        }
        let timeout = config.command_timeout;
        let clustered = parsed.server.is_clustered();
        let mut builder = Builder::from_config(parsed);
        builder.set_policy(ReconnectPolicy::new_exponential(
            0,
            *RECONNECT_MS.start(),
            *RECONNECT_MS.end(),
            2,
        ));
        // A little less than what the caller waits, so that the client knows of it and does not send the command later.
        let client_timeout = timeout.mul_f32(0.95);
        builder.with_performance_config(|performance| performance.default_command_timeout = client_timeout);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = timeout;
            connection.internal_command_timeout = timeout;
            connection.max_command_attempts = 3;
            connection.max_redirections = 5;
            connection.max_command_buffer_len = COMMAND_BUFFER;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(timeout * 2), interval: timeout / 4 };
            connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
        });
        let build = || builder.build().map_err(|error| Error::Address(error.details().to_owned()));
        let clients: Vec<Client> =
            (0..config.connections.max(1)).map(|_| build()).collect::<Result<_, _>>()?;
        // Before they connect, so that nothing is missed.
        let mut failures = clients[0].error_rx();
        // They connect, and connect anew, by themselves.
        let connections = clients.iter().map(ClientLike::connect).collect();
        let meters = Meters::register();
        let room = Keys::new(&config.prefix).room();
        let health = Health::new(clients.clone(), timeout, room, meters.reconnects.clone());
        let told = Arc::clone(&health);
        let listener = tokio::spawn(async move {
            loop {
                match failures.recv().await {
                    Ok((error, _)) if is_refusal(&error) => told.refused(error.details()),
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
            clustered,
            timeout,
            scripts,
            opened: Instant::now(),
            was_connected: AtomicBool::new(false),
            health,
            once: Options { max_attempts: Some(1), ..Options::default() },
            turns: Semaphore::new(TURNS),
            meters,
        })
    }

    /// Waits for a turn among many that come at once, such as the clients of a node that died: in the queue of a connection
    /// their time would run out.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Error> {
        match tokio::time::timeout(self.timeout * TURN_TIMEOUTS, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Error::Unavailable("too many sessions are being attached".into())),
        }
    }

    /// Whether keys are spread over several servers.
    pub(super) fn is_clustered(&self) -> bool {
        self.clustered
    }

    /// Runs something that may make several calls, in the time that one may take.
    pub(super) async fn within<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let begun = Instant::now();
        match tokio::time::timeout(self.timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => {
                self.health.timed_out(begun);
                Err(self.refused_or(|| format!("Redis took longer than {:?}", self.timeout)))
            }
        }
    }

    /// Why nothing can be had: because Redis refuses this node, or else for this reason.
    fn refused_or(&self, why: impl FnOnce() -> String) -> Error {
        self.health.refusal().map_or_else(|| Error::Unavailable(why()), Error::Refused)
    }

    /// Whether Redis has no memory for anything new.
    pub(super) fn is_full(&self) -> bool {
        self.health.is_full()
    }

    /// Runs one command that Redis may refuse, of which nothing is said then.
    pub(super) async fn try_command(&self, command: Command) -> Result<Value, Error> {
        self.within(async {
            let client = self.client(Lane::Any)?;
            self.send(client, Again::Yes, command).await.map_err(|error| match is_refusal(&error) {
                true => Error::Refused(error.details().to_owned()),
                false => self.refused_or(|| error.to_string()),
            })
        })
        .await
    }

    /// Runs one command.
    pub(super) async fn call(&self, lane: Lane, again: Again, command: Command) -> Result<Value, Error> {
        self.within(async {
            let (begun, client) = (Instant::now(), self.client(lane)?);
            match self.send(client, again, command.clone()).await {
                Err(error) if is_unknown_script(&error) => {
                    Box::pin(self.load_scripts(client)).await?;
                    self.note(begun, self.send(client, again, command).await)
                }
                outcome => self.note(begun, outcome),
            }
        })
        .await
    }

    /// Runs any number of commands that may be sent twice, some at a time in one round trip; stops at the first error. A command
    /// that fails because of its own key alone gets null for an answer, and the others theirs.
    pub(super) async fn pipeline(&self, lane: Lane, commands: Vec<Command>) -> Result<Vec<Value>, Error> {
        let mut answers = Vec::with_capacity(commands.len());
        for chunk in commands.chunks(PIPELINE_MAX) {
            let more = self
                .within(async {
                    let (begun, client) = (Instant::now(), self.client(lane)?);
                    match send_all(client, chunk).await {
                        Err(error) if is_unknown_script(&error) => {
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

    /// Ends the connections when all has been answered.
    pub(super) async fn close(&self) {
        for client in &self.clients {
            // A connection that is gone already is what was wanted.
            let _ = tokio::time::timeout(self.timeout, client.quit()).await;
        }
    }

    async fn send(
        &self,
        client: &Client,
        again: Again,
        command: Command,
    ) -> Result<Value, fred::error::Error> {
        let Command { name, arguments } = command;
        // The client's futures are large, so only the one that is under way takes room.
        match again {
            Again::Yes => Box::pin(client.custom(name, arguments)).await,
            Again::No => Box::pin(client.with_options(&self.once).custom(name, arguments)).await,
        }
    }

    /// The client to take; an error when there is no use in asking.
    fn client(&self, lane: Lane) -> Result<&Client, Error> {
        let first = match lane {
            Lane::Any => self.next.fetch_add(1, Ordering::Relaxed),
            Lane::Presence => 0,
            Lane::Sessions => 1,
        };
        let count = self.clients.len();
        let in_turn = (0..count).map(|step| &self.clients[(first + step) % count]);
        let Some(client) = in_turn.clone().find(|client| client.is_connected()) else {
            // At the start a call waits for the first connection; later it is better told at once.
            if !self.was_connected.load(Ordering::Relaxed) && self.opened.elapsed() < self.timeout {
                return Ok(&self.clients[first % count]);
            }
            self.meters.refused.increment(1);
            return Err(self.refused_or(|| "there is no connection to Redis".into()));
        };
        self.was_connected.store(true, Ordering::Relaxed);
        if self.health.is_silent() {
            self.meters.refused.increment(1);
            return Err(Error::Unavailable("Redis does not answer".into()));
        }
        Ok(client)
    }

    fn note<T>(&self, begun: Instant, outcome: Result<T, fred::error::Error>) -> Result<T, Error> {
        let error = match outcome {
            Ok(answer) => {
                self.health.answered();
                return Ok(answer);
            }
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::Timeout => self.health.timed_out(begun),
            // A master that has become a replica stays connected and refuses to write.
            _ if error.details().starts_with("READONLY") => self.health.renew(),
            _ if is_full(&error) => self.health.found_full(),
            _ if is_refusal(&error) => {
                self.health.refused(error.details());
                return Err(Error::Refused(error.details().to_owned()));
            }
            _ => {}
        }
        Err(self.refused_or(|| error.to_string()))
    }

    async fn load_scripts(&self, client: &Client) -> Result<(), Error> {
        let begun = Instant::now();
        self.meters.script_loads.increment(1);
        for script in self.scripts.all() {
            let source = script.lua().cloned().unwrap_or_default();
            let loaded: Result<String, _> = client.script_load_cluster(source).await;
            self.note(begun, loaded)?;
        }
        Ok(())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.abort();
        }
        self.listener.abort();
    }
}

/// Whether a command failed because of what stands under its key, which is none of the others' business.
fn is_of_its_key(error: &fred::error::Error) -> bool {
    error.details().contains("WRONGTYPE")
}

/// Sends all at once and collects the answers. Not as what the client calls a pipeline, as it writes those one by one: of
/// commands that merely wait for it together it writes many at a time.
async fn send_all(client: &Client, commands: &[Command]) -> Result<Vec<Value>, fred::error::Error> {
    let answers = commands.iter().map(|Command { name, arguments }| async {
        match client.custom(name.clone(), arguments.clone()).await {
            Err(error) if is_of_its_key(&error) => {
                tracing::warn!(%error, "something that is not Starling's stands under one of its keys in Redis; it is left alone");
                Ok(Value::Null)
            }
            answer => answer,
        }
    });
    futures_util::future::try_join_all(answers.map(Box::pin)).await
}

fn is_unknown_script(error: &fred::error::Error) -> bool {
    error.details().starts_with("NOSCRIPT")
}

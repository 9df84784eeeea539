//! Making a client, which is one connection to each server and a task that works on it.

use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::Builder;
use fred::types::config::{
    ClusterDiscoveryPolicy, ReconnectPolicy, ServerConfig, TcpConfig, UnresponsiveConfig,
};

use crate::{Error, RedisAddress};

/// The smallest capacity of a client's channels. Those for errors and the like need some room.
const FRAMES_MIN: usize = 16;

/// Settings of a client.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The time that a command may take.
    pub command_timeout: Duration,
    /// The time to connect.
    pub connection_timeout: Duration,
    /// The most commands that wait for the connection.
    pub commands_max: usize,
    /// The most published messages that wait until they are taken.
    pub frames_max: usize,
    /// How the client connects again by itself; `None` if it ends with its first fault.
    pub reconnect: Option<Reconnect>,
}

/// How a client connects again.
#[derive(Clone, Copy, Debug)]
pub struct Reconnect {
    /// The wait after a first fault, milliseconds. It doubles with each further one.
    pub wait_ms_min: u32,
    /// The longest wait, milliseconds.
    pub wait_ms_max: u32,
    /// How long a server may be silent until its connection is made anew.
    pub silence_max: Duration,
    /// How often a command is sent if the connection breaks before the answer comes.
    pub attempts_max: u32,
}

/// Connects once and closes the connection again, to learn why others that keep trying do not connect.
///
/// # Errors
/// [`Error::Refused`], and [`Error::Unavailable`] with the reason.
pub async fn try_connect(address: &RedisAddress, limit: Duration) -> Result<(), Error> {
    let config = ClientConfig {
        command_timeout: limit,
        connection_timeout: limit,
        commands_max: FRAMES_MIN,
        frames_max: FRAMES_MIN,
        reconnect: None,
    };
    let client = client(address, &config)?;
    match tokio::time::timeout(limit, client.init()).await {
        Ok(Ok(connection)) => {
            // An error means that the connection is gone already.
            let _ = tokio::time::timeout(limit, client.quit()).await;
            connection.abort();
            Ok(())
        }
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::Unavailable(format!("no connection within {limit:?}"))),
    }
}

/// Makes a client, which does not connect yet.
///
/// # Errors
/// [`Error::Address`] if the address can't be used.
pub fn client(address: &RedisAddress, config: &ClientConfig) -> Result<Client, Error> {
    let mut server = address.config().clone();
    if config.reconnect.is_some() {
        // So that the client also keeps trying if the server is away at the start.
        server.fail_fast = false;
        if let ServerConfig::Clustered { policy, .. } = &mut server.server {
            *policy = ClusterDiscoveryPolicy::UseCache;
        }
    }
    let mut builder = Builder::from_config(server);
    builder.with_performance_config(|performance| {
        performance.default_command_timeout = config.command_timeout;
        performance.broadcast_channel_capacity = config.frames_max.max(FRAMES_MIN);
    });
    builder.with_connection_config(|connection| {
        connection.connection_timeout = config.connection_timeout;
        connection.internal_command_timeout = config.connection_timeout;
        connection.max_command_attempts = 1;
        connection.max_command_buffer_len = config.commands_max;
        connection.tcp = TcpConfig { nodelay: Some(true), ..TcpConfig::default() };
    });
    if let Some(reconnect) = config.reconnect {
        let Reconnect { wait_ms_min, wait_ms_max, silence_max, attempts_max } = reconnect;
        builder.set_policy(ReconnectPolicy::new_exponential(0, wait_ms_min, wait_ms_max, 2));
        builder.with_connection_config(|connection| {
            connection.max_command_attempts = attempts_max;
            connection.unresponsive =
                UnresponsiveConfig { max_timeout: Some(silence_max), interval: silence_max / 8 };
        });
    }
    builder.build().map_err(|error| Error::Address(error.details().to_owned()))
}

//! `starling check`: goes the way of a client, through whatever stands before the nodes.

mod progress;
mod session;
mod talk;
mod token;

use std::path::PathBuf;
use std::time::Duration;

use starling_settings::BadConfig;

use crate::config::Config;
use crate::failure::Failure;
use crate::outbound::NodeAddress;
use crate::process::runtime;
use progress::Progress;
use talk::Talk;

/// How long each step may take. Far more than any needs, and less than a person waits.
const STEP_LIMIT: Duration = Duration::from_secs(10);

/// What is to be checked.
pub struct CheckRequest {
    /// Where the nodes are. `None`: where the node of this configuration listens.
    pub url: Option<String>,
    /// A token to connect with.
    pub token: Option<String>,
    /// A file that holds one. With neither, the secret of the configuration signs one.
    pub token_file: Option<PathBuf>,
    /// The tenant of a token that is signed here.
    pub tenant: String,
}

/// Connects as a client does, sends a message in a conversation of its own, reads it over two connections, and deletes the conversation.
/// Prints each step with its time, and fails with the first one that fails.
pub fn check(config: &Config, request: &CheckRequest) -> Result<(), Failure> {
    let address = match &request.url {
        Some(url) => NodeAddress::parse(url)?,
        None => NodeAddress::of_own_node(config)?,
    };
    let token = token::token(config, request)?;
    if token.is_empty() {
        return Err(BadConfig("--token: is empty".into()).into());
    }
    let mut progress = Progress::begin(&address.socket_url())?;
    runtime()?.block_on(async {
        let mut talk = Talk::new(address, token);
        let talked = talk.through(&mut progress).await;
        // What was made is removed, whatever went wrong after that.
        let removed = talk.clean_up(&mut progress).await;
        talked.and(removed)
    })?;
    progress.end()
}

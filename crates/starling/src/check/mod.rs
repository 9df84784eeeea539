//! `starling check`: goes the way of a client, through whatever stands before the nodes.

mod progress;
mod request;
mod session;
mod talk;
mod token;

use starling_settings::BadConfig;

use crate::config::Config;
use crate::failure::Failure;
use crate::outbound::NodeAddress;
use crate::process::runtime;
use progress::Progress;
pub use request::CheckRequest;
use talk::Talk;

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

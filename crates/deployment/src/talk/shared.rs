//! What all clients of a talk share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::json;
use starling_testkit::client::{Client, Encoding, Failure, Log};
use starling_testkit::token::Token;

/// How many conversations there are. Each client is in two.
pub(super) const CONVERSATIONS: usize = 10;
/// Validity of tokens: longer than any run.
const TOKENS_HOLD: Duration = Duration::from_secs(24 * 3600);
/// The longest time for everybody to connect, and for a client to receive what it lacks after the last send.
pub(super) const LIMIT: Duration = Duration::from_secs(120);
/// Messages in one page of a history.
const PAGE: u64 = 200;

/// State that all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    /// Where they connect, `ws://HOST/v1/ws`.
    pub url: String,
    pub secret: String,
    pub over: AtomicBool,
    pub dismissed: AtomicBool,
    pub entered: AtomicUsize,
}

impl Shared {
    /// Whether the talk is over.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether the listeners may leave.
    pub fn listeners_may_go(&self) -> bool {
        self.dismissed.load(Ordering::Relaxed)
    }

    /// A token of a user.
    pub fn token(&self, user: &str) -> String {
        Token::of(user).ttl(TOKENS_HOLD).sign(&self.secret)
    }

    /// A connection of the user who owns the conversations.
    pub async fn owner(&self) -> Result<Client> {
        let connected = async || match Client::connect(&self.url, &self.token("owner"), Encoding::Json).await
        {
            Ok(client) => Ok(Some(client)),
            Err(failure) => Err(failure.into()),
        };
        // An ingress may need a moment until it knows the service.
        starling_testkit::wait::until(LIMIT, "the first connection", connected).await
    }

    /// Reads all conversations page by page, as the owner.
    pub async fn read_log(&self) -> Result<Log> {
        let mut owner = self.owner().await?;
        let mut log = Log::default();
        for number in 0..CONVERSATIONS {
            let name = conversation(number);
            let mut after = 0;
            loop {
                let page = json!({ "conversation": name, "after": after, "limit": PAGE });
                let page = match owner.command("history", page).await {
                    Ok(page) => page,
                    // A connection may give 50 commands in a second.
                    Err(Failure::Refused(reply)) if reply.code == "rate_limited" => {
                        tokio::time::sleep(Duration::from_millis(reply.retry_after_ms.unwrap_or(1_000)))
                            .await;
                        continue;
                    }
                    // The balancing may ask anybody to move; the owner just connects again.
                    Err(Failure::Closed(_)) => {
                        owner = self.owner().await?;
                        continue;
                    }
                    Err(failure) => bail!("read the history of {name}: {failure}"),
                };
                let messages = page["messages"].as_array().context("a history without messages")?;
                let Some(last) = messages.last() else { break };
                for message in messages {
                    let text = |field: &str| message[field].as_str().with_context(|| format!("no {field}"));
                    let seq = message["seq"].as_u64().context("no seq")?;
                    log.insert(&name, seq, text("id")?, text("sender")?, text("content")?);
                }
                after = last["seq"].as_u64().context("no seq")?;
            }
        }
        Ok(log)
    }
}

/// The name of a conversation.
pub(super) fn conversation(number: usize) -> String {
    format!("talk-{number}")
}

//! Conversations with a single, slow sender, one on each node: no later message soon reveals to the readers that they lack one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use starling_testkit::client::{Acknowledged, Encoding, Log, RecordingClient, Verdict};
use starling_testkit::node::SECRET;
use starling_testkit::token::Token;
use tokio::task::JoinSet;

use super::client::CATCH_UP_LIMIT;
use super::measure::Percentiles;
use super::workload::{RETRY_LIMIT, TENANTS, TOKENS_HOLD};

/// Time between two messages of a sender.
const PAUSE: Duration = Duration::from_millis(300);

/// One client on each node, which sends in a conversation of its own and reads those of all.
pub struct SingleSenders {
    /// The conversations, in the order of their senders.
    names: Arc<[String]>,
    urls: Arc<[String]>,
    over: Arc<AtomicBool>,
    senders: JoinSet<Result<Sender>>,
}

/// One of the clients.
pub struct Sender {
    number: usize,
    client: RecordingClient,
    said: Vec<(Acknowledged, Instant)>,
}

/// What the clients saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleSenderReport {
    /// Number of messages sent.
    pub sent: u64,
    /// The comparison of their records with the log.
    pub verdict: Verdict,
    /// From the acknowledgement to the delivery to each of the others.
    pub took: Percentiles,
}

impl SingleSenders {
    /// Creates the conversations, whose names begin with that of the case, and starts a sender on each of these nodes, not through the
    /// balancer.
    pub async fn start(case: &str, urls: Vec<String>) -> Result<Self> {
        let names: Arc<[String]> = (0..urls.len()).map(|number| format!("{case}.single-{number}")).collect();
        let members: Vec<String> = (0..urls.len()).map(user).collect();
        let mut clients = Vec::new();
        for (number, url) in urls.iter().enumerate() {
            let token = Token::of(&user(number)).tenant(TENANTS[0]).ttl(TOKENS_HOLD).sign(SECRET);
            clients.push(RecordingClient::connect(url, &token, Encoding::Json).await?);
        }
        for (name, client) in names.iter().zip(&mut clients) {
            client.command("create", json!({ "conversation": name, "members": members })).await?;
        }
        for client in &mut clients {
            for name in &*names {
                client.join(name).await?;
            }
        }
        let urls: Arc<[String]> = urls.into();
        let over = Arc::new(AtomicBool::new(false));
        let mut senders = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            let sender = Sender { number, client, said: Vec::new() };
            senders.spawn(sender.talk(Arc::clone(&names), Arc::clone(&urls), Arc::clone(&over)));
        }
        Ok(Self { names, urls, over, senders })
    }

    /// Lets the clients finish their current sends. The log may be read afterwards.
    pub async fn stop(mut self) -> Result<FinishedSenders> {
        self.over.store(true, Ordering::Relaxed);
        let mut senders = Vec::new();
        while let Some(ended) = self.senders.join_next().await {
            senders.push(ended?.context("a single speaker")?);
        }
        Ok(FinishedSenders { names: self.names, urls: self.urls, senders })
    }
}

/// Clients that have stopped sending, and may still receive messages.
pub struct FinishedSenders {
    names: Arc<[String]>,
    urls: Arc<[String]>,
    senders: Vec<Sender>,
}

impl FinishedSenders {
    /// Lets the clients listen until they have received everything in the log, or a limit has passed.
    pub async fn listen(mut self, log: &Log) -> Result<SingleSenderReport> {
        let deadline = Instant::now() + CATCH_UP_LIMIT;
        for sender in &mut self.senders {
            for name in &*self.names {
                let head = log.head(name);
                while Instant::now() < deadline && sender.client.record().cursor(name).unwrap_or(0) < head {
                    if !sender.client.is_connected() {
                        sender.client.resume_somewhere(&self.urls, CATCH_UP_LIMIT).await?;
                    }
                    // The next turn checks whether it came, and whether the socket is open.
                    let _ = sender.client.listen_until(name, head, Duration::from_secs(2)).await;
                }
            }
        }
        let said: HashMap<(&str, u64), Instant> = self
            .senders
            .iter()
            .flat_map(|sender| &sender.said)
            .map(|(ack, told)| ((ack.conversation.as_str(), ack.seq), *told))
            .collect();
        let mut took = Vec::new();
        for sender in &self.senders {
            let others = sender.client.record().shown();
            for (name, seq, at) in others.filter(|(name, ..)| *name != self.names[sender.number]) {
                let told = said.get(&(name, seq));
                took.extend(told.map(|told| at.saturating_duration_since(*told).as_secs_f64()));
            }
        }
        Ok(SingleSenderReport {
            sent: self.senders.iter().map(|sender| sender.said.len() as u64).sum(),
            verdict: self.senders.iter().map(|sender| sender.client.record().verdict(log)).sum(),
            took: Percentiles::of(took),
        })
    }
}

impl Sender {
    async fn talk(
        mut self,
        names: Arc<[String]>,
        urls: Arc<[String]>,
        over: Arc<AtomicBool>,
    ) -> Result<Self> {
        let name = names.get(self.number).context("a conversation of its own")?;
        while !over.load(Ordering::Relaxed) {
            let key = format!("single-{}", self.said.len());
            let content = format!("message {} of {}", self.said.len(), user(self.number));
            // If its socket ends, it continues on any node.
            let ack = self.client.send_surely(&urls, name, &key, &content, RETRY_LIMIT).await?;
            self.said.push((ack, Instant::now()));
            // If the socket ends here, the next send resumes.
            let _ = self.client.listen(PAUSE).await;
        }
        Ok(self)
    }
}

fn user(number: usize) -> String {
    format!("single-{number}")
}

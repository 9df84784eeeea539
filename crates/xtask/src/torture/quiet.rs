//! Conversations with a single speaker, one on each node: what is said there is followed by nothing that would show its readers that
//! they lack it.

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

use super::crowd::{PATIENCE, TENANTS, TOKENS_HOLD};
use super::measure::Spread;
use super::member::SETTLE;

/// Between two messages of a speaker.
const PAUSE: Duration = Duration::from_millis(300);

/// One client on each node: it speaks in a conversation of its own, and listens in those of all.
pub struct Quiet {
    /// Conversations by their speakers.
    names: Arc<[String]>,
    urls: Arc<[String]>,
    over: Arc<AtomicBool>,
    speakers: JoinSet<Result<Speaker>>,
}

/// One of them.
pub struct Speaker {
    number: usize,
    client: RecordingClient,
    said: Vec<(Acknowledged, Instant)>,
}

/// What they saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hearing {
    /// How many messages they sent.
    pub sent: u64,
    /// What was right and what was wrong.
    pub verdict: Verdict,
    /// From the acknowledgement until each of the others was shown it, seconds.
    pub took: Spread,
}

impl Quiet {
    /// Makes the conversations, whose names begin with that of the case, and lets each speaker begin on one of these nodes, straight
    /// and not through a balancer.
    pub async fn start(case: &str, urls: Vec<String>) -> Result<Self> {
        let names: Arc<[String]> = (0..urls.len()).map(|number| format!("{case}.quiet-{number}")).collect();
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
        let mut speakers = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            let speaker = Speaker { number, client, said: Vec::new() };
            speakers.spawn(speaker.talk(Arc::clone(&names), Arc::clone(&urls), Arc::clone(&over)));
        }
        Ok(Self { names, urls, over, speakers })
    }

    /// Lets them finish what they have begun to say. The log may be read after this.
    pub async fn stop(mut self) -> Result<Silence> {
        self.over.store(true, Ordering::Relaxed);
        let mut speakers = Vec::new();
        while let Some(ended) = self.speakers.join_next().await {
            speakers.push(ended?.context("a single speaker")?);
        }
        Ok(Silence { names: self.names, urls: self.urls, speakers })
    }
}

/// Those who have spoken, and may still have something to hear.
pub struct Silence {
    names: Arc<[String]>,
    urls: Arc<[String]>,
    speakers: Vec<Speaker>,
}

impl Silence {
    /// Lets them listen until they have been shown all that the log holds, or their time is over.
    pub async fn listen(mut self, log: &Log) -> Result<Hearing> {
        let deadline = Instant::now() + SETTLE;
        for speaker in &mut self.speakers {
            for name in &*self.names {
                let head = log.head(name);
                while Instant::now() < deadline && speaker.client.record().cursor(name).unwrap_or(0) < head {
                    if !speaker.client.is_connected() {
                        speaker.client.resume_somewhere(&self.urls, SETTLE).await?;
                    }
                    // Whether it came, and whether the socket holds, is looked at by the next turn.
                    let _ = speaker.client.listen_until(name, head, Duration::from_secs(2)).await;
                }
            }
        }
        let said: HashMap<(&str, u64), Instant> = self
            .speakers
            .iter()
            .flat_map(|speaker| &speaker.said)
            .map(|(ack, told)| ((ack.conversation.as_str(), ack.seq), *told))
            .collect();
        let mut took = Vec::new();
        for speaker in &self.speakers {
            let others = speaker.client.record().shown();
            for (name, seq, at) in others.filter(|(name, ..)| *name != self.names[speaker.number]) {
                let told = said.get(&(name, seq));
                took.extend(told.map(|told| at.saturating_duration_since(*told).as_secs_f64()));
            }
        }
        Ok(Hearing {
            sent: self.speakers.iter().map(|speaker| speaker.said.len() as u64).sum(),
            verdict: self.speakers.iter().map(|speaker| speaker.client.record().verdict(log)).sum(),
            took: Spread::of(took),
        })
    }
}

impl Speaker {
    async fn talk(
        mut self,
        names: Arc<[String]>,
        urls: Arc<[String]>,
        over: Arc<AtomicBool>,
    ) -> Result<Self> {
        let name = names.get(self.number).context("a conversation of its own")?;
        while !over.load(Ordering::Relaxed) {
            let key = format!("quiet-{}", self.said.len());
            let content = format!("message {} of {}", self.said.len(), user(self.number));
            // Where its socket ends it goes on anywhere, as others do.
            let ack = self.client.send_surely(&urls, name, &key, &content, PATIENCE).await?;
            self.said.push((ack, Instant::now()));
            // A socket that ends here is resumed by the next message.
            let _ = self.client.listen(PAUSE).await;
        }
        Ok(self)
    }
}

fn user(number: usize) -> String {
    format!("quiet-{number}")
}

//! Ada, who talks all the time, and clients that keep their cursor with its log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Node;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a listener looks whether the talk is over.
const LOOK: Duration = Duration::from_millis(200);
/// Messages before the talk goes on to its next part.
const MORE: usize = 20;

/// An answered `send`.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub seq: u64,
    pub begun: Instant,
    pub answered: Instant,
}

/// Ada, who talks until told to stop.
pub struct Talk {
    stop: Arc<AtomicBool>,
    sent: watch::Receiver<Vec<Sent>>,
    task: JoinHandle<Result<()>>,
}

impl Talk {
    /// Ada makes the conversation, Bob joins it, and she begins.
    pub async fn begin(node: &Node, bob: &mut Reader) -> Result<Self> {
        let mut ada = Reader::connect(node, "ada").await?;
        ada.client.command("create", json!({"conversation": "c", "members": ["bob"]})).await?;
        bob.join().await?;
        let stop = Arc::<AtomicBool>::default();
        let (progress, sent) = watch::channel(Vec::new());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                let number = progress.borrow().len() + 1;
                let begun = Instant::now();
                let seq = ada.say(&format!("message {number}")).await?;
                progress.send_modify(|sent| sent.push(Sent { seq, begun, answered: Instant::now() }));
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        });
        Ok(Self { stop, sent, task })
    }

    /// Waits for some more messages.
    pub async fn goes_on(&mut self) -> Result<()> {
        let wanted = self.sent.borrow().len() + MORE;
        let more = self.sent.wait_for(|sent| sent.len() >= wanted);
        tokio::time::timeout(PATIENCE, more)
            .await
            .context("the talk stands still")?
            .context("the talk has ended")?;
        Ok(())
    }

    /// The number of the newest answered message.
    pub fn newest(&self) -> Result<u64> {
        self.sent.borrow().last().map(|sent| sent.seq).context("nothing was sent")
    }

    /// Ends it; returns what was sent, in order.
    pub async fn end(self) -> Result<Vec<Sent>> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await??;
        Ok(self.sent.borrow().clone())
    }
}

/// Client that keeps its cursor with its log.
pub struct Reader {
    user: &'static str,
    client: Client,
    cursor: Value,
}

impl Reader {
    /// Connects to a node.
    pub async fn connect(node: &Node, user: &'static str) -> Result<Self> {
        let mut client = Client::connect(&node.ws_url(), &node.token(user), Encoding::Json).await?;
        client.set_patience(PATIENCE);
        Ok(Self { user, client, cursor: Value::Null })
    }

    async fn join(&mut self) -> Result<()> {
        let joined = self.client.command("join", json!({"conversation": "c"})).await?;
        self.cursor = json!({"seq": joined["head"], "log": joined["log"]});
        Ok(())
    }

    /// Sends a message with a new key and returns its number.
    pub async fn say(&mut self, content: &str) -> Result<u64> {
        let key = format!("{:032x}", rand::random::<u128>());
        let fields = json!({"conversation": "c", "key": key, "content": content});
        self.client.command("send", fields).await?["seq"].as_u64().context("a send without a number")
    }

    /// The number and content of the next message.
    pub async fn message(&mut self) -> Result<(u64, String)> {
        let event = self.client.wait_for_event("message").await?;
        let content = event["content"].as_str().context("a message without content")?;
        Ok((event["seq"].as_u64().context("a message without a number")?, content.to_owned()))
    }

    /// Receives messages until the number in `end`, however long the talk is.
    pub async fn listen(mut self, end: watch::Receiver<u64>) -> Result<Self> {
        let mut seen = 0;
        while seen < *end.borrow() {
            match self.client.next_event(LOOK).await {
                Ok(event) if event["ev"] == "message" => seen = event["seq"].as_u64().context("a number")?,
                Ok(_) | Err(Failure::Other(_)) => {}
                Err(closed) => return Err(closed.into()),
            }
        }
        self.cursor["seq"] = json!(seen);
        Ok(self)
    }

    /// Resumes; returns the state of the conversation in the reply.
    pub async fn comes_back(&mut self, node: &Node) -> Result<Value> {
        let welcome = self.client.welcome();
        let resume = json!({"session": welcome["session"], "ticket": welcome["ticket"], "cursors": {"c": self.cursor}});
        let token = node.token(self.user);
        self.client = Client::resume(&node.ws_url(), &token, Encoding::Json, resume).await?;
        self.client.set_patience(PATIENCE);
        let welcome = self.client.welcome();
        ensure!(welcome["resumed"] == true, "{welcome}");
        Ok(welcome["conversations"]["c"].clone())
    }
}

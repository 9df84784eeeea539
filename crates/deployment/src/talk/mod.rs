//! Clients that talk all the time, and the comparison of what they saw with the log.

mod client;
mod shared;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use starling_testkit::client::{Encoding, Failure, Log, Verdict};
use tokio::task::JoinSet;

pub use client::{History, Interruption, Role};

use client::Talker;
use shared::{CONVERSATIONS, LIMIT, Shared, conversation};

/// How long all clients listen for messages that should not come.
const REST: Duration = Duration::from_millis(500);

/// The running talk.
pub struct Talk {
    shared: Arc<Shared>,
    clients: JoinSet<Result<History>>,
    listeners: JoinSet<Result<History>>,
    /// Listeners that have left.
    left: Vec<History>,
}

/// The result of the talk.
pub struct Outcome {
    /// What each client did and saw.
    pub histories: Vec<History>,
    /// What the clients were shown, compared with the log.
    pub verdict: Verdict,
    /// Messages in the log.
    pub logged: u64,
    /// Faults of the log itself: holes, or numbers and ids that stand there twice.
    pub log_faults: u64,
    /// Messages in the log that say again what their sender had said: retries that became second messages.
    pub repeated: u64,
}

impl Talk {
    /// Creates the conversations and starts the clients. Returns when all are connected. `listeners` is how many may come later.
    ///
    /// # Errors
    /// When a client can't connect within two minutes.
    pub async fn start(url: &str, secret: &str, clients: usize, listeners: usize) -> Result<Self> {
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            secret: secret.to_owned(),
            over: AtomicBool::new(false),
            dismissed: AtomicBool::new(false),
            entered: AtomicUsize::new(0),
        });
        let mut owner = shared.owner().await?;
        for number in 0..CONVERSATIONS {
            let members: Vec<String> = (0..clients)
                .map(|number| role(number, true))
                .chain((0..listeners).map(|number| role(number, false)))
                .filter(|role| role.conversations.contains(&conversation(number)))
                .map(|role| role.user)
                .collect();
            let fields = json!({ "conversation": conversation(number), "members": members });
            owner.command("create", fields).await?;
        }
        let mut talk = Self { shared, clients: JoinSet::new(), listeners: JoinSet::new(), left: Vec::new() };
        for number in 0..clients {
            let shared = Arc::clone(&talk.shared);
            talk.clients.spawn(async move {
                let talker = Talker::enter(Arc::clone(&shared), role(number, true)).await?;
                shared.entered.fetch_add(1, Ordering::Relaxed);
                talker.talk().await
            });
        }
        talk.wait_for(clients).await?;
        Ok(talk)
    }

    /// Adds clients that only listen. Returns when all are connected.
    ///
    /// # Errors
    /// When a client can't connect within two minutes.
    pub async fn add_listeners(&mut self, listeners: usize) -> Result<()> {
        let before = self.shared.entered.load(Ordering::Relaxed);
        for number in 0..listeners {
            let shared = Arc::clone(&self.shared);
            self.listeners.spawn(async move {
                let talker = Talker::enter(Arc::clone(&shared), role(number, false)).await?;
                shared.entered.fetch_add(1, Ordering::Relaxed);
                talker.listen().await
            });
        }
        self.wait_for(before + listeners).await
    }

    /// Lets the listeners leave.
    ///
    /// # Errors
    /// When one of them had given up.
    pub async fn dismiss_listeners(&mut self) -> Result<()> {
        self.shared.dismissed.store(true, Ordering::Relaxed);
        while let Some(ended) = self.listeners.join_next().await {
            self.left.push(ended??);
        }
        Ok(())
    }

    /// Looks whether all clients are still there.
    ///
    /// # Errors
    /// When a client has given up.
    pub fn check(&mut self) -> Result<()> {
        match self.clients.try_join_next().or_else(|| self.listeners.try_join_next()) {
            None => Ok(()),
            Some(ended) => ended?.map(drop).context("a client gave up"),
        }
    }

    /// Lets the clients finish their current sends and receive what is in the log, and compares both.
    ///
    /// # Errors
    /// When a client has given up, or the log can't be read.
    pub async fn finish(mut self) -> Result<Outcome> {
        self.dismiss_listeners().await?;
        self.shared.over.store(true, Ordering::Relaxed);
        let mut talked = Vec::new();
        while let Some(ended) = self.clients.join_next().await {
            talked.push(ended??);
        }
        let log = Arc::new(self.shared.read_log().await?);
        let mut catching_up = JoinSet::new();
        for history in talked {
            let (shared, log) = (Arc::clone(&self.shared), Arc::clone(&log));
            catching_up.spawn(async move { catch_up(&shared, history, &log).await });
        }
        let mut histories = self.left;
        while let Some(caught_up) = catching_up.join_next().await {
            histories.push(caught_up??);
        }
        let verdict = histories.iter().map(|history| history.client.record().verdict(&log)).sum();
        Ok(Outcome {
            histories,
            verdict,
            logged: log.messages(),
            log_faults: log.faults(),
            repeated: log.repeated(),
        })
    }

    async fn wait_for(&mut self, entered: usize) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let everybody = async || {
            self.check()?;
            Ok(shared.entered.load(Ordering::Relaxed) >= entered)
        };
        starling_testkit::wait::until_true(LIMIT, "all clients to be connected", everybody).await
    }
}

/// Listens until a client has everything in the log, or a limit has passed, and a little longer.
async fn catch_up(shared: &Shared, mut history: History, log: &Log) -> Result<History> {
    let urls = [shared.url.clone()];
    for name in history.role.conversations.clone() {
        let begun = std::time::Instant::now();
        while history.client.record().cursor(&name).unwrap_or(0) < log.head(&name) && begun.elapsed() < LIMIT
        {
            if !history.client.is_connected() {
                history.client.resume_somewhere(&urls, LIMIT).await?;
            }
            match history.client.listen_until(&name, log.head(&name), Duration::from_secs(5)).await {
                Ok(()) | Err(Failure::Other(_)) => {}
                Err(_) => history.client.cut(),
            }
        }
    }
    if history.client.is_connected() {
        // A connection that ends now has delivered everything.
        let _ = history.client.listen(REST).await;
    }
    Ok(history)
}

fn role(number: usize, sends: bool) -> Role {
    Role {
        user: format!("{}-{number}", if sends { "talker" } else { "listener" }),
        conversations: [conversation(number % CONVERSATIONS), conversation((number + 3) % CONVERSATIONS)],
        sends,
        encoding: if number.is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack },
    }
}

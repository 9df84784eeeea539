//! The clients of one case: their identities and their shared state.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use starling_testkit::client::{Encoding, Log};
use starling_testkit::node::SECRET;
use starling_testkit::postgres::Postgres;
use starling_testkit::token::Token;

use super::progress::Progress;

/// Conversations of each tenant. The names are the same in both, so that leaks between tenants show.
pub const CONVERSATIONS: usize = 25;
/// The tenants.
pub const TENANTS: [&str; 2] = ["red", "blue"];
/// Validity of a token: longer than any run and any jump of a clock.
pub const TOKENS_HOLD: Duration = Duration::from_secs(48 * 3600);
/// The longest time for a send or a reconnect over all tries, faults included.
pub const RETRY_LIMIT: Duration = Duration::from_secs(90);
/// Number of members of the busy conversation that stop reading.
const SLOW: usize = 4;

/// State that all clients of a case share.
#[derive(Debug)]
pub struct Workload {
    /// Prefix of the names of the conversations, different in each case.
    pub name: String,
    /// The addresses that the clients connect to.
    pub urls: Vec<String>,
    /// Seed of all random choices.
    pub seed: u64,
    /// Start of the case.
    pub begun: Instant,
    /// Average time between two sends of one client.
    pub pause: Duration,
    /// Live progress of the clients.
    pub progress: Progress,
    pub(super) members: usize,
    pub(super) stop: AtomicBool,
    pub(super) busy: AtomicBool,
}

/// The identity of a client.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its number, from 0.
    pub number: usize,
    /// Number of clients.
    pub of: usize,
}

/// Reads the messages of a case from the database, one log for each tenant. Contents are read as digests, since they are large in the
/// busy conversation.
pub async fn read_logs(postgres: &Postgres, workload: &Workload) -> Result<[Log; 2]> {
    let rows = postgres
        .psql(&format!(
            "SELECT c.tenant || '|' || c.name || '|' || m.seq || '|' || m.id || '|' || m.sender || '|' || \
             left(encode(sha256(convert_to(m.content, 'UTF8')), 'hex'), 16) FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.name LIKE '{}.%'",
            workload.name
        ))
        .await?;
    let mut logs = [Log::default(), Log::default()];
    for row in rows.lines() {
        let mut parts = row.split('|');
        let mut part = || parts.next().context("a row of the log lacks a column");
        let (tenant, name, seq, id, sender, content) = (part()?, part()?, part()?, part()?, part()?, part()?);
        let log = TENANTS.iter().position(|known| *known == tenant).context("a strange tenant")?;
        logs[log].insert_digest(name, seq.parse()?, id, sender, u64::from_str_radix(content, 16)?);
    }
    Ok(logs)
}

impl Workload {
    /// Whether the clients should stop.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the busy conversation is busy and some of its members do not read.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Sets [`is_busy`](Self::is_busy).
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Records an acknowledged message of a member.
    pub fn acknowledged(&self, member: Member, conversation: usize, seq: u64) {
        self.progress.acknowledged(member.tenant() * CONVERSATIONS + conversation, seq);
    }

    /// Waits until all clients are connected, except for a few that cut their own sockets at random.
    pub async fn wait_for_everybody(&self, limit: Duration) -> Result<()> {
        let enough = self.members - self.members / 50;
        let everybody = async || Ok(self.progress.connections() >= enough);
        starling_testkit::wait::until_true(limit, "all clients to be connected", everybody).await
    }

    /// The name of a conversation.
    pub fn conversation(&self, number: usize) -> String {
        format!("{}.{number}", self.name)
    }
}

impl Member {
    /// Its tenant, as an index of [`TENANTS`].
    pub fn tenant(self) -> usize {
        self.number % TENANTS.len()
    }

    /// Its user name, which a client of the other tenant has, too.
    pub fn user(self) -> String {
        format!("u{}", self.number / TENANTS.len())
    }

    /// Its encoding. Each half of both tenants uses one.
    pub fn encoding(self) -> Encoding {
        if (self.number / TENANTS.len()).is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack }
    }

    /// Its two conversations.
    pub fn conversations(self) -> [usize; 2] {
        let number = self.number / TENANTS.len();
        [number % CONVERSATIONS, (number + 7) % CONVERSATIONS]
    }

    /// A token for this client.
    pub fn token(self) -> String {
        Token::of(&self.user()).tenant(TENANTS[self.tenant()]).ttl(TOKENS_HOLD).sign(SECRET)
    }

    /// Whether it follows `draining`. The connections of the others are closed.
    pub fn follows_draining(self) -> bool {
        self.number % 4 != 3
    }

    /// Its role in the busy conversation, if it is a member.
    pub fn in_busy_conversation(self) -> Option<Busy> {
        let is_in = |number: usize| {
            let member = Member { number, of: self.of };
            member.tenant() == 0 && member.conversations().contains(&0)
        };
        let before = (0..self.number).filter(|number| is_in(*number)).count();
        is_in(self.number).then_some(if before < SLOW { Busy::StopsReading } else { Busy::Talks })
    }
}

/// The role of a member of the busy conversation while it is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Stops reading.
    StopsReading,
    /// Sends large messages.
    Talks,
}

//! The clients of one case: who they are, what they share, and how they are started and brought home.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_testkit::client::{Encoding, Failure, Log, RecordingClient};
use starling_testkit::node::SECRET;
use starling_testkit::postgres::Postgres;
use starling_testkit::token::Token;
use tokio::task::JoinSet;

use super::member::{self, Witness};
use super::pulse::Pulse;

/// Of each tenant; the names are the same in both, so that whatever leaks between them is seen.
pub const CONVERSATIONS: usize = 25;
/// The tenants.
pub const TENANTS: [&str; 2] = ["red", "blue"];
/// How long a token is valid: longer than any run, and longer than any clock jumps.
pub const TOKENS_HOLD: Duration = Duration::from_secs(48 * 3600);
/// How long a send, or coming back, may take over all tries, faults included, until it counts as never.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// How many members of the busy conversation stop reading.
const SLOW: usize = 4;

/// What all clients of a case share.
#[derive(Debug)]
pub struct Scene {
    /// What their conversations' names begin with, so that each case has its own.
    pub name: String,
    /// Where they connect.
    pub urls: Vec<String>,
    /// From where all their dice start.
    pub seed: u64,
    /// When the case began.
    pub begun: Instant,
    /// Between two sends of one client, on average.
    pub pause: Duration,
    /// How far they are.
    pub pulse: Pulse,
    members: usize,
    stop: AtomicBool,
    busy: AtomicBool,
}

/// One client.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Its number, from 0.
    pub number: usize,
    /// How many there are.
    pub of: usize,
}

/// The clients, under way.
pub struct Crowd {
    /// What they share.
    pub scene: Arc<Scene>,
    members: JoinSet<Result<Witness>>,
}

impl Crowd {
    /// Makes the conversations, and starts the clients. They talk when this returns.
    pub async fn start(
        name: &str,
        urls: Vec<String>,
        seed: u64,
        members: usize,
        sends_per_second: f64,
    ) -> Result<Self> {
        let scene = Arc::new(Scene {
            name: name.to_owned(),
            urls,
            seed,
            begun: Instant::now(),
            pause: Duration::from_secs_f64(members as f64 / sends_per_second),
            pulse: pulse(members, sends_per_second),
            members,
            stop: AtomicBool::new(false),
            busy: AtomicBool::new(false),
        });
        for tenant in 0..TENANTS.len() {
            make_conversations(&scene, tenant).await?;
        }
        let mut crowd = Self { scene: Arc::clone(&scene), members: JoinSet::new() };
        for number in 0..members {
            let (scene, member) = (Arc::clone(&scene), Member { number, of: members });
            crowd.members.spawn(async move {
                let name = member.user();
                member::live(scene, member).await.with_context(|| name)
            });
        }
        crowd.scene.wait_for_everybody(PATIENCE).await?;
        Ok(crowd)
    }

    /// Fails when a client has given up.
    pub fn check(&mut self) -> Result<()> {
        match self.members.try_join_next() {
            None => Ok(()),
            Some(ended) => ended?.map(drop).context("a client gave up"),
        }
    }

    /// Lets everybody finish what they have begun to send.
    pub async fn stop(mut self) -> Result<Vec<Witness>> {
        self.scene.stop.store(true, Ordering::Relaxed);
        let mut witnesses = Vec::with_capacity(self.scene.members);
        while let Some(ended) = self.members.join_next().await {
            witnesses.push(ended??);
        }
        witnesses.sort_by_key(|witness| witness.member.number);
        Ok(witnesses)
    }
}

/// Lets everybody listen until they have been shown all that the logs hold, or their time is over.
pub async fn finish(
    scene: &Arc<Scene>,
    witnesses: Vec<Witness>,
    logs: &Arc<[Log; 2]>,
) -> Result<Vec<Witness>> {
    let mut listening = JoinSet::new();
    for witness in witnesses {
        let (scene, logs) = (Arc::clone(scene), Arc::clone(logs));
        listening.spawn(async move { member::finish(&scene, witness, &logs).await });
    }
    let mut witnesses = Vec::new();
    while let Some(ended) = listening.join_next().await {
        witnesses.push(ended??);
    }
    witnesses.sort_by_key(|witness| witness.member.number);
    Ok(witnesses)
}

/// What the database holds of a case, one log for each tenant. Of the contents only digests are read: they are large where somebody
/// is slow.
pub async fn read_logs(postgres: &Postgres, scene: &Scene) -> Result<[Log; 2]> {
    let rows = postgres
        .psql(&format!(
            "SELECT c.tenant || '|' || c.name || '|' || m.seq || '|' || m.id || '|' || m.sender || '|' || \
             left(encode(sha256(convert_to(m.content, 'UTF8')), 'hex'), 16) FROM messages m JOIN conversations c ON c.id = m.conversation_id WHERE c.name LIKE '{}.%'",
            scene.name
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

impl Scene {
    /// Whether the clients are to come to an end.
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the busy conversation is busy, and some of its members do not read.
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// See [`is_busy`](Self::is_busy).
    pub fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::Relaxed);
    }

    /// Takes note that a member's message was acknowledged.
    pub fn acknowledged(&self, member: Member, conversation: usize, seq: u64) {
        self.pulse.acknowledged(member.tenant() * CONVERSATIONS + conversation, seq);
    }

    /// Waits until every client is connected, those left out that the scene itself cuts at random.
    pub async fn wait_for_everybody(&self, limit: Duration) -> Result<()> {
        let enough = self.members - self.members / 50;
        let everybody = async || Ok(self.pulse.connections() >= enough);
        starling_testkit::wait::until_true(limit, "all clients to be connected", everybody).await
    }

    /// A conversation's name.
    pub fn conversation(&self, number: usize) -> String {
        format!("{}.{number}", self.name)
    }
}

impl Member {
    /// Its tenant, as an index of [`TENANTS`].
    pub fn tenant(self) -> usize {
        self.number % TENANTS.len()
    }

    /// Its name, which somebody in the other tenant has too.
    pub fn user(self) -> String {
        format!("u{}", self.number / TENANTS.len())
    }

    /// Half speak the one and half the other, in both tenants.
    pub fn encoding(self) -> Encoding {
        if (self.number / TENANTS.len()).is_multiple_of(2) { Encoding::Json } else { Encoding::MessagePack }
    }

    /// The two conversations that it is in.
    pub fn conversations(self) -> [usize; 2] {
        let number = self.number / TENANTS.len();
        [number % CONVERSATIONS, (number + 7) % CONVERSATIONS]
    }

    /// A token for it.
    pub fn token(self) -> String {
        Token::of(&self.user()).tenant(TENANTS[self.tenant()]).ttl(TOKENS_HOLD).sign(SECRET)
    }

    /// Whether it does as `draining` says. The others find themselves closed.
    pub fn follows_draining(self) -> bool {
        self.number % 4 != 3
    }

    /// Its part in the busy conversation, if it has one.
    pub fn in_busy_conversation(self) -> Option<Busy> {
        let is_in = |number: usize| {
            let member = Member { number, of: self.of };
            member.tenant() == 0 && member.conversations().contains(&0)
        };
        let before = (0..self.number).filter(|number| is_in(*number)).count();
        is_in(self.number).then_some(if before < SLOW { Busy::StopsReading } else { Busy::Talks })
    }
}

/// What a member of the busy conversation does while it is busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// Does not read.
    StopsReading,
    /// Sends much.
    Talks,
}

fn pulse(members: usize, sends_per_second: f64) -> Pulse {
    let readers = (0..members).map(|number| {
        let member = Member { number, of: members };
        let conversations = member.conversations().map(|of| member.tenant() * CONVERSATIONS + of);
        (conversations, member.in_busy_conversation() != Some(Busy::StopsReading))
    });
    Pulse::of(CONVERSATIONS * TENANTS.len(), readers, sends_per_second)
}

async fn make_conversations(scene: &Scene, tenant: usize) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let owner = Member { number: tenant, of: scene.members };
    let mut client = RecordingClient::connect(&scene.urls[0], &owner.token(), Encoding::Json).await?;
    for number in 0..CONVERSATIONS {
        let members: Vec<String> = (0..scene.members)
            .map(|number| Member { number, of: scene.members })
            .filter(|member| member.tenant() == tenant && member.conversations().contains(&number))
            .map(Member::user)
            .collect();
        let fields = json!({ "conversation": scene.conversation(number), "members": members });
        while let Err(failure) = client.command("create", fields.clone()).await {
            let again = matches!(&failure, Failure::Refused(reply) if reply.code == "unavailable");
            ensure!(again && Instant::now() < deadline, "create: {failure}");
        }
    }
    Ok(())
}

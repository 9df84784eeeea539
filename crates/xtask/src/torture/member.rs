//! One client: it sends, is cut, comes back, follows a drain, and keeps everything it saw, with the times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use starling_testkit::client::{Failure, Log, RecordingClient};

use super::crowd::{Busy, Member, PATIENCE, Scene};

/// How long an answer may take, until the client takes its socket for dead.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest time without a look at what the node asks of the client.
const LOOK: Duration = Duration::from_millis(100);
/// How many of a hundred sends are preceded by a cut of the client's own socket, and of how many that cut takes the answer away.
const CUTS_PER_HUNDRED: u32 = 2;
/// The longest time from such a send to the cut: the answer may have come by then, or not.
const ANSWER_UNREAD: Duration = Duration::from_millis(20);
/// What is sent in a busy conversation, bytes.
const LARGE: usize = 48 << 10;
/// Between two sends of who talks in a busy conversation.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// How long the last message may take to everybody after the sends have ended.
pub const SETTLE: Duration = Duration::from_secs(60);
/// For how long nothing may come of what is still owed, until it counts as lost.
const STALLED: Duration = Duration::from_secs(20);
/// How long everybody listens for what should not come any more.
const REST: Duration = Duration::from_millis(300);

/// What one client saw and did.
pub struct Witness {
    /// Who it was.
    pub member: Member,
    /// The messages.
    pub client: RecordingClient,
    /// How many messages it sent, each counted once however often it was tried.
    pub sent: u64,
    /// Those that were acknowledged.
    pub sends: Vec<Send>,
    /// What went wrong from where it stands, in the order of time.
    pub incidents: Vec<Incident>,
    /// When it had no socket.
    pub outages: Vec<Outage>,
    /// How long nothing was shown when it followed `draining`.
    pub handovers: Vec<Duration>,
    /// How often it cut its own socket.
    pub cuts: u64,
    /// How often it sent something again because the answer was lost with the socket.
    pub retries: u64,
    /// How often the answer to that was that it was known already.
    pub duplicates: u64,
    /// How often its session was not taken up again, and it joined afresh.
    pub afresh: u64,
}

/// A message that was acknowledged, over all tries.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// Where: one of the member's conversations.
    pub conversation: usize,
    /// The number that it got.
    pub seq: u64,
    /// When it was sent first.
    pub at: Instant,
    /// When it was acknowledged.
    pub acknowledged: Instant,
}

/// Something went wrong.
#[derive(Clone, Debug)]
pub struct Incident {
    /// When the client noticed.
    pub at: Instant,
    /// What.
    pub kind: IncidentKind,
}

/// What can go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// The socket ended, or was given up because no answer came: how.
    SocketLost(String),
    /// A send was refused for now.
    Refused,
}

/// A time without a socket.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When the socket ended.
    pub from: Instant,
    /// When another one stood, and everything missed had been asked for.
    pub to: Instant,
    /// How the socket ended.
    pub end: End,
}

/// How a socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client had cut it itself.
    Own,
    /// The node had asked the client to come back elsewhere, and the client was about to.
    AskedToLeave,
    /// The node closed it with this code.
    Closed(u16),
    /// In another way.
    Cut,
}

/// Connects, and talks until the scene is over.
pub async fn live(scene: Arc<Scene>, member: Member) -> Result<Witness> {
    let mut life = Life::begin(scene, member).await?;
    while !life.scene.is_over() {
        life.pause().await?;
        if life.scene.is_over() {
            break;
        }
        life.say().await?;
    }
    Ok(life.witness)
}

/// Listens until everything that the log holds has come, or its time is over, and a little longer.
pub async fn finish(scene: &Scene, mut witness: Witness, logs: &[Log; 2]) -> Result<Witness> {
    let log = &logs[witness.member.tenant()];
    let deadline = Instant::now() + SETTLE;
    let mut stalled = Instant::now() + STALLED;
    for number in witness.member.conversations() {
        let name = scene.conversation(number);
        let head = log.head(&name);
        let cursor = |witness: &Witness| witness.client.record().cursor(&name).unwrap_or(0);
        while Instant::now() < deadline.min(stalled) && cursor(&witness) < head {
            let before = cursor(&witness);
            if !witness.client.is_connected() {
                witness.client.resume_somewhere(&scene.urls, SETTLE).await?;
            }
            match witness.client.listen_until(&name, head, Duration::from_secs(2)).await {
                Ok(()) | Err(Failure::Other(_)) => {}
                Err(_) => witness.client.cut(),
            }
            if cursor(&witness) > before {
                stalled = Instant::now() + STALLED;
            }
        }
    }
    if witness.client.is_connected() {
        // A socket that ends here has shown what it had to.
        let _ = witness.client.listen(REST).await;
    }
    Ok(witness)
}

struct Life {
    scene: Arc<Scene>,
    witness: Witness,
    dice: StdRng,
    /// When it is to be elsewhere, as the node has asked.
    leave_at: Option<Instant>,
    busy: Option<Busy>,
}

impl Life {
    async fn begin(scene: Arc<Scene>, member: Member) -> Result<Self> {
        let mut dice = StdRng::seed_from_u64(scene.seed.wrapping_add(member.number as u64));
        let deadline = Instant::now() + PATIENCE;
        // Not all at the same moment: that is a fault of its own.
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..500))).await;
        let mut client = loop {
            let url = &scene.urls[member.number % scene.urls.len()];
            match RecordingClient::connect(url, &member.token(), member.encoding()).await {
                Ok(client) => break client,
                Err(failure) if Instant::now() > deadline => return Err(failure.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(dice.random_range(50..250))).await,
            }
        };
        for number in member.conversations() {
            client.join(&scene.conversation(number)).await?;
        }
        client.client()?.set_patience(ANSWER_LIMIT);
        scene.pulse.connected(member.number, true);
        let witness = Witness {
            member,
            client,
            sent: 0,
            sends: Vec::new(),
            incidents: Vec::new(),
            outages: Vec::new(),
            handovers: Vec::new(),
            cuts: 0,
            retries: 0,
            duplicates: 0,
            afresh: 0,
        };
        Ok(Self { busy: member.in_busy_conversation(), scene, witness, dice, leave_at: None })
    }

    /// Reads until the next send is due, and comes back where the socket ends.
    async fn pause(&mut self) -> Result<()> {
        let pause = if self.talks_much() {
            BUSY_PAUSE
        } else {
            self.scene.pause.mul_f64(self.dice.random_range(0.2..1.8))
        };
        let until = Instant::now() + pause;
        loop {
            if self.busy == Some(Busy::StopsReading) {
                // Not a byte is read.
                while self.scene.is_busy() && !self.scene.is_over() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            self.tell();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.scene.is_over() {
                return Ok(());
            }
            if let Err(ended) = self.witness.client.listen(left.min(LOOK)).await {
                self.lost(&ended).await?;
            }
            self.follow_draining().await?;
        }
    }

    /// Sends a message until it is acknowledged.
    async fn say(&mut self) -> Result<()> {
        let mut cuts = || self.busy.is_none() && self.dice.random_ratio(CUTS_PER_HUNDRED, 100);
        let (cuts_before, cuts_answer) = (cuts(), cuts());
        if cuts_before && self.witness.client.is_connected() {
            self.cut().await?;
        }
        let member = self.witness.member;
        let conversation =
            if self.talks_much() { 0 } else { member.conversations()[self.dice.random_range(0..2)] };
        self.witness.sent += 1;
        let key = format!("{}-{}-{}", member.user(), member.tenant(), self.witness.sent);
        let mut content =
            format!("message {} of {} in tenant {}", self.witness.sent, member.user(), member.tenant());
        if self.talks_much() {
            content = format!("{content:<LARGE$}.");
        }
        let (name, at) = (self.scene.conversation(conversation), Instant::now());
        let mut unanswered = false;
        if cuts_answer && self.witness.client.is_connected() {
            let fields = json!({ "conversation": name, "key": key, "content": content });
            // Where the socket has ended already, the loop below finds out.
            unanswered = self.witness.client.client()?.submit("send", fields).await.is_ok();
            tokio::time::sleep(self.dice.random_range(Duration::ZERO..ANSWER_UNREAD)).await;
            self.cut().await?;
        }
        loop {
            if at.elapsed() > PATIENCE {
                bail!("a send was not acknowledged for {PATIENCE:?}");
            }
            match self.witness.client.send(&name, &key, &content).await {
                Ok(ack) => {
                    let acknowledged = Instant::now();
                    self.witness.retries += u64::from(unanswered);
                    self.witness.duplicates += u64::from(unanswered && ack.duplicate);
                    self.scene.acknowledged(member, conversation, ack.seq);
                    self.witness.sends.push(Send { conversation, seq: ack.seq, at, acknowledged });
                    return Ok(());
                }
                Err(Failure::Refused(reply))
                    if matches!(reply.code.as_str(), "unavailable" | "rate_limited") =>
                {
                    self.note(IncidentKind::Refused);
                    let pause = reply.retry_after_ms.map_or(LOOK, Duration::from_millis);
                    let spread = self.dice.random_range(1.0..1.5);
                    if let Err(ended) = self.witness.client.listen(pause.mul_f64(spread)).await {
                        self.lost(&ended).await?;
                    }
                }
                Err(Failure::Refused(reply)) => {
                    bail!("a send was refused for good: {}: {}", reply.code, reply.message)
                }
                Err(unknown) => {
                    unanswered = true;
                    self.lost(&unknown).await?;
                }
            }
        }
    }

    /// Cuts its own socket, and comes back.
    async fn cut(&mut self) -> Result<()> {
        self.witness.client.cut();
        self.witness.cuts += 1;
        self.come_back(Instant::now(), End::Own).await
    }

    /// The socket ended, or does not answer.
    async fn lost(&mut self, how: &Failure) -> Result<()> {
        self.witness.client.cut();
        self.note(IncidentKind::SocketLost(match (how.close_code(), how) {
            (Some(code), _) => format!("closed with {code}"),
            (None, Failure::Closed(_)) => "cut".to_owned(),
            (None, _) => "silent".to_owned(),
        }));
        let end = match how.close_code() {
            _ if self.leave_at.is_some() => End::AskedToLeave,
            Some(code) => End::Closed(code),
            None => End::Cut,
        };
        self.come_back(Instant::now(), end).await
    }

    async fn come_back(&mut self, from: Instant, end: End) -> Result<()> {
        let number = self.witness.member.number;
        self.scene.pulse.connected(number, false);
        let mut pause = LOOK / 2;
        loop {
            let at = self.dice.random_range(0..self.scene.urls.len());
            match self.witness.client.resume(&self.scene.urls[at]).await {
                Ok(resumed) => {
                    self.witness.afresh += u64::from(!resumed.resumed);
                    break;
                }
                Err(failure) if from.elapsed() > PATIENCE => return Err(failure.into()),
                Err(_) => self.witness.client.cut(),
            }
            tokio::time::sleep(pause.mul_f64(self.dice.random_range(0.5..1.5))).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.witness.client.client()?.set_patience(ANSWER_LIMIT);
        self.witness.outages.push(Outage { from, to: Instant::now(), end });
        self.leave_at = None;
        self.tell();
        self.scene.pulse.connected(number, true);
        Ok(())
    }

    /// Does what the node has asked: another socket beside this one, and then this one goes.
    async fn follow_draining(&mut self) -> Result<()> {
        if !self.witness.member.follows_draining() {
            return Ok(());
        }
        if let Some(after) = self.witness.client.take_draining() {
            self.leave_at = Some(Instant::now() + after);
        }
        if self.leave_at.is_none_or(|at| Instant::now() < at) || !self.witness.client.is_connected() {
            return Ok(());
        }
        let at = self.dice.random_range(0..self.scene.urls.len());
        match self.witness.client.hand_over(&self.scene.urls[at].clone()).await {
            Ok(resumed) => {
                self.leave_at = None;
                self.witness.afresh += u64::from(!resumed.resumed);
                self.witness.handovers.push(resumed.interrupted);
                self.witness.client.client()?.set_patience(ANSWER_LIMIT);
                Ok(())
            }
            Err(_) if self.witness.client.is_connected() => Ok(()),
            Err(ended) => self.lost(&ended).await,
        }
    }

    /// Says how far it was shown its conversations.
    fn tell(&self) {
        let record = self.witness.client.record();
        let shown = |number| record.cursor(&self.scene.conversation(number)).unwrap_or(0);
        let member = self.witness.member;
        self.scene.pulse.shown(member.number, member.conversations().map(shown));
    }

    fn talks_much(&self) -> bool {
        self.busy == Some(Busy::Talks) && self.scene.is_busy()
    }

    fn note(&mut self, kind: IncidentKind) {
        self.witness.incidents.push(Incident { at: Instant::now(), kind });
    }
}

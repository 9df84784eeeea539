//! One client: it sends, loses its connection, reconnects, follows a drain, and records everything that it saw with the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use starling_testkit::client::{Failure, Log, RecordingClient};

use super::workload::{Busy, Member, RETRY_LIMIT, Workload};

/// The longest wait for a reply, after which the client considers its socket dead.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The longest time between two checks of what the node asks of the client.
const LOOK: Duration = Duration::from_millis(100);
/// Of a hundred sends, how many are preceded by a cut of the client's own socket, and how many lose their reply to such a cut.
const CUTS_PER_HUNDRED: u32 = 2;
/// The longest time from such a send to the cut. The reply may have arrived by then.
const ANSWER_UNREAD: Duration = Duration::from_millis(20);
/// Size of the messages in a busy conversation, in bytes.
const LARGE: usize = 48 << 10;
/// Time between two sends of one client in a busy conversation.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// The longest time for all clients to receive all messages after the last send.
pub const CATCH_UP_LIMIT: Duration = Duration::from_secs(60);
/// Time without any of the missing messages after which they count as lost.
const STALLED: Duration = Duration::from_secs(20);
/// How long all clients listen for messages that should not come.
const REST: Duration = Duration::from_millis(300);

/// Everything that one client did and saw.
pub struct History {
    /// The client.
    pub member: Member,
    /// Its connection, with a record of all messages.
    pub client: RecordingClient,
    /// Number of messages sent; retries are not counted.
    pub sent: u64,
    /// The acknowledged messages.
    pub sends: Vec<Send>,
    /// Errors that the client noticed, in the order of time.
    pub incidents: Vec<Incident>,
    /// Times without a connection.
    pub outages: Vec<Outage>,
    /// Interruptions when it followed `draining`.
    pub handovers: Vec<Duration>,
    /// Number of times that it cut its own socket.
    pub cuts: u64,
    /// Number of sends that it repeated because the reply was lost with the socket.
    pub retries: u64,
    /// Number of repeated sends whose reply said `duplicate`.
    pub duplicates: u64,
    /// Number of reconnects that began a new session because the old one could not be resumed.
    pub fresh_sessions: u64,
}

/// An acknowledged message, over all tries.
#[derive(Clone, Copy, Debug)]
pub struct Send {
    /// The index of its conversation.
    pub conversation: usize,
    /// Its number in the conversation.
    pub seq: u64,
    /// Time of the first try.
    pub at: Instant,
    /// Time of the acknowledgement.
    pub acknowledged: Instant,
}

/// An error that a client noticed.
#[derive(Clone, Debug)]
pub struct Incident {
    /// Time at which the client noticed.
    pub at: Instant,
    /// The error.
    pub kind: IncidentKind,
}

/// The kinds of errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IncidentKind {
    /// The socket ended in this way, or was given up because no reply came.
    SocketLost(String),
    /// A send was refused with a request to retry.
    Refused,
}

/// A time without a connection.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// End of the old connection.
    pub from: Instant,
    /// Time at which the new connection was established and the missed messages were requested.
    pub to: Instant,
    /// How the old connection ended.
    pub end: End,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client cut it.
    Own,
    /// It ended before the client had moved, as the node had asked with `draining`.
    AskedToLeave,
    /// The node closed it with this code.
    Closed(u16),
    /// Without a close frame.
    Cut,
}

/// Connects, and sends messages until the workload ends.
pub async fn run(workload: Arc<Workload>, member: Member) -> Result<History> {
    let mut task = ClientTask::begin(workload, member).await?;
    while !task.workload.is_over() {
        task.pause().await?;
        if task.workload.is_over() {
            break;
        }
        task.send_next().await?;
    }
    Ok(task.history)
}

/// Listens until the client has received everything in the log or a limit has passed, and a little longer.
pub async fn catch_up(workload: &Workload, mut history: History, logs: &[Log; 2]) -> Result<History> {
    let log = &logs[history.member.tenant()];
    let deadline = Instant::now() + CATCH_UP_LIMIT;
    let mut stalled = Instant::now() + STALLED;
    for number in history.member.conversations() {
        let name = workload.conversation(number);
        let head = log.head(&name);
        let cursor = |history: &History| history.client.record().cursor(&name).unwrap_or(0);
        while Instant::now() < deadline.min(stalled) && cursor(&history) < head {
            let before = cursor(&history);
            if !history.client.is_connected() {
                history.client.resume_somewhere(&workload.urls, CATCH_UP_LIMIT).await?;
            }
            match history.client.listen_until(&name, head, Duration::from_secs(2)).await {
                Ok(()) | Err(Failure::Other(_)) => {}
                Err(_) => history.client.cut(),
            }
            if cursor(&history) > before {
                stalled = Instant::now() + STALLED;
            }
        }
    }
    if history.client.is_connected() {
        // A connection that ends now has delivered everything.
        let _ = history.client.listen(REST).await;
    }
    Ok(history)
}

struct ClientTask {
    workload: Arc<Workload>,
    history: History,
    rng: StdRng,
    /// Time at which the client moves to another node, as `draining` asked.
    leave_at: Option<Instant>,
    busy: Option<Busy>,
}

impl ClientTask {
    async fn begin(workload: Arc<Workload>, member: Member) -> Result<Self> {
        let mut rng = StdRng::seed_from_u64(workload.seed.wrapping_add(member.number as u64));
        let deadline = Instant::now() + RETRY_LIMIT;
        // Spread out: a storm is a fault of its own.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..500))).await;
        let mut client = loop {
            let url = &workload.urls[member.number % workload.urls.len()];
            match RecordingClient::connect(url, &member.token(), member.encoding()).await {
                Ok(client) => break client,
                Err(failure) if Instant::now() > deadline => return Err(failure.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(rng.random_range(50..250))).await,
            }
        };
        for number in member.conversations() {
            client.join(&workload.conversation(number)).await?;
        }
        client.client()?.set_patience(ANSWER_LIMIT);
        workload.progress.connected(member.number, true);
        let history = History {
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
            fresh_sessions: 0,
        };
        Ok(Self { busy: member.in_busy_conversation(), workload, history, rng, leave_at: None })
    }

    /// Reads until the next send is due, and reconnects if the socket ends.
    async fn pause(&mut self) -> Result<()> {
        let pause = if self.is_flooding() {
            BUSY_PAUSE
        } else {
            self.workload.pause.mul_f64(self.rng.random_range(0.2..1.8))
        };
        let until = Instant::now() + pause;
        loop {
            if self.busy == Some(Busy::StopsReading) {
                // It does not read a single byte.
                while self.workload.is_busy() && !self.workload.is_over() {
                    tokio::time::sleep(LOOK).await;
                }
            }
            self.report_progress();
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.workload.is_over() {
                return Ok(());
            }
            if let Err(ended) = self.history.client.listen(left.min(LOOK)).await {
                self.lost(&ended).await?;
            }
            self.follow_draining().await?;
        }
    }

    /// Sends a message until it is acknowledged.
    async fn send_next(&mut self) -> Result<()> {
        let mut cuts = || self.busy.is_none() && self.rng.random_ratio(CUTS_PER_HUNDRED, 100);
        let (cuts_before, cuts_answer) = (cuts(), cuts());
        if cuts_before && self.history.client.is_connected() {
            self.cut().await?;
        }
        let member = self.history.member;
        let conversation =
            if self.is_flooding() { 0 } else { member.conversations()[self.rng.random_range(0..2)] };
        self.history.sent += 1;
        let key = format!("{}-{}-{}", member.user(), member.tenant(), self.history.sent);
        let mut content =
            format!("message {} of {} in tenant {}", self.history.sent, member.user(), member.tenant());
        if self.is_flooding() {
            content = format!("{content:<LARGE$}.");
        }
        let (name, at) = (self.workload.conversation(conversation), Instant::now());
        let mut unanswered = false;
        if cuts_answer && self.history.client.is_connected() {
            let fields = json!({ "conversation": name, "key": key, "content": content });
            // If the socket has ended already, the loop below notices.
            unanswered = self.history.client.client()?.submit("send", fields).await.is_ok();
            tokio::time::sleep(self.rng.random_range(Duration::ZERO..ANSWER_UNREAD)).await;
            self.cut().await?;
        }
        loop {
            if at.elapsed() > RETRY_LIMIT {
                bail!("a send was not acknowledged for {RETRY_LIMIT:?}");
            }
            match self.history.client.send(&name, &key, &content).await {
                Ok(ack) => {
                    let acknowledged = Instant::now();
                    self.history.retries += u64::from(unanswered);
                    self.history.duplicates += u64::from(unanswered && ack.duplicate);
                    self.workload.acknowledged(member, conversation, ack.seq);
                    self.history.sends.push(Send { conversation, seq: ack.seq, at, acknowledged });
                    return Ok(());
                }
                Err(Failure::Refused(reply))
                    if matches!(reply.code.as_str(), "unavailable" | "rate_limited") =>
                {
                    self.note(IncidentKind::Refused);
                    let pause = reply.retry_after_ms.map_or(LOOK, Duration::from_millis);
                    let percentiles = self.rng.random_range(1.0..1.5);
                    if let Err(ended) = self.history.client.listen(pause.mul_f64(percentiles)).await {
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

    /// Cuts its own socket, and reconnects.
    async fn cut(&mut self) -> Result<()> {
        self.history.client.cut();
        self.history.cuts += 1;
        self.reconnect(Instant::now(), End::Own).await
    }

    /// Reconnects after the socket ended or a reply did not come.
    async fn lost(&mut self, how: &Failure) -> Result<()> {
        self.history.client.cut();
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
        self.reconnect(Instant::now(), end).await
    }

    async fn reconnect(&mut self, from: Instant, end: End) -> Result<()> {
        let number = self.history.member.number;
        self.workload.progress.connected(number, false);
        let mut pause = LOOK / 2;
        loop {
            let at = self.rng.random_range(0..self.workload.urls.len());
            match self.history.client.resume(&self.workload.urls[at]).await {
                Ok(resumed) => {
                    self.history.fresh_sessions += u64::from(!resumed.resumed);
                    break;
                }
                Err(failure) if from.elapsed() > RETRY_LIMIT => return Err(failure.into()),
                Err(_) => self.history.client.cut(),
            }
            tokio::time::sleep(pause.mul_f64(self.rng.random_range(0.5..1.5))).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
        self.history.client.client()?.set_patience(ANSWER_LIMIT);
        self.history.outages.push(Outage { from, to: Instant::now(), end });
        self.leave_at = None;
        self.report_progress();
        self.workload.progress.connected(number, true);
        Ok(())
    }

    /// Follows `draining`: opens another connection, then closes this one.
    async fn follow_draining(&mut self) -> Result<()> {
        if !self.history.member.follows_draining() {
            return Ok(());
        }
        if let Some(after) = self.history.client.take_draining() {
            self.leave_at = Some(Instant::now() + after);
        }
        if self.leave_at.is_none_or(|at| Instant::now() < at) || !self.history.client.is_connected() {
            return Ok(());
        }
        let at = self.rng.random_range(0..self.workload.urls.len());
        match self.history.client.hand_over(&self.workload.urls[at].clone()).await {
            Ok(resumed) => {
                self.leave_at = None;
                self.history.fresh_sessions += u64::from(!resumed.resumed);
                self.history.handovers.push(resumed.interrupted);
                self.history.client.client()?.set_patience(ANSWER_LIMIT);
                Ok(())
            }
            Err(_) if self.history.client.is_connected() => Ok(()),
            Err(ended) => self.lost(&ended).await,
        }
    }

    /// Reports which messages it has received.
    fn report_progress(&self) {
        let record = self.history.client.record();
        let shown = |number| record.cursor(&self.workload.conversation(number)).unwrap_or(0);
        let member = self.history.member;
        self.workload.progress.shown(member.number, member.conversations().map(shown));
    }

    fn is_flooding(&self) -> bool {
        self.busy == Some(Busy::Talks) && self.workload.is_busy()
    }

    fn note(&mut self, kind: IncidentKind) {
        self.history.incidents.push(Incident { at: Instant::now(), kind });
    }
}

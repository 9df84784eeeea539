//! New sessions. Those that come while some are being written are written together, by one script.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use starling_redis_link::{Command, Resend};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::link::{Link, SESSIONS};
use super::registry::Registry;
use super::reply::Reply;
use super::sessions::{LIFETIME_MS, Sessions};
use crate::clock::system_now_ms;
use crate::{Attach, Dropped, Error, Stamp};

/// Most sessions in one script, which keeps Redis busy for less than a millisecond.
const BATCH_MAX: usize = 64;
/// Limit on the sessions that wait.
const WAITING_MAX: usize = 65_536;

/// Writes new sessions.
#[derive(Debug)]
pub(super) struct Beginning {
    link: Arc<Link>,
    registry: Arc<Registry>,
    sessions: Arc<Sessions>,
    /// Runs the writes, whichever thread asks for them.
    runtime: Handle,
    queue: Mutex<Queue>,
    wait_max: Duration,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<New>,
    /// Whether a batch is under way. Its task then takes those who wait.
    is_writing: bool,
}

/// A session that waits to be written.
#[derive(Debug)]
struct New {
    attach: Attach,
    /// When the attach began.
    began: Instant,
    answer: oneshot::Sender<Result<Stamp, Error>>,
}

impl Beginning {
    /// Must be called within a Tokio runtime, which writes the sessions. A session waits at most `wait_max`.
    pub(super) fn new(sessions: Arc<Sessions>, wait_max: Duration) -> Arc<Self> {
        let (link, registry) = (sessions.link.clone(), sessions.registry.clone());
        let (runtime, queue) = (Handle::current(), Mutex::default());
        Arc::new(Self { link, registry, sessions, runtime, queue, wait_max })
    }

    /// Writes a new session. Returns the stamp of its attach.
    pub(super) async fn begin(self: &Arc<Self>, attach: &Attach, began: Instant) -> Result<Stamp, Error> {
        let busy = || Error::Unavailable("too many sessions are being attached".into());
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            if queue.waiting.len() >= WAITING_MAX {
                return Err(busy());
            }
            queue.waiting.push(New { attach: attach.clone(), began, answer });
            if !std::mem::replace(&mut queue.is_writing, true) {
                self.runtime.spawn(self.clone().write_all());
            }
        }
        match tokio::time::timeout(self.wait_max, answered).await {
            Ok(Ok(stamp)) => stamp,
            _ => Err(busy()),
        }
    }

    /// Writes batches until nobody waits.
    async fn write_all(self: Arc<Self>) {
        loop {
            let mut batch: Vec<New> = {
                let mut queue = self.queue.lock();
                // Those whose clients have gone meanwhile are not written at all.
                queue.waiting.retain(|new| !new.answer.is_closed());
                if queue.waiting.is_empty() {
                    queue.is_writing = false;
                    return;
                }
                let first = &queue.waiting[0];
                let alike = queue.waiting.iter().take(BATCH_MAX).take_while(|new| new.is_like(first));
                let count = alike.count();
                queue.waiting.drain(..count).collect()
            };
            match self.write(&batch).await {
                Ok(stamps) => self.answer(batch, stamps).await,
                Err(Error::Unavailable(why)) => fail(batch, &Error::Unavailable(why)),
                // A key of one session may hold something that is not Starling's.
                Err(_) => {
                    for new in batch.drain(..) {
                        let alone = vec![new];
                        match self.write(&alone).await {
                            Ok(stamps) => self.answer(alone, stamps).await,
                            Err(error) => fail(alone, &error),
                        }
                    }
                }
            }
        }
    }

    /// Writes sessions. Returns the stamps of their attaches, in their order.
    async fn write(&self, batch: &[New]) -> Result<Vec<Stamp>, Error> {
        if !self.link.pool.is_cluster() {
            let begin = self.command(batch);
            let mut reply = Reply::of(self.link.pool.call(SESSIONS, Resend::Yes, begin).await?);
            return batch.iter().map(|_| reply.integer()).collect();
        }
        // Each session is in a slot of its own, and its indexes are in others.
        let mut commands = Vec::with_capacity(5 * batch.len());
        for new in batch {
            let Attach { tenant, user, session, .. } = &new.attach;
            commands.push(self.command(std::slice::from_ref(new)));
            commands.extend(self.sessions.enter(tenant, user, session));
        }
        let answers = self.link.pool.pipeline(SESSIONS, commands).await?;
        let each = answers.len() / batch.len().max(1);
        answers.into_iter().step_by(each.max(1)).map(|stamps| Reply::of(stamps).integer()).collect()
    }

    fn command(&self, batch: &[New]) -> Command {
        let is_cluster = self.link.pool.is_cluster();
        let keys_each = if is_cluster { 1 } else { 3 };
        let mut keys = Vec::with_capacity(batch.len() * keys_each);
        for New { attach, .. } in batch {
            keys.push(self.link.keys.session(&attach.session));
            if !is_cluster {
                keys.extend(self.sessions.indexes(&attach.tenant, &attach.user));
            }
        }
        let (node, window_ms) = batch.first().map_or(("", 0), |new| (&new.attach.node, new.attach.window_ms));
        let mut begin = self
            .link
            .scripts
            .begin
            .call(keys)
            .with(node)
            .with(i64::try_from(window_ms).unwrap_or(i64::MAX))
            .with(LIFETIME_MS)
            .with(system_now_ms().saturating_add(LIFETIME_MS))
            .with(if is_cluster { 1 } else { 3 });
        for New { attach, began, .. } in batch {
            begin = begin
                .with(&attach.session)
                .with(attach.tenant.as_str())
                .with(attach.user.as_str())
                .with(attach.now_ms)
                .with(attach.after)
                .with(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX))
                .with(self.registry.clock.latest_at(*began).unwrap_or(0));
        }
        begin
    }

    /// Answers the callers. A session whose caller has gone is noted as dropped: its client went before it knew the session.
    async fn answer(&self, batch: Vec<New>, stamps: Vec<Stamp>) {
        let mut dropped = Vec::new();
        let mut node = String::new();
        for (new, stamp) in batch.into_iter().zip(stamps) {
            if new.answer.send(Ok(stamp)).is_err() {
                dropped.push(Dropped { session: new.attach.session, stamp });
                node = new.attach.node;
            }
        }
        if dropped.is_empty() {
            return;
        }
        if let Err(error) = self.sessions.detach(&node, &dropped, system_now_ms()).await {
            tracing::debug!(%error, "sessions whose clients went at once count as attached until their node ends");
        }
    }
}

impl New {
    /// Whether both sessions have the same node and window, as all sessions of a process have.
    fn is_like(&self, other: &New) -> bool {
        self.attach.node == other.attach.node && self.attach.window_ms == other.attach.window_ms
    }
}

/// Tells the callers why their sessions could not be written.
fn fail(batch: Vec<New>, error: &Error) {
    for new in batch {
        // The caller may have gone.
        let _ = new.answer.send(Err(error.clone()));
    }
}

//! Sessions: their attaches and later changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use fred::types::Value;
use starling_model::{ConversationId, TopicName};
use starling_redis_link::{Command, PIPELINE_MAX, Resend};

use super::link::{Link, SESSIONS};
use super::registry::{Nodes, Registry};
use super::reply::Reply;
use crate::clock::system_now_ms;
use crate::{
    Attach, Attached, Change, Dropped, EarlierAttach, Ended, Error, Held, Hold, JoinedConversation,
    NAMES_PER_SESSION_MAX, NotRestored, Restored, ResumeAttach, SessionChange, SessionRecord,
};

/// Lifetime of an attached session without changes, and of the indexes, milliseconds.
pub(super) const LIFETIME_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// How much longer than its window a dropped session is kept, milliseconds. Clocks may differ by that much.
const GRACE_MS: i64 = 60_000;
/// How long the end of a session is remembered, milliseconds: longer than a stalled node may take to notice it.
const ENDED_MS: i64 = 24 * 60 * 60 * 1000;
/// The resume window of sessions that were restored before any attach told theirs, milliseconds.
const WINDOW_MS: i64 = 120_000;
/// The most times that an attach asks for more about the nodes or the store before it gives up.
const ATTEMPTS: usize = 4;
/// Answer of `restore.lua` if the session was written again.
const WRITTEN: i64 = 1;
/// Answer of `restore.lua` if the session was ended.
const ENDED: i64 = 2;
/// Number of fields of a session without its names.
const FIELDS: i64 = 14;
/// The most sessions whose changes one command writes.
const RUNS_MAX: usize = 64;

#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) link: Arc<Link>,
    pub(super) registry: Arc<Registry>,
    /// Whether the indexes may be on another server than the session, so that one script can't write both.
    clustered: bool,
    /// The resume window of the latest attach.
    window_ms: AtomicI64,
}

impl Sessions {
    pub(super) fn new(link: Arc<Link>, registry: Arc<Registry>) -> Self {
        let clustered = link.pool.is_cluster();
        Self { link, registry, clustered, window_ms: AtomicI64::new(WINDOW_MS) }
    }

    /// Notes the resume window of an attach.
    pub(super) fn note_window(&self, attach: &Attach) {
        let window_ms = i64::try_from(attach.window_ms).unwrap_or(i64::MAX);
        self.window_ms.store(window_ms, Ordering::Relaxed);
    }

    /// Begins to attach an old session.
    pub(super) async fn attach(
        &self,
        attach: &Attach,
        resume: ResumeAttach,
        began: Instant,
    ) -> Result<Attached, Error> {
        let window_ms = i64::try_from(attach.window_ms).unwrap_or(i64::MAX);
        let mut mode = if resume.is_recent(attach) { "rebuild" } else { "resume" };
        let mut line = self.registry.recent().await?.line.clone();
        let mut looked_up = (String::new(), -1);
        for _ in 0..ATTEMPTS {
            let asked = Instant::now();
            let script = self
                .link
                .scripts
                .attach
                .call(vec![self.link.keys.session(&attach.session)])
                .with(mode)
                .with(&attach.session)
                .with(attach.tenant.as_str())
                .with(attach.user.as_str())
                .with(&attach.node)
                .with(attach.now_ms)
                .with(window_ms)
                .with(attach.after)
                .with(line.clone())
                .with(&looked_up.0)
                .with(looked_up.1)
                .with(i64::try_from(began.elapsed().as_micros()).unwrap_or(i64::MAX))
                .with(self.registry.clock.latest_at(began).unwrap_or(0))
                .with(resume.ticket_issued_at_ms);
            let answer = self.link.pool.call(SESSIONS, Resend::Yes, script).await?;
            match Answer::read(answer)? {
                Answer::Attached(attached) => {
                    self.count(attach, &attached);
                    return Ok(attached);
                }
                Answer::Missing if self.is_lost_since(attach, resume, asked).await? => mode = "rebuild",
                Answer::Missing => {
                    self.count(attach, &Attached::Refused);
                    return Ok(Attached::Refused);
                }
                Answer::WhoIs(node) => {
                    let nodes = self.registry.since(asked).await?;
                    looked_up = (node.clone(), nodes.last_beat(&node));
                    line = nodes.line.clone();
                }
            }
        }
        Err(Error::Unavailable(format!("session {} is attached too often at once", attach.session)))
    }

    pub(super) async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        let mut keys = vec![self.link.keys.session(&hold.session)];
        if !self.clustered {
            keys.extend(self.indexes(&hold.tenant, &hold.user));
        }
        let script = self
            .link
            .scripts
            .hold
            .call(keys)
            .with(&hold.session)
            .with(hold.tenant.as_str())
            .with(hold.user.as_str())
            .with(&hold.node)
            .with(hold.stamp)
            .with(hold.created_at_ms)
            .with(hold.now_ms)
            .with(i64::try_from(hold.window_ms).unwrap_or(i64::MAX))
            .with(LIFETIME_MS)
            .with(system_now_ms().saturating_add(LIFETIME_MS));
        let mut reply = Reply::of(self.run(&hold.tenant, &hold.user, &hold.session, script).await?);
        Ok(match reply.integer()? {
            0 => Held::Superseded,
            1 => Held::Held { previous_node: Some(reply.text()?).filter(|node| !node.is_empty()) },
            _ => Held::Refused,
        })
    }

    pub(super) async fn restore(&self, node: &str, sessions: &[SessionRecord]) -> Result<Restored, Error> {
        let now_ms = system_now_ms();
        let expires_ms = now_ms.saturating_add(LIFETIME_MS);
        let mut restored = Restored::default();
        for chunk in sessions.chunks(PIPELINE_MAX) {
            let mut commands = Vec::with_capacity(chunk.len());
            for session in chunk {
                let mut keys = vec![self.link.keys.session(&session.session)];
                if !self.clustered {
                    keys.extend(self.indexes(&session.tenant, &session.user));
                }
                let mut restore = self
                    .link
                    .scripts
                    .restore
                    .call(keys)
                    .with(&session.session)
                    .with(session.tenant.as_str())
                    .with(session.user.as_str())
                    .with(node)
                    .with(session.created_at_ms)
                    .with(now_ms)
                    .with(self.window_ms.load(Ordering::Relaxed))
                    .with(LIFETIME_MS)
                    .with(expires_ms)
                    .with(session.stamp);
                let conversations = session.conversations.iter().map(field_of);
                let topics = session.topics.iter().map(|name| (format!("on:{name}"), String::new()));
                for (field, value) in conversations.chain(topics).take(NAMES_PER_SESSION_MAX) {
                    restore = restore.with(field).with(value);
                }
                commands.push(restore);
            }
            let answers = self.link.pool.pipeline(SESSIONS, commands).await?;
            let mut entries = Vec::new();
            for (session, answer) in chunk.iter().zip(answers) {
                if answer.is_null() {
                    // The key holds something that is not Starling's.
                    continue;
                }
                let mut reply = Reply::of(answer);
                let (written, node, session_id) = (reply.integer()?, reply.text()?, session.session.clone());
                if written != WRITTEN {
                    let ended = written == ENDED;
                    restored.refused.push(NotRestored { session: session_id, ended, node });
                    continue;
                }
                if !node.is_empty() {
                    restored.earlier.push(EarlierAttach { session: session_id, node });
                }
                if self.clustered {
                    entries.extend(self.enter(&session.tenant, &session.user, &session.session));
                }
            }
            self.link.pool.pipeline(SESSIONS, entries).await?;
        }
        Ok(restored)
    }

    pub(super) async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        let detach = |dropped: &Dropped| {
            self.link
                .scripts
                .detach
                .call(vec![self.link.keys.session(&dropped.session)])
                .with(node)
                .with(now_ms)
                .with(GRACE_MS)
                .with(dropped.stamp)
        };
        for chunk in dropped.chunks(PIPELINE_MAX) {
            let answers = self.link.pool.pipeline(SESSIONS, chunk.iter().map(detach).collect()).await?;
            let mut expire = Vec::new();
            for (Dropped { session: id, .. }, answer) in chunk.iter().zip(answers) {
                if answer.is_null() {
                    // The key holds something that is not Starling's.
                    continue;
                }
                let mut reply = Reply::of(answer);
                if reply.integer()? == 0 {
                    continue;
                }
                let (tenant, user, keep_ms) = (reply.text()?, reply.text()?, reply.integer()?);
                let expires_ms = system_now_ms().saturating_add(keep_ms);
                for index in self.indexes(&tenant, &user) {
                    // Only if the entry is still there.
                    expire.push(Command::new("ZADD", index).with("XX").with(expires_ms).with(id));
                }
            }
            self.link.pool.pipeline(SESSIONS, expire).await?;
        }
        Ok(())
    }

    pub(super) async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        let runs: Vec<&[SessionChange]> =
            batch.chunk_by(|a, b| a.session == b.session).flat_map(|run| run.chunks(PIPELINE_MAX)).collect();
        // In a cluster each session is in a slot of its own.
        let runs_max = if self.clustered { 1 } else { RUNS_MAX };
        let commands = runs.chunks(runs_max).map(|runs| self.update_command(runs)).collect();
        self.link.pool.pipeline(SESSIONS, commands).await?;
        Ok(())
    }

    /// Makes a command that writes changes, sorted by session.
    fn update_command(&self, runs: &[&[SessionChange]]) -> Command {
        let most = i64::try_from(NAMES_PER_SESSION_MAX).unwrap_or(i64::MAX).saturating_add(FIELDS);
        let keys = runs.iter().map(|run| self.link.keys.session(&run[0].session)).collect();
        let update = self.link.scripts.update.call(keys).with(LIFETIME_MS).with(most).with(system_now_ms());
        runs.iter().fold(update, |update, run| {
            let update = update.with(i64::try_from(run.len()).unwrap_or(i64::MAX));
            run.iter().fold(update, |update, SessionChange { change, .. }| {
                let topic = |name: &TopicName| (format!("on:{name}"), String::new());
                let (sign, (field, value)) = match change {
                    Change::Joined(joined) => ("+", field_of(joined)),
                    Change::Left(left) => ("-", field_of(left)),
                    Change::Subscribed(name) => ("+", topic(name)),
                    Change::Unsubscribed(name) => ("-", topic(name)),
                };
                update.with(sign).with(field).with(value)
            })
        })
    }

    pub(super) async fn end(&self, tenant: &str, session: &str) -> Result<Option<Ended>, Error> {
        let begun = Instant::now();
        let mut reply = self.call_end(tenant, session, "end").await?;
        if reply.integer()? == 0 {
            return Ok(None);
        }
        let (node, user) = (reply.text()?, reply.text()?);
        let leave = |index| Command::new("ZREM", index).with(session);
        self.link.pool.pipeline(SESSIONS, self.indexes(tenant, &user).map(leave).into()).await?;
        let nodes = self.registry.since(begun).await?;
        // A session that is not attached has the empty name, which belongs to no living node.
        Ok(Some(Ended { node: Some(node).filter(|node| nodes.lives(node)) }))
    }

    pub(super) async fn knows(&self, tenant: &str, session: &str) -> Result<bool, Error> {
        Ok(self.call_end(tenant, session, "look").await?.integer()? != 0)
    }

    async fn call_end(&self, tenant: &str, session: &str, mode: &str) -> Result<Reply, Error> {
        let keys = vec![self.link.keys.session(session)];
        let end =
            self.link.scripts.end.call(keys).with(tenant).with(system_now_ms()).with(ENDED_MS).with(mode);
        Ok(Reply::of(self.link.pool.call(SESSIONS, Resend::Yes, end).await?))
    }

    pub(super) fn indexes(&self, tenant: &str, user: &str) -> [String; 2] {
        [self.link.keys.sessions_of_user(tenant, user), self.link.keys.sessions_of_tenant(tenant)]
    }

    /// Runs a script that writes a session. In a cluster, writes the indexes in the same pipeline, since the script can't reach them; if
    /// the session is refused, the next reader removes the entry. The call uses the same connection as drops do, so that a hold that
    /// waits in a stalled Redis can't be carried out after the drop of its socket.
    async fn run(&self, tenant: &str, user: &str, session: &str, script: Command) -> Result<Value, Error> {
        if !self.clustered {
            return Ok(self.link.pool.call(SESSIONS, Resend::Yes, script).await?);
        }
        let mut commands = vec![script];
        commands.extend(self.enter(tenant, user, session));
        let answers = self.link.pool.pipeline(SESSIONS, commands).await?;
        Ok(answers.into_iter().next().unwrap_or(Value::Null))
    }

    pub(super) fn enter(&self, tenant: &str, user: &str, session: &str) -> impl Iterator<Item = Command> {
        let expires_ms = system_now_ms().saturating_add(LIFETIME_MS);
        let session = session.to_owned();
        self.indexes(tenant, user).into_iter().flat_map(move |index| {
            let enter = Command::new("ZADD", index.clone()).with(expires_ms).with(&session);
            [enter, Command::new("PEXPIRE", index).with(LIFETIME_MS)]
        })
    }

    pub(super) fn count(&self, attach: &Attach, attached: &Attached) {
        if !attach.again {
            self.link.metrics.count(attached);
        }
    }

    /// Returns whether the store lost its data lately, and after this ticket was issued.
    async fn is_lost_since(
        &self,
        attach: &Attach,
        resume: ResumeAttach,
        asked: Instant,
    ) -> Result<bool, Error> {
        let window_ms = i64::try_from(attach.window_ms).unwrap_or(i64::MAX);
        let nodes: Arc<Nodes> = self.registry.since(asked).await?;
        Ok(resume.ticket_issued_at_ms < nodes.born_ms
            && attach.now_ms.saturating_sub(nodes.born_ms) < window_ms)
    }
}

/// Returns a conversation as a field of a session's record, with the conversation's id as the value.
fn field_of(joined: &JoinedConversation) -> (String, String) {
    (format!("in:{}", joined.name), joined.id.map(|id| id.to_string()).unwrap_or_default())
}

/// An answer of `attach.lua`.
pub(super) enum Answer {
    Attached(Attached),
    /// The session does not exist.
    Missing,
    /// The session is attached to this node, of which the script knows nothing.
    WhoIs(String),
}

impl Answer {
    pub(super) fn read(answer: Value) -> Result<Self, Error> {
        let mut reply = Reply::of(answer);
        Ok(match reply.integer()? {
            1 => {
                let stamp = reply.integer()?;
                let (previous, created_at_ms) = (reply.text()?, reply.integer()?);
                let mut names = reply.texts();
                names.sort();
                let (mut conversations, mut topics) = (Vec::new(), Vec::new());
                for name in names {
                    match name.split_once(':') {
                        Some(("in", conversation)) => {
                            // Names contain no slash.
                            let (name, id) = conversation.split_once('/').unwrap_or((conversation, ""));
                            conversations.push(JoinedConversation {
                                name: name.into(),
                                id: id.parse().ok().map(ConversationId::new),
                            });
                        }
                        Some(("on", topic)) => topics.push(topic.into()),
                        _ => {}
                    }
                }
                let previous_node = Some(previous).filter(|node| !node.is_empty());
                Self::Attached(Attached::Resumed {
                    stamp,
                    previous_node,
                    conversations,
                    topics,
                    created_at_ms,
                })
            }
            2 => Self::Attached(Attached::Rebuilt { stamp: reply.integer()? }),
            4 => Self::Missing,
            5 => Self::WhoIs(reply.text()?),
            _ => Self::Attached(Attached::Refused),
        })
    }
}

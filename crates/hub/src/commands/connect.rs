//! `connect`: a new session, or an old one that goes on here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use starling_auth::{Identity, Ticket};
use starling_session_store::{Attach, Attached, ResumeAttach, SessionState};
use starling_wire::protocol::{
    CloseReason, Connect, Connected, ErrorCode, Resume, ResumedConversation, Timestamp,
};

use super::join::{Attachment, Replay};
use super::topics::PreparedSubscribe;
use crate::hub::{Hub, StoreChange};
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::reply::{Answer, Handling};
use crate::room::Room;
use crate::session::Session;
use crate::shards::{ShardItem, SocketId};
use crate::{CommandError, clock};

/// How many conversations of one session are looked up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// How long a ticket may be used after it was made, days. A socket may be open that long, its token refreshed; whether the session
/// still goes on, the session store knows. With each resume a client gets a new ticket.
pub const TICKET_DAYS: u32 = 30;
const TICKET_LIFETIME_MS: i64 = TICKET_DAYS as i64 * 24 * 3_600_000;

/// A session that has been found good. The shard that owns the socket completes it with [`PreparedConnect::attach`].
pub struct PreparedConnect {
    hub: Arc<Hub>,
    session: Arc<Session>,
    resumed: bool,
    /// What is to be joined, with the client's cursor.
    rooms: Vec<(Arc<Room>, Option<u64>)>,
    topics: Vec<PreparedSubscribe>,
    gone: Vec<String>,
    ticket: String,
    attaching: Attaching,
}

/// A session on its way to a socket of this node, from before the session store hears of it. If it does not get there, the
/// store is told that the socket dropped.
struct Attaching {
    hub: Arc<Hub>,
    session: Arc<str>,
    arrived: bool,
}

impl Attaching {
    fn begin(hub: &Arc<Hub>, session: &Arc<str>) -> Attaching {
        hub.sessions.begin_attaching(session);
        Attaching { hub: hub.clone(), session: session.clone(), arrived: false }
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.hub.sessions.end_attaching(&self.session);
        if !self.arrived {
            let (session, at_ms) = (self.session.to_string(), clock::now_ms());
            self.hub.change(StoreChange::Detached { session, at_ms });
        }
    }
}

impl PreparedConnect {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Attaches the session to the socket. To be called on the thread of its shard, as [`crate::PreparedJoin::attach`]. Topics are
    /// left to be completed one by one.
    pub fn attach(self) -> (Connected, Vec<Attachment>, Vec<PreparedSubscribe>) {
        let PreparedConnect { hub, session, resumed, rooms, topics, mut gone, ticket, mut attaching } = self;
        attaching.arrived = true;
        if let Some(older) = hub.sessions.insert(&session) {
            hub.close(&older, CloseReason::Superseded);
            hub.drop_attachments(&older);
        }
        let mut conversations = BTreeMap::new();
        let mut attachments = Vec::with_capacity(rooms.len());
        for (room, after) in rooms {
            let Ok(attached) = hub.attach_room(&session, &room) else {
                gone.push(room.key.name.to_string());
                continue;
            };
            let replay = Replay::plan(after, attached.head, hub.config.replay_limit);
            let Replay { cursor, replayed, truncated } = replay;
            let resumed = ResumedConversation { head: attached.head.max(cursor), replayed, truncated };
            conversations.insert(room.key.name.clone(), resumed);
            attachments.push(Attachment { room: room.id, head: attached.head, cursor, log: room });
        }
        // Only now: the people of this session are counted in again, so that nobody sees them go, here or on other nodes.
        hub.stop_lingering(&session.id);
        if resumed {
            let moved = NodeMessage::Moved { session: session.id.clone(), to: hub.node.clone() };
            // After the presence in each room, and by the same lane: what goes by another may overtake it, on a Redis Cluster.
            let lanes: BTreeSet<u16> = attachments.iter().map(|attachment| attachment.log.lane).collect();
            for lane in lanes {
                hub.publish_when_written(lane, &moved);
            }
        }
        let identity = session.identity();
        let connected = Connected {
            session: session.id.to_string(),
            ticket,
            user: session.user.clone(),
            tenant: session.tenant.clone(),
            node: hub.name.clone(),
            resumed,
            heartbeat_ms: millis(hub.config.heartbeat),
            resume_window_ms: millis(hub.config.resume_window),
            expires_at: Timestamp(identity.expires_at_ms),
            conversations: resumed.then_some(conversations),
            topics: resumed.then(BTreeMap::new),
            gone: resumed.then_some(gone),
        };
        (connected, attachments, topics)
    }

    /// Takes back what was begun, if the socket closed meanwhile.
    pub fn abandon(self) {
        drop(self.attaching);
    }
}

impl Hub {
    /// `connect` of a socket. `identity` where the upgrade carried a token.
    pub fn connect(
        self: &Arc<Self>,
        identity: Option<Identity>,
        connect: Connect,
        socket: SocketId,
    ) -> Handling {
        let hub = self.clone();
        Handling::Async(Box::pin(async move {
            let identity = match (connect.token, identity) {
                (Some(token), _) => match hub.authenticate(&token).await {
                    Ok(identity) => identity,
                    Err(error) if error.is_temporary() => return Answer::Reply(Err(error.into())),
                    Err(error) => return Answer::Refused(error.into()),
                },
                (None, Some(identity)) => identity,
                (None, None) => return Answer::Refused(CommandError::unauthorized("a token is needed")),
            };
            match hub.prepare_connect(identity, connect.resume, socket).await {
                Ok(prepared) => Answer::Connect(Box::new(prepared)),
                // Waiting on this connection would be one connection too many.
                Err(error) if error.code == ErrorCode::RateLimited => Answer::Refused(error),
                Err(error) => Answer::Reply(Err(error)),
            }
        }))
    }

    async fn prepare_connect(
        self: Arc<Self>,
        identity: Identity,
        resume: Option<Resume>,
        socket: SocketId,
    ) -> Result<PreparedConnect, CommandError> {
        let now_ms = clock::now_ms();
        if let Some(resume) = resume
            && let Some(prepared) = self.clone().resume(&identity, resume, socket).await?
        {
            self.saw(&identity.tenant, &identity.user, now_ms);
            METRICS.resumed.increment(1);
            return Ok(prepared);
        }
        self.check_connections(&identity.tenant)?;
        self.saw(&identity.tenant, &identity.user, now_ms);
        METRICS.new_sessions.increment(1);
        let id: Arc<str> = URL_SAFE_NO_PAD.encode(crate::random::session_id()).into();
        let attaching = Attaching::begin(&self, &id);
        let attach = self.attach_request(&id, &identity, now_ms, None);
        if let Err(error) = self.session_store.attach(&attach).await {
            // Sessions are a cache of what the client holds in its ticket: the store gets it again when it is back.
            tracing::debug!(%error, "a new session could not be written");
            self.presence_lost.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        let ticket = self.ticket(&id, &identity, now_ms);
        let session = Arc::new(Session::new(id, identity, now_ms, socket));
        let (rooms, topics, gone) = (Vec::new(), Vec::new(), Vec::new());
        Ok(PreparedConnect { hub: self, session, resumed: false, rooms, topics, gone, ticket, attaching })
    }

    /// Goes on with an old session; `None` if there is none to go on with.
    async fn resume(
        self: Arc<Self>,
        identity: &Identity,
        resume: Resume,
        socket: SocketId,
    ) -> Result<Option<PreparedConnect>, CommandError> {
        let now_ms = clock::now_ms();
        let Ok(ticket) = self.tickets.open(&resume.ticket, now_ms, TICKET_LIFETIME_MS) else {
            return Ok(None);
        };
        if ticket.session != resume.session
            || ticket.tenant != *identity.tenant
            || ticket.user != *identity.user
        {
            return Ok(None);
        }
        let id: Arc<str> = ticket.session.as_str().into();
        let attaching = Attaching::begin(&self, &id);
        if self.sessions.get(&id).is_some() || self.lingering.contains(&id) {
            // It was here a moment ago: what it did last, and its drop, come before its return.
            self.changes_written().await;
        }
        let attach = ResumeAttach { ticket_issued_at_ms: ticket.issued_at_ms };
        let attach = self.attach_request(&id, identity, now_ms, Some(attach));
        let mut previous = None;
        let (mut names, mut topic_names, created_at_ms) = match self.session_store.attach(&attach).await {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::Resumed { previous_node, conversations, topics, created_at_ms }) => {
                // One that moves from an older socket takes that one's place; one whose socket dropped needs a free place.
                if previous_node.is_none() {
                    self.check_connections(&identity.tenant)?;
                }
                previous = previous_node;
                (conversations, topics, created_at_ms)
            }
            Ok(Attached::Rebuilt | Attached::New) => (Vec::new(), Vec::new(), ticket.issued_at_ms),
            Err(error) => {
                tracing::debug!(%error, "a session is resumed by its ticket alone");
                self.presence_lost.store(true, std::sync::atomic::Ordering::Relaxed);
                (Vec::new(), Vec::new(), ticket.issued_at_ms)
            }
        };
        names.extend(resume.cursors.keys().cloned());
        topic_names.extend(resume.topics.keys().cloned());
        let session = Arc::new(Session::new(id.clone(), identity.clone(), created_at_ms, socket));
        let rooms = self.resumed_rooms(&session, names, &resume.cursors).await;
        let previous = previous.filter(|node| *node != *self.node);
        // Only now: while the rooms are looked up, a client that follows a drain is still served by its older socket, and it goes on
        // being so where they can't be read.
        match (&rooms, previous) {
            (Ok(_), Some(node)) => self.take_over(&id, &node).await,
            (Err(_), Some(node)) => self.give_back(&id, Attach { node, ..attach }).await,
            (_, None) => {}
        }
        let (rooms, gone) = rooms?;
        let topics = topic_names
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|name| identity.scopes.may_subscribe(name))
            .take(self.config.topics_per_session_max)
            .map(|name| self.clone().subscription(session.clone(), &name, resume.topics.get(&name).cloned()))
            .collect();
        let ticket = self.ticket(&id, identity, now_ms);
        Ok(Some(PreparedConnect {
            hub: self,
            session,
            resumed: true,
            rooms,
            topics,
            gone,
            ticket,
            attaching,
        }))
    }

    /// The rooms of a resumed session, and the names of those that its user may no longer read or that are too many.
    async fn resumed_rooms(
        &self,
        session: &Session,
        mut names: Vec<String>,
        cursors: &BTreeMap<String, u64>,
    ) -> Result<(Vec<(Arc<Room>, Option<u64>)>, Vec<String>), CommandError> {
        let mut once = BTreeSet::new();
        names.retain(|name| once.insert(name.clone()));
        // What the session was in comes first; beyond the limit is what cursors alone name.
        let mut gone = names.split_off(names.len().min(self.config.joins_per_session_max));
        let found: Vec<(String, Option<u64>, Result<Arc<Room>, CommandError>)> =
            futures_util::stream::iter(names)
                .map(|name| async move {
                    let room = self.member_room(&session.tenant, &session.user, &name).await;
                    let mut cursor = cursors.get(&name).copied();
                    if let Ok(room) = &room {
                        self.know_presence(room).await;
                        cursor = self.check_cursor(room, cursor).await;
                    }
                    (name, cursor, room)
                })
                .buffered(LOOKUPS_AT_ONCE)
                .collect()
                .await;
        let mut rooms = Vec::new();
        for (name, cursor, room) in found {
            match room {
                Ok(room) => rooms.push((room, cursor)),
                Err(error) if error.code == ErrorCode::NotFound => gone.push(name),
                // The database is away: the client tries again, rather than lose its place.
                Err(error) => return Err(error),
            }
        }
        Ok((rooms, gone))
    }

    /// Has the session store write a session down again for the node that had it until now and serves it still.
    async fn give_back(&self, id: &Arc<str>, to: Attach) {
        if !matches!(self.session_store.attach(&to).await, Ok(Attached::Resumed { .. })) {
            // The store takes it to be here, so the next resume would not end the older socket.
            self.take_over(id, &to.node).await;
        }
    }

    /// Tells the node that had the session until now.
    async fn take_over(&self, id: &Arc<str>, node: &str) {
        let message = NodeMessage::Superseded { session: id.clone(), to: self.node.clone() };
        if let Err(error) = self.fanout.publish_to(node, message.encode()).await {
            tracing::debug!(%error, peer = node, "the node that had a session could not be told");
        }
    }

    /// A socket is gone: what it was in ends, but for the session, which waits for its client.
    pub fn dropped(&self, session: &Arc<Session>) {
        // First its people linger, then it is nobody's: a socket that takes the session over in this moment finds one or the other.
        self.drop_attachments(session);
        if self.sessions.remove(session) {
            let (id, at_ms) = (session.id.to_string(), clock::now_ms());
            self.change(StoreChange::Detached { session: id, at_ms });
        }
    }

    pub(crate) fn drop_attachments(&self, session: &Arc<Session>) {
        let (rooms, topics, older) = {
            // Held until its people linger: the other one who drops the same session, by another thread, comes after that.
            let mut state = session.state();
            let rooms: Vec<Arc<Room>> = std::mem::take(&mut state.joined).into_values().collect();
            let older = self.linger(session, rooms.clone());
            (rooms, std::mem::take(&mut state.topics), older)
        };
        for topic in topics.values() {
            self.topics.detach(topic, session.socket.shard);
        }
        for room in &rooms {
            room.state().detach(session.socket.shard);
        }
        if let Some(older) = older {
            self.let_go(&older);
        }
    }

    /// Has a session's socket closed.
    pub(crate) fn close(&self, session: &Session, reason: CloseReason) {
        let socket = session.socket;
        self.shards.post(socket.shard, ShardItem::Close { socket, reason });
    }

    fn attach_request(
        &self,
        id: &str,
        identity: &Identity,
        now_ms: i64,
        resume: Option<ResumeAttach>,
    ) -> Attach {
        Attach {
            session: id.to_owned(),
            tenant: identity.tenant.to_string(),
            user: identity.user.to_string(),
            node: self.node.to_string(),
            now_ms,
            resume,
            window_ms: millis(self.config.resume_window),
        }
    }

    fn ticket(&self, id: &str, identity: &Identity, now_ms: i64) -> String {
        self.tickets.sign(&Ticket {
            session: id.to_owned(),
            tenant: identity.tenant.to_string(),
            user: identity.user.to_string(),
            issued_at_ms: now_ms,
        })
    }

    fn check_connections(&self, tenant: &str) -> Result<(), CommandError> {
        let max = self.config.limits_of(tenant).connections;
        if max == 0 {
            return Ok(());
        }
        let others = self
            .nodes
            .lock()
            .iter()
            .filter(|record| record.node != *self.node)
            .fold(0, |sum, record| sum + record.tenants.get(tenant).copied().unwrap_or(0));
        if others + self.sessions.of_tenant(tenant) >= max {
            METRICS.limited_tenant_connections.increment(1);
            return Err(CommandError::rate_limited(format!("the tenant has its {max} connections"), 5_000));
        }
        Ok(())
    }
}

impl Session {
    /// What the session store is told of an attached session.
    pub(crate) fn to_state(&self) -> SessionState {
        let state = self.state();
        SessionState {
            session: self.id.to_string(),
            tenant: self.tenant.to_string(),
            user: self.user.to_string(),
            created_at_ms: self.created_at_ms,
            conversations: state.joined.keys().map(ToString::to_string).collect(),
            topics: state.topics.keys().map(ToString::to_string).collect(),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

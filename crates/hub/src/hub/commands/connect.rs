//! `connect`: a new session, or an old one that goes on here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt;
use starling_auth::{Identity, Ticket};
use starling_model::{ConversationName, TopicName};
use starling_session_store::{
    Attach, Attached, Held, Hold, JoinedConversation, ResumeAttach, SessionRecord, Stamp,
};
use starling_wire::protocol::{
    CloseReason, Connect, Connected, Cursor, ErrorCode, Resume, ResumedConversation, Timestamp,
};
use tokio::time::Instant;

use super::join::{Attachment, Replay, Start};
use super::topics::PreparedSubscribe;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::NodeMessage;
use crate::reply::{Answer, Handling};
use crate::room::Room;
use crate::sessions::places::Place;
use crate::sessions::{Inserted, Session};
use crate::shards::{ShardItem, SocketId};
use crate::{CommandError, clock};

/// How many conversations of one session are looked up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// How many conversations of one session are looked up in one query, which counts as one read.
const NAMES_PER_READ: usize = 100;
/// How long a ticket may be used after it was made, days. A socket may be open that long, its token refreshed; whether the session
/// still goes on, the session store knows. With each resume a client gets a new ticket.
pub const TICKET_DAYS: u32 = 30;
/// How far a ticket's time may be from this node's clock, milliseconds: less than the other nodes believe.
const TICKET_APART_MS: i64 = 4_000;
const TICKET_LIFETIME_MS: i64 = TICKET_DAYS as i64 * 24 * 3_600_000;

/// When an attach began.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    /// The last stamp that an attach of the session had got on this node by then.
    after: Stamp,
}

/// A session that has been found good. The shard that owns the socket completes it with [`PreparedConnect::attach`].
pub struct PreparedConnect {
    hub: Arc<Hub>,
    session: Arc<Session>,
    resumed: bool,
    /// What is to be joined, and from where on.
    rooms: Vec<(Arc<Room>, Start)>,
    topics: Vec<PreparedSubscribe>,
    gone: Vec<ConversationName>,
    ticket: String,
    attaching: Attaching,
}

/// A session on its way to a socket of this node.
struct Attaching {
    hub: Arc<Hub>,
    session: Arc<str>,
    /// The stamp of this attach, once it has one.
    stamp: Stamp,
    /// Whether the session store may have the session as held by this attach.
    holds: bool,
    arrived: bool,
    /// The other node whose socket has the session until this attach arrives, as far as the session store has said.
    older_node: Option<String>,
    /// The tenant's place that was taken for it, where its connections are limited. Given back after the session counts.
    place: Option<Place>,
}

impl Attaching {
    fn begin(hub: &Arc<Hub>, session: &Arc<str>) -> Attaching {
        hub.sessions.begin_attaching(session);
        Attaching {
            hub: hub.clone(),
            session: session.clone(),
            stamp: 0,
            holds: false,
            arrived: false,
            older_node: None,
            place: None,
        }
    }

    fn stamped(&mut self, stamp: Stamp) {
        self.stamp = stamp;
        self.hub.sessions.give_stamp(&self.session, stamp);
    }

    fn held_by(&mut self, node: Option<String>) {
        self.older_node = node.filter(|node| *node != *self.hub.node);
    }

    /// The socket has the session: whoever had it until now is told.
    fn arrive(&mut self) {
        self.arrived = true;
        if let Some(node) = self.older_node.take() {
            let (hub, session, stamp) = (self.hub.clone(), self.session.clone(), self.stamp);
            self.hub.runtime.spawn(async move { hub.take_over(&session, &node, stamp).await });
        }
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.hub.sessions.end_attaching(&self.session);
        if !self.holds || self.arrived {
            return;
        }
        // What this attach took from an older socket goes back to it. If there is none, it is as if its own socket had dropped.
        let older_node = self.older_node.take();
        if older_node.is_some() || !self.hub.sessions.inherit(&self.session, self.stamp) {
            self.hub.writer.detach(&self.session, self.stamp);
        }
        if let Some(node) = older_node {
            let (hub, session, stamp) = (self.hub.clone(), self.session.clone(), self.stamp);
            self.hub.runtime.spawn(async move { hub.give_back(&session, &node, stamp).await });
        }
    }
}

/// Why a `connect` does not succeed.
enum NotConnected {
    /// The client is told, and may try again.
    Error(CommandError),
    /// The socket is closed: the session was attached by a later socket, or ended, meanwhile.
    Closed(CloseReason),
}

impl From<CommandError> for NotConnected {
    fn from(error: CommandError) -> NotConnected {
        NotConnected::Error(error)
    }
}

/// What an attach of an old session begins with.
struct Claim {
    /// Conversations that it was in.
    names: Vec<JoinedConversation>,
    /// Topics that it was subscribed to.
    topics: Vec<TopicName>,
    created_at_ms: i64,
    /// Whether the session store knows the session, and so knows that it has not been ended.
    is_known: bool,
    /// Whether the session store gave the stamp, and is to be told when all is loaded.
    is_stored: bool,
}

impl Claim {
    /// The ticket is all that is known.
    fn by_ticket(ticket: &Ticket, is_stored: bool) -> Claim {
        let (names, topics) = (Vec::new(), Vec::new());
        Claim { names, topics, created_at_ms: ticket.issued_at_ms, is_known: false, is_stored }
    }
}

impl PreparedConnect {
    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Attaches the session to the socket. To be called on the thread of its shard, as [`crate::PreparedJoin::attach`]. Topics are
    /// left to be completed one by one.
    ///
    /// # Errors
    /// The reason to close the socket with, if a later attach holds the session by now or it was ended.
    pub fn attach(self) -> Result<(Connected, Vec<Attachment>, Vec<PreparedSubscribe>), CloseReason> {
        let PreparedConnect { hub, session, resumed, rooms, topics, mut gone, ticket, mut attaching } = self;
        let Inserted { older, must_be_written } = hub.sessions.insert(&session, &hub.node)?;
        attaching.arrive();
        if must_be_written {
            hub.write_soon(session.clone());
        }
        if let Some(older) = older {
            hub.close(&older, CloseReason::Superseded);
            hub.drop_attachments(&older);
        }
        let mut conversations = BTreeMap::new();
        let mut attachments = Vec::with_capacity(rooms.len());
        let mut is_whole = true;
        for (room, start) in rooms {
            let attached = match hub.attach_room(&session, &room) {
                Ok(attached) => attached,
                Err(error) if error.code == ErrorCode::NotFound => {
                    gone.push(room.key.name.clone());
                    continue;
                }
                Err(_) => {
                    is_whole = false;
                    continue;
                }
            };
            let replay = Replay::plan(start.after, attached.head, hub.config.replay_limit);
            let Replay { cursor, replayed, truncated } = replay;
            let (head, log, reset) = (attached.head.max(cursor), room.log.clone(), start.reset);
            let resumed = ResumedConversation { head, replayed, truncated, log, reset };
            conversations.insert(room.key.name.clone(), resumed);
            attachments.push(Attachment { room: room.id, head: attached.head, cursor, log: room });
        }
        // Only now: the people of this session are counted in again, so that nobody sees them go, here or on other nodes.
        hub.stop_lingering(&session.id);
        if resumed {
            let (id, to, stamp) = (session.id.clone(), hub.node.clone(), Some(session.stamp()));
            let moved = NodeMessage::Moved { session: id, to, stamp };
            // After the presence in each room, and by the same lane: what goes by another may overtake it, on a Redis Cluster.
            let lanes: BTreeSet<u16> = attachments.iter().map(|attachment| attachment.log.lane).collect();
            for lane in lanes {
                hub.writer.publish_when_written(lane, &moved);
            }
        }
        if !is_whole {
            // The database was set back since the rooms were read: the client is to come again.
            hub.close(&session, CloseReason::Restart);
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
        Ok((connected, attachments, topics))
    }

    /// Takes back what was begun, if the socket closed meanwhile.
    pub fn abandon(self) {
        drop(self.attaching);
    }
}

impl Hub {
    /// The session that a client proves to have had by its ticket. Whether it can go on is not known yet.
    pub fn proven_session<'a>(&self, resume: &'a Resume) -> Option<&'a str> {
        let ticket = self.tickets.open(&resume.ticket, clock::now_ms(), TICKET_LIFETIME_MS).ok()?;
        (ticket.session == resume.session).then_some(resume.session.as_str())
    }

    /// `connect` of a socket. `identity` where the upgrade carried a token.
    pub fn connect(
        self: &Arc<Self>,
        identity: Option<Identity>,
        connect: Connect,
        socket: SocketId,
    ) -> Handling {
        let hub = self.clone();
        // Before the token is looked at, which may take long: of several attaches the one that began last wins.
        let began = Began {
            at: Instant::now(),
            after: connect.resume.as_ref().map_or(0, |resume| self.sessions.last_stamp(&resume.session)),
        };
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
            match hub.prepare_connect(identity, connect.resume, socket, began).await {
                Ok(prepared) => Answer::Connect(Box::new(prepared)),
                // Waiting on this connection would be one connection too many.
                Err(NotConnected::Error(error)) if error.code == ErrorCode::RateLimited => {
                    Answer::Refused(error)
                }
                Err(NotConnected::Error(error)) => Answer::Reply(Err(error)),
                Err(NotConnected::Closed(reason)) => Answer::Close(reason),
            }
        }))
    }

    async fn prepare_connect(
        self: Arc<Self>,
        identity: Identity,
        resume: Option<Resume>,
        socket: SocketId,
        began: Began,
    ) -> Result<PreparedConnect, NotConnected> {
        let now_ms = clock::now_ms();
        if let Some(resume) = resume
            && let Some(prepared) = self.clone().resume(&identity, resume, socket, began).await?
        {
            self.saw(&identity.tenant, &identity.user, now_ms);
            METRICS.resumed.increment(1);
            return Ok(prepared);
        }
        let place = self.take_place(&identity.tenant).await?;
        self.saw(&identity.tenant, &identity.user, now_ms);
        METRICS.new_sessions.increment(1);
        let id: Arc<str> = URL_SAFE_NO_PAD.encode(crate::random::session_id()).into();
        let mut attaching = Attaching::begin(&self, &id);
        attaching.place = place;
        attaching.holds = true;
        let attach = self.attach_request(&id, &identity, now_ms, began, None);
        let stamp = match self.session_store.attach(&attach).await {
            Ok(Attached::New { stamp }) => stamp,
            Ok(_) => self.own_stamp(began.at.elapsed(), began.after),
            Err(error) => {
                // Sessions are a cache of what the client holds in its ticket: the store gets it again when it is back.
                tracing::debug!(%error, "a new session could not be written");
                self.writer.want_rewrite();
                self.own_stamp(began.at.elapsed(), began.after)
            }
        };
        attaching.stamped(stamp);
        let ticket = self.ticket(&id, &identity, now_ms, stamp);
        let session = Arc::new(Session::new(id, identity, now_ms, socket, stamp));
        let (rooms, topics, gone) = (Vec::new(), Vec::new(), Vec::new());
        Ok(PreparedConnect { hub: self, session, resumed: false, rooms, topics, gone, ticket, attaching })
    }

    /// Goes on with an old session; `None` if there is none to go on with.
    async fn resume(
        self: Arc<Self>,
        identity: &Identity,
        resume: Resume,
        socket: SocketId,
        began: Began,
    ) -> Result<Option<PreparedConnect>, NotConnected> {
        let now_ms = clock::now_ms();
        let Ok(ticket) = self.tickets.open(&resume.ticket, now_ms, TICKET_LIFETIME_MS) else {
            return Ok(None);
        };
        if ticket.session != resume.session
            || ticket.tenant != identity.tenant
            || ticket.user != identity.user
            || self.ended.contains(&ticket.session)
        {
            return Ok(None);
        }
        let id: Arc<str> = ticket.session.as_str().into();
        let mut attaching = Attaching::begin(&self, &id);
        // Before anything else, since it is what decides between several attaches: the one that began last wins.
        let Some(claim) = self.claim(&mut attaching, identity, &ticket, now_ms, began).await? else {
            return Ok(None);
        };
        let Claim { mut names, mut topics, created_at_ms, is_known, is_stored } = claim;
        let stamp = attaching.stamp;
        names.extend(resume.cursors.keys().cloned().map(JoinedConversation::from));
        topics.extend(resume.topics.keys().cloned());
        let session = Arc::new(Session::new(id.clone(), identity.clone(), created_at_ms, socket, stamp));
        // A node that does not hear the others may have written to the store again what was ended elsewhere.
        let is_certain = is_known && self.neighbours.hears();
        let ended = async { if is_certain { Ok(false) } else { self.was_ended(&id).await } };
        let rooms = self.resumed_rooms(&session, names, &resume.cursors);
        let (ended, rooms) = tokio::join!(ended, rooms);
        if ended? {
            self.end_here(&id);
            return Ok(None);
        }
        let (rooms, gone) = rooms?;
        // Only now: while the rooms are looked up, a client that follows a drain is still served by its older socket, and it goes on
        // being so where they can't be read.
        if is_stored {
            attaching = self.hold(attaching, &session, now_ms).await?;
        } else {
            self.writer.want_rewrite();
        }
        let topics = topics
            .into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .filter(|name| identity.scopes.may_subscribe(name))
            .take(self.config.topics_per_session_max)
            .map(|name| self.clone().subscription(session.clone(), &name, resume.topics.get(&name).cloned()))
            .collect();
        let ticket = self.ticket(&id, identity, now_ms, stamp);
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

    /// Gives an attach of an old session its place in the order of all its attaches, and learns what the session was in. `None`: it has
    /// ended.
    async fn claim(
        self: &Arc<Self>,
        attaching: &mut Attaching,
        identity: &Identity,
        ticket: &Ticket,
        now_ms: i64,
        began: Began,
    ) -> Result<Option<Claim>, CommandError> {
        let id = attaching.session.clone();
        // A ticket says when it was made to the millisecond; its attach began before that.
        let of_ticket = ticket.issued_at_ms.saturating_add(1).saturating_mul(1_000);
        let began = Began { after: began.after.max(of_ticket), ..began };
        let resume = ResumeAttach { ticket_issued_at_ms: ticket.issued_at_ms };
        let attach = self.attach_request(&id, identity, now_ms, began, Some(resume));
        let was_here = self.sessions.get(&id).is_some() || self.lingering.contains(&id);
        let mut attached = self.session_store.attach(&attach).await;
        let stamp = match &attached {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::New { stamp } | Attached::Resumed { stamp, .. } | Attached::Rebuilt { stamp }) => {
                *stamp
            }
            Err(_) => self.own_stamp(began.at.elapsed(), began.after),
        };
        attaching.stamped(stamp);
        if was_here && attached.is_ok() {
            // What it did last here, and its drop, may not have been written yet. The attach keeps its place.
            self.writer.flush().await;
            attached = self.session_store.attach(&attach).await;
        }
        Ok(Some(match attached {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::Resumed { previous_node, conversations, topics, created_at_ms, .. }) => {
                // One that moves from an older socket takes that one's place; one whose socket dropped needs a free place.
                if previous_node.is_none() {
                    attaching.place = self.take_place(&identity.tenant).await?;
                }
                // For the case that the answer to the hold is lost.
                attaching.held_by(previous_node);
                Claim { names: conversations, topics, created_at_ms, is_known: true, is_stored: true }
            }
            Ok(Attached::Rebuilt { .. } | Attached::New { .. }) => {
                attaching.place = self.take_place(&identity.tenant).await?;
                Claim::by_ticket(ticket, true)
            }
            Err(error) => {
                tracing::debug!(%error, "a session is resumed by its ticket alone");
                if self.sessions.get(&id).is_none() {
                    attaching.place = self.take_place(&identity.tenant).await?;
                }
                Claim::by_ticket(ticket, false)
            }
        }))
    }

    /// Takes a session whose rooms have been loaded from whoever holds it, unless a later attach does. To the end, even if the socket
    /// breaks meanwhile: the session store may carry it out all the same, and only its answer says whose the session was.
    async fn hold(
        self: &Arc<Self>,
        mut attaching: Attaching,
        session: &Arc<Session>,
        now_ms: i64,
    ) -> Result<Attaching, NotConnected> {
        let (hub, session) = (self.clone(), session.clone());
        let hold = async move {
            hub.hold_for(&mut attaching, &session, now_ms).await?;
            Ok(attaching)
        };
        let stopping = || CommandError::unavailable("the node is stopping");
        self.runtime.spawn(hold).await.unwrap_or_else(|_| Err(stopping().into()))
    }

    async fn hold_for(
        &self,
        attaching: &mut Attaching,
        session: &Session,
        now_ms: i64,
    ) -> Result<(), NotConnected> {
        // Also if the answer is lost on its way.
        attaching.holds = true;
        let hold = Hold {
            session: session.id.to_string(),
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            node: self.node.to_string(),
            stamp: attaching.stamp,
            created_at_ms: session.created_at_ms,
            now_ms,
            window_ms: millis(self.config.resume_window),
        };
        match self.session_store.hold(&hold).await {
            Ok(Held::Held { previous_node }) => {
                attaching.held_by(previous_node);
                Ok(())
            }
            Ok(Held::Superseded) => {
                attaching.holds = false;
                // So is an older socket of this node, which may not know yet.
                if let Some(older) = self.sessions.get(&session.id)
                    && older.stamp() < attaching.stamp
                {
                    self.supersede(&older);
                }
                Err(NotConnected::Closed(CloseReason::Superseded))
            }
            Ok(Held::Refused) => {
                attaching.holds = false;
                self.end_here(&session.id);
                Err(NotConnected::Closed(CloseReason::Ended))
            }
            Err(error) => {
                tracing::debug!(%error, "the session store could not be told of a resumed session");
                self.writer.want_rewrite();
                Ok(())
            }
        }
    }

    /// The rooms of a resumed session, and the names of those that its user may no longer read or that are too many.
    async fn resumed_rooms(
        &self,
        session: &Session,
        mut names: Vec<JoinedConversation>,
        cursors: &BTreeMap<ConversationName, Cursor>,
    ) -> Result<(Vec<(Arc<Room>, Start)>, Vec<ConversationName>), CommandError> {
        let mut once = BTreeSet::new();
        names.retain(|joined| once.insert(joined.name.clone()));
        // What the session was in comes first; beyond the limit is what cursors alone name.
        let too_many = names.split_off(names.len().min(self.config.joins_per_session_max));
        let mut gone: Vec<ConversationName> = too_many.into_iter().map(|joined| joined.name).collect();
        // Names that this node does not know may be invented, however many: one query tells of many, in a turn of the user's.
        let (mut names, unknown): (Vec<JoinedConversation>, Vec<JoinedConversation>) =
            names.into_iter().partition(|joined| self.rooms.known(&session.tenant, &joined.name).is_some());
        for some in unknown.chunks(NAMES_PER_READ) {
            let asked: Vec<ConversationName> = some.iter().map(|joined| joined.name.clone()).collect();
            self.reads.wait(&session.tenant, &session.user, 1).await?;
            let turn = self.reads.turn(&session.tenant, &session.user).await?;
            let found = self.conversations.member_of(&session.tenant, &session.user, &asked).await?;
            drop(turn);
            let found: BTreeSet<ConversationName> = found.into_iter().collect();
            for joined in some {
                if found.contains(&joined.name) {
                    names.push(joined.clone());
                } else {
                    gone.push(joined.name.clone());
                }
            }
        }
        let found: Vec<(ConversationName, Result<(Arc<Room>, Start), CommandError>)> =
            futures_util::stream::iter(names)
                .map(|JoinedConversation { name, id }| async move {
                    let cursor = cursors.get(&name);
                    // What the client itself names may be another one than the session was in: the cursor's log tells.
                    let id = id.filter(|_| cursor.is_none());
                    let found = self.room_and_start(session, &name, id, cursor).await;
                    if let Ok((room, _)) = &found {
                        self.know_presence(room).await;
                    }
                    (name, found)
                })
                .buffered(LOOKUPS_AT_ONCE)
                .collect()
                .await;
        let mut rooms = Vec::new();
        for (name, found) in found {
            match found {
                Ok(found) => rooms.push(found),
                Err(error) if error.code == ErrorCode::NotFound => gone.push(name),
                // The database is away: the client tries again, rather than lose its place.
                Err(error) => return Err(error),
            }
        }
        Ok((rooms, gone))
    }

    /// A socket is gone: what it was in ends, but for the session, which waits for its client.
    pub fn dropped(&self, session: &Arc<Session>) {
        // First its people linger, then it is nobody's: a socket that takes the session over in this moment finds one or the other.
        self.drop_attachments(session);
        if self.sessions.remove(session) {
            self.writer.detach(&session.id, session.stamp());
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
        began: Began,
        resume: Option<ResumeAttach>,
    ) -> Attach {
        Attach {
            session: id.to_owned(),
            tenant: identity.tenant.clone(),
            user: identity.user.clone(),
            node: self.node.to_string(),
            now_ms,
            resume,
            waited: began.at.elapsed(),
            after: began.after,
            window_ms: millis(self.config.resume_window),
        }
    }

    /// A ticket of an attach. Its time is the stamp's, as far as other nodes believe that: so a later attach gets a higher stamp, even
    /// where the session store has lost this one.
    fn ticket(&self, id: &str, identity: &Identity, now_ms: i64, stamp: Stamp) -> String {
        let (earliest, latest) =
            (now_ms.saturating_sub(TICKET_APART_MS), now_ms.saturating_add(TICKET_APART_MS));
        let issued_at_ms = (stamp / 1_000).clamp(earliest, latest);
        self.tickets.sign(&Ticket {
            session: id.to_owned(),
            tenant: identity.tenant.clone(),
            user: identity.user.clone(),
            issued_at_ms,
        })
    }
}

impl Session {
    /// What the session store is told of an attached session.
    pub(crate) fn to_state(&self) -> SessionRecord {
        let state = self.state();
        SessionRecord {
            session: self.id.to_string(),
            tenant: self.tenant.clone(),
            user: self.user.clone(),
            created_at_ms: self.created_at_ms,
            conversations: state.joined.values().map(|room| room.as_joined()).collect(),
            topics: state.topics.keys().cloned().collect(),
            stamp: self.stamp(),
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

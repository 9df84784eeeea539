//! Resumes a session: its ticket, its place among its attaches, its rooms and topics.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use starling_auth::{Identity, Ticket};
use starling_model::{ConversationName, TopicName};
use starling_session_store::JoinedConversation;
use starling_wire::protocol::{Cursor, ErrorCode, Resume, TopicPosition};

use super::super::join::Start;
use super::super::subscribe::PreparedSubscribe;
use super::attaching::Attaching;
use super::prepared::PreparedConnect;
use super::rank::Ranked;
use super::{Began, NotConnected, TICKET_LIFETIME_MS};
use crate::hub::Hub;
use crate::room::Room;
use crate::sessions::Session;
use crate::shards::SocketId;
use crate::{CommandError, clock};

/// Most conversations of one session that are looked up at once.
const LOOKUPS_AT_ONCE: usize = 16;
/// Most conversations of one session in one query, which counts as one read.
const NAMES_PER_READ: usize = 100;

/// The rooms of a resumed session.
#[derive(Default)]
struct ResumedRooms {
    rooms: Vec<(Arc<Room>, Start)>,
    /// Conversations that the user may no longer read, or that are too many.
    gone: Vec<ConversationName>,
}

impl Hub {
    /// Resumes a session. `None`: there is none to resume.
    pub(super) async fn resume(
        self: Arc<Self>,
        identity: &Identity,
        resume: Resume,
        socket: SocketId,
        began: Began,
    ) -> Result<Option<PreparedConnect>, NotConnected> {
        let now_ms = clock::now_ms();
        let Some(ticket) = self.valid_ticket(identity, &resume, now_ms) else { return Ok(None) };
        let id: Arc<str> = ticket.session.as_str().into();
        let mut attaching = Attaching::begin(&self, &id);
        // The rank comes before anything else, since the attach that began last wins.
        let Some(ranked) = self.rank(&mut attaching, identity, &ticket, now_ms, began).await? else {
            return Ok(None);
        };
        let Ranked { mut names, mut topics, created_at_ms, is_known, is_stored } = ranked;
        let stamp = attaching.stamp();
        names.extend(resume.cursors.keys().cloned().map(JoinedConversation::from));
        topics.extend(resume.topics.keys().cloned());
        let session = Arc::new(Session::new(id.clone(), identity.clone(), created_at_ms, socket, stamp));
        let (ended, rooms) =
            tokio::join!(self.has_ended(&id, is_known), self.resumed_rooms(&session, names, &resume.cursors));
        if ended? {
            self.ended.end_here(&id);
            return Ok(None);
        }
        let ResumedRooms { rooms, gone } = rooms?;
        // Hold only now. While the rooms are looked up, a client that follows a drain is still served by its older connection, and it stays
        // there if they can't be read.
        if is_stored {
            attaching = self.hold(attaching, &session, now_ms).await?;
        } else {
            self.writer.want_rewrite();
        }
        let topics = self.resumed_topics(&session, topics, &resume.topics);
        let ticket = self.ticket(&id, identity, now_ms, stamp);
        let hub = self;
        Ok(Some(PreparedConnect { hub, session, resumed: true, rooms, topics, gone, ticket, attaching }))
    }

    /// Returns the client's ticket, if it is valid for this session and this user.
    fn valid_ticket(&self, identity: &Identity, resume: &Resume, now_ms: i64) -> Option<Ticket> {
        let ticket = self.tickets.open(&resume.ticket, now_ms, TICKET_LIFETIME_MS).ok()?;
        let is_good = ticket.session == resume.session
            && ticket.tenant == identity.tenant
            && ticket.user == identity.user
            && !self.ended.contains(&ticket.session);
        is_good.then_some(ticket)
    }

    /// Whether an operator ended the session. `is_known`: the session store knows it as not ended.
    async fn has_ended(&self, id: &Arc<str>, is_known: bool) -> Result<bool, CommandError> {
        // A deaf node may have written a session to the store again that was ended elsewhere.
        if is_known && self.neighbours.hears() { Ok(false) } else { self.ended.was_ended(id).await }
    }

    async fn resumed_rooms(
        &self,
        session: &Session,
        mut names: Vec<JoinedConversation>,
        cursors: &BTreeMap<ConversationName, Cursor>,
    ) -> Result<ResumedRooms, CommandError> {
        let mut resumed = ResumedRooms::default();
        let mut once = BTreeSet::new();
        names.retain(|joined| once.insert(joined.name.clone()));
        // The conversations that the session had joined come first. Those beyond the limit are named by cursors only.
        let too_many = names.split_off(names.len().min(self.config.joins_per_session_max));
        resumed.gone.extend(too_many.into_iter().map(|joined| joined.name));
        let names = self.readable(session, names, &mut resumed.gone).await?;
        let found: Vec<(ConversationName, Result<(Arc<Room>, Start), CommandError>)> =
            futures_util::stream::iter(names)
                .map(|JoinedConversation { name, id }| async move {
                    let cursor = cursors.get(&name);
                    // The client's cursor may be of another conversation than the session had joined. The cursor's log id tells.
                    let id = id.filter(|_| cursor.is_none());
                    let found = self.room_and_start(session, &name, id, cursor).await;
                    if let Ok((room, _)) = &found {
                        self.presence.know(room).await;
                    }
                    (name, found)
                })
                .buffered(LOOKUPS_AT_ONCE)
                .collect()
                .await;
        for (name, found) in found {
            match found {
                Ok(found) => resumed.rooms.push(found),
                Err(error) if error.code == ErrorCode::NotFound => resumed.gone.push(name),
                // The database is down. The client must retry, so that it does not lose its subscription.
                Err(error) => return Err(error),
            }
        }
        Ok(resumed)
    }

    /// Returns those of these conversations that the session's user is a member of, as far as this node or the database knows. The others
    /// are added to `gone`.
    async fn readable(
        &self,
        session: &Session,
        names: Vec<JoinedConversation>,
        gone: &mut Vec<ConversationName>,
    ) -> Result<Vec<JoinedConversation>, CommandError> {
        let (tenant, user) = (&session.tenant, &session.user);
        // Unknown names may be invented, and any number of them. They are looked up many at a time, in the user's turns.
        let (mut readable, unknown): (Vec<JoinedConversation>, Vec<JoinedConversation>) =
            names.into_iter().partition(|joined| self.directory.knows(tenant, &joined.name));
        for some in unknown.chunks(NAMES_PER_READ) {
            let asked: Vec<ConversationName> = some.iter().map(|joined| joined.name.clone()).collect();
            self.reads.wait(tenant, user, 1).await?;
            let turn = self.reads.turn(tenant, user).await?;
            let found = self.store.member_of(tenant, user, &asked).await?;
            drop(turn);
            let found: BTreeSet<ConversationName> = found.into_iter().collect();
            for joined in some {
                if found.contains(&joined.name) {
                    readable.push(joined.clone());
                } else {
                    gone.push(joined.name.clone());
                }
            }
        }
        Ok(readable)
    }

    /// Returns the topics of a resumed session that its token still allows.
    fn resumed_topics(
        self: &Arc<Self>,
        session: &Arc<Session>,
        names: Vec<TopicName>,
        positions: &BTreeMap<TopicName, TopicPosition>,
    ) -> Vec<PreparedSubscribe> {
        let scopes = session.identity().scopes;
        let names: BTreeSet<TopicName> = names.into_iter().collect();
        let allowed = names.into_iter().filter(|name| scopes.may_subscribe(name));
        allowed
            .take(self.config.topics_per_session_max)
            .map(|name| {
                let since = positions.get(&name).cloned();
                self.clone().subscription(session.clone(), &name, since)
            })
            .collect()
    }
}

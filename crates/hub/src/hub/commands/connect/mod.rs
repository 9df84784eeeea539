//! `connect`: begins a new session, or resumes an old one on this node.

mod attaching;
mod prepared;
mod rank;
mod resume;

use std::sync::Arc;

use attaching::Attaching;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
pub use prepared::PreparedConnect;
use starling_auth::{Identity, Ticket};
use starling_session_store::{Attach, Attached, ResumeAttach, Stamp};
use starling_webhook_service::webhooks::{HookPoint, Question};
use starling_wire::protocol::{CloseReason, Connect, ErrorCode, Resume};
use tokio::time::Instant;

use super::answer::{Answer, Handling};
use crate::config::TICKET_DAYS;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::sessions::Session;
use crate::shards::SocketId;
use crate::{CommandError, clock};

/// How far a ticket's time may be from this node's clock, milliseconds. This is less than other nodes accept.
const TICKET_APART_MS: i64 = 4_000;
const TICKET_LIFETIME_MS: i64 = TICKET_DAYS as i64 * 24 * 3_600_000;

/// When an attach began.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    /// The last stamp of the session that this node knew at that time.
    after: Stamp,
}

/// Why a `connect` did not succeed.
enum NotConnected {
    /// The client is told the error and may retry.
    Error(CommandError),
    /// The connection is closed, because a later one attached the session or the session was ended.
    Closed(CloseReason),
}

impl From<CommandError> for NotConnected {
    fn from(error: CommandError) -> NotConnected {
        NotConnected::Error(error)
    }
}

impl Hub {
    /// Returns the session id that a client's ticket proves. Whether the session can be resumed is not known yet.
    pub fn proven_session<'a>(&self, resume: &'a Resume) -> Option<&'a str> {
        let ticket = self.tickets.open(&resume.ticket, clock::now_ms(), TICKET_LIFETIME_MS).ok()?;
        (ticket.session == resume.session).then_some(resume.session.as_str())
    }

    /// Handles `connect` of a connection. `identity`: set if the handshake carried a token.
    pub fn connect(
        self: &Arc<Self>,
        identity: Option<Identity>,
        connect: Connect,
        socket: SocketId,
    ) -> Handling {
        let hub = self.clone();
        // Take the time before the token is checked, which may take long. Of several attaches the one that began last wins.
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
            if let Some(decider) = hub.decider(&identity.tenant, HookPoint::Connect)
                && let Err(error) = hub.ask(&decider, Question::Connect { user: &identity.user }).await
            {
                // The token is good. The client may try again on this connection.
                return Answer::Reply(Err(error));
            }
            match hub.prepare_connect(identity, connect.resume, socket, began).await {
                Ok(prepared) => Answer::Connect(Box::new(prepared)),
                // The client must not wait on this connection, which would be one too many.
                Err(NotConnected::Error(error)) if error.code == ErrorCode::RateLimited => {
                    Answer::Refused(error)
                }
                Err(NotConnected::Error(error)) => Answer::Reply(Err(error)),
                Err(NotConnected::Closed(reason)) => Answer::Close(reason),
            }
        }))
    }

    /// Handles a connection that is gone. Its session is detached from everything and waits to be resumed.
    pub fn dropped(&self, session: &Arc<Session>) {
        // First the user lingers, then the session is removed. So a connection that takes the session over now finds one or the other.
        self.attachments.drop_all(session);
        if self.sessions.remove(session) {
            self.writer.detach(&session.id, session.stamp());
        }
    }

    /// Resumes the client's session if that is possible, or begins a new one.
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
            self.last_seen.note(&identity.tenant, &identity.user, now_ms);
            METRICS.resumed.increment(1);
            return Ok(prepared);
        }
        self.begin_session(identity, socket, began, now_ms).await
    }

    async fn begin_session(
        self: Arc<Self>,
        identity: Identity,
        socket: SocketId,
        began: Began,
        now_ms: i64,
    ) -> Result<PreparedConnect, NotConnected> {
        let place = self.places.take(&identity.tenant).await?;
        self.last_seen.note(&identity.tenant, &identity.user, now_ms);
        METRICS.new_sessions.increment(1);
        let id: Arc<str> = URL_SAFE_NO_PAD.encode(crate::random::session_id()).into();
        let mut attaching = Attaching::begin(&self, &id);
        attaching.take_place(place);
        attaching.may_hold();
        let attach = self.attach_request(&id, &identity, now_ms, began, None);
        let stamp = match self.session_store.attach(&attach).await {
            Ok(Attached::New { stamp }) => stamp,
            Ok(_) => self.holding.own_stamp(began.at.elapsed(), began.after),
            Err(error) => {
                // The client has the session in its ticket and cursors. The store gets it when it is back.
                tracing::debug!(%error, "a new session could not be written");
                self.writer.want_rewrite();
                self.holding.own_stamp(began.at.elapsed(), began.after)
            }
        };
        attaching.give_stamp(stamp);
        let stamp = attaching.stamp();
        let ticket = self.ticket(&id, &identity, now_ms, stamp);
        let session = Arc::new(Session::new(id, identity, now_ms, socket, stamp));
        Ok(PreparedConnect::of_new_session(self, session, ticket, attaching))
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
            again: false,
            window_ms: clock::millis(self.config.resume_window),
        }
    }

    /// Signs a ticket for an attach. Its time is that of the stamp, within what other nodes accept. So a later attach gets a higher stamp
    /// even if the session store has lost this one.
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

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test's own tasks")]
mod tests;

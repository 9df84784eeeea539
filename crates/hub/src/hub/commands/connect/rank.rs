//! The order of a session's attaches. A resume gets its rank in it before anything is loaded, and holds the session when everything is.

use std::sync::Arc;

use starling_auth::{Identity, Ticket};
use starling_model::TopicName;
use starling_session_store::{Attach, Attached, Held, Hold, JoinedConversation, ResumeAttach};
use starling_wire::protocol::CloseReason;

use super::attaching::Attaching;
use super::{Began, NotConnected};
use crate::hub::Hub;
use crate::sessions::Session;
use crate::{CommandError, clock};

/// What a resume knows about its session at the start.
pub(super) struct Ranked {
    /// Conversations that the session had joined.
    pub names: Vec<JoinedConversation>,
    /// Topics that the session was subscribed to.
    pub topics: Vec<TopicName>,
    pub created_at_ms: i64,
    /// Whether the session store knows the session. Then it also knows that the session has not been ended.
    pub is_known: bool,
    /// Whether the session store made the stamp, so that it must be told when everything is loaded.
    pub is_stored: bool,
}

impl Ranked {
    /// Creates it for a session of which only the ticket is known.
    fn by_ticket(ticket: &Ticket, is_stored: bool) -> Ranked {
        let (names, topics) = (Vec::new(), Vec::new());
        Ranked { names, topics, created_at_ms: ticket.issued_at_ms, is_known: false, is_stored }
    }
}

impl Hub {
    /// Gives a resume its rank in the order of the session's attaches, and learns what the session had joined. `None`: the session has
    /// ended.
    pub(super) async fn rank(
        self: &Arc<Self>,
        attaching: &mut Attaching,
        identity: &Identity,
        ticket: &Ticket,
        now_ms: i64,
        began: Began,
    ) -> Result<Option<Ranked>, CommandError> {
        let id = attaching.session().clone();
        // A ticket's time is in milliseconds, and its attach began before that time.
        let of_ticket = ticket.issued_at_ms.saturating_add(1).saturating_mul(1_000);
        let began = Began { after: began.after.max(of_ticket), ..began };
        let resume = ResumeAttach { ticket_issued_at_ms: ticket.issued_at_ms };
        let attach = self.attach_request(&id, identity, now_ms, began, Some(resume));
        let was_here = self.sessions.get(&id).is_some() || self.presence.lingers(&id);
        let mut attached = self.session_store.attach(&attach).await;
        let stamp = match &attached {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::New { stamp } | Attached::Resumed { stamp, .. } | Attached::Rebuilt { stamp }) => {
                *stamp
            }
            Err(_) => self.holding.own_stamp(began.at.elapsed(), began.after),
        };
        attaching.give_stamp(stamp);
        if was_here && attached.is_ok() {
            // The session's last changes on this node, and its drop, may not have been written yet. The attach keeps its stamp.
            self.writer.flush().await;
            attached = self.session_store.attach(&Attach { again: true, ..attach }).await;
        }
        Ok(Some(match attached {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::Resumed { previous_node, conversations, topics, created_at_ms, .. }) => {
                // A session that moves from an older connection takes over its place. One whose connection dropped needs a free place.
                if previous_node.is_none() {
                    attaching.take_place(self.places.take(&identity.tenant).await?);
                }
                // If the answer to the hold is lost, this node is told as soon as the connection has the session.
                attaching.held_by(previous_node);
                Ranked { names: conversations, topics, created_at_ms, is_known: true, is_stored: true }
            }
            Ok(Attached::Rebuilt { .. } | Attached::New { .. }) => {
                attaching.take_place(self.places.take(&identity.tenant).await?);
                Ranked::by_ticket(ticket, true)
            }
            Err(error) => {
                tracing::debug!(%error, "a session is resumed by its ticket only");
                if self.sessions.get(&id).is_none() {
                    attaching.take_place(self.places.take(&identity.tenant).await?);
                }
                Ranked::by_ticket(ticket, false)
            }
        }))
    }

    /// Takes a session whose rooms have been loaded, unless a later attach holds it. Runs to its end even if the connection breaks
    /// meanwhile: the session store may carry it out anyway, and only its answer says which node held the session.
    #[expect(clippy::disallowed_methods, reason = "its caller learns of a failure")]
    pub(super) async fn hold(
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
        // This also holds if the answer is lost.
        attaching.may_hold();
        let hold = Hold {
            session: session.id.to_string(),
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            node: self.node.to_string(),
            stamp: attaching.stamp(),
            created_at_ms: session.created_at_ms,
            now_ms,
            window_ms: clock::millis(self.config.resume_window),
        };
        match self.session_store.hold(&hold).await {
            Ok(Held::Held { previous_node }) => {
                attaching.held_by(previous_node);
                Ok(())
            }
            Ok(Held::Superseded) => {
                attaching.does_not_hold();
                // An older connection of this node is superseded, too, and may not know it yet.
                if let Some(older) = self.sessions.get(&session.id)
                    && older.stamp() < attaching.stamp()
                {
                    self.holding.supersede(&older);
                }
                Err(NotConnected::Closed(CloseReason::Superseded))
            }
            Ok(Held::Refused) => {
                attaching.does_not_hold();
                self.ended.end_here(&session.id);
                Err(NotConnected::Closed(CloseReason::Ended))
            }
            Err(error) => {
                tracing::debug!(%error, "a resumed session could not be written to the session store");
                self.writer.want_rewrite();
                attaching.lost_answer(hold);
                Ok(())
            }
        }
    }
}

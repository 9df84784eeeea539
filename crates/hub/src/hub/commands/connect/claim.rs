//! The place of an attach in the order of all attaches of its session: claimed before anything is loaded, held when all is.

use std::sync::Arc;

use starling_auth::{Identity, Ticket};
use starling_model::TopicName;
use starling_session_store::{Attached, Held, Hold, JoinedConversation, ResumeAttach};
use starling_wire::protocol::CloseReason;

use super::attaching::Attaching;
use super::{Began, NotConnected, millis};
use crate::CommandError;
use crate::hub::Hub;
use crate::sessions::Session;

/// What an attach of an old session begins with.
pub(super) struct Claim {
    /// Conversations that it was in.
    pub names: Vec<JoinedConversation>,
    /// Topics that it was subscribed to.
    pub topics: Vec<TopicName>,
    pub created_at_ms: i64,
    /// Whether the session store knows the session, and so knows that it has not been ended.
    pub is_known: bool,
    /// Whether the session store gave the stamp, and is to be told when all is loaded.
    pub is_stored: bool,
}

impl Claim {
    /// The ticket is all that is known.
    fn by_ticket(ticket: &Ticket, is_stored: bool) -> Claim {
        let (names, topics) = (Vec::new(), Vec::new());
        Claim { names, topics, created_at_ms: ticket.issued_at_ms, is_known: false, is_stored }
    }
}

impl Hub {
    /// Gives an attach of an old session its place in the order of all its attaches, and learns what the session was in. `None`: it has
    /// ended.
    pub(super) async fn claim(
        self: &Arc<Self>,
        attaching: &mut Attaching,
        identity: &Identity,
        ticket: &Ticket,
        now_ms: i64,
        began: Began,
    ) -> Result<Option<Claim>, CommandError> {
        let id = attaching.session().clone();
        // A ticket says when it was made to the millisecond; its attach began before that.
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
            // What it did last here, and its drop, may not have been written yet. The attach keeps its place.
            self.writer.flush().await;
            attached = self.session_store.attach(&attach).await;
        }
        Ok(Some(match attached {
            Ok(Attached::Refused) => return Ok(None),
            Ok(Attached::Resumed { previous_node, conversations, topics, created_at_ms, .. }) => {
                // One that moves from an older socket takes that one's place; one whose socket dropped needs a free place.
                if previous_node.is_none() {
                    attaching.take_place(self.places.take(&identity.tenant).await?);
                }
                // For the case that the answer to the hold is lost.
                attaching.held_by(previous_node);
                Claim { names: conversations, topics, created_at_ms, is_known: true, is_stored: true }
            }
            Ok(Attached::Rebuilt { .. } | Attached::New { .. }) => {
                attaching.take_place(self.places.take(&identity.tenant).await?);
                Claim::by_ticket(ticket, true)
            }
            Err(error) => {
                tracing::debug!(%error, "a session is resumed by its ticket only");
                if self.sessions.get(&id).is_none() {
                    attaching.take_place(self.places.take(&identity.tenant).await?);
                }
                Claim::by_ticket(ticket, false)
            }
        }))
    }

    /// Takes a session whose rooms have been loaded from whoever holds it, unless a later attach does. To the end, even if the socket
    /// breaks meanwhile: the session store may carry it out all the same, and only its answer says whose the session was.
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
        // Also if the answer is lost on its way.
        attaching.may_hold();
        let hold = Hold {
            session: session.id.to_string(),
            tenant: session.tenant.clone(),
            user: session.user.clone(),
            node: self.node.to_string(),
            stamp: attaching.stamp(),
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
                attaching.does_not_hold();
                // So is an older socket of this node, which may not know yet.
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
                Ok(())
            }
        }
    }
}

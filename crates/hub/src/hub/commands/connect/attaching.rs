//! An attach that is under way. If it breaks off, everything that it began is undone.

use std::sync::Arc;

use starling_session_store::{Hold, Stamp};

use crate::hub::Hub;
use crate::sessions::Place;

/// An attach of a session to a connection of this node that is under way.
pub(super) struct Attaching {
    hub: Arc<Hub>,
    session: Arc<str>,
    /// The stamp of this attach; 0 until it has one.
    stamp: Stamp,
    /// Whether the session store may have recorded that this attach holds the session.
    holds: bool,
    /// The hold whose answer was lost. Until the session store answers it again, nobody knows which node held the session before.
    unanswered: Option<Hold>,
    arrived: bool,
    /// The other node that holds the session until this attach arrives, by the session store's answer.
    older_node: Option<String>,
    /// The place that was taken for the session, if its tenant's connections are limited. It is given back when the session is counted by
    /// itself.
    place: Option<Place>,
}

impl Attaching {
    /// Begins an attach of this session.
    pub fn begin(hub: &Arc<Hub>, session: &Arc<str>) -> Attaching {
        hub.sessions.begin_attaching(session);
        Attaching {
            hub: hub.clone(),
            session: session.clone(),
            stamp: 0,
            holds: false,
            unanswered: None,
            arrived: false,
            older_node: None,
            place: None,
        }
    }

    /// Returns the session's id.
    pub fn session(&self) -> &Arc<str> {
        &self.session
    }

    /// Returns the stamp of this attach.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Sets the stamp of this attach: this one, or the next that no other attach of the session on this node has.
    pub fn give_stamp(&mut self, stamp: Stamp) {
        self.stamp = self.hub.sessions.give_stamp(&self.session, stamp);
    }

    /// Keeps a place that was taken for the session.
    pub fn take_place(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// Notes that the session store may record from here on that this attach holds the session.
    pub fn may_hold(&mut self) {
        self.holds = true;
    }

    /// Notes that the session store has not recorded that this attach holds the session.
    pub fn does_not_hold(&mut self) {
        self.holds = false;
    }

    /// Notes that the answer to this hold was lost.
    pub fn lost_answer(&mut self, hold: Hold) {
        self.unanswered = Some(hold);
    }

    /// Notes the node that held the session until now, by the session store's answer.
    pub fn held_by(&mut self, node: Option<String>) {
        self.older_node = node.filter(|node| *node != *self.hub.node);
    }

    /// Notes that the connection has the session. The node that held it until now is told.
    pub fn arrive(&mut self) {
        self.arrived = true;
        if let Some(node) = self.older_node.take() {
            self.hub.holding.take_over(&self.session, node, self.stamp);
        }
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        self.hub.sessions.end_attaching(&self.session);
        if !self.holds || self.arrived {
            return;
        }
        match self.unanswered.take() {
            Some(hold) => self.hub.holding.break_off_unanswered(hold),
            None => self.hub.holding.break_off(&self.session, self.older_node.take(), self.stamp),
        }
    }
}

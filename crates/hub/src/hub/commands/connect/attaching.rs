//! A session on its way to a socket: whatever its attach began is taken back if it does not arrive.

use std::sync::Arc;

use starling_session_store::Stamp;

use crate::hub::Hub;
use crate::sessions::Place;

/// A session on its way to a socket of this node.
pub(super) struct Attaching {
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
    /// An attach of this session begins.
    pub fn begin(hub: &Arc<Hub>, session: &Arc<str>) -> Attaching {
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

    /// The session's id.
    pub fn session(&self) -> &Arc<str> {
        &self.session
    }

    /// The stamp of this attach.
    pub fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// The attach has got its stamp.
    pub fn give_stamp(&mut self, stamp: Stamp) {
        self.stamp = stamp;
        self.hub.sessions.give_stamp(&self.session, stamp);
    }

    /// Keeps a place that was taken for the session.
    pub fn take_place(&mut self, place: Option<Place>) {
        self.place = place;
    }

    /// The session store may have the session as held by this attach from here on.
    pub fn may_hold(&mut self) {
        self.holds = true;
    }

    /// The session store does not have the session as held by this attach.
    pub fn does_not_hold(&mut self) {
        self.holds = false;
    }

    /// This node held the session until now, by the session store.
    pub fn held_by(&mut self, node: Option<String>) {
        self.older_node = node.filter(|node| *node != *self.hub.node);
    }

    /// The socket has the session: whoever had it until now is told.
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
        // What this attach took from an older socket goes back to it. If there is none, it is as if its own socket had dropped.
        let older_node = self.older_node.take();
        if older_node.is_some() || !self.hub.sessions.inherit(&self.session, self.stamp) {
            self.hub.writer.detach(&self.session, self.stamp);
        }
        if let Some(node) = older_node {
            self.hub.holding.give_back(&self.session, node, self.stamp);
        }
    }
}

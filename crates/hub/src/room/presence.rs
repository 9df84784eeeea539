//! Who is online in a room. Only [`crate::presence`] changes it.

use std::sync::Arc;

use starling_model::UserName;

use super::online::{Online, OnlineChange};
use super::presence_reads::{Begun, Ended, PresenceReads};

/// Who is online in a room, on all nodes, as far as this node knows.
#[derive(Default)]
pub struct RoomPresence {
    online: Online,
    /// Whether `online` was read from the session store since a session here joined.
    is_known: bool,
    /// What is heard while the session store is being read.
    reads: PresenceReads,
}

impl RoomPresence {
    /// Returns the users who are online.
    pub fn online(&self) -> &Online {
        &self.online
    }

    /// Whether the presence is known and kept up to date. Otherwise it must be read from the session store.
    pub fn is_known(&self) -> bool {
        self.is_known
    }

    /// Notes that the presence is known from now on. Returns whether it was before.
    pub fn set_known(&mut self) -> bool {
        std::mem::replace(&mut self.is_known, true)
    }

    /// Notes that the presence may be outdated, so that it is read again before it is used.
    pub fn set_unknown(&mut self) {
        self.is_known = false;
    }

    /// Sets the number of a user's sessions on a node.
    pub fn set(&mut self, user: &UserName, node: &Arc<str>, devices: u32) -> OnlineChange {
        self.online.set(user, node, devices)
    }

    /// Removes the entries of nodes for which `keep` is false. Returns the users who went offline because of that.
    pub fn keep_nodes(&mut self, keep: impl Fn(&str) -> bool) -> Vec<UserName> {
        self.online.keep_nodes(keep)
    }

    /// Notes what another node said, for the reads that are under way.
    pub fn hear(&mut self, user: &UserName, node: &Arc<str>, devices: u32) {
        self.reads.hear(user, node, devices);
    }

    /// Notes that nodes died, for the reads that are under way.
    pub fn lose_node(&mut self) {
        self.reads.lose_node();
    }

    /// Begins a read. The result must be passed to [`RoomPresence::end_read`].
    pub fn begin_read(&mut self) -> Begun {
        self.reads.begin()
    }

    /// Ends a read, with or without an answer.
    pub fn end_read(&mut self, begun: Begun, is_answered: bool) -> Ended {
        self.reads.end(begun, is_answered)
    }
}

//! Which attach of a session holds it: of several, the one that began last, whichever nodes they are on.
//!
//! Each attach gets a [`Stamp`] when it begins, before anything is loaded. When all is loaded the node takes the session with that stamp;
//! whoever finds that a higher one holds it closes its socket. Whoever holds it by a lower one is told so when the socket has it; an attach
//! that breaks off before that gives it back, and so takes nothing from anybody. While the session store is away the nodes give the stamps themselves, by what they know of its clock, and
//! settle the matter when they write their sessions again.

use std::sync::Arc;
use std::time::Duration;

use starling_session_store::Stamp;
use starling_wire::protocol::CloseReason;

use crate::clock::every_second;
use crate::hub::Hub;
use crate::node_message::NodeMessage;
use crate::sessions::{Rival, Session};

/// How many nodes that had a session may wait to be told. One of more than that learns it with its next own gap.
const UNTOLD_MAX: usize = 10_000;

/// A node that had a session and could not be told that it has it no more, or again.
struct UntoldHold {
    node: String,
    message: NodeMessage,
}

/// All of them.
#[derive(Default)]
pub(crate) struct UntoldHolds(Vec<UntoldHold>);

impl UntoldHolds {
    fn push(&mut self, untold: UntoldHold) {
        if self.0.len() < UNTOLD_MAX {
            self.0.push(untold);
        }
    }
}

impl Hub {
    /// The stamp of an attach to which the session store can't give one.
    pub(crate) fn own_stamp(&self, waited: Duration, after: Stamp) -> Stamp {
        let waited_us = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX);
        self.session_store.now_us().saturating_sub(waited_us).max(after.saturating_add(1))
    }

    /// Tells a node that held a session until now that this node holds it by an attach with this stamp.
    pub(crate) async fn take_over(&self, id: &Arc<str>, node: &str, stamp: Stamp) {
        let (session, to) = (id.clone(), self.node.clone());
        self.tell_holder(node.to_owned(), NodeMessage::Superseded { session, to, stamp: Some(stamp) }).await;
    }

    /// Tells a node that it has a session again, which an attach with this stamp took from it and did not bring to its socket.
    pub(crate) async fn give_back(&self, id: &Arc<str>, node: &str, stamp: Stamp) {
        let session = id.clone();
        self.tell_holder(node.to_owned(), NodeMessage::GivenBack { session, stamp }).await;
    }

    async fn tell_holder(&self, node: String, message: NodeMessage) {
        if let Err(error) = self.publisher.send_to(&node, &message).await {
            tracing::debug!(%error, peer = %node, "the node that had a session could not be told; it will be");
            self.untold_holds.lock().push(UntoldHold { node, message });
        }
    }

    /// Tells the nodes that could not be told, each second while publications can be heard.
    pub(crate) async fn announce_holds_forever(self: Arc<Self>) {
        let mut interval = every_second();
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            if self.neighbours.hears() {
                self.announce_pending().await;
            }
        }
    }

    async fn announce_pending(&self) {
        let untold = std::mem::take(&mut *self.untold_holds.lock());
        for UntoldHold { node, message } in untold.0 {
            self.tell_holder(node, message).await;
        }
    }

    /// An attach on another node took a session with this stamp and broke off. If its older socket is still here, it goes on holding
    /// the session by the next stamp: the store has it as dropped with that one.
    pub(crate) fn take_back(self: &Arc<Self>, id: &str, stamp: Stamp) {
        let attached = self.sessions.get(id);
        if attached.as_ref().is_some_and(|session| session.stamp() > stamp) {
            return;
        }
        if self.sessions.inherit(id, stamp.saturating_add(1))
            && let Some(session) = attached
        {
            self.write_soon(session);
        }
    }

    /// Writes a session to the store again, which may have it as dropped.
    pub(crate) fn write_soon(self: &Arc<Self>, session: Arc<Session>) {
        let hub = self.clone();
        self.runtime.spawn(async move {
            if !hub.write_again(vec![session]).await {
                hub.sessions_doubted.notify_one();
            }
        });
    }

    /// Another node says that it holds a session.
    pub(crate) fn hear_rival(&self, id: &Arc<str>, other: &Arc<str>, stamp: Option<Stamp>) {
        match self.sessions.hear_rival(id, stamp, other, &self.node) {
            Rival::Wins(session) => self.supersede(&session),
            Rival::Loses(own) => {
                let (session, to) = (id.clone(), self.node.clone());
                self.publisher.publish_message(0, &NodeMessage::Superseded { session, to, stamp: Some(own) });
            }
            Rival::Alone => {}
        }
    }

    /// Closes the socket of a session that a later attach holds.
    pub(crate) fn supersede(&self, session: &Arc<Session>) {
        self.close(session, CloseReason::Superseded);
        // Not only when its socket is gone: until then its user would count as there twice.
        self.sessions.remove(session);
        self.drop_attachments(session);
    }
}

#[cfg(test)]
mod tests;

//! Decides which attach holds a session: the one that began last, whichever node it is on.
//!
//! Each attach gets a [`Stamp`] when it begins, before anything is loaded. When everything is loaded, the node takes the session with that
//! stamp. An attach that finds a higher stamp closes its connection. The node that held the session with a lower stamp is told as soon as
//! the new connection has the session. An attach that breaks off before that gives the session back, so the older connection keeps it.
//! While the session store is down the nodes make the stamps themselves, from what they know of its clock, and decide when they write their
//! sessions again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use starling_session_store::{
    EarlierAttach, Held, Hold, NotRestored, Restored, SessionRecord, SessionStore, Stamp,
};
use starling_wire::protocol::CloseReason;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::table::OtherAttach;
use super::{Attachments, EndedSessions, Session, Sessions};
use crate::Map;
use crate::clock::{TICK, every_second};
use crate::neighbours::{Lifetime, Neighbours};
use crate::node_message::NodeMessage;
use crate::publisher::Publisher;
use crate::store_writer::StoreWriter;

/// Most messages to nodes of earlier attaches that may wait, and most holds without an answer. A node whose message is dropped learns it
/// after its next gap.
const PENDING_MAX: usize = 10_000;
/// Shortest time between two comparisons of this node's sessions with the session store, however often the link breaks.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// Most nodes of earlier attaches that are told at once.
const TOLD_AT_ONCE: usize = 16;

/// Decides with the other nodes which attach holds a session.
pub(crate) struct Holding {
    /// This node's name, as the others know it.
    node: Arc<str>,
    /// Knows which attach holds each session.
    store: Arc<dyn SessionStore>,
    sessions: Arc<Sessions>,
    attachments: Arc<Attachments>,
    ended: Arc<EndedSessions>,
    writer: Arc<StoreWriter>,
    publisher: Arc<Publisher>,
    /// Runs the messages to other nodes that no connection waits for.
    runtime: Handle,
    /// Messages to nodes of earlier attaches that could not be sent. They are sent again.
    pending: Mutex<Vec<Pending>>,
    /// Holds whose answers were lost, of attaches that broke off. The session store is asked again.
    unanswered: Mutex<Vec<Hold>>,
    /// Notified when this node may have missed a direct message. Then its sessions must be compared with the session store.
    check_wanted: Notify,
}

/// A message to the node of an earlier attach.
struct Pending {
    node: String,
    message: NodeMessage,
}

/// The parts that [`Holding`] works with.
pub(crate) struct HoldingParts {
    pub node: Arc<str>,
    pub store: Arc<dyn SessionStore>,
    pub sessions: Arc<Sessions>,
    pub attachments: Arc<Attachments>,
    pub ended: Arc<EndedSessions>,
    pub writer: Arc<StoreWriter>,
    pub publisher: Arc<Publisher>,
}

impl Holding {
    /// Begins without messages that wait. Its own tasks run on `runtime`.
    pub fn new(parts: HoldingParts, runtime: Handle) -> Arc<Holding> {
        let HoldingParts { node, store, sessions, attachments, ended, writer, publisher } = parts;
        Arc::new(Holding {
            node,
            store,
            sessions,
            attachments,
            ended,
            writer,
            publisher,
            runtime,
            pending: Mutex::default(),
            unanswered: Mutex::default(),
            check_wanted: Notify::new(),
        })
    }

    /// Makes the stamp of an attach while the session store can't. `waited`: how long ago the attach began. `after`: the stamp must be
    /// higher than this one.
    pub fn own_stamp(&self, waited: Duration, after: Stamp) -> Stamp {
        let waited_us = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX);
        self.store.now_us().saturating_sub(waited_us).max(after.saturating_add(1))
    }

    /// Tells the node that held a session that this node holds it now, by an attach with this stamp. Does not wait.
    #[expect(clippy::disallowed_methods, reason = "one message, which the node's next gap replaces")]
    pub fn take_over(self: &Arc<Self>, session: &Arc<str>, node: String, stamp: Stamp) {
        let message = self.superseded(session, stamp);
        let holding = self.clone();
        self.runtime.spawn(async move { holding.tell(node, message).await });
    }

    /// Undoes the attach with this stamp, which held a session and broke off before its connection had it. The session goes back to the older
    /// connection, on this node or on `older_node`. If there is none, it is as if this attach's connection had dropped. Does not wait.
    #[expect(clippy::disallowed_methods, reason = "one message, which the node's next gap replaces")]
    pub fn break_off(self: &Arc<Self>, session: &Arc<str>, older_node: Option<String>, stamp: Stamp) {
        let Some(node) = older_node else {
            if !self.sessions.inherit(session, stamp) {
                self.writer.detach(session, stamp);
            }
            return;
        };
        // An older connection may be here, too, whose session the other node has taken. It goes on only if the other node has lost its own
        // connection since: otherwise that node takes the session back with a higher stamp.
        if !self.sessions.raise(session, stamp) {
            self.writer.detach(session, stamp);
        }
        let message = NodeMessage::GivenBack { session: session.clone(), stamp };
        let holding = self.clone();
        self.runtime.spawn(async move { holding.tell(node, message).await });
    }

    /// Undoes the attach of this hold, which broke off, once the session store has told which node held the session before. Does not wait.
    #[expect(
        clippy::disallowed_methods,
        reason = "asks again until it is answered, and its session is written again after that"
    )]
    pub fn break_off_unanswered(self: &Arc<Self>, hold: Hold) {
        let holding = self.clone();
        self.runtime.spawn(async move { holding.ask_again(hold).await });
    }

    /// Takes a session back from an attach on another node, which had this stamp and broke off. If its older connection is still here, it
    /// goes on holding the session with the next stamp, since the store lists the session as dropped with this one.
    pub fn take_back(self: &Arc<Self>, id: &str, stamp: Stamp) {
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

    /// Writes a session to the store again, because the store may list it as dropped.
    #[expect(clippy::disallowed_methods, reason = "one write, which the next comparison replaces")]
    pub fn write_soon(self: &Arc<Self>, session: Arc<Session>) {
        let holding = self.clone();
        self.runtime.spawn(async move {
            if !holding.write(vec![session]).await {
                holding.want_check();
            }
        });
    }

    /// Handles another node's message that it holds a session.
    pub fn hear_other_attach(&self, id: &Arc<str>, other: &Arc<str>, stamp: Option<Stamp>) {
        if *other == self.node {
            return;
        }
        match self.sessions.hear_other_attach(id, stamp, other, &self.node) {
            OtherAttach::Later(session) => self.supersede(&session),
            OtherAttach::Earlier(own) => self.publisher.publish_message(0, &self.superseded(id, own)),
            OtherAttach::NotHere => {}
        }
    }

    /// Closes the connection of a session that a later attach holds.
    pub fn supersede(&self, session: &Arc<Session>) {
        self.attachments.close(session, CloseReason::Superseded);
        // Remove the session now and not when its connection is gone. Until then its user would count as online twice.
        self.sessions.remove(session);
        self.attachments.drop_all(session);
    }

    /// Requests a comparison of this node's sessions with the session store.
    pub fn want_check(&self) {
        self.check_wanted.notify_one();
    }

    /// Compares this node's sessions with the session store whenever it is requested.
    pub async fn check_forever(self: Arc<Self>, lifetime: Lifetime) {
        while !lifetime.has_ended() {
            self.check_wanted.notified().await;
            while !self.write_all().await {
                tokio::time::sleep(TICK).await;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Asks again for the answers that were lost, and sends the messages that could not be sent, every second while this node hears the
    /// others.
    pub async fn announce_forever(self: Arc<Self>, neighbours: Arc<Neighbours>) {
        let mut interval = every_second();
        while neighbours.lifetime().next_tick(&mut interval).await {
            if neighbours.hears() {
                let unanswered = std::mem::take(&mut *self.unanswered.lock());
                for hold in unanswered {
                    self.ask_again(hold).await;
                }
                let pending = std::mem::take(&mut *self.pending.lock());
                for Pending { node, message } in pending {
                    self.tell(node, message).await;
                }
            }
        }
    }

    /// Writes this node's sessions to the store. Closes those that were ended or that a later attach on another node holds, and tells the
    /// nodes of earlier attaches. `false`: the store did not respond.
    pub async fn write_all(&self) -> bool {
        self.write(self.sessions.all()).await
    }

    async fn write(&self, mut sessions: Vec<Arc<Session>>) -> bool {
        // These are closed already, and the store may not know that they were ended.
        sessions.retain(|session| !self.ended.contains(&session.id));
        let records: Vec<SessionRecord> = sessions.iter().map(|session| session.to_record()).collect();
        let Restored { refused, earlier } = match self.store.restore(&self.node, &records).await {
            Ok(restored) => restored,
            Err(error) => {
                tracing::debug!(%error, "sessions could not be written again; trying again");
                return false;
            }
        };
        let refused: Map<&str, &NotRestored> =
            refused.iter().map(|refused| (refused.session.as_str(), refused)).collect();
        for (session, written) in sessions.iter().zip(&records) {
            self.settle(session, written.stamp, refused.get(&*session.id).copied());
        }
        self.tell_earlier(&records, earlier).await;
        true
    }

    /// Acts on the store's answer about a session that was written with this stamp. `refused`: the store did not accept it.
    fn settle(&self, session: &Arc<Session>, written: Stamp, refused: Option<&NotRestored>) {
        let is_attached = || self.sessions.get(&session.id).is_some_and(|now| Arc::ptr_eq(&now, session));
        match refused {
            // The message that an operator ended it was missed.
            Some(NotRestored { ended: true, .. }) => self.ended.end_here(&session.id),
            // Another connection of this node holds it. It is about to replace this one, or breaks off and leaves the session to this one.
            Some(NotRestored { node, .. }) if **node == *self.node => {}
            Some(_) => self.supersede(session),
            // Its connection dropped meanwhile, and the drop may have been written before the session.
            None if !is_attached() => self.writer.detach(&session.id, written),
            None => {}
        }
    }

    /// Tells the nodes of earlier attaches that this node holds their sessions.
    async fn tell_earlier(&self, records: &[SessionRecord], earlier: Vec<EarlierAttach>) {
        let stamps: Map<&str, Stamp> =
            records.iter().map(|record| (record.session.as_str(), record.stamp)).collect();
        let told = futures_util::stream::iter(earlier).for_each_concurrent(TOLD_AT_ONCE, async |earlier| {
            let EarlierAttach { session, node } = earlier;
            if let Some(stamp) = stamps.get(session.as_str()) {
                self.tell(node, self.superseded(&session.into(), *stamp)).await;
            }
        });
        told.await;
    }

    /// Holds a session once more for an attach that broke off, to learn what the first answer would have said. Then the attach is undone.
    async fn ask_again(self: &Arc<Self>, hold: Hold) {
        match self.store.hold(&hold).await {
            Ok(Held::Held { previous_node }) => {
                let older_node = previous_node.filter(|node| **node != *self.node);
                self.break_off(&hold.session.as_str().into(), older_node, hold.stamp);
            }
            // A later attach holds the session, or it was ended.
            Ok(Held::Superseded | Held::Refused) => {}
            Err(error) => {
                tracing::debug!(%error, "an attach that broke off could not be undone; trying again");
                let mut unanswered = self.unanswered.lock();
                if unanswered.len() < PENDING_MAX {
                    unanswered.push(hold);
                } else {
                    self.writer.detach(&hold.session, hold.stamp);
                }
            }
        }
    }

    async fn tell(&self, node: String, message: NodeMessage) {
        if let Err(error) = self.publisher.send_to(&node, &message).await {
            tracing::debug!(%error, peer = %node, "the node that had a session could not be notified; trying again");
            let mut pending = self.pending.lock();
            if pending.len() < PENDING_MAX {
                pending.push(Pending { node, message });
            }
        }
    }

    fn superseded(&self, session: &Arc<str>, stamp: Stamp) -> NodeMessage {
        NodeMessage::Superseded { session: session.clone(), to: self.node.clone(), stamp: Some(stamp) }
    }
}

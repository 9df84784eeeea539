//! Which attach of a session holds it: of several, the one that began last, whichever nodes they are on.
//!
//! Each attach gets a [`Stamp`] when it begins, before anything is loaded. When all is loaded the node takes the session with that stamp;
//! whoever finds that a higher one holds it closes its socket. Whoever holds it by a lower one is told so when the socket has it; an
//! attach that breaks off before that gives it back, and so takes nothing from anybody. While the session store is away the nodes give
//! the stamps themselves, by what they know of its clock, and settle the matter when they write their sessions again.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use starling_session_store::{NotRestored, Restored, SessionRecord, SessionStore, Stamp, Taken};
use starling_wire::protocol::CloseReason;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::table::Rival;
use super::{Attachments, EndedSessions, Session, Sessions};
use crate::Map;
use crate::clock::{TICK, every_second};
use crate::neighbours::{Lifetime, Neighbours};
use crate::node_message::NodeMessage;
use crate::publisher::Publisher;
use crate::store_writer::StoreWriter;

/// How many nodes that had a session may wait to be told. One of more than that learns it with its next own gap.
const PENDING_MAX: usize = 10_000;
/// How often this node's sessions are compared with the session store at most, however often the link breaks.
const CHECK_EVERY: Duration = Duration::from_secs(10);
/// How many nodes of earlier attaches are told at once.
const TOLD_AT_ONCE: usize = 16;

/// Settles between nodes which attach of a session holds it.
pub(crate) struct Holding {
    /// This node, as the others know it.
    node: Arc<str>,
    /// Keeps which attach holds each session.
    store: Arc<dyn SessionStore>,
    sessions: Arc<Sessions>,
    attachments: Arc<Attachments>,
    ended: Arc<EndedSessions>,
    writer: Arc<StoreWriter>,
    publisher: Arc<Publisher>,
    /// Where nodes are told of what a socket does not wait for.
    runtime: Handle,
    /// Messages to nodes that had a session and could not be told: they are sent again.
    pending: Mutex<Vec<Pending>>,
    /// This node may have missed a message that only it gets: its sessions are to be compared with the session store.
    check_wanted: Notify,
}

/// A message to a node that had a session.
struct Pending {
    node: String,
    message: NodeMessage,
}

impl Holding {
    /// Holds nothing yet.
    #[expect(clippy::too_many_arguments, reason = "the parts that it works with, each once")]
    pub fn new(
        node: Arc<str>,
        store: Arc<dyn SessionStore>,
        sessions: Arc<Sessions>,
        attachments: Arc<Attachments>,
        ended: Arc<EndedSessions>,
        writer: Arc<StoreWriter>,
        publisher: Arc<Publisher>,
        runtime: Handle,
    ) -> Arc<Holding> {
        let (pending, check_wanted) = (Mutex::default(), Notify::new());
        Arc::new(Holding {
            node,
            store,
            sessions,
            attachments,
            ended,
            writer,
            publisher,
            runtime,
            pending,
            check_wanted,
        })
    }

    /// The stamp of an attach to which the session store can't give one.
    pub fn own_stamp(&self, waited: Duration, after: Stamp) -> Stamp {
        let waited_us = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX);
        self.store.now_us().saturating_sub(waited_us).max(after.saturating_add(1))
    }

    /// Tells a node that held a session until now that this node holds it by an attach with this stamp. Does not wait for it.
    pub fn take_over(self: &Arc<Self>, session: &Arc<str>, node: String, stamp: Stamp) {
        let message = self.superseded(session, stamp);
        let holding = self.clone();
        self.runtime.spawn(async move { holding.tell(node, message).await });
    }

    /// Tells a node that it has a session again, which an attach with this stamp took from it and did not bring to its socket. Does not
    /// wait for it.
    pub fn give_back(self: &Arc<Self>, session: &Arc<str>, node: String, stamp: Stamp) {
        let message = NodeMessage::GivenBack { session: session.clone(), stamp };
        let holding = self.clone();
        self.runtime.spawn(async move { holding.tell(node, message).await });
    }

    /// An attach on another node took a session with this stamp and broke off. If its older socket is still here, it goes on holding
    /// the session by the next stamp: the store has it as dropped with that one.
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

    /// Writes a session to the store again, which may have it as dropped.
    pub fn write_soon(self: &Arc<Self>, session: Arc<Session>) {
        let holding = self.clone();
        self.runtime.spawn(async move {
            if !holding.write(vec![session]).await {
                holding.want_check();
            }
        });
    }

    /// Another node says that it holds a session.
    pub fn hear_rival(&self, id: &Arc<str>, other: &Arc<str>, stamp: Option<Stamp>) {
        if *other == self.node {
            return;
        }
        match self.sessions.hear_rival(id, stamp, other, &self.node) {
            Rival::Wins(session) => self.supersede(&session),
            Rival::Loses(own) => self.publisher.publish_message(0, &self.superseded(id, own)),
            Rival::Alone => {}
        }
    }

    /// Closes the socket of a session that a later attach holds.
    pub fn supersede(&self, session: &Arc<Session>) {
        self.attachments.close(session, CloseReason::Superseded);
        // Not only when its socket is gone: until then its user would count as online twice.
        self.sessions.remove(session);
        self.attachments.drop_all(session);
    }

    /// Has this node's sessions compared with the session store.
    pub fn want_check(&self) {
        self.check_wanted.notify_one();
    }

    /// Compares this node's sessions with the session store, at once after this node may have missed what became of them.
    pub async fn check_forever(self: Arc<Self>, lifetime: Lifetime) {
        while !lifetime.has_ended() {
            self.check_wanted.notified().await;
            while !self.write_all().await {
                tokio::time::sleep(TICK).await;
            }
            tokio::time::sleep(CHECK_EVERY).await;
        }
    }

    /// Tells the nodes that could not be told, each second while publications can be heard.
    pub async fn announce_forever(self: Arc<Self>, neighbours: Arc<Neighbours>) {
        let mut interval = every_second();
        while neighbours.lifetime().goes_on(&mut interval).await {
            if neighbours.hears() {
                let pending = std::mem::take(&mut *self.pending.lock());
                for Pending { node, message } in pending {
                    self.tell(node, message).await;
                }
            }
        }
    }

    /// Writes this node's sessions to the store. Those that were ended, or that a later attach holds on another node, are closed; the
    /// nodes of earlier attaches are told. `false`: the store did not answer.
    pub async fn write_all(&self) -> bool {
        self.write(self.sessions.all()).await
    }

    async fn write(&self, mut sessions: Vec<Arc<Session>>) -> bool {
        // These are closed already, and the store may not know that they were ended.
        sessions.retain(|session| !self.ended.contains(&session.id));
        let records: Vec<SessionRecord> = sessions.iter().map(|session| session.to_record()).collect();
        let Restored { refused, taken } = match self.store.restore(&self.node, &records).await {
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
        self.tell_earlier(&records, taken).await;
        true
    }

    /// Acts on what the store said of a session that was written with this stamp. `refused`: it did not take it.
    fn settle(&self, session: &Arc<Session>, written: Stamp, refused: Option<&NotRestored>) {
        let is_attached = || self.sessions.get(&session.id).is_some_and(|now| Arc::ptr_eq(&now, session));
        match refused {
            // The message that an operator ended it did not arrive.
            Some(NotRestored { ended: true, .. }) => self.ended.end_here(&session.id),
            // By another socket of this node, which takes its place in this moment, or breaks off and leaves it to this one.
            Some(NotRestored { node, .. }) if **node == *self.node => {}
            Some(_) => self.supersede(session),
            // Its socket dropped meanwhile, and that may have been written before.
            None if !is_attached() => self.writer.detach(&session.id, written),
            None => {}
        }
    }

    /// Tells the nodes of earlier attaches that their sessions are held here.
    async fn tell_earlier(&self, records: &[SessionRecord], taken: Vec<Taken>) {
        let stamps: Map<&str, Stamp> =
            records.iter().map(|record| (record.session.as_str(), record.stamp)).collect();
        let told = futures_util::stream::iter(taken).for_each_concurrent(TOLD_AT_ONCE, async |taken| {
            let Taken { session, node } = taken;
            if let Some(stamp) = stamps.get(session.as_str()) {
                self.tell(node, self.superseded(&session.into(), *stamp)).await;
            }
        });
        told.await;
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

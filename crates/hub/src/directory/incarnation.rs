//! Noticing that the database was restored to an earlier state.
//!
//! The store finds out by itself that a dump was restored, and an operator can say so. Both show as another incarnation. A database that
//! lost what it had committed, as after a failover to a standby that was behind, shows by its numbers: it has fewer messages than it
//! once told of, or gives the same number twice. Whatever of this a node notices first, another incarnation begins, with other logs, and
//! every client is told that its cursors belong to messages that are no longer there.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use starling_conversation_store::incarnation_of;
use starling_wire::protocol::CloseReason;
use tokio::sync::mpsc;

use crate::Set;
use crate::clock::every_second;
use crate::hub::Hub;
use crate::room::Room;
use crate::shards::RoomId;

impl Hub {
    /// Looks each second which incarnation the database is in; after it was away also where its conversations stand.
    pub(crate) async fn watch_incarnation_forever(self: Arc<Self>) {
        let (mut interval, mut known, mut was_away) = (every_second(), None, false);
        while self.neighbours.lifetime().goes_on(&mut interval).await {
            match self.conversations.incarnation().await {
                Ok(incarnation) => {
                    if known.as_ref() != Some(&incarnation) {
                        self.live_in(&incarnation);
                    }
                    if was_away {
                        // A standby that took over may lack what the database committed last.
                        was_away = !self.check_heads(&self.rooms.in_use(self.seconds())).await;
                    }
                    known = Some(incarnation);
                }
                Err(error) => {
                    tracing::debug!(%error, "the database's incarnation could not be read");
                    was_away = true;
                }
            }
        }
    }

    /// The database told of a number. A lower one than before may just be an older answer; the database says.
    pub(crate) fn hear_log(&self, room: &Arc<Room>, seq: u64) {
        if let Some(known) = room.log_tells(seq) {
            self.report_head(room, known);
        }
    }

    /// Tells the database up to which number it once said that a log reaches. If it does not, another incarnation begins.
    pub(crate) fn report_head(&self, room: &Arc<Room>, known: u64) {
        if !room.doubted.swap(true, Ordering::AcqRel)
            && self.doubt_lane.try_send((room.clone(), known)).is_err()
        {
            // The next look at its head finds it again.
            room.doubted.store(false, Ordering::Release);
        }
    }

    /// Does what [`Hub::report_head`] wants, one conversation after the other: in a database that was set back all are doubted at once,
    /// and the first that is found short tells for the others.
    pub(crate) async fn report_heads(self: Arc<Self>, mut doubts: mpsc::Receiver<(Arc<Room>, u64)>) {
        let mut over = None;
        while let Some((room, known)) = doubts.recv().await {
            let incarnation = Some(incarnation_of(&room.log).to_owned());
            if over != incarnation {
                match self.conversations.report_head(room.conversation, known, &room.log).await {
                    Ok(true) => over = incarnation,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the database could not be asked whether it was set back");
                    }
                }
            }
            room.doubted.store(false, Ordering::Release);
        }
    }

    /// Forgets rooms that are not what the database has by now, and has the clients that joined them come again.
    pub(crate) fn outdate(&self, rooms: &[Arc<Room>]) {
        let mut concerned: Set<RoomId> = Set::default();
        for room in rooms {
            {
                let mut state = room.state();
                if std::mem::replace(&mut state.outdated, true) {
                    continue;
                }
                self.clear_presence(room, &mut state);
            }
            self.rooms.forget(room);
            concerned.insert(room.id);
        }
        if concerned.is_empty() {
            return;
        }
        tracing::warn!(
            conversations = concerned.len(),
            "the database was restored to an earlier state; clients of these conversations connect again"
        );
        for session in self.sessions.all() {
            let is_concerned = session.state().joined.values().any(|room| concerned.contains(&room.id));
            if is_concerned {
                self.close(&session, CloseReason::Restart);
            }
        }
    }

    fn live_in(&self, incarnation: &str) {
        self.deleted.clear();
        self.rooms.doubt_all_loads();
        let mut rooms = self.rooms.all();
        rooms.retain(|room| incarnation_of(&room.log) != incarnation);
        self.outdate(&rooms);
    }
}

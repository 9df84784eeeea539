//! Telling the database how far it once said that a log reaches, where it now says less.
//!
//! A database that lost what it had committed, as after a failover to a standby that was behind, shows by its numbers: it has fewer
//! messages than it once told of, or gives the same number twice. If it confirms that, another incarnation begins.

use std::sync::Arc;

use starling_conversation_store::{ConversationStore, incarnation_of};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::room::Room;
use crate::vital::vital;

/// How many conversations may wait to be reported. What does not fit is found again by the next look at its head.
const QUEUE: usize = 4_096;

/// Reports heads to the database.
pub(crate) struct HeadReports {
    store: Arc<dyn ConversationStore>,
    /// Rooms of which the database told less than before, and the head that it once told of.
    queue: mpsc::Sender<(Arc<Room>, u64)>,
}

impl HeadReports {
    /// Begins to work on reports, on `runtime`.
    pub fn new(store: Arc<dyn ConversationStore>, runtime: &Handle) -> Arc<HeadReports> {
        let (queue, reports) = mpsc::channel(QUEUE);
        let heads = Arc::new(HeadReports { store, queue });
        runtime.spawn(vital("report_heads", heads.clone().run(reports)));
        heads
    }

    /// The database told of a number. A lower one than before may just be an older answer; the database says.
    pub fn check(&self, room: &Arc<Room>, seq: u64) {
        if let Some(known) = room.log_tells(seq) {
            self.report(room, known);
        }
    }

    /// Tells the database up to which number it once said that a log reaches.
    pub fn report(&self, room: &Arc<Room>, known: u64) {
        if room.begin_report() && self.queue.try_send((room.clone(), known)).is_err() {
            // The next look at its head finds it again.
            room.end_report();
        }
    }

    /// Reports one conversation after the other: in a database that was set back all are doubted at once, and the first that is found
    /// short tells for the others.
    async fn run(self: Arc<Self>, mut reports: mpsc::Receiver<(Arc<Room>, u64)>) {
        let mut over = None;
        while let Some((room, known)) = reports.recv().await {
            let incarnation = Some(incarnation_of(&room.log).to_owned());
            if over != incarnation {
                match self.store.report_head(room.conversation, known, &room.log).await {
                    Ok(true) => over = incarnation,
                    Ok(false) => {}
                    Err(error) => {
                        tracing::debug!(%error, "the database could not be checked for a reset to an earlier state");
                    }
                }
            }
            room.end_report();
        }
    }
}

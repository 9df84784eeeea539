//! Reports a log's earlier head to the database when the database now has fewer messages.
//!
//! A database may lose what it had committed, for example in a failover to a standby that was behind. Then it has fewer messages than it
//! reported before, or uses the same number twice. If it confirms the loss, another incarnation begins.

use std::sync::Arc;

use starling_conversation_store::{ConversationStore, incarnation_of};
use starling_model::Seq;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::essential;
use crate::room::Room;

/// Most conversations that may wait to be reported. Others are found again with the next look at their heads.
const QUEUE: usize = 4_096;

/// Reports earlier heads to the database.
pub(crate) struct HeadReports {
    store: Arc<dyn ConversationStore>,
    /// Rooms with a lower head in the database than before, and that earlier head.
    queue: mpsc::Sender<(Arc<Room>, Seq)>,
}

impl HeadReports {
    /// Starts the reports' task on `runtime`.
    pub fn new(store: Arc<dyn ConversationStore>, runtime: &Handle) -> Arc<HeadReports> {
        let (queue, reports) = mpsc::channel(QUEUE);
        let heads = Arc::new(HeadReports { store, queue });
        essential::spawn(runtime, "report_heads", heads.clone().run(reports));
        heads
    }

    /// Checks a number that the database reported, and reports the earlier head if this one is lower. It may just be a late answer, so the
    /// database decides.
    pub fn check(&self, room: &Arc<Room>, seq: Seq) {
        if let Some(known) = room.log_tells(seq) {
            self.report(room, known);
        }
    }

    /// Reports the head that the database once had for a log.
    pub fn report(&self, room: &Arc<Room>, known: Seq) {
        if room.begin_report() && self.queue.try_send((room.clone(), known)).is_err() {
            // The next look at its head finds it again.
            room.end_report();
        }
    }

    /// Reports one conversation after the other. If the database was set back, all of them are in question at once, and the first confirmed
    /// loss counts for all.
    async fn run(self: Arc<Self>, mut reports: mpsc::Receiver<(Arc<Room>, Seq)>) {
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

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::outage::Outage;

/// What is known of a server, shared by all pools of it.
#[derive(Clone)]
pub(super) struct Server {
    /// `primary` or `replica`.
    pub(super) name: &'static str,
    /// Whether reads need a transaction as well, because of the database's default settings.
    reads_need_transaction: Arc<AtomicBool>,
    /// Whether a doubtful setting of the server has been logged.
    has_warned: Arc<AtomicBool>,
    pub(super) outage: Outage,
}

impl Server {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            reads_need_transaction: Arc::default(),
            has_warned: Arc::default(),
            outage: Outage::default(),
        }
    }

    pub(super) fn reads_need_transaction(&self) -> bool {
        self.reads_need_transaction.load(Ordering::Relaxed)
    }

    pub(super) fn note_that_reads_need_transaction(&self) {
        self.reads_need_transaction.store(true, Ordering::Relaxed);
    }

    /// Returns whether no doubtful setting has been logged yet. The next call returns false.
    pub(super) fn is_first_warning(&self) -> bool {
        !self.has_warned.swap(true, Ordering::Relaxed)
    }
}

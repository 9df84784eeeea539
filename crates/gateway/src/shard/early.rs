//! Events that come while the answer to `connect` is being made, which they must not overtake.

use std::sync::Arc;

use starling_hub::Encoded;

use super::chunks::Kind;
use crate::metrics::METRICS;

/// Limit on the events that are held back. Of those that must not be lost, as many again may wait.
const EARLY_MAX: usize = 1_024;

/// Events that are held back until `connect` has been answered.
#[derive(Default)]
pub(super) struct EarlyEvents {
    /// `None` while nothing is held back. Boxed, since that is so at almost all times.
    #[expect(
        clippy::box_collection,
        reason = "a connection has no room to spare for what it needs for a moment"
    )]
    held: Option<Box<Vec<(Arc<Encoded>, Kind)>>>,
}

impl EarlyEvents {
    /// Holds back all events from now on.
    pub fn begin(&mut self) {
        self.held = Some(Box::default());
    }

    /// Whether events are held back.
    pub fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Whether so many events are held back that the connection can't go on with one more that must not be lost.
    pub fn is_full(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.len() >= 2 * EARLY_MAX)
    }

    /// Holds an event back. Returns `false` if it may leave at once.
    pub fn hold(&mut self, event: &Arc<Encoded>, kind: Kind) -> bool {
        let Some(held) = &mut self.held else { return false };
        if kind == Kind::Reply || held.len() < EARLY_MAX {
            held.push((event.clone(), kind));
        } else {
            METRICS.dropped_ephemeral.increment(1);
        }
        true
    }

    /// Ends holding back. Returns what was held.
    pub fn release(&mut self) -> impl Iterator<Item = (Arc<Encoded>, Kind)> + use<> {
        self.held.take().into_iter().flat_map(|held| *held)
    }
}

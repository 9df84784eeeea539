//! Lookups under way. All callers on this node that miss the same key share one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;

/// The flights of one cache, by key.
pub(crate) struct Flights<T: Clone> {
    under_way: Arc<Mutex<HashMap<Box<str>, Flight<T>>>>,
    max: usize,
}

/// One lookup, which any number of callers await. It goes on if they stop waiting.
pub(crate) type Flight<T> = Shared<BoxFuture<'static, T>>;

/// What a caller finds.
pub(crate) enum Boarded<T: Clone> {
    /// This has just begun.
    Begun(Flight<T>),
    /// This was under way.
    Joined(Flight<T>),
    /// A flight has landed meanwhile.
    Landed(T),
    /// Too many keys are being looked up.
    Full,
}

/// Removes a flight when its task ends, also by a panic.
struct Place<T: Clone> {
    under_way: Arc<Mutex<HashMap<Box<str>, Flight<T>>>>,
    key: Box<str>,
}

impl<T: Clone + Send + Sync + 'static> Flights<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self { under_way: Arc::default(), max }
    }

    /// Joins the flight for a key, or begins one. `landed` says whether one landed since the caller missed; `ended` stands for the outcome of
    /// a lookup that panics.
    pub(crate) fn board(
        &self,
        key: &str,
        landed: impl FnOnce() -> Option<T>,
        lookup: impl FnOnce() -> BoxFuture<'static, T>,
        ended: T,
    ) -> Boarded<T> {
        let mut under_way = self.under_way.lock();
        if let Some(flight) = under_way.get(key) {
            return Boarded::Joined(flight.clone());
        }
        // A flight keeps its entry before it leaves the map, so one of the two is seen.
        if let Some(outcome) = landed() {
            return Boarded::Landed(outcome);
        }
        if under_way.len() >= self.max {
            return Boarded::Full;
        }
        let place = Place { under_way: Arc::clone(&self.under_way), key: key.into() };
        let lookup = lookup();
        let task = tokio::spawn(async move {
            let _place = place;
            lookup.await
        });
        let flight = task.map(|outcome| outcome.unwrap_or(ended)).boxed().shared();
        under_way.insert(key.into(), flight.clone());
        Boarded::Begun(flight)
    }
}

impl<T: Clone> Drop for Place<T> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

impl<T: Clone> fmt::Debug for Flights<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flights({} of {})", self.under_way.lock().len(), self.max)
    }
}

//! Departures and drops that the session store did not accept. Nothing else would write them later.

use parking_lot::Mutex;
use starling_model::UserName;
use starling_session_store::{ConversationKey, Dropped, PresenceChange, Stamp};

use crate::{Map, Set};

/// Most departures that are remembered, and most drops.
const REMEMBERED_MAX: usize = 65_536;

/// A user who is no longer online in a conversation.
type Departure = (ConversationKey, UserName);

/// Departures and drops that the session store did not accept.
#[derive(Default)]
pub(super) struct Unwritten {
    /// Users who are no longer online in a conversation.
    departures: Mutex<Set<Departure>>,
    /// Sessions whose connections dropped, with the stamp of the attach that ended and the time, Unix milliseconds. Otherwise the store
    /// would list them as attached for as long as this node lives.
    drops: Mutex<Map<String, (Stamp, i64)>>,
}

impl Unwritten {
    /// Remembers the departures among these changes.
    pub fn keep_departures(&self, changes: &[PresenceChange]) {
        let mut departures = self.departures.lock();
        for change in changes.iter().filter(|change| change.devices == 0) {
            if departures.len() >= REMEMBERED_MAX {
                tracing::warn!(
                    "too many users went while the session store was away; some count as online until this node ends"
                );
                return;
            }
            departures.insert((change.conversation.clone(), change.user.clone()));
        }
    }

    /// Returns a copy of the departures.
    pub fn departures(&self) -> Vec<Departure> {
        self.departures.lock().iter().cloned().collect()
    }

    /// Forgets departures that have been written.
    pub fn forget_departures(&self, written: &[PresenceChange]) {
        let mut departures = self.departures.lock();
        if departures.is_empty() {
            return;
        }
        for change in written {
            departures.remove(&(change.conversation.clone(), change.user.clone()));
        }
    }

    /// Remembers connections that dropped at a time, Unix milliseconds.
    pub fn keep_drops(&self, dropped: Vec<Dropped>, at_ms: i64) {
        let mut drops = self.drops.lock();
        for Dropped { session, stamp } in dropped {
            if let Some(kept) = drops.get_mut(&session) {
                // Only the last attach of a session counts.
                if kept.0 <= stamp {
                    *kept = (stamp, at_ms);
                }
            } else if drops.len() < REMEMBERED_MAX {
                drops.insert(session, (stamp, at_ms));
            }
        }
    }

    /// Passes each remembered drop and its time, Unix milliseconds, to `each`, and forgets all.
    pub fn take_drops(&self, mut each: impl FnMut(Dropped, i64)) {
        let drops = std::mem::take(&mut *self.drops.lock());
        for (session, (stamp, at_ms)) in drops {
            each(Dropped { session, stamp }, at_ms);
        }
    }
}

#[cfg(test)]
mod tests {
    use starling_model::ConversationId;

    use super::*;

    fn change(user: &str, devices: u32) -> PresenceChange {
        let id = ConversationId::new(1);
        let conversation = ConversationKey { tenant: "t".into(), conversation: "c".into(), id };
        PresenceChange { conversation, user: user.into(), devices }
    }

    #[test]
    fn those_who_went_are_kept_until_that_is_written() {
        let unwritten = Unwritten::default();
        unwritten.keep_departures(&[change("ann", 0), change("bob", 1), change("cy", 0)]);
        unwritten.forget_departures(&[change("ann", 2), change("bob", 0)]);
        let users: Vec<_> = unwritten.departures().into_iter().map(|(_, user)| user).collect();
        assert_eq!(users, [UserName::from("cy")]);
    }

    #[test]
    fn the_last_drop_of_each_session_is_kept() {
        let unwritten = Unwritten::default();
        let dropped = |stamp| vec![Dropped { session: "s".to_owned(), stamp }];
        for (stamp, at_ms) in [(2, 20), (1, 10), (3, 30)] {
            unwritten.keep_drops(dropped(stamp), at_ms);
        }
        let mut kept = Vec::new();
        unwritten.take_drops(|dropped, at_ms| kept.push((dropped.stamp, at_ms)));
        assert_eq!(kept, [(3, 30)]);
        unwritten.take_drops(|_, _| panic!("they were taken"));
    }
}

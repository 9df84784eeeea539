//! The ids of conversations that were deleted a moment ago. Late messages about them must be ignored.

use std::collections::VecDeque;

use parking_lot::Mutex;
use starling_conversation_store::ConversationId;

use crate::Set;

/// Most ids that are remembered. Messages are late by seconds, not by thousands of deletions.
const REMEMBERED_MAX: usize = 4_096;

/// The ids of conversations that were deleted a moment ago.
#[derive(Default)]
pub(super) struct Deleted {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    ids: Set<ConversationId>,
    /// The same ids, in the order of their deletion.
    order: VecDeque<ConversationId>,
}

impl Deleted {
    /// Remembers the id of a deleted conversation.
    pub fn enter(&self, id: ConversationId) {
        let mut inner = self.inner.lock();
        if !inner.ids.insert(id) {
            return;
        }
        inner.order.push_back(id);
        if inner.order.len() > REMEMBERED_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.ids.remove(&oldest);
        }
    }

    /// Whether an id is remembered.
    pub fn contains(&self, id: ConversationId) -> bool {
        self.inner.lock().ids.contains(&id)
    }

    /// Forgets all ids, because a database that was set back uses them again.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_remembered() {
        let (deleted, id) = (Deleted::default(), ConversationId::new);
        let max = REMEMBERED_MAX as i64;
        (0..max).for_each(|number| deleted.enter(id(number)));
        deleted.enter(id(1));
        assert!((0..max).all(|number| deleted.contains(id(number))));
        deleted.enter(id(max));
        assert!(!deleted.contains(id(0)) && deleted.contains(id(1)) && deleted.contains(id(max)));
        deleted.clear();
        assert!(!deleted.contains(id(1)));
    }
}

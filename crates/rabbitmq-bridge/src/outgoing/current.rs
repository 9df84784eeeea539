//! The link that jobs are published on, from its beginning until somebody finds that it can't be used any more.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::Notify;

/// At most one link. Each end concerns the link that it was found at, and none that has begun since.
pub(super) struct Current<L>(RwLock<Option<Arc<Used<L>>>>);

/// A link, as its users have it.
pub(super) struct Used<L> {
    pub link: L,
    /// Notified when the link was given up.
    given_up: Notify,
}

impl<L> Default for Current<L> {
    fn default() -> Self {
        Self(RwLock::default())
    }
}

impl<L> Current<L> {
    /// Lets a new link be used.
    pub fn begin(&self, link: L) -> Arc<Used<L>> {
        let used = Arc::new(Used { link, given_up: Notify::new() });
        *self.0.write() = Some(used.clone());
        used
    }

    /// Returns the link that can be used now.
    pub fn get(&self) -> Option<Arc<Used<L>>> {
        self.0.read().clone()
    }

    /// Ends a link that one of its users can't use any more. Many may find that at the same time, and some when another link has begun.
    pub fn give_up(&self, used: &Arc<Used<L>>) {
        if self.end(used) {
            used.given_up.notify_one();
        }
    }

    /// Ends a link. Returns whether it could be used until now.
    pub fn end(&self, used: &Arc<Used<L>>) -> bool {
        self.0.write().take_if(|current| Arc::ptr_eq(current, used)).is_some()
    }
}

impl<L> Used<L> {
    /// Waits until a user has given the link up. One task waits.
    pub async fn given_up(&self) {
        self.given_up.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn however_many_give_a_link_up_it_ends_once_and_the_next_one_goes_on() {
        let current = Current::default();
        let first = current.begin("first");
        let users: Vec<_> = (0..3).filter_map(|_| current.get()).collect();
        current.give_up(&users[0]);
        current.give_up(&users[1]);
        assert!(current.get().is_none());
        assert!(first.given_up().now_or_never().is_some());
        let second = current.begin("second");
        // This one comes late.
        current.give_up(&users[2]);
        assert!(second.given_up().now_or_never().is_none());
        assert_eq!(current.get().map(|used| used.link), Some("second"));
        assert!(!current.end(&first) && current.end(&second) && current.get().is_none());
    }
}

//! The few conversations or topics that a session is in, sorted by name.

use std::sync::Arc;

use crate::room::Room;
use crate::topics::Topic;

/// Something whose name is unique within a session.
pub trait Named {
    /// Returns the name.
    fn name(&self) -> &str;
}

impl Named for Room {
    fn name(&self) -> &str {
        self.key.name.as_str()
    }
}

impl Named for Topic {
    fn name(&self) -> &str {
        self.key.name.as_str()
    }
}

/// What a session is in, sorted by name. Most sessions are in few conversations, so this takes one pointer for each of them.
pub struct ByName<T>(Vec<Arc<T>>);

impl<T> Default for ByName<T> {
    fn default() -> ByName<T> {
        ByName(Vec::new())
    }
}

impl<T: Named> ByName<T> {
    /// Returns the entry of this name.
    pub fn get(&self, name: &str) -> Option<&Arc<T>> {
        self.position(name).ok().map(|at| &self.0[at])
    }

    /// Whether there is an entry of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_ok()
    }

    /// Adds an entry. Returns the one that had its name.
    pub fn insert(&mut self, entry: Arc<T>) -> Option<Arc<T>> {
        match self.position(entry.name()) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at], entry)),
            Err(at) => {
                if self.0.is_empty() {
                    // Otherwise the first one would take the place of four.
                    self.0.reserve_exact(1);
                }
                self.0.insert(at, entry);
                None
            }
        }
    }

    /// Removes the entry of this name, and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Arc<T>> {
        let at = self.position(name).ok()?;
        Some(self.0.remove(at))
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns all entries in the order of their names.
    pub fn iter(&self) -> std::slice::Iter<'_, Arc<T>> {
        self.0.iter()
    }

    /// Removes and returns all entries.
    pub fn take(&mut self) -> Vec<Arc<T>> {
        std::mem::take(&mut self.0)
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|entry| entry.name().cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing(&'static str, u32);

    impl Named for Thing {
        fn name(&self) -> &str {
            self.0
        }
    }

    #[test]
    fn entries_are_found_by_name_and_replaced() {
        let mut things = ByName::default();
        for (number, name) in (0..).zip(["c", "a", "d", "b"]) {
            assert!(things.insert(Arc::new(Thing(name, number))).is_none());
        }
        assert!(things.insert(Arc::new(Thing("d", 9))).is_some_and(|older| older.1 == 2));
        assert_eq!(things.get("d").map(|thing| thing.1), Some(9));
        assert!(things.remove("a").is_some() && things.remove("a").is_none() && !things.contains("a"));
        assert_eq!(things.iter().map(|thing| thing.0).collect::<Vec<_>>(), ["b", "c", "d"]);
        assert_eq!((things.len(), things.take().len(), things.len()), (3, 3, 0));
    }
}

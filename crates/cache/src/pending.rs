//! Changes of this node that Redis has not been told yet.

use std::collections::HashMap;

use parking_lot::Mutex;

/// The most keys that are remembered. When more are changed while Redis is away, everything that is cached is dropped afterwards.
const KEYS_MAX: usize = 10_000;

/// Changes that wait for Redis.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Changes>);

#[derive(Debug, Default)]
struct Changes {
    versions: HashMap<Box<str>, u64>,
    has_lost_some: bool,
}

/// A change that Redis is being told.
#[derive(Debug)]
pub(crate) struct Telling<'a> {
    pending: &'a Pending,
    key: &'a str,
    version: u64,
    is_told: bool,
}

impl Pending {
    /// Begins to tell Redis of a change. Unless that succeeds, it is added, also if the caller stops waiting.
    pub(crate) fn tell<'a>(&'a self, key: &'a str, version: u64) -> Telling<'a> {
        Telling { pending: self, key, version, is_told: false }
    }

    fn add(&self, key: &str, version: u64) {
        let mut changes = self.0.lock();
        let count = changes.versions.len();
        match changes.versions.get_mut(key) {
            Some(present) => *present = version.max(*present),
            None if count < KEYS_MAX => {
                changes.versions.insert(key.into(), version);
            }
            None => changes.has_lost_some = true,
        }
    }

    /// Removes a change that Redis was told.
    pub(crate) fn told(&self, key: &str, version: u64) {
        let mut changes = self.0.lock();
        if changes.versions.get(key).is_some_and(|present| *present <= version) {
            changes.versions.remove(key);
        }
    }

    /// Returns some changes, at most `max`.
    pub(crate) fn some(&self, max: usize) -> Vec<(Box<str>, u64)> {
        self.0.lock().versions.iter().take(max).map(|(key, version)| (key.clone(), *version)).collect()
    }

    /// Returns the number of changes that wait.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().versions.len()
    }

    /// Returns whether changes were lost since the last call.
    pub(crate) fn take_loss(&self) -> bool {
        std::mem::take(&mut self.0.lock().has_lost_some)
    }
}

impl Telling<'_> {
    /// Notes that Redis was told.
    pub(crate) fn done(mut self) {
        self.is_told = true;
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            self.pending.add(self.key, self.version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_waits_until_it_or_a_later_one_was_told() {
        let pending = Pending::default();
        drop(pending.tell("k", 2));
        drop(pending.tell("k", 1));
        pending.tell("other", 1).done();
        pending.told("k", 1);
        assert_eq!(pending.some(10), [("k".into(), 2)]);
        pending.told("k", 2);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn too_many_changes_are_a_loss_once() {
        let pending = Pending::default();
        for key in 0..=KEYS_MAX {
            pending.add(&key.to_string(), 1);
        }
        assert_eq!(pending.len(), KEYS_MAX);
        assert!(pending.take_loss());
        assert!(!pending.take_loss());
    }
}

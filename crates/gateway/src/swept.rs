//! A map whose size stays in proportion to the entries that are still of use.

use std::hash::Hash;

use starling_hub::Map;

/// Number of entries below which nothing is swept.
const ENTRIES_MIN: usize = 10_000;

/// A map that is swept of useless entries whenever it has doubled since the last sweep. So a new entry costs the same on average, and
/// there are never more than twice as many entries as are of use.
#[derive(Debug)]
pub(crate) struct SweptMap<K, V> {
    entries: Map<K, V>,
    /// Number of entries at which the next sweep comes.
    sweep_at: usize,
}

impl<K, V> Default for SweptMap<K, V> {
    fn default() -> SweptMap<K, V> {
        SweptMap { entries: Map::default(), sweep_at: ENTRIES_MIN }
    }
}

impl<K: Eq + Hash, V: Default> SweptMap<K, V> {
    /// Returns the entry of a key, a new one if there is none. `is_of_use` says whether another entry has to stay.
    pub fn entry(&mut self, key: K, is_of_use: impl Fn(&V) -> bool) -> &mut V {
        if self.entries.len() >= self.sweep_at && !self.entries.contains_key(&key) {
            self.entries.retain(|_, value| is_of_use(value));
            self.sweep_at = (self.entries.len() * 2).max(ENTRIES_MIN);
        }
        self.entries.entry(key).or_default()
    }

    /// Returns the entry of a key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Removes an entry that nobody will ask for.
    pub fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_is_of_no_use_is_swept() {
        let mut map: SweptMap<usize, bool> = SweptMap::default();
        for key in 0..20 * ENTRIES_MIN {
            map.entry(key, |used| *used);
            assert!(map.entries.len() <= ENTRIES_MIN);
        }
    }

    #[test]
    fn however_much_is_of_use_a_new_entry_costs_no_scan_of_all() {
        let (mut map, looked_at): (SweptMap<usize, bool>, _) = (SweptMap::default(), Cell::new(0));
        let count = 20 * ENTRIES_MIN;
        for key in 0..count {
            let looks = |used: &bool| {
                looked_at.set(looked_at.get() + 1);
                *used
            };
            *map.entry(key, looks) = true;
        }
        assert_eq!(map.entries.len(), count);
        assert!(looked_at.get() <= 2 * count, "{}", looked_at.get());
    }
}

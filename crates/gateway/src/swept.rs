//! A map of what is remembered for a while, which stays in proportion to what has to be remembered.

use std::hash::Hash;

use starling_hub::Map;

/// Below so many entries nothing is swept.
const ENTRIES_MIN: usize = 10_000;

/// A map from which entries that are of no use any more are swept when it has doubled since it was last swept: each new entry
/// costs the same on the average, and there are never more than twice as many entries as are of use.
#[derive(Debug)]
pub(crate) struct SweptMap<K, V> {
    entries: Map<K, V>,
    /// How many entries there may be before the next sweep.
    sweep_at: usize,
}

impl<K, V> Default for SweptMap<K, V> {
    fn default() -> SweptMap<K, V> {
        SweptMap { entries: Map::default(), sweep_at: ENTRIES_MIN }
    }
}

impl<K: Eq + Hash, V: Default> SweptMap<K, V> {
    /// The entry of that key, new if there is none. `is_of_use` says of others whether they have to stay.
    pub fn entry(&mut self, key: K, is_of_use: impl Fn(&V) -> bool) -> &mut V {
        if self.entries.len() >= self.sweep_at && !self.entries.contains_key(&key) {
            self.entries.retain(|_, value| is_of_use(value));
            self.sweep_at = (self.entries.len() * 2).max(ENTRIES_MIN);
        }
        self.entries.entry(key).or_default()
    }

    /// The entry of that key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key)
    }

    /// Takes out what nobody will ask for.
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

//! A set of the fan-out's partitions.

use std::sync::atomic::{AtomicU32, Ordering};

use starling_fanout::PARTITIONS;
use tokio::sync::Notify;

/// A set of the fan-out's partitions, one bit each. One task may wait for it.
#[derive(Debug, Default)]
pub(crate) struct PartitionSet {
    bits: AtomicU32,
    inserted: Notify,
}

const _: () = assert!(PARTITIONS as u32 <= u32::BITS, "a partition is a bit");

impl PartitionSet {
    /// Inserts a partition.
    pub fn insert(&self, partition: u16) {
        self.bits.fetch_or(1 << (partition % PARTITIONS), Ordering::Relaxed);
        self.inserted.notify_one();
    }

    /// Inserts all partitions.
    pub fn insert_all(&self) {
        (0..PARTITIONS).for_each(|partition| self.insert(partition));
    }

    /// Empties the set and returns what was in it.
    pub fn take(&self) -> Vec<u16> {
        let bits = self.bits.swap(0, Ordering::Relaxed);
        (0..PARTITIONS).filter(|partition| bits & (1 << partition) != 0).collect()
    }

    /// Waits until the set is not empty, then empties it and returns what was in it. Only one task may wait.
    pub async fn taken(&self) -> Vec<u16> {
        loop {
            let partitions = self.take();
            if !partitions.is_empty() {
                return partitions;
            }
            self.inserted.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn partitions_stay_until_they_are_taken() {
        let partitions = PartitionSet::default();
        assert_eq!(partitions.take(), [0; 0]);
        for partition in [15, 0, 15] {
            partitions.insert(partition);
        }
        assert_eq!(partitions.taken().await, [0, 15]);
        assert_eq!(partitions.take(), [0; 0]);
        partitions.insert_all();
        assert_eq!(partitions.take().len(), usize::from(PARTITIONS));
    }
}

//! A conversation's short name in what nodes tell one another about their interest.

use starling_fanout::PARTITIONS;

/// A conversation's short name: a hash of its tenant and name, with its partition in the highest bits. It is the same on all nodes, in all
/// versions and after restarts. Two conversations may share one; then a node gets publications that it does not need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterestKey(u64);

/// The number of bits below those of the partition.
const HASH_BITS: u32 = 60;

const _: () = assert!(PARTITIONS as u64 <= 1 << (u64::BITS - HASH_BITS), "a partition fits the highest bits");

impl InterestKey {
    /// Returns the key of a conversation in this partition (FNV-1a of both names, and the last step of MurmurHash3).
    pub fn of(tenant: &str, name: &str, partition: u16) -> InterestKey {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        for byte in tenant.bytes().chain([0]).chain(name.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^= hash >> 33;
        InterestKey((u64::from(partition) << HASH_BITS) | (hash & ((1 << HASH_BITS) - 1)))
    }

    /// Returns the key with these bits, as another node sent them.
    pub const fn from_bits(bits: u64) -> InterestKey {
        InterestKey(bits)
    }

    /// Returns the key's bits, to be sent.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// Returns the conversation's partition.
    pub fn partition(self) -> u16 {
        (self.0 >> HASH_BITS) as u16 % PARTITIONS
    }
}

#[cfg(test)]
mod tests {
    use starling_fanout::partition_of;

    use super::*;

    #[test]
    fn a_key_knows_its_partition_and_never_changes() {
        let keys: crate::Set<InterestKey> = (0..10_000)
            .map(|n| {
                let name = format!("room:{n}");
                let partition = partition_of(&"acme".into(), &name);
                let key = InterestKey::of("acme", &name, partition);
                assert_eq!(key.partition(), partition);
                assert_eq!(InterestKey::from_bits(key.bits()), key);
                key
            })
            .collect();
        assert_eq!(keys.len(), 10_000, "no two share one");
        assert_ne!(InterestKey::of("a", "bc", 3), InterestKey::of("ab", "c", 3));
        // Nodes of all versions rely on it.
        assert_eq!(InterestKey::of("t", "c", 5).bits(), 0x5cfa_a18c_4ff8_a6bb);
    }
}

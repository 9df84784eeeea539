//! Cache of tokens that were verified recently.
//!
//! When a node dies, its clients present the same tokens to the other nodes, often more than once. Verifying an RSA or ECDSA
//! signature takes about 30–100 µs, a lookup here less than one.

use std::collections::HashMap;

use aws_lc_rs::digest;
use parking_lot::Mutex;

use crate::Identity;

/// Most entries in each of the two generations. Both together take about 2 MB with scopes of the usual length, and 32 MB
/// if every token had the greatest length and consisted of scopes only.
const GENERATION_ENTRIES_MAX: usize = 2_048;

/// SHA-256 of a token. The hash must be cryptographic: with a collision an attacker could pass for somebody else.
pub(crate) type TokenHash = [u8; 32];

/// Bounded map from tokens to identities. Entries are evicted a generation at a time, which is cheap; entries that are
/// used move back into the young generation.
#[derive(Default)]
pub(crate) struct VerifiedTokens {
    generations: Mutex<Generations>,
}

#[derive(Default)]
struct Generations {
    young: HashMap<TokenHash, Entry>,
    old: HashMap<TokenHash, Entry>,
}

#[derive(Clone)]
struct Entry {
    identity: Identity,
    /// Generation of the key set that verified the token. A withdrawn key thereby invalidates its tokens.
    key_set: u64,
}

impl VerifiedTokens {
    pub(crate) fn hash(token: &str) -> TokenHash {
        let digest = digest::digest(&digest::SHA256, token.as_bytes());
        let mut hash = TokenHash::default();
        hash.copy_from_slice(digest.as_ref());
        hash
    }

    /// Returns the identity of a token that this key set has verified. The caller must check the expiry.
    pub(crate) fn get(&self, hash: &TokenHash, key_set: u64) -> Option<Identity> {
        let mut generations = self.generations.lock();
        if let Some(entry) = generations.young.get(hash) {
            return (entry.key_set == key_set).then(|| entry.identity.clone());
        }
        let entry = generations.old.remove(hash).filter(|entry| entry.key_set == key_set)?;
        let identity = entry.identity.clone();
        generations.insert(*hash, entry);
        Some(identity)
    }

    pub(crate) fn put(&self, hash: TokenHash, key_set: u64, identity: Identity) {
        self.generations.lock().insert(hash, Entry { identity, key_set });
    }
}

impl Generations {
    fn insert(&mut self, hash: TokenHash, entry: Entry) {
        if self.young.len() >= GENERATION_ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn identity(user: &str) -> Identity {
        Identity { user: user.into(), tenant: "t".into(), scopes: Arc::default(), expires_at_ms: 1 }
    }

    #[test]
    fn stays_bounded_and_keeps_what_is_in_use() {
        let cache = VerifiedTokens::default();
        let favourite = VerifiedTokens::hash("favourite");
        cache.put(favourite, 1, identity("favourite"));
        for number in 0..5 * GENERATION_ENTRIES_MAX {
            cache.put(VerifiedTokens::hash(&number.to_string()), 1, identity("other"));
            if number % 100 == 0 {
                assert_eq!(cache.get(&favourite, 1), Some(identity("favourite")));
            }
        }
        let generations = cache.generations.lock();
        assert!(generations.young.len() <= GENERATION_ENTRIES_MAX);
        assert!(generations.old.len() <= GENERATION_ENTRIES_MAX);
    }

    #[test]
    fn another_key_set_does_not_see_it() {
        let cache = VerifiedTokens::default();
        let hash = VerifiedTokens::hash("token");
        cache.put(hash, 1, identity("ann"));
        assert_eq!(cache.get(&hash, 2), None);
        assert_eq!(cache.get(&hash, 1), Some(identity("ann")));
    }
}

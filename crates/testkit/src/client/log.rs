//! The contents of the database, with which records are compared.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use aws_lc_rs::digest::{SHA256, digest};

/// Messages that were read from the database.
#[derive(Clone, Debug, Default)]
pub struct Log {
    conversations: HashMap<String, BTreeMap<u64, Entry>>,
    /// Numbers that stood in the log twice.
    clashes: u64,
    /// Who said what.
    said: HashSet<(String, u64)>,
    repeated: u64,
}

/// A message, as far as it must be known to compare it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    id: String,
    pub(super) print: u64,
}

/// A `send` that a node answered with `ok`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Where it was sent.
    pub conversation: String,
    /// The idempotency key.
    pub key: String,
    /// The number that the node gave.
    pub seq: u64,
    /// The message's id.
    pub id: String,
    /// Whether the node knew the key already.
    pub duplicate: bool,
}

impl Log {
    /// Adds a message.
    pub fn insert(&mut self, conversation: &str, seq: u64, id: &str, sender: &str, content: &str) {
        self.insert_digest(conversation, seq, id, sender, content_digest(content));
    }

    /// Adds a message of whose content only the [digest](content_digest) was read.
    pub fn insert_digest(&mut self, conversation: &str, seq: u64, id: &str, sender: &str, content: u64) {
        let entry = Entry { id: id.to_owned(), print: fingerprint(id, sender, content) };
        let before = self.conversations.entry(conversation.to_owned()).or_default().insert(seq, entry);
        self.clashes += u64::from(before.is_some());
        self.repeated += u64::from(!self.said.insert((sender.to_owned(), content)));
    }

    /// The newest number of a conversation, 0 for an empty one.
    pub fn head(&self, conversation: &str) -> u64 {
        self.entries(conversation).and_then(BTreeMap::last_key_value).map_or(0, |(seq, _)| *seq)
    }

    /// How many messages it holds.
    pub fn messages(&self) -> u64 {
        self.conversations.values().map(|entries| entries.len() as u64).sum()
    }

    /// Conversations whose numbers are not 1, 2, 3 … to the last, and ids or numbers that stand there twice: 0 in a sound log.
    pub fn faults(&self) -> u64 {
        let torn =
            |entries: &BTreeMap<u64, Entry>| entries.keys().zip(1..).any(|(seq, expected)| *seq != expected);
        let torn = self.conversations.values().filter(|entries| torn(entries)).count() as u64;
        let ids: HashSet<&str> =
            self.conversations.values().flat_map(BTreeMap::values).map(|e| e.id.as_str()).collect();
        torn + self.clashes + (self.messages() - ids.len() as u64)
    }

    /// Messages that say what their sender had said before, in whichever conversation. Where nobody says the same thing twice,
    /// each is a retry that became a second message.
    pub fn repeated(&self) -> u64 {
        self.repeated
    }

    pub(super) fn entries(&self, conversation: &str) -> Option<&BTreeMap<u64, Entry>> {
        self.conversations.get(conversation)
    }

    /// Whether the message is there under the number and the id that its sender was told.
    pub(super) fn keeps(&self, ack: &Acknowledged) -> bool {
        let entry = self.entries(&ack.conversation).and_then(|entries| entries.get(&ack.seq));
        entry.is_some_and(|entry| entry.id == ack.id)
    }
}

/// Stands for a content: the first eight bytes of its SHA-256, most significant first. PostgreSQL can make the same.
pub fn content_digest(content: &str) -> u64 {
    digest(&SHA256, content.as_bytes())
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |all, byte| all << 8 | u64::from(*byte))
}

/// Stands for a message, so that a record of millions fits into memory.
pub(super) fn fingerprint(id: &str, sender: &str, content: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, sender, content).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(head: u64) -> Log {
        let mut log = Log::default();
        (1..=head).for_each(|seq| log.insert("c", seq, &format!("m{seq}"), "ada", &format!("hi {seq}")));
        log
    }

    #[test]
    fn a_log_with_a_hole_or_a_repeated_id_is_not_sound() {
        assert_eq!(log(5).faults(), 0);
        let mut torn = log(2);
        torn.insert("c", 4, "m4", "ada", "hi 4");
        assert_eq!(torn.faults(), 1);
        let mut repeated = log(2);
        repeated.insert("c", 3, "m2", "ada", "hi 3");
        assert_eq!(repeated.faults(), 1);
    }

    #[test]
    fn what_its_sender_said_before_is_a_retry_that_became_a_second_message() {
        let mut log = log(3);
        log.insert("d", 1, "m7", "bea", "hi 3");
        assert_eq!(log.repeated(), 0, "another sender");
        log.insert("c", 4, "m4", "ada", "hi 3");
        log.insert("d", 2, "m8", "ada", "hi 1");
        assert_eq!((log.repeated(), log.faults()), (2, 0));
    }

    #[test]
    fn the_digest_of_a_content_is_the_beginning_of_its_sha_256() {
        assert_eq!(content_digest("abc"), 0xba78_16bf_8f01_cfea);
    }
}

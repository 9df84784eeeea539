//! What nodes tell one another about their interest. The binary form, in big-endian order:
//!
//! ```text
//! u8 3 | u8 form | u8 length and name of the node | u64 version | …
//! form 0, a beat       u32 count | u64 checksum | u8 whether it is interested in everything
//! form 1, a change     u32 count of keys that are new | u64 each | u64 each that is gone
//! form 2, a question   nothing
//! form 3, a set        u32 piece | u32 pieces | u64 each key
//! ```
//!
//! Nodes of versions without interest ignore all of it.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{InterestKey, ROOMS_MAX};

/// The first byte of each message.
pub const KIND: u8 = 3;
/// Most keys in one message.
pub const KEYS_MAX: usize = 1 << 16;

const BEAT: u8 = 0;
const CHANGE: u8 = 1;
const QUESTION: u8 = 2;
const SET: u8 = 3;

/// A message of a node about its interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestMessage {
    /// The node that sent it.
    pub node: Arc<str>,
    /// The version of its interest after this message. Each change has the next one.
    pub version: u64,
    /// What it tells.
    pub told: Told,
}

/// What a node tells about its interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// What it has announced so far. Sent each second.
    Beat(Announced),
    /// The keys that are new since the version before, and those that are gone.
    Change { added: Vec<InterestKey>, removed: Vec<InterestKey> },
    /// It wants to know the receiver's whole interest.
    Question,
    /// A piece of its whole interest, as the answer to a question.
    Set { piece: u32, pieces: u32, keys: Vec<InterestKey> },
}

/// A summary of a node's interest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    /// The number of keys.
    pub count: u32,
    /// The exclusive or of all keys.
    pub checksum: u64,
    /// Whether it is interested in everything, since it knows too many conversations.
    pub everything: bool,
}

impl Announced {
    /// Counts a key in.
    pub fn add(&mut self, key: InterestKey) {
        self.count += 1;
        self.checksum ^= key.bits();
    }

    /// Counts a key out.
    pub fn remove(&mut self, key: InterestKey) {
        self.count = self.count.saturating_sub(1);
        self.checksum ^= key.bits();
    }
}

impl InterestMessage {
    /// Encodes the message as it is sent. Names of nodes have at most 255 bytes.
    pub fn encode(&self) -> Bytes {
        let node = &self.node.as_bytes()[..self.node.len().min(usize::from(u8::MAX))];
        let mut out = BytesMut::with_capacity(64 + node.len() + 8 * self.told.keys());
        let form = match &self.told {
            Told::Beat(_) => BEAT,
            Told::Change { .. } => CHANGE,
            Told::Question => QUESTION,
            Told::Set { .. } => SET,
        };
        out.put_slice(&[KIND, form, node.len() as u8]);
        out.put_slice(node);
        out.put_u64(self.version);
        match &self.told {
            Told::Beat(Announced { count, checksum, everything }) => {
                out.put_u32(*count);
                out.put_u64(*checksum);
                out.put_u8(u8::from(*everything));
            }
            Told::Change { added, removed } => {
                out.put_u32(added.len() as u32);
                added.iter().chain(removed).for_each(|key| out.put_u64(key.bits()));
            }
            Told::Question => {}
            Told::Set { piece, pieces, keys } => {
                out.put_u32(*piece);
                out.put_u32(*pieces);
                keys.iter().for_each(|key| out.put_u64(key.bits()));
            }
        }
        out.freeze()
    }

    /// Decodes a message, whose first byte is [`KIND`]. `None`: it is of another version and must be ignored.
    pub fn decode(body: &Bytes) -> Option<InterestMessage> {
        let mut rest = body.clone();
        if rest.try_get_u8().ok()? != KIND {
            return None;
        }
        let (form, length) = (rest.try_get_u8().ok()?, usize::from(rest.try_get_u8().ok()?));
        let node = std::str::from_utf8(rest.get(..length)?).ok()?.into();
        rest.advance(length);
        let version = rest.try_get_u64().ok()?;
        let told = match form {
            BEAT => Told::Beat(Announced {
                count: rest.try_get_u32().ok()?,
                checksum: rest.try_get_u64().ok()?,
                everything: match rest.try_get_u8().ok()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                },
            }),
            CHANGE => {
                let count = rest.try_get_u32().ok()? as usize;
                let mut added = keys(&mut rest)?;
                let removed = (count <= added.len()).then(|| added.split_off(count))?;
                Told::Change { added, removed }
            }
            QUESTION => Told::Question,
            SET => {
                let (piece, pieces) = (rest.try_get_u32().ok()?, rest.try_get_u32().ok()?);
                let keys = keys(&mut rest)?;
                let fits = piece < pieces && pieces as usize <= ROOMS_MAX.div_ceil(KEYS_MAX);
                fits.then_some(Told::Set { piece, pieces, keys })?
            }
            _ => return None,
        };
        rest.is_empty().then_some(InterestMessage { node, version, told })
    }
}

impl Told {
    fn keys(&self) -> usize {
        match self {
            Told::Beat(_) | Told::Question => 0,
            Told::Change { added, removed } => added.len() + removed.len(),
            Told::Set { keys, .. } => keys.len(),
        }
    }
}

/// Reads keys up to the end, if they are not too many.
fn keys(rest: &mut Bytes) -> Option<Vec<InterestKey>> {
    if !rest.len().is_multiple_of(8) || rest.len() / 8 > KEYS_MAX {
        return None;
    }
    Some(std::iter::from_fn(|| rest.try_get_u64().ok()).map(InterestKey::from_bits).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(bits: u64) -> InterestKey {
        InterestKey::from_bits(bits)
    }

    #[test]
    fn every_form_survives_the_way_and_no_cut_one_is_taken_for_whole() {
        let forms = [
            Told::Beat(Announced { count: 2, checksum: u64::MAX, everything: true }),
            Told::Change { added: vec![key(1), key(2)], removed: vec![key(3)] },
            Told::Question,
            Told::Set { piece: 1, pieces: 2, keys: vec![key(9)] },
        ];
        for told in forms {
            let message = InterestMessage { node: "node-1".into(), version: 7, told };
            let body = message.encode();
            assert_eq!(InterestMessage::decode(&body), Some(message.clone()));
            for end in 0..body.len() {
                assert_ne!(InterestMessage::decode(&body.slice(..end)), Some(message.clone()));
            }
        }
    }

    #[test]
    fn what_is_too_large_or_of_another_form_is_ignored() {
        let message = |told| InterestMessage { node: "n".into(), version: 1, told }.encode();
        let many = (0..=KEYS_MAX as u64).map(key).collect();
        assert_eq!(InterestMessage::decode(&message(Told::Change { added: many, removed: vec![] })), None);
        assert_eq!(InterestMessage::decode(&message(Told::Set { piece: 2, pieces: 2, keys: vec![] })), None);
        let mut other = message(Told::Question).to_vec();
        other[1] = 9;
        assert_eq!(InterestMessage::decode(&other.into()), None);
    }

    proptest! {
        #[test]
        fn garbage_is_ignored(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            InterestMessage::decode(&Bytes::from([&[KIND][..], &bytes].concat()));
        }
    }
}

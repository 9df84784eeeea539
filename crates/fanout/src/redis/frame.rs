//! The format of a message in Redis: a header, and publications with their lengths. All integers are little-endian.
//!
//! ```text
//! header        0xff, version 1, kind, length of the origin (1 byte), origin
//! publications  header, count (4 bytes), then each: partition (2 bytes), length (4 bytes) and body
//! topics        header, count (4 bytes), then each: stamp (8 bytes), length (2 bytes) and tenant,
//!               length (2 bytes) and topic, length (4 bytes) and body. The origin is empty. The stamp is the
//!               offset (6 bytes) and the tag of its epoch (2 bytes)
//! older topics  the same with the whole offset (8 bytes) in place of the stamp. In place of the origin, a zero
//!               and for each publication the tag of its epoch (2 bytes). Nodes of still older versions write
//!               their origin there, and skip the tags
//! direct        header, body
//! probe         header, nonce (8 bytes)
//! check         header, session (8 bytes), channel (2 bytes)
//! ```
//!
//! UTF-8 text never contains the first byte. So the client sees at once that a frame is not text, and does not read it to its end.

use bytes::{BufMut, Bytes, BytesMut};

use crate::{EpochTag, PARTITIONS, Publication};

const MARK: u8 = 0xff;
const VERSION: u8 = 1;
/// The offset of the origin.
const ORIGIN: usize = 4;

/// The longest origin, bytes.
pub(super) const ORIGIN_MAX: usize = u8::MAX as usize;

const PUBLICATIONS: u8 = 1;
const OLDER_TOPICS: u8 = 2;
/// The beginning of a frame of topics' publications for nodes of an older version. The script in Redis adds the rest.
pub(super) const OLDER_TOPICS_HEADER: &[u8] = &[MARK, VERSION, OLDER_TOPICS];
/// The most tags that such a frame has room for.
pub(super) const TAGS_MAX: usize = (ORIGIN_MAX - 1) / 2;
const DIRECT: u8 = 3;
const PROBE: u8 = 4;
const CHECK: u8 = 5;
const TOPICS: u8 = 6;
/// The header of a frame of topics' publications. The script in Redis adds the rest.
pub(super) const TOPICS_HEADER: &[u8] = &[MARK, VERSION, TOPICS, 0];
/// The number of bits of a stamp that are the offset.
const OFFSET_BITS: u32 = 48;

/// Writes frames of one origin.
pub(super) struct Writer {
    origin: Bytes,
}

/// A received frame, read up to the end of its header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Publications, and their expected number.
    Publications(u32, Items),
    /// Publications of topics, and their expected number.
    Topics(u32, Items),
    /// Publications of topics as nodes of an older version know them, their expected number, and the tags of their epochs if there are
    /// any.
    OlderTopics(u32, Items, Option<Bytes>),
    /// A message to this node only.
    Direct(Bytes),
    /// A probe of this node.
    Probe(u64),
    /// A check of a link.
    Check { session: u64, channel: u16 },
    /// Publications of this node itself, which are skipped.
    Own,
}

/// The contents of a frame, read piece by piece.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Items {
    rest: Bytes,
}

/// A publication inside a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) partition: u16,
    pub(super) body: Bytes,
}

/// A publication of a topic inside a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TopicItem {
    pub(super) epoch: Option<EpochTag>,
    pub(super) offset: u64,
    pub(super) tenant: Bytes,
    pub(super) topic: Bytes,
    pub(super) body: Bytes,
}

/// The error for a frame, or an item in it, that can't be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Writer {
    /// Makes a writer. An `origin` longer than [`ORIGIN_MAX`] bytes is cut off.
    pub(super) fn new(origin: &str) -> Self {
        let end = origin.floor_char_boundary(ORIGIN_MAX);
        Self { origin: Bytes::copy_from_slice(&origin.as_bytes()[..end]) }
    }

    pub(super) fn origin(&self) -> &[u8] {
        &self.origin
    }

    /// Returns a frame of publications. The caller bounds their number and size.
    pub(super) fn publications(&self, publications: &[&Publication]) -> Bytes {
        let size: usize = publications.iter().map(|publication| 6 + publication.body.len()).sum();
        let mut frame = self.begin(PUBLICATIONS, 4 + size);
        frame.put_u32_le(publications.len() as u32);
        for Publication { partition, body, .. } in publications {
            frame.put_u16_le(*partition % PARTITIONS);
            frame.put_u32_le(body.len() as u32);
            frame.put_slice(body);
        }
        frame.freeze()
    }

    pub(super) fn direct(&self, body: &[u8]) -> Bytes {
        let mut frame = self.begin(DIRECT, body.len());
        frame.put_slice(body);
        frame.freeze()
    }

    pub(super) fn probe(&self, nonce: u64) -> Bytes {
        let mut frame = self.begin(PROBE, 8);
        frame.put_u64_le(nonce);
        frame.freeze()
    }

    pub(super) fn check(&self, session: u64, channel: u16) -> Bytes {
        let mut frame = self.begin(CHECK, 10);
        frame.put_u64_le(session);
        frame.put_u16_le(channel);
        frame.freeze()
    }

    fn begin(&self, kind: u8, size: usize) -> BytesMut {
        let mut frame = BytesMut::with_capacity(ORIGIN + self.origin.len() + size);
        frame.put_slice(&[MARK, VERSION, kind, self.origin.len() as u8]);
        frame.put_slice(&self.origin);
        frame
    }
}

/// Appends the names of a topic in the form that a frame has between stamp and body.
pub(super) fn put_topic_names(out: &mut BytesMut, tenant: &str, topic: &str) {
    for name in [tenant, topic] {
        out.put_u16_le(name.len() as u16);
        out.put_slice(name.as_bytes());
    }
}

/// Returns the offset in a stamp, and the tag of its epoch.
pub(super) fn read_stamp(stamp: u64) -> (u64, EpochTag) {
    (stamp & ((1 << OFFSET_BITS) - 1), EpochTag((stamp >> OFFSET_BITS) as u16))
}

impl Frame {
    /// Reads the header. `own` is the origin whose publications are skipped.
    pub(super) fn read(mut frame: Bytes, own: &[u8]) -> Result<Self, Malformed> {
        let &[MARK, VERSION, kind, length, ..] = &frame[..] else { return Err(Malformed) };
        let body = ORIGIN + usize::from(length);
        let origin = frame.get(ORIGIN..body).ok_or(Malformed)?;
        if kind == PUBLICATIONS && origin == own {
            return Ok(Self::Own);
        }
        // No node's name begins with a zero byte.
        let tags = (origin.first() == Some(&0)).then(|| frame.slice(ORIGIN + 1..body));
        let mut items = Items { rest: frame.split_off(body) };
        match kind {
            PUBLICATIONS => Ok(Self::Publications(items.u32()?, items)),
            TOPICS => Ok(Self::Topics(items.u32()?, items)),
            OLDER_TOPICS => Ok(Self::OlderTopics(items.u32()?, items, tags)),
            DIRECT => Ok(Self::Direct(items.rest)),
            PROBE => Ok(Self::Probe(items.u64()?)),
            CHECK => Ok(Self::Check { session: items.u64()?, channel: items.u16()? }),
            _ => Err(Malformed),
        }
    }
}

impl Items {
    /// Returns what is left to read in these bytes.
    pub(super) fn of(rest: Bytes) -> Self {
        Self { rest }
    }

    pub(super) fn publication(&mut self) -> Result<Item, Malformed> {
        let partition = self.u16()?;
        let length = self.u32()?;
        let body = self.take(length as usize)?;
        if partition < PARTITIONS { Ok(Item { partition, body }) } else { Err(Malformed) }
    }

    /// Reads a publication of a topic that begins with a stamp.
    pub(super) fn topic(&mut self) -> Result<TopicItem, Malformed> {
        let (offset, epoch) = read_stamp(self.u64()?);
        self.topic_at(offset, Some(epoch))
    }

    /// Reads a publication of a topic that begins with its offset.
    pub(super) fn older_topic(&mut self, epoch: Option<EpochTag>) -> Result<TopicItem, Malformed> {
        let offset = self.u64()?;
        self.topic_at(offset, epoch)
    }

    fn topic_at(&mut self, offset: u64, epoch: Option<EpochTag>) -> Result<TopicItem, Malformed> {
        let length = self.u16()?;
        let tenant = self.take(length.into())?;
        let length = self.u16()?;
        let topic = self.take(length.into())?;
        let length = self.u32()?;
        let body = self.take(length as usize)?;
        Ok(TopicItem { epoch, offset, tenant, topic, body })
    }

    /// Returns whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if self.rest.len() < length {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(length))
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.integer().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.integer().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.integer().map(u64::from_le_bytes)
    }

    fn integer<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let integer = self.rest.first_chunk::<N>().copied().ok_or(Malformed)?;
        let _ = self.rest.split_to(N);
        Ok(integer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_a_topic(header: &[u8], stamp: u64) -> Bytes {
        let mut frame = BytesMut::from(header);
        frame.put_u32_le(1);
        frame.put_u64_le(stamp);
        put_topic_names(&mut frame, "acme", "news");
        frame.put_u32_le(5);
        frame.put_slice(b"hello");
        frame.freeze()
    }

    fn topics_frame() -> Bytes {
        with_a_topic(TOPICS_HEADER, 0xabcd_0000_0000_0007)
    }

    fn older_topics_frame() -> Bytes {
        with_a_topic(&[OLDER_TOPICS_HEADER, &[3, 0, 0xcd, 0xab]].concat(), 7)
    }

    /// A frame as a node of a version without tags writes it.
    fn topics_frame_without_tags(writer: &Writer) -> Bytes {
        let mut frame = writer.begin(OLDER_TOPICS, 4);
        frame.put_u32_le(0);
        frame.freeze()
    }

    fn publications(writer: &Writer, bodies: &[&'static str]) -> Bytes {
        let publications: Vec<_> = (3..)
            .zip(bodies)
            .map(|(partition, body)| Publication::to_everyone(partition, Bytes::from(*body)))
            .collect();
        writer.publications(&publications.iter().collect::<Vec<_>>())
    }

    #[test]
    fn publications_come_back_as_slices_of_the_frame() {
        let bodies = ["one", "", "three"];
        let frame = publications(&Writer::new("a/1"), &bodies);
        let Ok(Frame::Publications(3, mut items)) = Frame::read(frame.clone(), b"b/2") else { panic!() };
        for (partition, body) in (3..).zip(bodies) {
            let item = items.publication().unwrap();
            assert_eq!((item.partition, &item.body[..]), (partition, body.as_bytes()));
            assert!(item.body.is_empty() || frame.as_ptr_range().contains(&item.body.as_ptr()));
        }
        assert!(items.is_empty());
        assert_eq!(Frame::read(frame, b"a/1"), Ok(Frame::Own));
    }

    #[test]
    fn every_other_kind_is_read_even_from_itself() {
        let writer = Writer::new("a/1");
        let read = |frame| Frame::read(frame, b"a/1").unwrap();
        assert_eq!(read(writer.direct(b"x")), Frame::Direct(Bytes::from_static(b"x")));
        assert_eq!(read(writer.probe(u64::MAX)), Frame::Probe(u64::MAX));
        assert_eq!(read(writer.check(3, 9)), Frame::Check { session: 3, channel: 9 });
        assert!(matches!(read(topics_frame_without_tags(&writer)), Frame::OlderTopics(0, _, None)));
        let tag = Some(EpochTag(0xabcd));
        let expected = TopicItem {
            epoch: tag,
            offset: 7,
            tenant: Bytes::from_static(b"acme"),
            topic: Bytes::from_static(b"news"),
            body: Bytes::from_static(b"hello"),
        };
        let Frame::OlderTopics(1, mut items, tags) = read(older_topics_frame()) else { panic!() };
        assert_eq!(tags.as_deref(), Some(&[0xcd, 0xab][..]));
        assert_eq!(items.older_topic(tag).as_ref(), Ok(&expected));
        assert!(items.is_empty());
        let Frame::Topics(1, mut items) = read(topics_frame()) else { panic!() };
        assert_eq!(items.topic(), Ok(expected));
        assert!(items.is_empty());
    }

    #[test]
    fn no_cut_or_altered_frame_is_taken_for_whole() {
        let writer = Writer::new("a/1");
        let whole = |frame: Bytes| match Frame::read(frame, b"b/2") {
            Ok(Frame::Publications(count, mut items)) => {
                (0..count).all(|_| items.publication().is_ok()) && items.is_empty()
            }
            Ok(Frame::Topics(count, mut items)) => {
                (0..count).all(|_| items.topic().is_ok()) && items.is_empty()
            }
            Ok(Frame::OlderTopics(count, mut items, _)) => {
                (0..count).all(|_| items.older_topic(None).is_ok()) && items.is_empty()
            }
            _ => false,
        };
        for frame in [publications(&writer, &["one", "two"]), topics_frame(), older_topics_frame()] {
            assert!(whole(frame.clone()));
            for end in 0..frame.len() {
                assert!(!whole(frame.slice(..end)), "cut at {end}");
            }
            let mut longer = BytesMut::from(&frame[..]);
            longer.put_u8(0);
            assert!(!whole(longer.freeze()));
            for at in [0, 1, 2] {
                let mut altered = BytesMut::from(&frame[..]);
                altered[at] = 0x33;
                assert!(!whole(altered.freeze()));
            }
        }
    }
}

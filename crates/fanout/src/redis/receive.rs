//! The task of a link that reads messages from the subscriber and delivers them to the receiver.

use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use fred::types::{Message, Value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::checks::Checks;
use super::frame::{Frame, Item, Items, Malformed, TopicItem};
use super::names::Purpose;
use super::shared::Shared;
use crate::{Delivery, EpochTag, Receiver};

/// The number of names that are kept, so that deliveries with the same name share it. A power of two.
const NAMES: usize = 1024;

/// Delivers the messages of one link until the link ends. Returns the reason.
pub(super) async fn run(
    shared: Arc<Shared>,
    checks: Arc<Checks>,
    receiver: Arc<dyn Receiver>,
    mut messages: broadcast::Receiver<Message>,
) -> String {
    let mut inbox = Inbox { shared, checks, receiver, names: Names::default() };
    loop {
        match messages.recv().await {
            Ok(message) => inbox.take(message),
            Err(RecvError::Lagged(frames)) => {
                inbox.shared.metrics.lagged.increment(frames);
                tracing::warn!(frames, "dropped publications that came faster than this node takes them");
                inbox.gap(None);
            }
            Err(RecvError::Closed) => return "the subscriber ended".into(),
        }
    }
}

struct Inbox {
    shared: Arc<Shared>,
    checks: Arc<Checks>,
    receiver: Arc<dyn Receiver>,
    names: Names,
}

impl Inbox {
    fn take(&mut self, message: Message) {
        let purpose = self.shared.names.purpose_of(&message.channel);
        let read = match message.value {
            Value::Bytes(frame) => Frame::read(frame, self.shared.writer.origin()),
            // The client returns a frame as bytes, never as text.
            _ => Err(Malformed),
        };
        let delivered = match (read, purpose) {
            (Ok(Frame::Own), Purpose::AllPartitions | Purpose::Partition(_)) => Ok(()),
            (Ok(Frame::Publications(count, items)), _) => self.publications(count, items),
            (Ok(Frame::Topics(count, items)), Purpose::AllPartitions | Purpose::Partition(_)) => {
                self.topics(count, items, Items::topic)
            }
            (Ok(Frame::OlderTopics(count, items, tags)), Purpose::AllPartitions | Purpose::Partition(_)) => {
                let mut tags = tags.as_deref().map(|tags| tags.chunks_exact(2));
                let mut tag = || tags.as_mut()?.next()?.try_into().ok().map(u16::from_le_bytes);
                self.topics(count, items, |items| items.older_topic(tag().map(EpochTag)))
            }
            (Ok(Frame::Direct(body)), Purpose::Node) => {
                self.deliver(Delivery::Direct { body });
                Ok(())
            }
            (Ok(Frame::Probe(nonce)), Purpose::Node) => {
                self.receiver.receive(Delivery::Probe { nonce });
                Ok(())
            }
            (Ok(Frame::Check { session, channel }), Purpose::Node) => {
                self.checks.heard(session, channel);
                Ok(())
            }
            _ => Err(Malformed),
        };
        if delivered.is_err() {
            self.shared.metrics.malformed.increment(1);
            tracing::warn!(channel = &*message.channel, "dropped a message that could not be decoded");
            match purpose {
                // Publications of any partition come to a node alone, too.
                Purpose::AllPartitions | Purpose::Node => self.gap(None),
                Purpose::Partition(partition) => self.gap(Some(partition)),
            }
        }
    }

    fn publications(&mut self, count: u32, mut items: Items) -> Result<(), Malformed> {
        for _ in 0..count {
            let Item { partition, body } = items.publication()?;
            self.deliver(Delivery::Publication { partition, body });
        }
        if items.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn topics(
        &mut self,
        count: u32,
        mut items: Items,
        mut read: impl FnMut(&mut Items) -> Result<TopicItem, Malformed>,
    ) -> Result<(), Malformed> {
        for _ in 0..count {
            let TopicItem { epoch, offset, tenant, topic, body } = read(&mut items)?;
            let (tenant, topic) = (self.names.share(&tenant)?.into(), self.names.share(&topic)?.into());
            self.deliver(Delivery::Topic { tenant, topic, epoch, offset, body });
        }
        if items.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    fn deliver(&self, delivery: Delivery) {
        self.shared.metrics.received.increment(1);
        self.receiver.receive(delivery);
    }

    fn gap(&self, partition: Option<u16>) {
        self.shared.metrics.gaps.increment(1);
        self.receiver.receive(Delivery::Gap { partition });
    }
}

/// The latest names, each at the index of its hash. A name replaces an earlier one with the same index.
#[derive(Default)]
struct Names {
    hasher: foldhash::fast::RandomState,
    places: Vec<Option<Arc<str>>>,
}

impl Names {
    fn share(&mut self, name: &Bytes) -> Result<Arc<str>, Malformed> {
        if self.places.is_empty() {
            self.places.resize(NAMES, None);
        }
        let place = &mut self.places[self.hasher.hash_one(&name[..]) as usize % NAMES];
        match place {
            Some(known) if known.as_bytes() == name => Ok(known.clone()),
            _ => {
                let name: Arc<str> = std::str::from_utf8(name).map_err(|_| Malformed)?.into();
                *place = Some(name.clone());
                Ok(name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shared_and_never_mixed_up() {
        let mut names = Names::default();
        let first = names.share(&Bytes::from_static(b"acme")).unwrap();
        assert!(Arc::ptr_eq(&first, &names.share(&Bytes::from_static(b"acme")).unwrap()));
        for n in 0..10 * NAMES {
            let name = n.to_string();
            assert_eq!(&*names.share(&Bytes::from(name.clone())).unwrap(), name);
        }
        assert_eq!(names.share(&Bytes::from_static(b"\xff")), Err(Malformed));
    }
}

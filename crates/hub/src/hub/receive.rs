//! Handles what the fan-out delivers to this node.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use starling_fanout::{Delivery, PARTITIONS, Receiver};
use starling_telemetry::TRACE_TARGET;
use starling_wire::protocol;

use crate::clock;
use crate::hub::Hub;
use crate::metrics::METRICS;
use crate::node_message::{self, CommittedMessage, NodeMessage, Received};
use crate::topics::TopicKey;

/// Passes the fan-out's deliveries to the hub. Does not keep the hub alive.
pub(super) struct HubReceiver {
    hub: Weak<Hub>,
}

impl HubReceiver {
    pub fn new(hub: &Arc<Hub>) -> HubReceiver {
        HubReceiver { hub: Arc::downgrade(hub) }
    }
}

impl Receiver for HubReceiver {
    fn receive(&self, delivery: Delivery) {
        let Some(hub) = self.hub.upgrade() else { return };
        match delivery {
            Delivery::Publication { partition, body } => hub.hear_body(Some(partition), &body),
            Delivery::Direct { body } => hub.hear_body(None, &body),
            Delivery::Topic { tenant, topic, epoch, offset, body } => {
                let key = TopicKey { tenant, name: topic };
                hub.topics.deliver(&*hub.shards, &key, epoch, offset, &body);
            }
            Delivery::Probe { nonce } => hub.neighbours.hear_probe(nonce),
            Delivery::Down => {
                METRICS.fanout_up.set(0.0);
                hub.topics.forget_positions();
            }
            Delivery::Gap { partition } => hub.hear_gap(partition),
        }
    }
}

impl Hub {
    /// Handles a publication of a partition, or (`None`) one that was sent to this node alone.
    fn hear_body(&self, partition: Option<u16>, body: &Bytes) {
        match node_message::decode(body) {
            Some(Received::Message(message)) => self.hear_message(&message),
            Some(Received::Interest(message)) => self.publisher.hear_interest(message),
            Some(Received::Other(message)) => self.hear(partition, message),
            None => tracing::debug!("a publication of another version was ignored"),
        }
    }

    fn hear_message(&self, message: &CommittedMessage) {
        let span = tracing::info_span!(target: TRACE_TARGET, "receive", seq = message.seq.get());
        if let Some(traceparent) = &message.traceparent {
            starling_telemetry::set_parent(&span, traceparent);
        }
        let _entered = span.entered();
        let now = clock::now_us();
        METRICS.fanout_lag.record(now.saturating_sub(message.committed_at_us) as f64 / 1e6);
        self.directory.hear_message(message);
    }

    fn hear_gap(&self, partition: Option<u16>) {
        METRICS.gaps.increment(1);
        METRICS.fanout_up.set(1.0);
        tracing::info!(
            partition = ?partition,
            "publications may have been lost; reading the missing messages from the log"
        );
        self.neighbours.hear_gap(partition.is_none());
        self.topics.forget_positions();
        self.reload(partition);
        if partition.is_none() {
            // Sessions may have been ended or attached elsewhere. Their nodes are told so only once, and directly.
            self.holding.want_check();
        }
    }

    /// Requests that everything is read again that a partition (`None`: any partition) may have missed.
    pub(super) fn reload(&self, partition: Option<u16>) {
        let partitions = partition.map_or(0..PARTITIONS, |partition| partition..partition + 1);
        for partition in partitions {
            self.directory.reload(partition);
            self.presence.reload(partition);
        }
    }

    fn hear(&self, partition: Option<u16>, message: NodeMessage) {
        match message {
            NodeMessage::Typing { tenant, name, conversation, user, typing } => {
                if let Some(room) = self.directory.room_meant(&tenant, &name, conversation) {
                    let event = protocol::Typing { conversation: name, user: user.clone(), typing };
                    room.broadcast(&*self.shards, event, Some(&user));
                } else {
                    METRICS.unwanted.increment(1);
                }
            }
            NodeMessage::Presence { tenant, name, conversation, user, node, devices, last_seen_ms } => {
                if let Some(room) = self.directory.room_meant(&tenant, &name, conversation) {
                    self.presence.hear(&room, &user, &node, devices, last_seen_ms);
                } else {
                    METRICS.unwanted.increment(1);
                }
            }
            NodeMessage::Read { tenant, name, conversation, user, seq } => {
                self.directory.hear_read_mark(&tenant, &name, conversation, &user, seq);
            }
            NodeMessage::Member(change) => self.directory.hear_member(&change),
            NodeMessage::Members { tenant, name, conversation, version } => {
                self.directory.hear_members_version(&tenant, &name, conversation, version);
            }
            NodeMessage::Changed { tenant, name, conversation } => {
                self.directory.hear_details(&tenant, &name, conversation);
            }
            NodeMessage::Deleted { tenant, name, conversation } => {
                self.directory.hear_deleted(&tenant, &name, conversation);
            }
            NodeMessage::Heads(heads) => self.directory.hear_heads(&heads),
            NodeMessage::Moved { session, to, stamp } => {
                if to != self.node
                    && let Some(partition) = partition
                {
                    if stamp.is_some() {
                        // This message may arrive before the direct one to this node, or instead of it. First the older session is closed
                        // here, so that its user lingers; then the user stops lingering in this partition.
                        self.holding.hear_other_attach(&session, &to, stamp);
                    }
                    self.presence.stop_lingering_in(partition, &session, stamp);
                }
            }
            NodeMessage::Superseded { session, to, stamp } => {
                self.holding.hear_other_attach(&session, &to, stamp);
            }
            NodeMessage::GivenBack { session, stamp } => self.holding.take_back(&session, stamp),
            NodeMessage::Ended { session } => self.ended.end_here(&session),
            NodeMessage::Restored { node } => {
                if node != self.node {
                    self.presence.reload_all();
                }
            }
            NodeMessage::Drain { node } => {
                if node == self.node {
                    self.drain_wanted.notify_one();
                }
            }
            NodeMessage::Missed { .. } => {
                if partition.is_some() {
                    self.reload(partition);
                }
            }
            NodeMessage::Here { node } => self.neighbours.hear_here(&node),
            NodeMessage::JobsReady {} => {
                if let Some(jobs) = &self.jobs {
                    jobs.hear_ready();
                }
            }
            NodeMessage::HooksChanged {} => {
                if let Some(webhooks) = &self.webhooks {
                    webhooks.hear_changed();
                }
            }
            NodeMessage::Leaving { node } => {
                self.neighbours.hear_leaving(&node);
                self.presence.hear_leaving(&node);
            }
        }
    }
}

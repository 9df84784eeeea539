//! The messages that nodes exchange through the fan-out.
//!
//! Messages of conversations are frequent and have a binary form, as has what nodes tell of their interest ([`crate::interest`]). Everything
//! else is rare and is sent as the JSON of [`NodeMessage`]. The binary form of a message, in big-endian order:
//!
//! ```text
//! u8 1 | i64 conversation | u64 seq | u12 log | u52 committed_at_us | u8 len tenant | u8 len name | u8 len traceparent | … | JSON payload
//! ```
//!
//! `log` is a [`LogTag`]. Nodes of older versions write 0, and read a time in the far future, which they count as no delay.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use starling_model::{ConversationId, ConversationName, Seq, TenantName, UserName};
use starling_session_store::Stamp;

use crate::interest::{self, InterestMessage};
use crate::log::LogTag;

const KIND_MESSAGE: u8 = 1;
const KIND_OTHER: u8 = 2;
const HEADER_BYTES: usize = 1 + 8 + 8 + 8 + 3;

/// A committed message of a conversation, as it is sent to other nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedMessage {
    /// The conversation's id in the database.
    pub conversation: ConversationId,
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub name: ConversationName,
    /// The message's seq.
    pub seq: Seq,
    /// The log that the message belongs to. `None`: a node of an older version did not say.
    pub log: Option<LogTag>,
    /// When it was committed, Unix microseconds by the committing node's clock.
    pub committed_at_us: u64,
    /// The trace that the message belongs to (W3C Trace Context).
    pub traceparent: Option<Box<str>>,
    /// The `message` event as JSON.
    pub payload: Bytes,
}

/// The head of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub name: ConversationName,
    /// The conversation's id in the database.
    pub conversation: ConversationId,
    /// The conversation's log. Nodes of an older version do not name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Arc<str>>,
    /// The highest seq.
    pub seq: Seq,
}

/// A user became a member or is no longer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// The conversation's tenant.
    pub tenant: TenantName,
    /// The conversation's name.
    pub name: ConversationName,
    /// The conversation's id in the database.
    pub conversation: ConversationId,
    /// The version of the members after this change.
    pub version: u64,
    /// The user.
    pub user: UserName,
    /// Whether the user is a member now.
    pub member: bool,
    /// The owner after this change. `None`: the node did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserName>,
}

/// The messages that nodes exchange, except those of conversations. The JSON is an object with one key, the variant's name, by which nodes
/// of all versions tell the variants apart. A node ignores unknown variants.
///
/// Several conversations may have had the same `name`; `conversation` is the id of the one that is meant. A node of an older version may
/// leave it out, and then means the one that has the name now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// A user began or stopped typing.
    Typing {
        tenant: TenantName,
        name: ConversationName,
        #[serde(default)]
        conversation: Option<ConversationId>,
        user: UserName,
        typing: bool,
    },
    /// The number of a user's sessions in a conversation on a node.
    Presence {
        tenant: TenantName,
        name: ConversationName,
        #[serde(default)]
        conversation: Option<ConversationId>,
        user: UserName,
        node: Arc<str>,
        devices: u32,
        last_seen_ms: Option<i64>,
    },
    /// A read mark rose.
    Read {
        tenant: TenantName,
        name: ConversationName,
        #[serde(default)]
        conversation: Option<ConversationId>,
        user: UserName,
        seq: Seq,
    },
    /// A user became a member or is no longer one.
    Member(MemberChange),
    /// A conversation's members have this version. `None`: they may have changed, or the conversation may be deleted. A node that has an
    /// older version reads the members again.
    Members { tenant: TenantName, name: ConversationName, conversation: ConversationId, version: Option<u64> },
    /// The title or metadata changed.
    Changed {
        tenant: TenantName,
        name: ConversationName,
        #[serde(default)]
        conversation: Option<ConversationId>,
    },
    /// The conversation was deleted.
    Deleted { tenant: TenantName, name: ConversationName, conversation: ConversationId },
    /// Heads that a node committed lately.
    Heads(Vec<Head>),
    /// A session is attached to that node now. A node on which it lingers may stop showing it in conversations of the partition on which
    /// this message comes.
    Moved {
        session: Arc<str>,
        to: Arc<str>,
        /// The stamp of that attach. Nodes of older versions send none.
        #[serde(default)]
        stamp: Option<Stamp>,
    },
    /// A node holds a session by an attach with this stamp. A connection of an earlier attach is closed with 4409. A node that holds the
    /// session by a later attach replies with its own stamp.
    Superseded {
        session: Arc<str>,
        to: Arc<str>,
        /// The stamp of that attach. Nodes of older versions send none.
        #[serde(default)]
        stamp: Option<Stamp>,
    },
    /// An attach with this stamp took a session and broke off before its connection had it. Sent to the node that held the session before:
    /// its connection, if it is still there, holds the session again.
    GivenBack { session: Arc<str>, stamp: Stamp },
    /// An operator ended a session. Its connections are closed with 4410.
    Ended { session: Arc<str> },
    /// A node has written its presence again, after the session store lost it.
    Restored { node: Arc<str> },
    /// An operator wants this node to drain. Sent to that node only.
    Drain { node: Arc<str> },
    /// A node could not publish for a while. Receivers may have missed something on the partition on which this message comes.
    Missed { node: Arc<str> },
    /// A node is there and can publish. Sent each second.
    Here { node: Arc<str> },
    /// A node leaves after a drain.
    Leaving { node: Arc<str> },
    /// A node has made jobs ready. Workers that wait may look for them.
    JobsReady {},
    /// Webhooks or hooks were set or removed through a node.
    HooksChanged {},
}

/// A message from another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A committed message, the frequent case.
    Message(CommittedMessage),
    /// What a node tells of its interest.
    Interest(InterestMessage),
    /// Any other message.
    Other(NodeMessage),
}

/// What a [`CommittedMessage`] says of its payload, to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct MessageHeader<'a> {
    /// See [`CommittedMessage::conversation`].
    pub conversation: ConversationId,
    /// See [`CommittedMessage::tenant`].
    pub tenant: &'a TenantName,
    /// See [`CommittedMessage::name`].
    pub name: &'a ConversationName,
    /// See [`CommittedMessage::seq`].
    pub seq: Seq,
    /// See [`CommittedMessage::log`].
    pub log: Option<LogTag>,
    /// See [`CommittedMessage::committed_at_us`].
    pub committed_at_us: u64,
    /// See [`CommittedMessage::traceparent`].
    pub traceparent: Option<&'a str>,
}

/// Encodes a [`CommittedMessage`] in the binary form. Names have at most 100 bytes, so their lengths fit one byte.
pub fn encode_message(header: &MessageHeader<'_>, payload: &[u8]) -> Bytes {
    let MessageHeader { conversation, tenant, name, seq, log, committed_at_us, traceparent } = *header;
    let traceparent = traceparent.filter(|t| t.len() <= 255).unwrap_or("");
    let texts: [&str; 3] = [tenant, name, traceparent];
    let names: usize = texts.iter().map(|text| text.len()).sum();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + names + payload.len());
    out.put_u8(KIND_MESSAGE);
    out.put_i64(conversation.get());
    out.put_u64(seq.get());
    out.put_u64(LogTag::above(log, committed_at_us));
    for text in texts {
        out.put_u8(u8::try_from(text.len()).unwrap_or(0));
    }
    for text in texts {
        out.put_slice(text.as_bytes());
    }
    out.put_slice(payload);
    out.freeze()
}

impl NodeMessage {
    /// Encodes the message as it is sent.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![KIND_OTHER];
        // Writing plain data into memory can't fail.
        if let Err(error) = serde_json::to_writer(&mut out, self) {
            tracing::error!(%error, "a node message can't be encoded");
        }
        out.into()
    }
}

/// What must be done about a publication that was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing, since another one follows.
    Harmless,
    /// Nothing at once. It was a [`CommittedMessage`], and the heads of the next beats lead the other nodes to it.
    Message,
    /// Tell the other nodes that they missed something on its partition.
    OfPartition,
    /// Tell the other nodes that they missed something on every partition.
    OfAll,
}

impl NodeMessage {
    /// Whether a node that reads the conversation a moment earlier must hear this afterwards.
    pub fn is_state(&self) -> bool {
        !matches!(self, NodeMessage::Typing { .. })
    }

    /// Returns what must be done if this message is lost.
    fn loss(&self) -> Loss {
        match self {
            // Another beat follows, and nodes look for jobs and for changes of hooks each second.
            NodeMessage::Here { .. } | NodeMessage::JobsReady {} | NodeMessage::HooksChanged {} => {
                Loss::Harmless
            }
            NodeMessage::Restored { .. } => Loss::OfAll,
            NodeMessage::Typing { .. }
            | NodeMessage::Presence { .. }
            | NodeMessage::Read { .. }
            | NodeMessage::Member(_)
            | NodeMessage::Members { .. }
            | NodeMessage::Changed { .. }
            | NodeMessage::Deleted { .. }
            | NodeMessage::Heads(_)
            | NodeMessage::Moved { .. }
            | NodeMessage::Superseded { .. }
            | NodeMessage::GivenBack { .. }
            | NodeMessage::Ended { .. }
            | NodeMessage::Drain { .. }
            | NodeMessage::Missed { .. }
            | NodeMessage::Leaving { .. } => Loss::OfPartition,
        }
    }
}

/// Returns what must be done about this lost publication.
pub fn loss_of(body: &Bytes) -> Loss {
    match body.first() {
        Some(&KIND_MESSAGE) => Loss::Message,
        // The next beat tells what was announced.
        Some(&interest::KIND) => Loss::Harmless,
        _ => match decode(body) {
            Some(Received::Other(message)) => message.loss(),
            Some(Received::Message(_)) => Loss::Message,
            Some(Received::Interest(_)) => Loss::Harmless,
            None => Loss::OfPartition,
        },
    }
}

/// Decodes a publication of another node. `None`: it is of another version and must be ignored.
pub fn decode(body: &Bytes) -> Option<Received> {
    match *body.first()? {
        KIND_MESSAGE => decode_message(body).map(Received::Message),
        interest::KIND => InterestMessage::decode(body).map(Received::Interest),
        KIND_OTHER => serde_json::from_slice(&body[1..]).ok().map(Received::Other),
        _ => None,
    }
}

/// Returns the trace that an encoded [`CommittedMessage`] belongs to.
pub fn traceparent_of(body: &[u8]) -> Option<&str> {
    let lengths = body.get(25..HEADER_BYTES).filter(|_| body[0] == KIND_MESSAGE)?;
    let start = HEADER_BYTES + usize::from(lengths[0]) + usize::from(lengths[1]);
    let text = body.get(start..start + usize::from(lengths[2]))?;
    std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
}

fn decode_message(body: &Bytes) -> Option<CommittedMessage> {
    let number = |at: usize| body.get(at..at + 8)?.try_into().ok().map(u64::from_be_bytes);
    let lengths = body.get(25..HEADER_BYTES)?;
    let mut at = HEADER_BYTES;
    let mut text = |length: u8| {
        let text = std::str::from_utf8(body.get(at..at + usize::from(length))?).ok()?;
        at += usize::from(length);
        Some(text)
    };
    let (tenant, name, traceparent) = (text(lengths[0])?, text(lengths[1])?, text(lengths[2])?);
    let (log, committed_at_us) = LogTag::split(number(17)?);
    Some(CommittedMessage {
        conversation: ConversationId::new(number(1)?.cast_signed()),
        tenant: tenant.into(),
        name: name.into(),
        seq: Seq::new(number(9)?),
        log,
        committed_at_us,
        traceparent: (!traceparent.is_empty()).then(|| traceparent.into()),
        payload: body.slice(at..),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THREE: ConversationId = ConversationId::new(3);
    const NINE: Seq = Seq::new(9);

    #[test]
    fn a_message_survives_the_way() {
        let (id, seq) = (ConversationId::new(-7), Seq::new(42));
        let message = CommittedMessage {
            conversation: id,
            tenant: "t".into(),
            name: "room:1".into(),
            seq,
            log: Some(LogTag::of("1-a")),
            committed_at_us: 99,
            traceparent: Some("00-aa-bb-01".into()),
            payload: Bytes::from_static(b"{}"),
        };
        let header = MessageHeader {
            conversation: id,
            tenant: &message.tenant,
            name: &message.name,
            seq,
            log: message.log,
            committed_at_us: 99,
            traceparent: message.traceparent.as_deref(),
        };
        let body = encode_message(&header, b"{}");
        assert_eq!(traceparent_of(&body), Some("00-aa-bb-01"));
        let untraced = MessageHeader { traceparent: None, ..header };
        assert_eq!(traceparent_of(&encode_message(&untraced, b"{}")), None);
        assert_eq!(decode(&body), Some(Received::Message(message)));
    }

    #[test]
    fn nodes_of_the_version_before_read_a_message_that_names_its_log() {
        let header = MessageHeader {
            conversation: THREE,
            tenant: &"t".into(),
            name: &"c".into(),
            seq: NINE,
            log: None,
            committed_at_us: 7,
            traceparent: None,
        };
        let older = b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x09\0\0\0\0\0\0\0\x07\x01\x01\0tc{}";
        assert_eq!(encode_message(&header, b"{}"), &older[..]);
        let named = encode_message(&MessageHeader { log: Some(LogTag::of("1-a")), ..header }, b"{}");
        let differ: Vec<usize> = (0..older.len()).filter(|at| older[*at] != named[*at]).collect();
        assert_eq!(
            differ,
            [17, 18],
            "only the time differs, which the older node takes for one in the future"
        );
        assert_eq!(named.len(), older.len());
    }

    #[test]
    fn other_messages_survive_the_way() {
        let heads = NodeMessage::Heads(vec![Head {
            tenant: "t".into(),
            name: "c".into(),
            conversation: THREE,
            log: Some("1-a".into()),
            seq: NINE,
        }]);
        assert_eq!(traceparent_of(&heads.encode()), None);
        assert_eq!(decode(&heads.encode()), Some(Received::Other(heads)));
    }

    #[test]
    fn a_message_of_a_version_without_stamps_is_read() {
        let body = b"\x02{\"Superseded\":{\"session\":\"s\",\"to\":\"n\"}}";
        let superseded = NodeMessage::Superseded { session: "s".into(), to: "n".into(), stamp: None };
        assert_eq!(decode(&Bytes::from_static(body)), Some(Received::Other(superseded)));
    }

    #[test]
    fn nodes_of_the_version_before_understand_and_are_understood() {
        let typing = NodeMessage::Typing {
            tenant: "t".into(),
            name: "c".into(),
            conversation: Some(THREE),
            user: "ann".into(),
            typing: true,
        };
        assert_eq!(
            typing.encode(),
            &b"\x02{\"Typing\":{\"tenant\":\"t\",\"name\":\"c\",\"conversation\":3,\"user\":\"ann\",\"typing\":true}}"[..]
        );
        let older: [&[u8]; 5] = [
            br#"{"Typing":{"tenant":"t","name":"c","user":"ann","typing":true}}"#,
            br#"{"Presence":{"tenant":"t","name":"c","user":"ann","node":"n","devices":1,"last_seen_ms":null}}"#,
            br#"{"Read":{"tenant":"t","name":"c","user":"ann","seq":7}}"#,
            br#"{"Changed":{"tenant":"t","name":"c"}}"#,
            br#"{"Member":{"tenant":"t","name":"c","conversation":3,"version":1,"user":"ann","member":true}}"#,
        ];
        for json in older {
            let body = [&[KIND_OTHER], json].concat().into();
            assert!(decode(&body).is_some(), "{}", String::from_utf8_lossy(json));
        }
    }

    /// Nodes of other versions rely on this form. A change of it breaks rolling deploys.
    #[test]
    fn every_kind_travels_as_nodes_of_other_versions_know_it() {
        let (tenant, name): (TenantName, ConversationName) = ("t".into(), "c".into());
        let (user, node): (UserName, Arc<str>) = ("ann".into(), "n".into());
        let member = MemberChange {
            tenant: tenant.clone(),
            name: name.clone(),
            conversation: THREE,
            version: 9,
            user: user.clone(),
            member: true,
            owner: None,
        };
        let session: Arc<str> = "s".into();
        let head =
            Head { tenant: tenant.clone(), name: name.clone(), conversation: THREE, log: None, seq: NINE };
        let travels = [
            NodeMessage::Typing {
                tenant: tenant.clone(),
                name: name.clone(),
                conversation: Some(THREE),
                user: user.clone(),
                typing: true,
            },
            NodeMessage::Presence {
                tenant: tenant.clone(),
                name: name.clone(),
                conversation: Some(THREE),
                user: user.clone(),
                node: node.clone(),
                devices: 2,
                last_seen_ms: Some(7),
            },
            NodeMessage::Read {
                tenant: tenant.clone(),
                name: name.clone(),
                conversation: Some(THREE),
                user: user.clone(),
                seq: NINE,
            },
            NodeMessage::Member(MemberChange { owner: Some(user), ..member.clone() }),
            NodeMessage::Member(member),
            NodeMessage::Members {
                tenant: tenant.clone(),
                name: name.clone(),
                conversation: THREE,
                version: Some(9),
            },
            NodeMessage::Changed { tenant: tenant.clone(), name: name.clone(), conversation: Some(THREE) },
            NodeMessage::Deleted { tenant, name, conversation: THREE },
            NodeMessage::Heads(vec![head]),
            NodeMessage::Moved { session: session.clone(), to: node.clone(), stamp: Some(5) },
            NodeMessage::Superseded { session: session.clone(), to: node.clone(), stamp: Some(5) },
            NodeMessage::GivenBack { session: session.clone(), stamp: 5 },
            NodeMessage::Ended { session },
            NodeMessage::Restored { node: node.clone() },
            NodeMessage::Drain { node: node.clone() },
            NodeMessage::Missed { node: node.clone() },
            NodeMessage::Here { node: node.clone() },
            NodeMessage::Leaving { node },
            NodeMessage::JobsReady {},
            NodeMessage::HooksChanged {},
        ];
        let known = [
            r#"{"Typing":{"tenant":"t","name":"c","conversation":3,"user":"ann","typing":true}}"#,
            r#"{"Presence":{"tenant":"t","name":"c","conversation":3,"user":"ann","node":"n","devices":2,"last_seen_ms":7}}"#,
            r#"{"Read":{"tenant":"t","name":"c","conversation":3,"user":"ann","seq":9}}"#,
            r#"{"Member":{"tenant":"t","name":"c","conversation":3,"version":9,"user":"ann","member":true,"owner":"ann"}}"#,
            r#"{"Member":{"tenant":"t","name":"c","conversation":3,"version":9,"user":"ann","member":true}}"#,
            r#"{"Members":{"tenant":"t","name":"c","conversation":3,"version":9}}"#,
            r#"{"Changed":{"tenant":"t","name":"c","conversation":3}}"#,
            r#"{"Deleted":{"tenant":"t","name":"c","conversation":3}}"#,
            r#"{"Heads":[{"tenant":"t","name":"c","conversation":3,"seq":9}]}"#,
            r#"{"Moved":{"session":"s","to":"n","stamp":5}}"#,
            r#"{"Superseded":{"session":"s","to":"n","stamp":5}}"#,
            r#"{"GivenBack":{"session":"s","stamp":5}}"#,
            r#"{"Ended":{"session":"s"}}"#,
            r#"{"Restored":{"node":"n"}}"#,
            r#"{"Drain":{"node":"n"}}"#,
            r#"{"Missed":{"node":"n"}}"#,
            r#"{"Here":{"node":"n"}}"#,
            r#"{"Leaving":{"node":"n"}}"#,
            r#"{"JobsReady":{}}"#,
            r#"{"HooksChanged":{}}"#,
        ];
        assert_eq!(travels.len(), known.len());
        for (message, json) in travels.into_iter().zip(known) {
            let body = message.encode();
            assert_eq!(body, [&[KIND_OTHER], json.as_bytes()].concat());
            assert_eq!(decode(&body), Some(Received::Other(message)));
        }
    }

    #[test]
    fn the_loss_of_a_publication_is_told_by_its_kind() {
        let node: Arc<str> = "n".into();
        let header = MessageHeader {
            conversation: THREE,
            tenant: &"t".into(),
            name: &"c".into(),
            seq: NINE,
            log: None,
            committed_at_us: 0,
            traceparent: None,
        };
        let message = encode_message(&header, b"{}");
        for (body, loss) in [
            (message, Loss::Message),
            (NodeMessage::Here { node: node.clone() }.encode(), Loss::Harmless),
            (NodeMessage::Restored { node: node.clone() }.encode(), Loss::OfAll),
            (NodeMessage::Leaving { node }.encode(), Loss::OfPartition),
            (Bytes::from_static(b"\x02{\"Hereafter\":{}}"), Loss::OfPartition),
            (Bytes::new(), Loss::OfPartition),
        ] {
            assert_eq!(loss_of(&body), loss, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_ignored(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            traceparent_of(&bytes);
            decode(&Bytes::from(bytes));
        }
    }
}

//! For the tests of a shard's parts: a shard without threads, and connections that lead nowhere.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use starling_auth::Identity;
use starling_conversation_store::{Conversation, ConversationId, Seq};
use starling_hub::{Attachment, ChannelId, Room, RoomKey, Session, SocketId};
use starling_wire::protocol::Encoding;
use starling_wire::websocket::deflate::Params;
use tokio::io::{AsyncRead, DuplexStream, ReadBuf};

use super::opening::Opening;
use super::reading::Reader;
use super::settings::{Env, Service, ShardSettings};
use super::socket::Socket;
use super::table::{Shard, Table};
use crate::GatewayConfig;
use crate::admission::{Admission, AdmissionLimits};

/// Longer than any test.
pub const LONG: Duration = Duration::from_secs(100_000);

pub fn shard() -> Rc<Shard> {
    shard_with(|_| {})
}

pub fn shard_with(change: impl FnOnce(&mut GatewayConfig)) -> Rc<Shard> {
    let mut config = GatewayConfig {
        queue_bytes: 1 << 16,
        message_bytes_max: 1 << 16,
        commands_per_second: 0,
        bytes_per_second: 0,
        ..GatewayConfig::default()
    };
    change(&mut config);
    let settings =
        ShardSettings::new(config.into(), &Service::Echo, Admission::new(AdmissionLimits::default()).into());
    Rc::new(Shard::new(Env::new(0, Service::Echo, settings), 0))
}

/// A shard on which nobody is closed for being silent.
pub fn patient_shard() -> Rc<Shard> {
    shard_with(|config| (config.heartbeat, config.connect_timeout) = (LONG, LONG))
}

/// Number of connections that are open.
pub fn open_count(table: &Table) -> usize {
    table.conns.iter().filter(|(_, conn)| conn.is_open()).count()
}

/// A connection, and the client's end of it.
pub fn connect(shard: &Rc<Shard>) -> (u32, DuplexStream) {
    let (key, _, near) = connect_with(shard, None);
    (key, near)
}

/// A connection that agreed on compression, its incoming side, and the client's end of it.
pub fn connect_with(shard: &Rc<Shard>, deflate: Option<Params>) -> (u32, Reader, DuplexStream) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let opening = Opening {
        socket: Socket::Memory(far),
        encoding: Encoding::Json,
        deflate,
        identity: None,
        traceparent: None,
        address: None,
        early: Bytes::new(),
    };
    let (key, reader) = opening.enter(shard);
    (key, reader, near)
}

/// What has come to the client's end by now, and was not taken before.
pub fn received(near: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut space = [0; 4_096];
    loop {
        let mut buffer = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(&mut *near).poll_read(&mut cx, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => bytes.extend_from_slice(buffer.filled()),
            _ => return bytes,
        }
    }
}

pub fn session() -> Arc<Session> {
    session_of("s")
}

pub fn session_of(id: &str) -> Arc<Session> {
    let identity =
        Identity { user: "ann".into(), tenant: "t".into(), scopes: Arc::default(), expires_at_ms: i64::MAX };
    let socket = SocketId { shard: 0, key: 0, generation: 0 };
    Arc::new(Session::new(id.into(), identity, 0, socket, 1))
}

/// To a conversation whose head is this, of a client that has it up to `cursor`.
pub fn attachment(channel: ChannelId, head: u64, cursor: u64) -> Attachment {
    let conversation = Conversation {
        id: ConversationId::new(1),
        conversation: "channel".into(),
        owner: "ann".into(),
        title: None,
        metadata: None,
        created_at_ms: 0,
        head: Seq::new(head),
        members: Vec::new(),
        members_version: 0,
        details_version: 0,
        log: "1-a".to_owned(),
    };
    let key = RoomKey { tenant: "t".into(), name: "channel".into() };
    let room = Arc::new(Room::new(key, channel, 1, &conversation));
    Attachment { channel, room, head: Seq::new(head), cursor: Seq::new(cursor) }
}

//! Who types: it ends by itself a few seconds after the last word of it, also when the typist's socket is gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::UserName;
use tokio::time::Instant;

use crate::Map;
use crate::room::Room;
use crate::shards::RoomId;

/// How long one `typing` holds.
const TYPING: Duration = Duration::from_secs(6);
/// How many typists are remembered on a node; clients let the others expire by themselves.
const TYPISTS_MAX: usize = 50_000;

/// Who types, by what this node's sockets said.
#[derive(Default)]
pub(crate) struct Typists {
    inner: Mutex<Map<(RoomId, UserName), (Arc<Room>, Instant)>>,
}

impl Typists {
    /// Notes that somebody types, or stopped.
    pub fn note(&self, room: &Arc<Room>, user: &UserName, typing: bool) {
        let mut inner = self.inner.lock();
        let key = (room.id, user.clone());
        if !typing {
            inner.remove(&key);
        } else if inner.len() < TYPISTS_MAX || inner.contains_key(&key) {
            inner.insert(key, (room.clone(), Instant::now() + TYPING));
        }
    }

    /// Takes those out whose time is over.
    pub fn take_expired(&self, now: Instant) -> Vec<(Arc<Room>, UserName)> {
        let mut expired = Vec::new();
        let mut inner = self.inner.lock();
        inner
            .extract_if(|_, (_, until)| *until <= now)
            .for_each(|((_, user), (room, _))| expired.push((room, user)));
        expired
    }
}

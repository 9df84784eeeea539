//! Typing. A user stops typing a few seconds after the last `typing`, even if the connection is gone.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_model::UserName;
use tokio::time::Instant;

use starling_wire::protocol;

use crate::Map;
use crate::node_message::NodeMessage;
use crate::publisher::Publisher;
use crate::room::Room;
use crate::shards::{ChannelId, Shards};

/// How long one `typing` is valid.
const TYPING: Duration = Duration::from_secs(6);
/// Most typing users that a node remembers. The `typing` of further users expires in the clients.
const TYPISTS_MAX: usize = 50_000;

/// The users who type, as this node's sessions said.
pub(crate) struct Typing {
    shards: Arc<dyn Shards>,
    publisher: Arc<Publisher>,
    /// The typing users per room, and until when.
    typists: Mutex<Map<(ChannelId, UserName), (Arc<Room>, Instant)>>,
}

impl Typing {
    /// Creates an empty list.
    pub fn new(shards: Arc<dyn Shards>, publisher: Arc<Publisher>) -> Typing {
        Typing { shards, publisher, typists: Mutex::default() }
    }

    /// Sets whether a user types, and tells everybody else in the room, on this node and the others.
    pub fn set(&self, room: &Arc<Room>, user: &UserName, typing: bool) {
        if room.is_gone() {
            return;
        }
        let event = protocol::Typing { conversation: room.key.name.clone(), user: user.clone(), typing };
        room.broadcast(&*self.shards, event, Some(user));
        let message = NodeMessage::Typing {
            tenant: room.key.tenant.clone(),
            name: room.key.name.clone(),
            conversation: Some(room.conversation),
            user: user.clone(),
            typing,
        };
        self.publisher.publish_about(room, &message);
        self.note(room, user, typing);
    }

    /// Ends the typing of users who have not repeated it in time.
    pub fn expire(&self) {
        let now = Instant::now();
        let expired: Vec<(Arc<Room>, UserName)> = {
            let mut typists = self.typists.lock();
            typists
                .extract_if(|_, (_, until)| *until <= now)
                .map(|((_, user), (room, _))| (room, user))
                .collect()
        };
        for (room, user) in expired {
            self.set(&room, &user, false);
        }
    }

    fn note(&self, room: &Arc<Room>, user: &UserName, typing: bool) {
        let mut typists = self.typists.lock();
        let key = (room.channel, user.clone());
        if !typing {
            typists.remove(&key);
        } else if typists.len() < TYPISTS_MAX || typists.contains_key(&key) {
            typists.insert(key, (room.clone(), Instant::now() + TYPING));
        }
    }
}

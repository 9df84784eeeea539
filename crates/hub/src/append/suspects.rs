//! Conversations to which an append had no answer: whether it was committed is looked up.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::directory::Directory;
use crate::publisher::Publisher;
use crate::room::Room;

/// How many conversations are remembered: as many as one query tells of.
const SUSPECTS_MAX: usize = 5_000;

/// Conversations whose head in the database is to be looked up.
pub(super) struct Suspects {
    directory: Arc<Directory>,
    publisher: Arc<Publisher>,
    rooms: Mutex<VecDeque<Arc<Room>>>,
}

impl Suspects {
    /// None yet.
    pub fn new(directory: Arc<Directory>, publisher: Arc<Publisher>) -> Suspects {
        Suspects { directory, publisher, rooms: Mutex::default() }
    }

    /// Has a conversation's head looked up.
    pub fn add(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms.lock();
        if rooms.len() < SUSPECTS_MAX && !rooms.iter().any(|other| Arc::ptr_eq(other, room)) {
            rooms.push_back(room.clone());
        }
    }

    /// Looks the heads up, and has the other nodes told: the sender may never ask again.
    pub async fn check(&self) {
        let rooms: Vec<Arc<Room>> = self.rooms.lock().drain(..).collect();
        if rooms.is_empty() {
            return;
        }
        let is_answered = self.directory.check_heads(&rooms).await;
        for room in &rooms {
            if is_answered {
                self.publisher.note_commit(room, room.state().known());
            } else {
                self.add(room);
            }
        }
    }
}

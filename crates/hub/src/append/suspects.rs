//! Looks up whether an append was committed to which the database did not reply.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::directory::Directory;
use crate::publisher::Publisher;
use crate::room::Room;

/// Most conversations that are remembered: as many as one query can look up.
const SUSPECTS_MAX: usize = 5_000;

/// Conversations whose heads must be looked up in the database.
pub(super) struct Suspects {
    directory: Arc<Directory>,
    publisher: Arc<Publisher>,
    rooms: Mutex<VecDeque<Arc<Room>>>,
}

impl Suspects {
    /// Creates an empty list.
    pub fn new(directory: Arc<Directory>, publisher: Arc<Publisher>) -> Suspects {
        Suspects { directory, publisher, rooms: Mutex::default() }
    }

    /// Adds a conversation whose head must be looked up.
    pub fn add(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms.lock();
        if rooms.len() < SUSPECTS_MAX && !rooms.iter().any(|other| Arc::ptr_eq(other, room)) {
            rooms.push_back(room.clone());
        }
    }

    /// Looks the heads up and announces them, since the sender may never retry.
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

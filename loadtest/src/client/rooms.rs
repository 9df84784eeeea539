//! The conversations or topics of a run, as all threads know them.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// The conversations or topics of a run. Sessions with neighbouring indices share one.
#[derive(Debug)]
pub struct Rooms {
    run: String,
    per_room: usize,
    sessions: usize,
    rooms: Vec<Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// Whether the first member has created the conversation.
    exists: AtomicBool,
    /// The highest number that a sender was told.
    head: AtomicU64,
}

impl Rooms {
    /// Rooms for this many sessions.
    pub fn new(run: &str, sessions: usize, per_room: usize) -> Self {
        let count = sessions.div_ceil(per_room);
        Self {
            run: run.to_owned(),
            per_room,
            sessions,
            rooms: std::iter::repeat_with(Room::default).take(count).collect(),
        }
    }

    /// The room of a session.
    pub fn of(&self, session: usize) -> usize {
        session / self.per_room
    }

    /// The name of a room.
    pub fn name(&self, room: usize) -> String {
        format!("lt-{}-{room}", self.run)
    }

    /// The sessions that share a room.
    pub fn members(&self, room: usize) -> Range<usize> {
        room * self.per_room..self.sessions.min((room + 1) * self.per_room)
    }

    /// Whether the conversation exists.
    pub fn exists(&self, room: usize) -> bool {
        self.rooms[room].exists.load(Ordering::Acquire)
    }

    /// Notes that the conversation exists.
    pub fn created(&self, room: usize) {
        self.rooms[room].exists.store(true, Ordering::Release);
    }

    /// Notes that a sender was told this number.
    pub fn reached(&self, room: usize, number: u64) {
        self.rooms[room].head.fetch_max(number, Ordering::Relaxed);
    }

    /// The highest number that a sender was told, 0 if nobody was.
    pub fn head(&self, room: usize) -> u64 {
        self.rooms[room].head.load(Ordering::Relaxed)
    }
}

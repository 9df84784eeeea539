//! The line between a node and a server that it depends on: delays, outages, and the end of the node itself.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::chance::Chance;

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// The node runs.
    Running,
    /// Nothing goes out or comes in until the node runs again.
    Frozen,
    /// The node never runs again.
    Dead,
}

/// The life of a node. A dead node's tasks stay where they wait, and nobody sees what they do.
#[derive(Clone, Debug)]
pub struct Power {
    shared: Arc<(Mutex<Life>, Notify)>,
}

impl Power {
    pub fn new() -> Power {
        Power { shared: Arc::new((Mutex::new(Life::Running), Notify::new())) }
    }

    /// Changes the node's life. A dead node stays dead.
    pub fn set(&self, life: Life) {
        let (now, changed) = &*self.shared;
        if !self.is_dead() {
            *now.lock() = life;
            changed.notify_waiters();
        }
    }

    pub fn is_dead(&self) -> bool {
        self.life() == Life::Dead
    }

    /// Waits while the node is frozen. Never returns if it is dead.
    pub async fn on(&self) {
        self.reaches(Life::Running).await;
    }

    /// Waits for the node's death.
    pub async fn death(&self) {
        self.reaches(Life::Dead).await;
    }

    fn life(&self) -> Life {
        *self.shared.0.lock()
    }

    /// Tasks that wait are woken in the order in which they came. A `watch` channel has no such order.
    async fn reaches(&self, wanted: Life) {
        while self.life() != wanted {
            self.shared.1.notified().await;
        }
    }
}

/// Whether a server is down, for all nodes.
#[derive(Debug, Default)]
pub struct Outage {
    away: AtomicBool,
    /// Whether calls no longer fail.
    over: AtomicBool,
}

impl Outage {
    pub fn set(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// Ends all failures: from now on every call gets an answer.
    pub fn end(&self) {
        self.away.store(false, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// The error of a call without an answer. It is not known whether the call was carried out.
#[derive(Clone, Copy, Debug)]
pub struct NoAnswer;

/// The line from one node to one server.
pub struct Line {
    pub power: Power,
    pub outage: Arc<Outage>,
    /// The typical delay in one direction, milliseconds.
    pub typical_ms: u64,
    /// One call in this many fails on the way there, and one in this many on the way back.
    pub fails_one_in: u64,
    pub chance: Mutex<Chance>,
}

impl Line {
    /// Makes a call, which `apply` carries out at some moment before the answer arrives. A call that is on its way when the node dies is
    /// still carried out.
    pub async fn call<T>(&self, apply: impl Future<Output = T>) -> Result<T, NoAnswer> {
        self.power.on().await;
        self.travel().await;
        if self.outage.is_away() || self.fails() {
            let patience = self.chance.lock().millis(20, 300);
            tokio::time::sleep(patience).await;
            self.power.on().await;
            return Err(NoAnswer);
        }
        let answer = apply.await;
        let lost = self.fails();
        self.travel().await;
        self.power.on().await;
        if lost { Err(NoAnswer) } else { Ok(answer) }
    }

    async fn travel(&self) {
        let delay = self.chance.lock().delay(self.typical_ms);
        tokio::time::sleep(delay).await;
    }

    fn fails(&self) -> bool {
        let fails = self.chance.lock().one_in(self.fails_one_in);
        fails && !self.outage.over.load(Ordering::Relaxed)
    }
}

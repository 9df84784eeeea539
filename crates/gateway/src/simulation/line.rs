//! What lies between a node and the servers that it depends on: time, outages, and the node's own end.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::chance::Chance;

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It does.
    Running,
    /// Nothing goes out and nothing comes in until it runs again.
    Frozen,
    /// Nothing ever will.
    Dead,
}

/// A node's life. A dead node's tasks are left where they wait: nothing that they do is seen by anybody.
#[derive(Clone, Debug)]
pub struct Power {
    shared: Arc<(Mutex<Life>, Notify)>,
}

impl Power {
    pub fn new() -> Power {
        Power { shared: Arc::new((Mutex::new(Life::Running), Notify::new())) }
    }

    /// Changes the node's life. Death is for ever.
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

    /// Waits while the node is frozen; for ever once it is dead.
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

    /// Those who wait are woken in the order in which they came; a `watch` channel has no order.
    async fn reaches(&self, wanted: Life) {
        while self.life() != wanted {
            self.shared.1.notified().await;
        }
    }
}

/// Whether a server can be reached, by anybody.
#[derive(Debug, Default)]
pub struct Outage {
    away: AtomicBool,
    /// No call fails any more.
    over: AtomicBool,
}

impl Outage {
    pub fn set(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// From now on all calls are answered.
    pub fn end(&self) {
        self.away.store(false, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }
}

/// A call had no answer. Whether it was carried out is not known.
#[derive(Clone, Copy, Debug)]
pub struct NoAnswer;

/// The way from one node to one server.
pub struct Line {
    pub power: Power,
    pub outage: Arc<Outage>,
    /// How long a way takes, milliseconds.
    pub typical_ms: u64,
    /// One call in so many fails, on the way there or on the way back.
    pub fails_one_in: u64,
    pub chance: Mutex<Chance>,
}

impl Line {
    /// Has something done at the other end, at one moment between now and the answer. What is on its way when the node dies is
    /// carried out all the same.
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

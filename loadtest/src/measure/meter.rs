//! What one thread counts in one second.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::Histogram;

/// Different errors that are counted by name; further ones are counted as `other`.
const ERRORS_MAX: usize = 50;

/// Numbers of events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Sessions that connected for the first time.
    pub connected: u64,
    /// Sessions that resumed after a break.
    pub resumed: u64,
    /// Connections that ended unasked, or that a storm broke.
    pub reconnects: u64,
    /// Sessions that moved because a node asked them to.
    pub moved: u64,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were acknowledged.
    pub acknowledged: u64,
    /// Messages that arrived.
    pub delivered: u64,
    /// Messages that a session passed over. One that arrives later is taken off.
    pub lost: i64,
    /// Messages that arrived twice.
    pub doubled: u64,
    /// Messages that arrived after later ones.
    pub reordered: u64,
    /// Failures by name.
    pub errors: BTreeMap<String, u64>,
    /// Why connections ended.
    pub notes: BTreeMap<String, u64>,
}

impl Counts {
    /// All failures.
    pub fn failures(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The share of failures among all that was tried.
    pub fn errors_percent(&self) -> f64 {
        let tried = self.sent + self.connected + self.resumed + self.failures();
        if tried == 0 { 0.0 } else { self.failures() as f64 * 100.0 / tried as f64 }
    }

    fn add(&mut self, other: &Self) {
        self.connected += other.connected;
        self.resumed += other.resumed;
        self.reconnects += other.reconnects;
        self.moved += other.moved;
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.reordered += other.reordered;
        for (into, from) in [(&mut self.errors, &other.errors), (&mut self.notes, &other.notes)] {
            for (name, count) in from {
                count_by_name(into, name, *count);
            }
        }
    }
}

/// What one thread, or all of them, counted and timed.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The numbers.
    pub counts: Counts,
    /// From opening a connection to being in the room.
    pub connect: Histogram,
    /// From the time at which a message was due to its acknowledgement.
    pub acknowledge: Histogram,
    /// From the time at which a message was due to its arrival, for each receiver.
    pub delivery: Histogram,
    /// From the break of a connection to being back in the room.
    pub resume: Histogram,
    /// How late the generator itself sent its messages.
    pub lateness: Histogram,
}

impl Meter {
    /// Adds what another one measured.
    ///
    /// # Errors
    /// Never: the histograms have the same bounds.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        self.counts.add(&other.counts);
        self.connect.add(&other.connect)?;
        self.acknowledge.add(&other.acknowledge)?;
        self.delivery.add(&other.delivery)?;
        self.resume.add(&other.resume)?;
        self.lateness.add(&other.lateness)
    }

    pub(crate) fn connected(&mut self, took: Duration) {
        self.counts.connected += 1;
        self.connect.record_duration(took);
    }

    pub(crate) fn resumed(&mut self, took: Duration) {
        self.counts.resumed += 1;
        self.resume.record_duration(took);
    }

    pub(crate) fn reconnecting(&mut self) {
        self.counts.reconnects += 1;
    }

    pub(crate) fn moved(&mut self) {
        self.counts.moved += 1;
    }

    pub(crate) fn sent(&mut self) {
        self.counts.sent += 1;
    }

    pub(crate) fn acknowledged(&mut self, took_us: u64) {
        self.counts.acknowledged += 1;
        self.acknowledge.record(took_us);
    }

    pub(crate) fn delivered(&mut self, took_us: u64) {
        self.counts.delivered += 1;
        self.delivery.record(took_us);
    }

    pub(crate) fn missing(&mut self, messages: u64) {
        self.counts.lost += i64::try_from(messages).unwrap_or(i64::MAX);
    }

    pub(crate) fn late_arrival(&mut self) {
        self.counts.lost -= 1;
        self.counts.reordered += 1;
    }

    pub(crate) fn doubled(&mut self) {
        self.counts.doubled += 1;
    }

    pub(crate) fn error(&mut self, name: &str) {
        count_by_name(&mut self.counts.errors, name, 1);
    }

    pub(crate) fn note(&mut self, text: &str) {
        count_by_name(&mut self.counts.notes, text, 1);
    }
}

/// Counts under a name, or as `other` where there are too many names.
pub(crate) fn count_by_name(counts: &mut BTreeMap<String, u64>, name: &str, count: u64) {
    let name = if counts.contains_key(name) || counts.len() < ERRORS_MAX { name } else { "other" };
    *counts.entry(name.to_owned()).or_default() += count;
}

//! How many sessions a node begins a second, and how long the next one would wait.

use std::time::Duration;

use starling_rate::Rate;

/// Sessions per second that a node is assumed to begin until it has been measured.
const PER_SECOND_START: f64 = 3_000.0;
/// The bounds of what is measured, sessions per second. While the session store does not answer, nothing is served at all.
const PER_SECOND_MIN: f64 = 20.0;
const PER_SECOND_MAX: f64 = 1_000_000.0;
/// How long is measured at a time, microseconds.
const SLOT_US: u64 = 100_000;
/// Connects under way below which a node has less to do than it could.
const BUSY_MIN: u32 = 64;

/// The connects of a node: how many are under way, and how many it serves a second while it has as many as it can take.
#[derive(Debug)]
pub(crate) struct Load {
    under_way: u32,
    per_second: f64,
    /// When the present measurement began, microseconds.
    slot_began_us: u64,
    /// Number of sessions that have begun since then.
    served: u32,
    /// Whether there has been enough to do since then.
    is_busy: bool,
}

impl Default for Load {
    fn default() -> Load {
        Load { under_way: 0, per_second: PER_SECOND_START, slot_began_us: 0, served: 0, is_busy: false }
    }
}

impl Load {
    /// Counts a `connect` in.
    pub fn begin(&mut self) {
        self.under_way = self.under_way.saturating_add(1);
    }

    /// Counts a `connect` out, at a time in microseconds. `served`: a session began. What ends otherwise shows nothing about the
    /// node's speed: a bad token is refused at once.
    pub fn end(&mut self, now_us: u64, served: bool) {
        self.under_way = self.under_way.saturating_sub(1);
        self.served += u32::from(served);
        self.is_busy &= self.under_way >= BUSY_MIN;
        let elapsed_us = now_us.saturating_sub(self.slot_began_us);
        if elapsed_us < SLOT_US {
            return;
        }
        let measured = f64::from(self.served) * 1e6 / elapsed_us as f64;
        let per_second = if self.is_busy {
            (self.per_second + measured) / 2.0
        } else {
            // A node with little to do has shown that it can do as much, and no less than before.
            self.per_second.max(measured)
        };
        self.per_second = per_second.clamp(PER_SECOND_MIN, PER_SECOND_MAX);
        (self.slot_began_us, self.served) = (now_us, 0);
        self.is_busy = self.under_way >= BUSY_MIN;
    }

    /// Number of connects under way.
    #[cfg(test)]
    pub fn under_way(&self) -> u32 {
        self.under_way
    }

    /// How long one more `connect` would wait.
    pub fn wait(&self) -> Duration {
        Duration::from_secs_f64(f64::from(self.under_way) / self.per_second)
    }

    /// The rate at which refused clients may come back: so many for each session that the node begins.
    pub fn rate(&self, per_session: u32) -> Option<Rate> {
        let per_second = (self.per_second * f64::from(per_session)) as u32;
        Rate::per_second(per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves for some seconds what always has this many under way, at a speed. Returns the load.
    fn serve(load: &mut Load, from_us: u64, per_second: u64, seconds: u64, waiting: u32) -> u64 {
        while load.under_way < waiting {
            load.begin();
        }
        let mut now_us = from_us;
        while now_us < from_us + seconds * 1_000_000 {
            now_us += 1_000_000 / per_second;
            load.begin();
            load.end(now_us, true);
        }
        now_us
    }

    #[test]
    fn a_busy_node_learns_its_speed_within_two_seconds_whether_it_gets_slower_or_faster() {
        let mut load = Load::default();
        let mut now_us = 0;
        for per_second in [500, 8_000, 50, 2_000] {
            now_us = serve(&mut load, now_us, per_second, 2, 1_000);
            let error = load.per_second / per_second as f64;
            assert!((0.9..1.1).contains(&error), "{per_second}: {}", load.per_second);
        }
        assert!((0.4..0.6).contains(&load.wait().as_secs_f64()), "{:?}", load.wait());
    }

    #[test]
    fn a_node_with_little_to_do_is_not_taken_for_slow() {
        let mut load = Load::default();
        serve(&mut load, 0, 10, 60, 3);
        assert_eq!(load.per_second, PER_SECOND_START);
    }

    #[test]
    fn what_is_refused_does_not_show_a_faster_node() {
        let mut load = Load::default();
        let now_us = serve(&mut load, 0, 500, 2, 1_000);
        for bad in 0..100_000 {
            load.begin();
            load.end(now_us + bad, false);
        }
        assert!(load.per_second < 600.0, "{}", load.per_second);
    }
}

//! How many handshakes and sessions a node begins a second, of all clients together: after another node's death everybody comes at
//! once, and a node that tried to serve all of them would serve nobody.
//!
//! Two gates, each a generic cell rate algorithm (ITU-T I.371) with a burst of a second. At the first, before a token is looked at
//! or a socket upgraded, whoever is too many is sent away with a time to return. At the second, where it is known who resumes, new
//! sessions get only the half of the burst, so that those who were in the middle of something come first.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::Rng;

/// The longest that a client is sent away for.
const AWAY_MAX: Duration = Duration::from_secs(30);

/// The gates of a node.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Per second; 0: everybody.
    rate: u32,
    began: Instant,
    gates: Mutex<Gates>,
}

/// Each gate's theoretical arrival time, microseconds since `began`.
#[derive(Debug, Default)]
struct Gates {
    handshakes: u64,
    sessions: u64,
    /// When those who were sent away so far are all back, at the rate that is taken.
    returning: u64,
}

impl Admission {
    /// Gates that take so many a second.
    pub fn new(rate: u32) -> Admission {
        Admission { rate, began: Instant::now(), gates: Mutex::default() }
    }

    /// Whether a handshake may begin. Otherwise when to return: later for each who is sent away, so that they come back at the
    /// rate that can be taken.
    pub fn handshake(&self) -> Result<(), Duration> {
        let now = self.now_us();
        let mut gates = self.gates.lock();
        if self.takes(&mut gates.handshakes, now, 1_000_000) {
            return Ok(());
        }
        gates.returning = gates.returning.max(now + 1_000_000) + 1_000_000 / u64::from(self.rate);
        let away = Duration::from_micros(gates.returning - now);
        drop(gates);
        Err(jittered(away.min(AWAY_MAX)))
    }

    /// Whether a session may begin, or go on. Otherwise when to return.
    pub fn session(&self, resumes: bool) -> Result<(), Duration> {
        let burst_us = if resumes { 1_000_000 } else { 500_000 };
        if self.takes(&mut self.gates.lock().sessions, self.now_us(), burst_us) {
            return Ok(());
        }
        Err(jittered(Duration::from_secs(2)))
    }

    fn takes(&self, gate: &mut u64, now: u64, burst_us: u64) -> bool {
        if self.rate == 0 {
            return true;
        }
        let step = 1_000_000 / u64::from(self.rate);
        let next = (*gate).max(now) + step;
        if next > now + burst_us.max(step) {
            return false;
        }
        *gate = next;
        true
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn jittered(away: Duration) -> Duration {
    away.mul_f64(rand::rng().random_range(0.75..1.25))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_rate_everybody_is_taken() {
        let admission = Admission::new(0);
        assert!((0..100_000).all(|_| admission.handshake().is_ok() && admission.session(false).is_ok()));
    }

    #[test]
    fn a_burst_ends_and_each_who_is_sent_away_returns_later() {
        let admission = Admission::new(100);
        let answers: Vec<_> = (0..2_000).map(|_| admission.handshake()).collect();
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        assert!((100..1_000).contains(&taken), "{taken}");
        let away: Vec<Duration> = answers.into_iter().filter_map(Result::err).collect();
        assert!(away[0] < Duration::from_secs(2), "{:?}", away[0]);
        assert!(away.last().is_some_and(|last| *last > Duration::from_secs(10)), "{:?}", away.last());
        assert!(away.iter().all(|away| *away <= AWAY_MAX.mul_f64(1.25)));
    }

    #[test]
    fn in_a_storm_those_who_resume_come_first() {
        let admission = Admission::new(1_000);
        while admission.session(false).is_ok() {}
        let resumed = (0..400).filter(|_| admission.session(true).is_ok()).count();
        assert_eq!(resumed, 400);
    }
}

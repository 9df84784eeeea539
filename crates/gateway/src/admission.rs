//! Limits on the handshakes and sessions that a node begins a second, of all clients together: after another node's death all of its
//! clients come at once, and a node that tried to serve all of them would serve none.
//!
//! There are two gates. The first one comes before a token is verified or a socket upgraded: clients over the limit are refused with a
//! time to retry. It can't tell who resumes a session, so it lets through more than the second one takes. The second one can, and gives
//! new sessions only half of the burst: while enough clients resume, they get all of it, since they were in the middle of something.

use std::time::Duration;

use parking_lot::Mutex;
use starling_rate::{Allowance, Line, Rate};
use tokio::time::Instant;

use crate::swept::SweptMap;

/// The shortest time to retry, before it is varied at random.
const AWAY_MIN: Duration = Duration::from_secs(1);
/// The time within which a session that is resumed once more counts as new, microseconds: longer than clients are refused for in a storm.
const AGAIN_US: u64 = 60_000_000;
/// Number of handshakes that are accepted for each session that may begin, so that the second gate has a choice.
const HANDSHAKES_PER_SESSION: u32 = 3;

/// The gates of a node.
#[derive(Debug)]
pub(crate) struct Admission {
    /// Handshakes per second; 0: no limit.
    rate: u32,
    began: Instant,
    gates: Mutex<Gates>,
    /// Sessions that were resumed lately, and when.
    resumed: Mutex<SweptMap<Box<str>, Option<u64>>>,
}

/// What each gate has accepted and refused. Times are microseconds since the beginning.
#[derive(Debug, Default)]
struct Gates {
    handshakes: Allowance,
    sessions: Allowance,
    handshakes_away: Line,
    resumed_away: Line,
    new_away: Line,
}

impl Admission {
    /// Gates that accept so many handshakes a second, and a third as many sessions.
    pub fn new(rate: u32) -> Admission {
        Admission { rate, began: Instant::now(), gates: Mutex::default(), resumed: Mutex::default() }
    }

    /// Accepts a handshake, or returns the time to retry: it is later for each client that is refused, so that they come back at the rate
    /// that can be accepted.
    pub fn handshake(&self) -> Result<(), Duration> {
        self.gates.lock().handshake(self.now_us(), self.rate).map_err(jittered)
    }

    /// Accepts a new session, or one that its client has proved to have had, or returns the time to retry, likewise. A client that resumes
    /// the same session again and again counts as new: one ticket must not take all places.
    pub fn session(&self, resumes: Option<&str>) -> Result<(), Duration> {
        if self.rate == 0 {
            return Ok(());
        }
        let now_us = self.now_us();
        let is_of_use = |at_us: &Option<u64>| at_us.is_some_and(|at_us| now_us < at_us + AGAIN_US);
        let mut resumed = self.resumed.lock();
        let mut last = resumes.map(|session| resumed.entry(session.into(), is_of_use));
        let is_first = last.as_ref().is_some_and(|last| !is_of_use(last));
        self.gates.lock().session(now_us, self.rate, is_first).map_err(jittered)?;
        // Only now, so that a client that was refused comes back with the same right.
        if let Some(last) = &mut last {
            **last = Some(now_us);
        }
        Ok(())
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Gates {
    fn handshake(&mut self, now_us: u64, rate: u32) -> Result<(), Duration> {
        let Some(rate) = Rate::per_second(rate) else { return Ok(()) };
        self.handshakes.take(now_us, rate).map_err(|_| place(&mut self.handshakes_away, now_us, rate))
    }

    fn session(&mut self, now_us: u64, rate: u32, resumes: bool) -> Result<(), Duration> {
        if rate == 0 {
            return Ok(());
        }
        let sessions = (rate / HANDSHAKES_PER_SESSION).max(1);
        let Some(rate) = Rate::per_second(sessions) else { return Ok(()) };
        let (rate, away) = match resumes {
            true => (rate, &mut self.resumed_away),
            false => (rate.with_burst(sessions / 2), &mut self.new_away),
        };
        self.sessions.take(now_us, rate).map_err(|_| place(away, now_us, rate))
    }
}

/// The time to retry for the next client that is refused.
fn place(line: &mut Line, now_us: u64, rate: Rate) -> Duration {
    let first_us = u64::try_from(AWAY_MIN.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(line.place(now_us, first_us, rate))
}

fn jittered(away: Duration) -> Duration {
    away.mul_f64(0.75 + starling_hub::random::fraction() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn without_a_rate_everybody_is_taken() {
        let admission = Admission::new(0);
        assert!((0..100_000).all(|_| admission.handshake().is_ok() && admission.session(None).is_ok()));
    }

    #[test]
    fn a_burst_ends_and_each_who_is_sent_away_returns_later() {
        let mut gates = Gates::default();
        let answers: Vec<_> = (0..2_000).map(|_| gates.handshake(0, 100)).collect();
        let taken = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(taken, 100);
        let away: Vec<Duration> = answers.into_iter().filter_map(Result::err).collect();
        assert!(away[0] < Duration::from_secs(2), "{:?}", away[0]);
        assert!(away.is_sorted() && away.last().is_some_and(|last| *last > Duration::from_secs(10)));
        assert!(away.iter().all(|away| *away <= Duration::from_secs(30)));
    }

    #[test]
    fn however_many_were_sent_away_half_a_minute_later_that_is_over() {
        let mut gates = Gates::default();
        for _ in 0..1_000_000 {
            let _sent_away = gates.handshake(0, 500);
        }
        let later = 31 * SECOND;
        while gates.handshake(later, 500).is_ok() {}
        let away = gates.handshake(later, 500).expect_err("one too many");
        assert!(away < Duration::from_secs(2), "{away:?}");
    }

    #[test]
    fn in_a_storm_those_who_resume_come_first() {
        let mut gates = Gates::default();
        while gates.session(0, 3_000, false).is_ok() {}
        let resumed = (0..400).filter(|_| gates.session(0, 3_000, true).is_ok()).count();
        assert_eq!(resumed, 400);
    }

    #[test]
    fn one_ticket_does_not_hold_the_place_of_many() {
        let admission = Admission::new(300);
        while admission.session(None).is_ok() {}
        let with_one = (0..40).filter(|_| admission.session(Some("the same")).is_ok()).count();
        // On a slow machine some more places come free meanwhile.
        assert!(with_one < 20, "{with_one}");
        let with_their_own = (0..40).filter(|n| admission.session(Some(&n.to_string())).is_ok()).count();
        assert_eq!(with_their_own, 40);
    }

    #[test]
    fn as_long_as_the_storm_lasts_those_who_resume_come_first() {
        // 20,000 newcomers and 5,000 who resume at once; every fifth who comes is one of these.
        const RATE: u32 = 6_000;
        let mut gates = Gates::default();
        let mut coming: BinaryHeap<Reverse<(u64, u64)>> = (0..25_000).map(|n| Reverse((n, n))).collect();
        let (mut resumed, mut new) = (Vec::new(), Vec::new());
        while let Some(Reverse((now, n))) = coming.pop() {
            let resumes = n % 5 == 0;
            let taken = gates.handshake(now, RATE).and_then(|()| gates.session(now, RATE, resumes));
            match taken {
                Ok(()) if resumes => resumed.push(now),
                Ok(()) => new.push(now),
                Err(away) => {
                    let away = u64::try_from(away.as_micros()).expect("seconds");
                    // Some return early and some late, as by chance.
                    coming.push(Reverse((now + away * (75 + n * 7_919 % 50) / 100, n)));
                }
            }
        }
        assert_eq!((resumed.len(), new.len()), (5_000, 20_000));
        let seconds = |taken: &[u64], part: f64| {
            taken[((taken.len() - 1) as f64 * part) as usize] as f64 / SECOND as f64
        };
        for part in [0.5, 0.99, 1.0] {
            println!("{part}: {} s resumed, {} s new", seconds(&resumed, part), seconds(&new, part));
        }
        // At 2,000 sessions a second all need 12.5 s, and those who resume alone 2.5 s.
        assert!(seconds(&resumed, 0.99) < 8.0, "{} s", seconds(&resumed, 0.99));
        assert!(seconds(&resumed, 0.99) < seconds(&new, 0.6), "those who resume do not wait for newcomers");
        assert!(seconds(&new, 1.0) < 30.0, "{} s", seconds(&new, 1.0));
    }
}

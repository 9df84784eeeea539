//! Limits on the handshakes and sessions that a node begins, of all clients together: after another node's death all of its clients come
//! at once, and a node that tried to serve all of them at the same time would serve none.
//!
//! By default the node's load is the limit. The node measures how many sessions it begins a second, and how long connections wait for
//! their first turn. A client waits as long as its turn comes in time; only one that would wait longer than `limit_connect_wait_seconds`
//! is refused, with a time to retry. An operator can set a fixed limit as well.
//!
//! There are two gates. The first one comes before a token is verified or a socket upgraded. It can't tell who resumes a session, so it
//! lets through more than the second one takes. The second one can, and prefers those who resume, since they were in the middle of
//! something: a new session may wait half as long, and under a fixed limit gets half of the burst.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_rate::{Allowance, Line, Rate};
use tokio::time::Instant;

use crate::load::Load;
use crate::swept::SweptMap;

/// The shortest time to retry, before it is varied at random.
const AWAY_MIN: Duration = Duration::from_secs(1);
/// The time within which a session that is resumed once more counts as new, microseconds: longer than clients are refused for in a storm.
const AGAIN_US: u64 = 60_000_000;
/// Number of handshakes that are accepted for each session that may begin, so that the second gate has a choice.
const HANDSHAKES_PER_SESSION: u32 = 3;

/// The limits of all clients of a node together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AdmissionLimits {
    /// Handshakes per second, for each three of which one session may begin; 0: no fixed limit.
    pub handshakes_per_second: u32,
    /// How long a client may wait while the node has too much to do; zero: as long as it takes.
    pub wait_max: Duration,
}

/// The gates of a node.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: AdmissionLimits,
    began: Instant,
    gates: Mutex<Gates>,
    /// Sessions that were resumed lately, and when.
    resumed: Mutex<SweptMap<Box<str>, Option<u64>>>,
}

/// A `connect` that is under way. It counts as load until it is dropped.
#[derive(Debug)]
pub(crate) struct Arrival {
    admission: Arc<Admission>,
    is_served: bool,
}

/// What each gate has accepted and refused. Times are microseconds since the beginning.
#[derive(Debug, Default)]
struct Gates {
    load: Load,
    handshakes: Allowance,
    sessions: Allowance,
    handshakes_away: Line,
    resumed_away: Line,
    new_away: Line,
}

impl Admission {
    /// Gates with these limits.
    pub fn new(limits: AdmissionLimits) -> Admission {
        Admission { limits, began: Instant::now(), gates: Mutex::default(), resumed: Mutex::default() }
    }

    /// Accepts a handshake whose connection waited so long for its first turn, or returns the time to retry: it is later for each client
    /// that is refused, so that they come back at the rate that can be accepted.
    pub fn handshake(&self, waited: Duration) -> Result<(), Duration> {
        self.gates.lock().handshake(self.now_us(), self.limits, waited).map_err(jittered)
    }

    /// Accepts a new session, or one that its client has proved to have had, or returns the time to retry, likewise. A client that resumes
    /// the same session again and again counts as new: one ticket must not take all places.
    pub fn session(self: &Arc<Self>, resumes: Option<&str>) -> Result<Arrival, Duration> {
        let now_us = self.now_us();
        if self.limits.has_none() {
            self.gates.lock().load.begin();
            return Ok(self.arrival());
        }
        let is_of_use = |at_us: &Option<u64>| at_us.is_some_and(|at_us| now_us < at_us + AGAIN_US);
        let mut resumed = self.resumed.lock();
        let mut last = resumes.map(|session| resumed.entry(session.into(), is_of_use));
        let is_first = last.as_ref().is_some_and(|last| !is_of_use(last));
        self.gates.lock().session(now_us, self.limits, is_first).map_err(jittered)?;
        // Only now, so that a client that was refused comes back with the same right.
        if let Some(last) = &mut last {
            **last = Some(now_us);
        }
        Ok(self.arrival())
    }

    fn arrival(self: &Arc<Self>) -> Arrival {
        Arrival { admission: self.clone(), is_served: false }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Arrival {
    /// Records that the session has begun.
    pub fn served(mut self) {
        self.is_served = true;
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let now_us = self.admission.now_us();
        self.admission.gates.lock().load.end(now_us, self.is_served);
    }
}

impl AdmissionLimits {
    fn has_none(self) -> bool {
        self.handshakes_per_second == 0 && self.wait_max.is_zero()
    }

    /// Whether a wait is longer than a client may wait.
    fn is_too_long(self, wait: Duration) -> bool {
        !self.wait_max.is_zero() && wait > self.wait_max
    }
}

impl Gates {
    fn handshake(&mut self, now_us: u64, limits: AdmissionLimits, waited: Duration) -> Result<(), Duration> {
        if limits.is_too_long(waited) {
            let rate = self.load.rate(HANDSHAKES_PER_SESSION);
            return Err(place(&mut self.handshakes_away, now_us, rate));
        }
        let Some(rate) = Rate::per_second(limits.handshakes_per_second) else { return Ok(()) };
        self.handshakes.take(now_us, rate).map_err(|_| place(&mut self.handshakes_away, now_us, Some(rate)))
    }

    fn session(&mut self, now_us: u64, limits: AdmissionLimits, resumes: bool) -> Result<(), Duration> {
        let away = if resumes { &mut self.resumed_away } else { &mut self.new_away };
        let wait = self.load.wait() * if resumes { 1 } else { 2 };
        if limits.is_too_long(wait) {
            return Err(place(away, now_us, self.load.rate(1)));
        }
        if limits.handshakes_per_second > 0 {
            let sessions = (limits.handshakes_per_second / HANDSHAKES_PER_SESSION).max(1);
            let burst = if resumes { sessions } else { sessions / 2 };
            if let Some(rate) = Rate::per_second(sessions).map(|rate| rate.with_burst(burst)) {
                self.sessions.take(now_us, rate).map_err(|_| place(away, now_us, Some(rate)))?;
            }
        }
        self.load.begin();
        Ok(())
    }
}

/// The time to retry for the next client that is refused.
fn place(line: &mut Line, now_us: u64, rate: Option<Rate>) -> Duration {
    let Some(rate) = rate else { return AWAY_MIN };
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
    const NO_WAIT: Duration = Duration::ZERO;
    /// As the program has it by default.
    const BY_LOAD: AdmissionLimits =
        AdmissionLimits { handshakes_per_second: 0, wait_max: Duration::from_secs(5) };

    fn fixed(handshakes_per_second: u32) -> AdmissionLimits {
        AdmissionLimits { handshakes_per_second, wait_max: NO_WAIT }
    }

    #[test]
    fn without_a_rate_everybody_is_taken() {
        let admission = Arc::new(Admission::new(AdmissionLimits::default()));
        let hour = Duration::from_secs(3_600);
        assert!((0..100_000).all(|_| admission.handshake(hour).is_ok() && admission.session(None).is_ok()));
    }

    #[test]
    fn a_burst_ends_and_each_who_is_sent_away_returns_later() {
        let mut gates = Gates::default();
        let answers: Vec<_> = (0..2_000).map(|_| gates.handshake(0, fixed(100), NO_WAIT)).collect();
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
            let _sent_away = gates.handshake(0, fixed(500), NO_WAIT);
        }
        let later = 31 * SECOND;
        while gates.handshake(later, fixed(500), NO_WAIT).is_ok() {}
        let away = gates.handshake(later, fixed(500), NO_WAIT).expect_err("one too many");
        assert!(away < Duration::from_secs(2), "{away:?}");
    }

    #[test]
    fn in_a_storm_those_who_resume_come_first() {
        let mut gates = Gates::default();
        while gates.session(0, fixed(3_000), false).is_ok() {}
        let resumed = (0..400).filter(|_| gates.session(0, fixed(3_000), true).is_ok()).count();
        assert_eq!(resumed, 400);
    }

    #[test]
    fn one_ticket_does_not_hold_the_place_of_many() {
        let admission = Arc::new(Admission::new(fixed(300)));
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
            let taken = gates
                .handshake(now, fixed(RATE), NO_WAIT)
                .and_then(|()| gates.session(now, fixed(RATE), resumes));
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

    /// What became of clients who came at the same moment.
    #[derive(Debug, Default)]
    struct Crowd {
        /// When each was served, seconds, by whether it resumed.
        resumed: Vec<f64>,
        new: Vec<f64>,
        refusals: usize,
    }

    /// Lets clients come at once, as pairs of how many and whether they resume, to a node that serves so many a second. Who is refused
    /// comes back when told to.
    fn crowd(per_second: u64, comers: [(u64, bool); 2]) -> Crowd {
        let mut gates = Gates::default();
        let mut crowd = Crowd::default();
        let mut number = 0;
        let mut coming = BinaryHeap::new();
        for (count, resumes) in comers {
            for _ in 0..count {
                coming.push(Reverse((number, number, resumes)));
                number += 1;
            }
        }
        let (mut under_way, mut served_at) = (std::collections::VecDeque::new(), 0);
        loop {
            let next = coming.peek().map(|Reverse((now, ..))| *now);
            // Those that are done by then, one after the other.
            while let Some(&resumes) = under_way.front()
                && next.is_none_or(|next| served_at + SECOND / per_second <= next)
            {
                served_at += SECOND / per_second;
                under_way.pop_front();
                gates.load.end(served_at, true);
                let served = if resumes { &mut crowd.resumed } else { &mut crowd.new };
                served.push(served_at as f64 / SECOND as f64);
            }
            let Some(Reverse((now, number, resumes))) = coming.pop() else { return crowd };
            if under_way.is_empty() {
                served_at = now;
            }
            match gates.session(now, BY_LOAD, resumes) {
                Ok(()) => under_way.push_back(resumes),
                Err(away) => {
                    crowd.refusals += 1;
                    let away = u64::try_from(away.as_micros()).expect("seconds");
                    coming.push(Reverse((now + away * (75 + number * 7_919 % 50) / 100, number, resumes)));
                }
            }
        }
    }

    #[test]
    fn by_load_ten_thousand_who_resume_at_once_wait_and_nobody_is_refused() {
        for per_second in [4_000, 6_000, 50_000] {
            let crowd = crowd(per_second, [(10_000, true), (0, false)]);
            assert_eq!((crowd.resumed.len(), crowd.refusals), (10_000, 0), "at {per_second} a second");
        }
    }

    #[test]
    fn by_load_a_slow_node_refuses_those_who_would_wait_too_long_and_serves_them_later() {
        let crowd = crowd(500, [(5_000, true), (15_000, false)]);
        assert!(crowd.refusals > 1_000, "{}", crowd.refusals);
        assert_eq!((crowd.resumed.len(), crowd.new.len()), (5_000, 15_000));
        let last = |served: &[f64]| served.iter().copied().fold(0.0, f64::max);
        println!("resumed within {} s, new within {} s", last(&crowd.resumed), last(&crowd.new));
        // All need 40 s, however often each of them is refused.
        assert!(last(&crowd.new) < 60.0, "{}", last(&crowd.new));
    }

    #[test]
    fn by_load_newcomers_leave_room_for_those_who_resume() {
        let mut gates = Gates::default();
        while gates.session(0, BY_LOAD, false).is_ok() {}
        let newcomers = gates.load.under_way();
        while gates.session(0, BY_LOAD, true).is_ok() {}
        assert!(gates.load.under_way() >= 2 * newcomers - 2, "{newcomers}");
    }

    #[test]
    fn by_load_a_connection_that_waited_too_long_for_its_turn_is_refused() {
        let mut gates = Gates::default();
        assert!(gates.handshake(0, BY_LOAD, Duration::from_secs(4)).is_ok());
        let away = gates.handshake(0, BY_LOAD, Duration::from_secs(6)).expect_err("too long");
        assert!(away >= AWAY_MIN && away < Duration::from_secs(2), "{away:?}");
        assert!(gates.handshake(0, fixed(0), Duration::from_secs(6)).is_ok(), "as long as it takes");
    }

    #[test]
    fn a_connect_that_has_ended_is_no_load() {
        let admission = Arc::new(Admission::new(BY_LOAD));
        let (first, second) = (admission.session(None), admission.session(Some("a session")));
        assert_eq!(admission.gates.lock().load.under_way(), 2);
        first.expect("a place").served();
        drop(second);
        assert_eq!(admission.gates.lock().load.under_way(), 0);
    }
}

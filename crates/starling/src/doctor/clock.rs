//! This machine's clock, beside those of the database and of Redis.

use std::time::{Duration, SystemTime};

use super::examination::Examination;
use super::quantity::time;

/// How far the clocks may be apart. Sessions and presence tolerate about a second.
const APART_MAX: Duration = Duration::from_secs(1);
/// How far they may be apart before tokens are refused that have just been made, or accepted that have ended.
const APART_BAD: Duration = Duration::from_secs(30);

/// The clocks that were read.
#[derive(Debug, Default)]
pub struct Clocks {
    /// Whose clock, how far it is ahead of this one or behind, and how exact that is.
    read: Vec<(&'static str, Difference)>,
}

#[derive(Clone, Copy, Debug)]
struct Difference {
    ahead: bool,
    apart: Duration,
}

impl Clocks {
    /// Notes what another clock said, between these two moments of this one.
    pub fn note(&mut self, name: &'static str, said: SystemTime, before: SystemTime, after: SystemTime) {
        let (ahead, apart) = if let Ok(ahead) = said.duration_since(after) {
            (true, ahead)
        } else {
            // It said so between the two moments, as far as can be known.
            (false, before.duration_since(said).unwrap_or_default())
        };
        self.read.push((name, Difference { ahead, apart }));
    }

    /// Compares them.
    pub fn examine(&self, examination: &mut Examination) {
        examination.section("clock");
        if self.read.is_empty() {
            return examination.skipped("difference", "there is no other clock to compare this one with");
        }
        for (name, Difference { ahead, apart }) in &self.read {
            let subject = format!("to {name}");
            let side = if *ahead { "behind" } else { "ahead of" };
            let found = format!("this machine's clock is {} {side} that of {name}", time(*apart));
            let advice = "let chrony or systemd-timesyncd set the clocks of all machines";
            if *apart > APART_BAD {
                let advice =
                    format!("{advice}; until then, tokens are refused too early or accepted too long");
                examination.problem(&subject, found, advice);
            } else if *apart > APART_MAX {
                examination.warning(&subject, found, advice);
            } else {
                examination.good(&subject, format!("less than {} apart", time(APART_MAX)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::examination::Verdict;
    use super::*;

    #[test]
    fn what_may_come_from_the_way_there_and_back_is_no_difference() {
        let now = SystemTime::now();
        let at = |ms: u64| now + Duration::from_millis(ms);
        for (said, verdict, words) in [
            (at(50), Verdict::Good, "apart"),
            (at(1_000), Verdict::Good, "apart"),
            (at(3_100), Verdict::Warning, "3.0 s behind"),
            (now - Duration::from_secs(4), Verdict::Warning, "4.0 s ahead of"),
            (at(60_000), Verdict::Problem, "59.9 s behind"),
        ] {
            let (mut clocks, mut examination) = (Clocks::default(), Examination::default());
            clocks.note("Redis", said, now, at(100));
            clocks.examine(&mut examination);
            let finding = &examination.findings()[0];
            assert!(finding.verdict == verdict && finding.found.contains(words), "{finding:?}");
        }
    }
}

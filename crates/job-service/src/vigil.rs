//! How long a node has seen that the database answers.

use std::time::Duration;

use tokio::time::Instant;

/// The longest time between two looks that still follow each other.
const BREAK_MAX: Duration = Duration::from_secs(2);

/// A time in which a node has looked at the database again and again, and got answers. A worker that is silent meanwhile is dead or cut off. If
/// the node was frozen, or the database away, nobody could be heard.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vigil(Option<Span>);

#[derive(Clone, Copy, Debug)]
struct Span {
    began: Instant,
    looked_at: Instant,
}

impl Vigil {
    /// Records an answer.
    pub fn go_on(&mut self, now: Instant) {
        let goes_on = self.0.filter(|span| now.saturating_duration_since(span.looked_at) <= BREAK_MAX);
        self.0 = Some(Span { began: goes_on.map_or(now, |span| span.began), looked_at: now });
    }

    /// Whether it has lasted this long.
    pub fn has_lasted(&self, time: Duration) -> bool {
        self.0.is_some_and(|span| span.looked_at.saturating_duration_since(span.began) >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_vigil_lasts_until_a_look_is_missed() {
        let (mut vigil, began) = (Vigil::default(), Instant::now());
        assert!(!vigil.has_lasted(Duration::ZERO));
        for seconds in 0..=3 {
            assert!(!vigil.has_lasted(3 * SECOND));
            vigil.go_on(began + seconds * SECOND);
        }
        assert!(vigil.has_lasted(3 * SECOND));
        vigil.go_on(began + 60 * SECOND);
        assert!(!vigil.has_lasted(SECOND), "the node was frozen");
    }
}

//! Sessions that were asked to move to another node for balance, so that none is asked twice in a short time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use starling_hub::Map;
use tokio::time::Instant;

/// How long a session is not asked again, wherever on this node it comes back.
const REMEMBERED_FOR: Duration = Duration::from_secs(6 * 3_600);
/// Limit on the sessions that are remembered. While there are so many, no others are asked.
const REMEMBERED_MAX: usize = 100_000;

/// Sessions of this node that were asked lately to move for balance.
#[derive(Debug, Default)]
pub(crate) struct MoveRequests {
    sessions: Mutex<Map<Arc<str>, Instant>>,
}

impl MoveRequests {
    /// Whether a session was asked lately.
    pub fn holds(&self, session: &str, now: Instant) -> bool {
        self.sessions.lock().get(session).is_some_and(|at| now.duration_since(*at) < REMEMBERED_FOR)
    }

    /// Remembers that a session is asked. Returns `false` if there is no room for it.
    pub fn enter(&self, session: &Arc<str>, now: Instant) -> bool {
        let mut sessions = self.sessions.lock();
        if sessions.len() >= REMEMBERED_MAX {
            sessions.retain(|_, at| now.duration_since(*at) < REMEMBERED_FOR);
        }
        if sessions.len() >= REMEMBERED_MAX {
            return false;
        }
        sessions.insert(session.clone(), now);
        true
    }

    /// Number of sessions that were asked at this moment.
    #[cfg(test)]
    pub fn count_at(&self, now: Instant) -> usize {
        self.sessions.lock().values().filter(|at| **at == now).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_are_asked_than_can_be_remembered() {
        let (asked, now) = (MoveRequests::default(), Instant::now());
        for n in 0..REMEMBERED_MAX {
            assert!(asked.enter(&n.to_string().into(), now));
        }
        assert!(!asked.enter(&"one more".into(), now));
        assert!(asked.enter(&"one more".into(), now + REMEMBERED_FOR));
        assert_eq!(asked.sessions.lock().len(), 1);
    }
}

//! Where a store without a server takes the time from.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers the time, Unix microseconds in UTC. Tests give their own, so that nobody has to wait.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(system_now_us))
    }

    /// A clock that answers what `now_ms` does, in whole milliseconds.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || now_ms().saturating_mul(1_000)))
    }

    /// Now, Unix milliseconds.
    pub fn now_ms(&self) -> i64 {
        self.now_us() / 1_000
    }

    /// Now, Unix microseconds.
    pub fn now_us(&self) -> i64 {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}

/// The machine's time, Unix milliseconds; 0 on a machine whose clock stands before 1970.
pub(crate) fn system_now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// The same, in microseconds.
pub(crate) fn system_now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

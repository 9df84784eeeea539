//! The clock of a store without a server.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of the time, in microseconds of Unix time. Tests pass their own, so that they need not wait.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl Clock {
    /// Returns the machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(system_now_us))
    }

    /// Makes a clock that shows what `now_ms` returns, in whole milliseconds.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(move || now_ms().saturating_mul(1_000)))
    }

    /// Returns the time in milliseconds of Unix time.
    pub fn now_ms(&self) -> i64 {
        self.now_us() / 1_000
    }

    /// Returns the time in microseconds of Unix time.
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

/// Returns the machine's time in milliseconds of Unix time; 0 if its clock shows a time before 1970.
pub(crate) fn system_now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// Returns the machine's time in microseconds of Unix time; 0 if its clock shows a time before 1970.
pub(crate) fn system_now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

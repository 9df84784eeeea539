//! The simulation's clock: Tokio's, which stands still while anybody works and jumps to the next timer when all wait.

use tokio::time::Instant;

thread_local! {
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// What the simulated servers take for the time at a run's start, Unix milliseconds.
const START_MS: i64 = 1_700_000_000_000;

/// Begins a run on this thread.
pub fn begin() {
    BEGAN.set(Some(Instant::now()));
}

/// Since the run began, milliseconds.
pub fn elapsed_ms() -> u64 {
    let elapsed = BEGAN.get().map_or(std::time::Duration::ZERO, |began| began.elapsed());
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds, as the servers see it.
pub fn now_ms() -> i64 {
    START_MS + elapsed_ms().cast_signed()
}

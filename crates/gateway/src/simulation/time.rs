//! The simulation's clock: Tokio's, which stands still while anybody works and jumps to the next timer when all wait.

use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// When a run starts: since 1970.
const START: Duration = Duration::from_secs(1_700_000_000);

/// Begins a run of a seed on this thread: nodes and servers have its time, and the nodes draw from its seed.
pub fn begin(seed: u64) {
    BEGAN.set(Some(Instant::now()));
    starling_hub::simulation::begin(seed, since_epoch);
}

/// Since the run began, milliseconds.
pub fn elapsed_ms() -> u64 {
    u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Unix milliseconds, as nodes and servers see it.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

fn since_epoch() -> Duration {
    START + elapsed()
}

fn elapsed() -> Duration {
    BEGAN.get().map_or(Duration::ZERO, |began| began.elapsed())
}

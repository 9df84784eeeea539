//! The simulation's clock. It is Tokio's paused clock, which stands still while a task runs and jumps to the next timer when all wait.

use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::Instant;

thread_local! {
    static BEGAN: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// The time at which a run starts, since 1970.
const START: Duration = Duration::from_secs(1_700_000_000);

/// Runs a future on this thread, in simulated time. Nodes and servers use its clock, and the nodes' randomness follows from `seed`.
pub fn simulate<T>(seed: u64, run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O");
    LocalSet::new().block_on(&runtime, async {
        BEGAN.set(Some(Instant::now()));
        starling_hub::simulation::begin(seed, since_epoch);
        run.await
    })
}

/// Returns the milliseconds since the run began.
pub fn elapsed_ms() -> u64 {
    u64::try_from(elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Returns the time that nodes and servers see, Unix milliseconds.
pub fn now_ms() -> i64 {
    i64::try_from(since_epoch().as_millis()).unwrap_or(i64::MAX)
}

fn since_epoch() -> Duration {
    START + elapsed()
}

fn elapsed() -> Duration {
    BEGAN.get().map_or(Duration::ZERO, |began| began.elapsed())
}

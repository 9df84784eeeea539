//! Waking up at a moment, to some ten microseconds. Tokio's timers are only precise to a millisecond.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::Notify;

/// Beyond this a timer of Tokio waits first, so that the helping thread never waits long.
const COARSE: Duration = Duration::from_millis(20);

/// Wakes a task up, with the help of a thread that sleeps.
pub struct Pace {
    moments: SyncSender<Instant>,
    reached: Arc<Notify>,
}

impl Pace {
    /// Starts the helping thread. It ends with this value.
    ///
    /// # Errors
    /// When the thread can't be started.
    pub fn start() -> Result<Self> {
        let (moments, received) = sync_channel(1);
        let reached = Arc::new(Notify::new());
        let notify = Arc::clone(&reached);
        let body = move || wake(&received, &notify);
        std::thread::Builder::new().name("pace".into()).spawn(body).context("start a thread")?;
        Ok(Self { moments, reached })
    }

    /// Waits until this moment. Returns at once if it has passed.
    pub async fn until(&self, moment: Instant) {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        if left > COARSE {
            tokio::time::sleep(left - COARSE).await;
        }
        if self.moments.try_send(moment).is_ok() {
            self.reached.notified().await;
        }
    }
}

fn wake(moments: &Receiver<Instant>, reached: &Notify) {
    while let Ok(moment) = moments.recv() {
        loop {
            let left = moment.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::park_timeout(left);
        }
        reached.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_moment_is_reached_too_early() {
        let pace = Pace::start().unwrap();
        for milliseconds in [0, 1, 3, 30] {
            let moment = Instant::now() + Duration::from_millis(milliseconds);
            pace.until(moment).await;
            assert!(Instant::now() >= moment);
        }
    }
}

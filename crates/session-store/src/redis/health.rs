//! Whether Redis answers; and a look now and then whether it is back, so that nobody else waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::ClientLike;
use metrics::Counter;
use parking_lot::Mutex;

/// Between two looks at a silent Redis.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long making connections anew is waited for, before it may be asked for again.
const RENEWAL_MAX: Duration = Duration::from_secs(60);

/// What is known of it.
#[derive(Debug)]
pub(super) struct Health {
    /// How long a call may take.
    timeout: Duration,
    clients: Vec<Client>,
    seen: Mutex<Seen>,
    /// Whether connections are being made anew.
    renewing: AtomicBool,
    reconnects: Counter,
}

#[derive(Debug, Default)]
struct Seen {
    /// Whether it has become silent, and somebody is looking.
    silent: bool,
    /// The last answer.
    answered: Option<Instant>,
    /// Since when calls have been running out of time again and again, and when the last one did.
    timeouts: Option<(Instant, Instant)>,
    renewed: Option<Instant>,
}

impl Health {
    pub(super) fn new(clients: Vec<Client>, timeout: Duration, reconnects: Counter) -> Arc<Self> {
        let (seen, renewing) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { timeout, clients, seen, renewing, reconnects })
    }

    pub(super) fn is_silent(&self) -> bool {
        self.seen.lock().silent
    }

    pub(super) fn answered(&self) {
        let mut seen = self.seen.lock();
        seen.silent = false;
        seen.answered = Some(Instant::now());
    }

    /// A call that began then ran out of time.
    pub(super) fn timed_out(self: &Arc<Self>, begun: Instant) {
        let now = Instant::now();
        let (look, renew) = {
            let mut seen = self.seen.lock();
            let since = match seen.timeouts {
                Some((since, last)) if now.duration_since(last) < self.timeout * 2 => since,
                _ => now,
            };
            seen.timeouts = Some((since, now));
            // One server of a cluster, or one connection, may be silent while the others are not.
            let look = !seen.silent && seen.answered.is_none_or(|answered| answered < begun);
            seen.silent |= look;
            (look, now.duration_since(since) >= self.timeout)
        };
        if look {
            let health = self.clone();
            tokio::spawn(async move { health.look().await });
        }
        if renew {
            // The client does not notice a silent peer as long as there is something to write, so it is told.
            self.renew();
        }
    }

    /// Makes the connections anew, unless that was done just now or is under way.
    pub(super) fn renew(self: &Arc<Self>) {
        let renewed = &mut self.seen.lock().renewed;
        if renewed.is_some_and(|at| at.elapsed() < self.timeout * 2)
            || self.renewing.swap(true, Ordering::Relaxed)
        {
            return;
        }
        *renewed = Some(Instant::now());
        self.reconnects.increment(1);
        let health = self.clone();
        tokio::spawn(async move {
            let renewals = health.clients.iter().map(|client| Box::pin(client.force_reconnection()));
            let all = futures_util::future::try_join_all(renewals);
            match tokio::time::timeout(RENEWAL_MAX, all).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::debug!(%error, "could not connect to Redis anew"),
                Err(_) => {
                    tracing::debug!("could not connect to Redis anew in time; the clients go on trying");
                }
            }
            health.renewing.store(false, Ordering::Relaxed);
        });
    }

    /// Looks until Redis answers, or until nobody but this task is left to know.
    async fn look(self: Arc<Self>) {
        tracing::warn!("Redis does not answer; calls to the session store fail until it does");
        let mut turn = 0;
        while self.is_silent() && Arc::strong_count(&self) > 1 {
            let begun = Instant::now();
            let client = &self.clients[turn % self.clients.len()];
            turn += 1;
            if client.is_connected() {
                match Box::pin(client.ping::<()>(None)).await {
                    Ok(()) => self.answered(),
                    Err(error) => tracing::debug!(%error, "Redis still does not answer"),
                }
                if !self.is_silent() {
                    break;
                }
                if begun.elapsed() >= self.timeout / 2 {
                    self.timed_out(begun);
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        tracing::info!("Redis answers again");
    }
}

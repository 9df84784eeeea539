//! Whether Redis answers; and a look now and then whether it is back, so that nobody else waits for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use metrics::Counter;
use parking_lot::Mutex;

/// For how long nothing more is said of a refusal: while one connection is refused, others may still stand.
const QUIET: Duration = Duration::from_secs(60);
/// Between two looks whether a full Redis takes writes again.
const LOOK_WHEN_FULL_EVERY: Duration = Duration::from_secs(1);

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
    /// Whether Redis has no memory for anything new.
    full: AtomicBool,
    /// The key that is written to see whether Redis takes writes.
    room: String,
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
    /// Why Redis refuses this node, since the last answer.
    refusal: Option<String>,
    /// When the log was told of a refusal.
    refusal_told: Option<Instant>,
}

/// Whether Redis refuses this node itself: a wrong user or password, or a right that is missing.
pub(super) fn is_refusal(error: &fred::error::Error) -> bool {
    let details = error.details();
    ["WRONGPASS", "NOAUTH", "NOPERM"].iter().any(|code| details.starts_with(code))
        || details.contains("ACL failure in script")
        || details.contains("The user executing the script can't")
        || details.contains("called without any password configured")
}

/// Whether Redis has reached `maxmemory` and evicts nothing.
pub(super) fn is_full(error: &fred::error::Error) -> bool {
    error.details().contains("OOM command not allowed")
}

impl Health {
    /// `room` is a key that may be written to see whether Redis takes writes.
    pub(super) fn new(
        clients: Vec<Client>,
        timeout: Duration,
        room: String,
        reconnects: Counter,
    ) -> Arc<Self> {
        let (seen, renewing, full) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { timeout, clients, seen, renewing, full, room, reconnects })
    }

    /// Why Redis refuses this node, if it does.
    pub(super) fn refusal(&self) -> Option<String> {
        self.seen.lock().refusal.clone()
    }

    /// Redis refused this node: says so in the log, not too often.
    pub(super) fn refused(&self, reason: &str) {
        let mut seen = self.seen.lock();
        seen.refusal = Some(reason.to_owned());
        if seen.refusal_told.is_none_or(|told| told.elapsed() >= QUIET) {
            seen.refusal_told = Some(Instant::now());
            tracing::error!(
                reason,
                "Redis refuses this node; its user, password and rights are in REDIS_URL and in Redis' ACL"
            );
        }
    }

    /// Whether Redis has no memory for anything new.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Redis refused a write because it is full: says so once, and looks until it takes writes again.
    pub(super) fn found_full(self: &Arc<Self>) {
        if self.full.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!(
            "Redis is full (maxmemory) and evicts nothing: topics fail, and limits hold per node; give it more memory"
        );
        let health = Arc::clone(self);
        tokio::spawn(async move {
            let name = CustomCommand::new_static("SET", ClusterHash::from(health.room.as_str()), false);
            // As long as anybody but this task is left to know.
            while Arc::strong_count(&health) > 1 {
                tokio::time::sleep(LOOK_WHEN_FULL_EVERY).await;
                let arguments = vec![health.room.as_str(), "1", "PX", "60000"];
                let client = &health.clients[0];
                if Box::pin(client.custom::<Value, _>(name.clone(), arguments)).await.is_ok() {
                    tracing::info!("Redis takes writes again");
                    break;
                }
            }
            health.full.store(false, Ordering::Relaxed);
        });
    }

    pub(super) fn is_silent(&self) -> bool {
        self.seen.lock().silent
    }

    pub(super) fn answered(&self) {
        let mut seen = self.seen.lock();
        seen.silent = false;
        seen.refusal = None;
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

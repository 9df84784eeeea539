//! The health of Redis: whether it answers, refuses this node, or is full. While it does not answer, calls fail at once, and one task tries it
//! now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fred::clients::Client;
use fred::interfaces::ClientLike;
use fred::types::{ClusterHash, CustomCommand, Value};
use metrics::Counter;
use parking_lot::Mutex;

/// The shortest time between two log lines about refusals. While one connection is refused, others may still work.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The time between two tries to write to a full Redis.
const FULL_TRY_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two tries of a silent Redis.
const SILENT_TRY_INTERVAL: Duration = Duration::from_millis(250);
/// How long new connections are waited for before they may be requested again.
const RENEWAL_MAX: Duration = Duration::from_secs(60);

/// The health of one Redis.
#[derive(Debug)]
pub(crate) struct Health {
    /// The time that a call may take.
    timeout: Duration,
    clients: Vec<Client>,
    seen: Mutex<Seen>,
    /// Whether connections are being replaced.
    renewing: AtomicBool,
    /// Whether Redis has no memory for new data.
    full: AtomicBool,
    /// A key that may be written to learn whether Redis accepts writes.
    probe_key: String,
    reconnects: Counter,
}

#[derive(Debug, Default)]
struct Seen {
    /// Whether Redis does not answer. Then a task tries it.
    silent: bool,
    /// Time of the last answer.
    answered: Option<Instant>,
    /// The times of the first and of the last of recent timeouts.
    timeouts: Option<(Instant, Instant)>,
    renewed: Option<Instant>,
    /// Why Redis refuses this node; cleared by an answer.
    refusal: Option<String>,
    /// Time at which a refusal was last logged.
    refusal_logged: Option<Instant>,
}

impl Health {
    pub(crate) fn new(
        clients: Vec<Client>,
        timeout: Duration,
        probe_key: String,
        reconnects: Counter,
    ) -> Arc<Self> {
        let (seen, renewing, full) = (Mutex::default(), AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { timeout, clients, seen, renewing, full, probe_key, reconnects })
    }

    /// Returns why Redis refuses this node, if it does.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.seen.lock().refusal.clone()
    }

    /// Notes that Redis refused this node, and logs it, but not too often.
    pub(crate) fn refused(&self, reason: &str) {
        let mut seen = self.seen.lock();
        seen.refusal = Some(reason.to_owned());
        if seen.refusal_logged.is_none_or(|logged| logged.elapsed() >= REFUSAL_LOG_INTERVAL) {
            seen.refusal_logged = Some(Instant::now());
            tracing::error!(
                reason,
                "Redis refuses this node; its user, password and rights are in REDIS_URL and in Redis' ACL"
            );
        }
    }

    /// Returns whether Redis has no memory for anything new.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// Notes that Redis refused a write because it is full: logs it once, and tries until it takes writes again.
    pub(crate) fn found_full(self: &Arc<Self>) {
        if self.full.swap(true, Ordering::Relaxed) {
            return;
        }
        tracing::error!("Redis is full (maxmemory) and evicts nothing; give it more memory");
        let health = Arc::clone(self);
        tokio::spawn(async move {
            let name = CustomCommand::new_static("SET", ClusterHash::from(health.probe_key.as_str()), false);
            // As long as anybody else uses this.
            while Arc::strong_count(&health) > 1 {
                tokio::time::sleep(FULL_TRY_INTERVAL).await;
                let arguments = vec![health.probe_key.as_str(), "1", "PX", "60000"];
                let client = &health.clients[0];
                if Box::pin(client.custom::<Value, _>(name.clone(), arguments)).await.is_ok() {
                    tracing::info!("Redis accepts writes again");
                    break;
                }
            }
            health.full.store(false, Ordering::Relaxed);
        });
    }

    /// Returns whether Redis is known not to answer.
    pub(crate) fn is_silent(&self) -> bool {
        self.seen.lock().silent
    }

    /// Notes an answer.
    pub(crate) fn answered(&self) {
        let mut seen = self.seen.lock();
        seen.silent = false;
        seen.refusal = None;
        seen.answered = Some(Instant::now());
    }

    /// Notes the timeout of a call that began at `begun`.
    pub(crate) fn timed_out(self: &Arc<Self>, begun: Instant) {
        let now = Instant::now();
        let (became_silent, must_renew) = {
            let mut seen = self.seen.lock();
            let since = match seen.timeouts {
                Some((since, last)) if now.duration_since(last) < self.timeout * 2 => since,
                _ => now,
            };
            seen.timeouts = Some((since, now));
            // A single server of a cluster, or a single connection, may be silent while the others answer.
            let became_silent = !seen.silent && seen.answered.is_none_or(|answered| answered < begun);
            seen.silent |= became_silent;
            (became_silent, now.duration_since(since) >= self.timeout)
        };
        if became_silent {
            let health = self.clone();
            tokio::spawn(async move { health.try_until_answered().await });
        }
        if must_renew {
            // The client does not notice a silent server while it has something to write.
            self.renew();
        }
    }

    /// Replaces the connections, unless that was done a moment ago or is under way.
    pub(crate) fn renew(self: &Arc<Self>) {
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
                Ok(Err(error)) => tracing::debug!(%error, "could not reconnect to Redis"),
                Err(_) => {
                    tracing::debug!("could not reconnect to Redis in time; still trying");
                }
            }
            health.renewing.store(false, Ordering::Relaxed);
        });
    }

    /// Sends pings until Redis answers, or until nobody else uses this.
    async fn try_until_answered(self: Arc<Self>) {
        tracing::warn!("Redis does not answer; calls to it fail until it does");
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
            tokio::time::sleep(SILENT_TRY_INTERVAL).await;
        }
        tracing::info!("Redis answers again");
    }
}

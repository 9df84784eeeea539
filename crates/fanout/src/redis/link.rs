//! The link to Redis: a task opens it, watches it, closes it after a fault and opens it again, as long as the fan-out lives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::interfaces::EventInterface;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::checks::{Checks, Hearing};
use super::clients::{self, Clients, Lifeline};
use super::receive;
use super::shared::Shared;
use crate::{Delivery, Error, LinkStatus, Receiver};

/// The waits after a first fault and after many. Up to half is taken off at random, so that nodes do not all come back at the same
/// moment.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// How long a link must be up until the next fault counts as a first one.
const STABLE: Duration = Duration::from_secs(5);

/// The handle of the link.
pub(super) struct Link {
    shared: Arc<Shared>,
    state: Arc<State>,
    /// The task that keeps the link up; set by the first start.
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// The state that the keeper publishes.
struct State {
    /// Present while the link is up.
    clients: RwLock<Option<Arc<Clients>>>,
    status: Mutex<LinkStatus>,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let status = LinkStatus { connected: false, subscribed: false, fault: Some("not started".into()) };
        let state = State { clients: RwLock::default(), status: Mutex::new(status) };
        Self { shared, state: Arc::new(state), keeper: Mutex::default() }
    }

    /// Starts the task that keeps the link up. Returns after the first try.
    pub(super) async fn start(&self, receiver: Arc<dyn Receiver>) {
        let (tried, first_try) = oneshot::channel();
        {
            let mut keeper = self.keeper.lock();
            if keeper.is_some() {
                return;
            }
            let keep = Keeper {
                shared: self.shared.clone(),
                state: self.state.clone(),
                receiver,
                told_down: AtomicBool::new(false),
                told_refusal: Mutex::default(),
            };
            *keeper = Some(tokio::spawn(keep.run(tried)));
        }
        // An error means that the keeper is gone. Then there is nothing to wait for.
        let _ = first_try.await;
    }

    pub(super) fn clients(&self) -> Option<Arc<Clients>> {
        self.state.clients.read().clone()
    }

    pub(super) fn reconnect(&self) {
        if let Some(clients) = self.clients() {
            clients.teardown.notify_one();
        }
    }

    pub(super) fn status(&self) -> LinkStatus {
        self.state.status.lock().clone()
    }

    pub(super) fn fault(&self) -> String {
        self.state.status.lock().fault.clone().unwrap_or_else(|| "the link is being built".into())
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.lock().take() {
            keeper.abort();
        }
        self.state.clients.write().take();
    }
}

struct Keeper {
    shared: Arc<Shared>,
    state: Arc<State>,
    receiver: Arc<dyn Receiver>,
    /// Whether the receiver was told that the link is down, and still has to get a gap.
    told_down: AtomicBool,
    /// The refusal that was logged; cleared when the link is up again.
    told_refusal: Mutex<Option<String>>,
}

/// A link that is up.
struct Session {
    clients: Arc<Clients>,
    checks: Arc<Checks>,
    lifeline: Lifeline,
}

impl Keeper {
    async fn run(self, tried: oneshot::Sender<()>) {
        let mut tried = Some(tried);
        let mut backoff = BACKOFF_MIN;
        loop {
            let began = Instant::now();
            let fault = match self.open().await {
                Ok(session) => {
                    *self.state.clients.write() = Some(session.clients.clone());
                    self.up();
                    // Only the first try has somebody who waits.
                    tried.take().map(|tried| tried.send(()));
                    self.watch(session).await
                }
                Err(error) => {
                    if let Error::Refused(reason) = &error {
                        self.refused(reason);
                    }
                    error.to_string()
                }
            };
            self.down(fault);
            tried.take().map(|tried| tried.send(()));
            if began.elapsed() > STABLE {
                backoff = BACKOFF_MIN;
            }
            tokio::time::sleep(backoff.mul_f64(rand::random_range(0.5..1.0))).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Connects, subscribes, and waits until every subscription is confirmed by a check.
    async fn open(&self) -> Result<Session, Error> {
        let mut lifeline = Lifeline::new();
        let opening = async {
            let (clients, subscriber) = Clients::open(&self.shared, &mut lifeline).await?;
            let checks = Arc::new(Checks::new(&self.shared));
            let messages = subscriber.message_rx();
            lifeline.spawn(receive::run(
                self.shared.clone(),
                checks.clone(),
                self.receiver.clone(),
                messages,
            ));
            // The checks' channels come last. On each connection, all earlier subscriptions are complete when theirs are.
            let shared = &self.shared;
            let channels = shared.channels.all().chain(&shared.node_in).chain(checks.channels());
            clients::subscribe(&self.shared, &subscriber, channels).await?;
            tokio::select! {
                confirmed = checks.confirm(&self.shared, &clients) => confirmed.map(|()| (clients, checks)),
                fault = ended(&mut lifeline) => Err(Error::Unavailable(fault)),
            }
        };
        match tokio::time::timeout(self.shared.command_timeout * 2, opening).await {
            Ok(Ok((clients, checks))) => Ok(Session { clients: Arc::new(clients), checks, lifeline }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unavailable("took too long to connect and subscribe".into())),
        }
    }

    /// Watches the link. Returns why it ended.
    async fn watch(&self, mut session: Session) -> String {
        let hearing = |hearing| match hearing {
            Hearing::Good => self.up(),
            Hearing::Silent => self.down("Redis has not answered for a second".into()),
            Hearing::Deaf => {}
        };
        let fault = tokio::select! {
            fault = ended(&mut session.lifeline) => fault,
            () = session.clients.teardown.notified() => "asked to reconnect".into(),
            () = session.checks.watch(&self.shared, &session.clients, hearing) => "Redis has not answered".into(),
        };
        // Before the connections end, so that no caller uses clients without a connection.
        self.state.clients.write().take();
        fault
    }

    fn up(&self) {
        self.status(true, None);
        self.told_refusal.lock().take();
        if self.told_down.swap(false, Ordering::Relaxed) {
            tracing::info!("the link to Redis is up again");
            self.shared.metrics.reconnects.increment(1);
            self.shared.metrics.gaps.increment(1);
            self.receiver.receive(Delivery::Gap { partition: None });
        }
    }

    fn down(&self, fault: String) {
        if !self.told_down.swap(true, Ordering::Relaxed) {
            tracing::warn!(fault, "the link to Redis is down");
            self.receiver.receive(Delivery::Down);
        }
        self.status(false, Some(fault));
    }

    /// Logs once why Redis refuses this node, even if the link was down for another reason before.
    fn refused(&self, reason: &str) {
        let mut told = self.told_refusal.lock();
        if told.as_deref() != Some(reason) {
            tracing::error!(reason, "Redis refuses the link of this node");
            *told = Some(reason.to_owned());
        }
    }

    fn status(&self, stands: bool, fault: Option<String>) {
        self.shared.metrics.connected.set(if stands { 1.0 } else { 0.0 });
        *self.state.status.lock() = LinkStatus { connected: stands, subscribed: stands, fault };
    }
}

/// Waits until one of the link's connections ends. Returns the reason.
async fn ended(lifeline: &mut Lifeline) -> String {
    match lifeline.join_next().await {
        Some(Ok(fault)) => fault,
        Some(Err(error)) => error.to_string(),
        None => "there is no connection".into(),
    }
}

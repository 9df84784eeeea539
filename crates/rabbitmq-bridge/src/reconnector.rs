//! Reconnects a bridge: one connection after another, with a back-off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use metrics::Gauge;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::Error;
use crate::address::Address;
use crate::connection::BrokerConnection;

/// The first time between two attempts to connect.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
/// The longest time between two attempts to connect.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// A bridge that has worked for this long begins with the first time again.
const WORKED: Duration = Duration::from_secs(10);

/// What a bridge does with a connection.
#[async_trait]
pub(crate) trait Work: Send + Sync {
    /// Uses a connection until it is lost, or `ending` says that the bridge ends.
    async fn work(
        &self,
        connection: Arc<BrokerConnection>,
        ending: watch::Receiver<bool>,
    ) -> Result<(), Error>;
}

/// Opens the connections of a bridge, one after another, and says whether it works.
pub(crate) struct Reconnector {
    /// `in` or `out`, for people.
    pub direction: &'static str,
    /// The bridge's name.
    pub bridge: String,
    /// What RabbitMQ shows to its operators.
    pub connection_name: String,
    /// Whether the bridge works.
    works: AtomicBool,
    gauge: Gauge,
}

impl Reconnector {
    /// Creates it for a bridge of this node.
    pub fn new(node: &str, direction: &'static str, bridge: &str, gauge: Gauge) -> Self {
        Self {
            direction,
            bridge: bridge.to_owned(),
            connection_name: format!("starling {node} {direction}.{bridge}"),
            works: AtomicBool::new(false),
            gauge,
        }
    }

    /// Returns whether the bridge works now.
    pub fn works(&self) -> bool {
        self.works.load(Ordering::Relaxed)
    }

    /// Records whether the bridge works: it is connected, and all that it needs is there.
    pub fn set_works(&self, works: bool) {
        self.works.store(works, Ordering::Relaxed);
        self.gauge.set(f64::from(u8::from(works)));
    }

    /// Lets `work` use one connection after another, until `ending` says that the bridge ends.
    pub async fn run(&self, address: &Address, mut ending: watch::Receiver<bool>, work: &dyn Work) {
        let (direction, bridge) = (self.direction, self.bridge.as_str());
        let mut backoff = BACKOFF_FIRST;
        let mut told: Option<String> = None;
        while !*ending.borrow() {
            let began = Instant::now();
            let error = match self.work_once(address, &mut ending, work).await {
                Ok(()) => continue,
                Err(error) => error,
            };
            if began.elapsed() >= WORKED {
                (backoff, told) = (BACKOFF_FIRST, None);
            }
            let text = error.to_string();
            // One line for each cause, however long it lasts.
            if told.as_ref() == Some(&text) {
                tracing::debug!(direction, bridge, %error, "RabbitMQ still can't be used");
            } else {
                tracing::warn!(direction, bridge, %error, "RabbitMQ can't be used; trying again");
                told = Some(text);
            }
            let pause = backoff.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = sleep(pause) => {}
                _ = ending.wait_for(|ending| *ending) => {}
            }
        }
    }

    async fn work_once(
        &self,
        address: &Address,
        ending: &mut watch::Receiver<bool>,
        work: &dyn Work,
    ) -> Result<(), Error> {
        let opened = tokio::select! {
            opened = BrokerConnection::open(address, &self.connection_name) => Arc::new(opened?),
            _ = ending.wait_for(|ending| *ending) => return Ok(()),
        };
        let worked = work.work(opened.clone(), ending.clone()).await;
        self.set_works(false);
        opened.close().await;
        worked
    }
}

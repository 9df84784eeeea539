//! Publishes the jobs of a queue.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use starling_job_service::{Handler, Report, Retry, Stop};
use starling_jobs::ClaimedJob;
use starling_model::TenantName;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::channels::{Answer, Channels};
use super::current::{Current, Used};
use super::message;
use crate::address::Address;
use crate::check::Outgoing;
use crate::connection::BrokerConnection;
use crate::metrics::OutgoingMetrics;
use crate::reconnector::{Reconnector, Work};
use crate::{Error, topology};

/// How long a node that ends waits for the confirmation of a message that it has published. Its jobs have two seconds.
const STOP_MAX: Duration = Duration::from_millis(1500);

/// A bridge out.
pub(crate) struct Publisher {
    bridge: Outgoing,
    pub reconnector: Reconnector,
    metrics: OutgoingMetrics,
    /// The connection and its channels, while the exchange is there.
    current: Current<PublishLink>,
}

/// A connection, for the time that it can be used.
struct PublishLink {
    connection: Arc<BrokerConnection>,
    channels: Channels,
}

impl Publisher {
    pub fn new(bridge: Outgoing, node: &str) -> Self {
        let metrics = OutgoingMetrics::of(&bridge.name);
        let reconnector = Reconnector::new(node, "out", &bridge.name, metrics.connected.clone());
        Self { bridge, reconnector, metrics, current: Current::default() }
    }

    /// The queue whose jobs are published.
    pub fn queue(&self) -> &str {
        &self.bridge.queue
    }

    /// The tenant whose jobs are published; `None`: all.
    pub fn tenant(&self) -> Option<&TenantName> {
        self.bridge.tenant.as_ref()
    }

    /// The most jobs at once.
    pub fn at_once(&self) -> u16 {
        self.bridge.at_once
    }

    /// Stays connected to RabbitMQ until `ending` says that the node ends.
    pub async fn run(&self, address: &Address, ending: watch::Receiver<bool>) {
        self.reconnector.run(address, ending, self).await;
    }

    async fn publish(&self, used: &Arc<Used<PublishLink>>, job: &ClaimedJob) -> Report {
        let (exchange, key) =
            match (topology::short(&self.bridge.exchange), message::routing_key(&self.bridge, job)) {
                (Ok(exchange), Ok(key)) => (exchange, key),
                (Err(error), _) => return failed(error.to_string(), Retry::Never),
                (_, Err(error)) => return failed(error, Retry::Never),
            };
        let began = Instant::now();
        let publish = used.link.channels.publish(
            &used.link.connection,
            exchange,
            key,
            job.payload.as_bytes(),
            message::properties(job),
        );
        match timeout(self.bridge.confirm_timeout, publish).await {
            Ok(Ok(Answer::Confirmed)) => {
                self.metrics.confirm_took(began.elapsed());
                self.metrics.confirmed.increment(1);
                Report::Done(None)
            }
            Ok(Ok(Answer::Returned(why))) => {
                self.metrics.returned.increment(1);
                failed(format!("no queue of RabbitMQ takes the message: {why}"), Retry::Backoff)
            }
            Ok(Ok(Answer::Refused)) => {
                self.metrics.refused.increment(1);
                failed("RabbitMQ has refused the message".into(), Retry::Backoff)
            }
            Ok(Err(error)) => self.report_error(used, &error),
            // It may have it nevertheless.
            Err(_) => {
                self.metrics.timed_out.increment(1);
                let seconds = self.bridge.confirm_timeout.as_secs();
                failed(format!("RabbitMQ has not confirmed the message for {seconds} s"), Retry::Backoff)
            }
        }
    }

    /// What to do with a job whose message met an error.
    fn report_error(&self, used: &Arc<Used<PublishLink>>, error: &Error) -> Report {
        if let Error::Refused(error) = error
            && error.is_amqp_soft_error()
            && used.link.connection.is_open()
        {
            if Error::is_not_found(error) {
                // Until it is there again no further jobs are claimed.
                self.current.give_up(used);
            } else {
                self.metrics.refused.increment(1);
                return failed(format!("RabbitMQ has refused the message: {error}"), Retry::Backoff);
            }
        }
        // The job is not to blame. RabbitMQ may have the message: then it comes again, with the same id.
        tracing::debug!(bridge = self.bridge.name, %error, "a job is handed back");
        self.metrics.interrupted.increment(1);
        Report::HandedBack
    }
}

fn failed(error: String, retry: Retry) -> Report {
    Report::Failed { error, retry }
}

#[async_trait]
impl Work for Publisher {
    async fn work(
        &self,
        connection: Arc<BrokerConnection>,
        mut ending: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        topology::of_outgoing(&connection.channel().await?, &self.bridge).await?;
        let used =
            self.current.begin(PublishLink { connection: connection.clone(), channels: Channels::default() });
        self.reconnector.set_works(true);
        tracing::info!(
            bridge = self.bridge.name,
            queue = self.bridge.queue,
            exchange = self.bridge.exchange,
            "jobs are published to RabbitMQ"
        );
        let ended = tokio::select! {
            error = connection.lost() => Err(error),
            () = used.given_up() => Err(Error::ExchangeGone),
            _ = ending.wait_for(|ending| *ending) => Ok(()),
        };
        self.current.end(&used);
        ended
    }
}

#[async_trait]
impl Handler for Publisher {
    fn is_ready(&self) -> bool {
        let is_usable = |used: Arc<Used<PublishLink>>| {
            used.link.connection.is_open() && !used.link.connection.is_blocked()
        };
        self.current.get().is_some_and(is_usable)
    }

    async fn run(&self, job: &ClaimedJob, mut stop: Stop) -> Report {
        let Some(used) = self.current.get() else { return Report::HandedBack };
        let late = async {
            stop.wanted().await;
            sleep(STOP_MAX).await;
        };
        tokio::select! {
            report = self.publish(&used, job) => report,
            () = late => {
                self.metrics.interrupted.increment(1);
                Report::HandedBack
            }
        }
    }
}

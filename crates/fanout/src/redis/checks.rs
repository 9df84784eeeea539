//! Checks that a link works: it must receive what it publishes to itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use starling_redis_link::Command;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clients::{Clients, of_client};
use super::names::Channel;
use super::shared::Shared;
use crate::{Error, PARTITIONS};

/// The interval between checks of a single server.
const PERIOD: Duration = Duration::from_millis(250);

/// The interval between checks of each slot of a cluster. It is longer, since there are seventeen channels.
const CLUSTER_PERIOD: Duration = Duration::from_secs(1);

/// The number of turns in which a cluster's slots are checked.
const CLUSTER_TURNS: usize = 4;

/// How long beyond the period a link may be silent before it is reported as down.
const SILENT: Duration = Duration::from_secs(1);

/// How long beyond the period a link may be silent before it is closed.
const DEAF: Duration = Duration::from_secs(3);

/// The checks of one link.
pub(super) struct Checks {
    /// The node's own channel; on a cluster also one in the slot of each partition.
    channels: Vec<Channel>,
    /// Time of the last check that came back on each channel, in milliseconds since `began`, from 1; 0 for none.
    heard: Vec<AtomicU64>,
    began: Instant,
    /// A random number that tells the checks of this link from those of earlier ones.
    session: u64,
    /// Notified when a check comes back.
    echo: Notify,
}

/// The result of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hearing {
    /// All checks come back.
    Good,
    /// No check came back for so long that publications may have been lost.
    Silent,
    /// No check came back for so long that none is expected any more.
    Deaf,
}

impl Checks {
    pub(super) fn new(shared: &Shared) -> Self {
        let mut channels = vec![shared.node.clone()];
        if shared.address.is_cluster() {
            channels
                .extend((0..PARTITIONS).map(|partition| shared.names.of_check(partition, &shared.origin)));
        }
        Self {
            heard: channels.iter().map(|_| AtomicU64::new(0)).collect(),
            channels,
            began: Instant::now(),
            session: rand::random(),
            echo: Notify::new(),
        }
    }

    pub(super) fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// Notes a check that came back.
    pub(super) fn heard(&self, session: u64, channel: u16) {
        if session != self.session {
            return;
        }
        if let Some(heard) = self.heard.get(usize::from(channel)) {
            heard.store(self.began.elapsed().as_millis() as u64 + 1, Ordering::Relaxed);
            self.echo.notify_one();
        }
    }

    /// Returns when a check came back on every channel. Then all earlier subscriptions are complete, too. Fails if Redis refuses to
    /// publish.
    pub(super) async fn confirm(&self, shared: &Shared, clients: &Clients) -> Result<(), Error> {
        loop {
            let missing: Vec<usize> = (0..self.channels.len())
                .filter(|channel| self.heard[*channel].load(Ordering::Relaxed) == 0)
                .collect();
            if missing.is_empty() {
                return Ok(());
            }
            // After other failures the checks stay away.
            for published in clients.publish(self.commands(shared, clients, missing.into_iter())).await {
                if let Err(error @ Error::Refused(_)) = published.map_err(of_client) {
                    return Err(error);
                }
            }
            // A check may have been published before its channel was subscribed to. Then another one is needed.
            let _ = tokio::time::timeout(Duration::from_millis(50), self.echo.notified()).await;
        }
    }

    /// Checks the link until it is deaf. Calls `changed` when the link falls silent, and when it is heard again.
    pub(super) async fn watch(&self, shared: &Shared, clients: &Clients, changed: impl Fn(Hearing)) {
        let turns = if self.channels.len() > 1 { CLUSTER_TURNS } else { 1 };
        let mut ticks = tokio::time::interval(self.period() / turns as u32);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Hearing::Good;
        for turn in (0..turns).cycle() {
            let commands = self.commands(shared, clients, (turn..self.channels.len()).step_by(turns));
            let sent = clients.publish(commands);
            tokio::pin!(sent);
            // Notices silence even while a check waits for its timeout.
            let mut answered = false;
            loop {
                tokio::select! {
                    _ = &mut sent, if !answered => answered = true,
                    _ = ticks.tick() => {
                        let now = self.hearing();
                        if now != before {
                            changed(now);
                            before = now;
                        }
                        match now {
                            Hearing::Deaf => return,
                            Hearing::Good | Hearing::Silent if answered => break,
                            Hearing::Good | Hearing::Silent => {}
                        }
                    }
                }
            }
        }
    }

    fn period(&self) -> Duration {
        if self.channels.len() > 1 { CLUSTER_PERIOD } else { PERIOD }
    }

    fn hearing(&self) -> Hearing {
        let oldest = self.heard.iter().map(|heard| heard.load(Ordering::Relaxed)).min().unwrap_or_default();
        let silence = self.began.elapsed().saturating_sub(Duration::from_millis(oldest));
        match silence.saturating_sub(self.period()) {
            beyond if beyond >= DEAF => Hearing::Deaf,
            beyond if beyond >= SILENT => Hearing::Silent,
            _ => Hearing::Good,
        }
    }

    fn commands(
        &self,
        shared: &Shared,
        clients: &Clients,
        which: impl Iterator<Item = usize>,
    ) -> Vec<Command> {
        which
            .map(|index| {
                let frame = shared.writer.check(self.session, index as u16);
                clients.publish_command(&self.channels[index], frame)
            })
            .collect()
    }
}

//! What all threads of a run share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::{Address, Encoding, Identities, Place, Rooms, Sources};
use crate::measure::Meter;
use crate::scenario::{EncodingChoice, Scenario, StageOfRun};

/// Where the load goes, and as whom.
#[derive(Debug)]
pub struct Target {
    addresses: Vec<Address>,
    sources: Sources,
    identities: Identities,
}

impl Target {
    /// These nodes or load balancers, from these source addresses.
    ///
    /// # Errors
    /// When there is no address.
    pub fn new(addresses: Vec<Address>, sources: Sources, identities: Identities) -> Result<Self> {
        ensure!(!addresses.is_empty(), "--url: name a node or a load balancer");
        Ok(Self { addresses, sources, identities })
    }

    /// The address for an attempt. Attempts take turns.
    pub fn address(&self, attempt: usize) -> &Address {
        &self.addresses[attempt % self.addresses.len()]
    }

    /// The addresses.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where connections come from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The name of a session's user.
    pub fn user(&self, session: usize) -> String {
        self.identities.user(session)
    }

    /// The token of a session's user.
    pub fn token(&self, session: usize) -> String {
        self.identities.token(session)
    }

    pub(crate) fn check(&self, sessions: usize) -> Result<()> {
        let Some(count) = self.identities.count() else { return Ok(()) };
        ensure!(count >= sessions, "--tokens: the scenario has {sessions} sessions, the file {count} tokens");
        Ok(())
    }
}

/// What all threads of a run share.
#[derive(Debug)]
pub struct Plan {
    scenario: Scenario,
    stages: Vec<StageOfRun>,
    target: Target,
    rooms: Rooms,
    threads: usize,
    keep: bool,
    start: Instant,
    stopped: AtomicBool,
}

impl Plan {
    /// A run of this scenario, whose rooms are named after `run`. With `keep` its conversations stay.
    ///
    /// # Errors
    /// When there are fewer tokens than sessions.
    pub fn new(
        scenario: Scenario,
        target: Target,
        run: &str,
        threads: usize,
        keep: bool,
    ) -> Result<Arc<Self>> {
        target.check(scenario.sessions_max())?;
        Ok(Arc::new(Self {
            stages: StageOfRun::list(scenario.stages()),
            rooms: Rooms::new(run, scenario.sessions_max(), scenario.per_room()),
            target,
            threads,
            keep,
            start: Instant::now(),
            stopped: AtomicBool::new(false),
            scenario,
        }))
    }

    /// The scenario.
    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// Where the load goes.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// When the run began.
    pub fn start(&self) -> Instant {
        self.start
    }

    /// Ends the run early. Sessions still settle and are counted.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the run was ended early.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The stages in their order.
    pub fn stages(&self) -> &[StageOfRun] {
        &self.stages
    }

    /// How long the stages take.
    pub fn duration(&self) -> Duration {
        self.stages.last().map_or(Duration::ZERO, StageOfRun::ends)
    }

    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    pub(crate) fn keeps_conversations(&self) -> bool {
        self.keep
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(crate) fn grows(&self) -> bool {
        self.scenario.growth.is_some()
    }

    pub(crate) fn is_measured(&self, stage: usize) -> bool {
        self.stages.get(stage).is_some_and(|stage| stage.stage().measured)
    }

    /// Whether measurements meet all criteria that need no observation.
    pub(crate) fn passes(&self, meter: &Meter) -> bool {
        self.scenario.pass.verdicts(meter, None).iter().all(|verdict| verdict.passed)
    }

    /// The stage at a time after the start, unless the run has ended by then.
    pub(crate) fn stage_at(&self, time: Duration) -> Option<&StageOfRun> {
        if self.is_stopped() {
            return None;
        }
        self.stages.iter().find(|stage| time < stage.ends())
    }

    /// The sessions of a thread, in the order in which they connect.
    pub(crate) fn places(&self, thread: usize) -> impl Iterator<Item = Place> + '_ {
        (thread..self.scenario.sessions_max()).step_by(self.threads).map(|index| self.place(index))
    }

    fn place(&self, index: usize) -> Place {
        let sessions = &self.scenario.sessions;
        let encoding = match sessions.encoding {
            EncodingChoice::Json => Encoding::Json,
            EncodingChoice::Msgpack => Encoding::Msgpack,
            EncodingChoice::Mixed if index.is_multiple_of(2) => Encoding::Json,
            EncodingChoice::Mixed => Encoding::Msgpack,
        };
        let slow = is_among(index, sessions.slow_readers_percent);
        Place {
            index,
            room: self.rooms.of(index),
            encoding,
            slow: slow.then_some(sessions.slow_reader_bytes_per_second),
        }
    }
}

/// Whether an index belongs to a share that is spread evenly.
pub(super) fn is_among(index: usize, percent: f64) -> bool {
    let upto = |index: usize| (index as f64 * percent / 100.0).floor();
    upto(index + 1) > upto(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_spread_evenly() {
        let count = |percent: f64| (0..1000).filter(|index| is_among(*index, percent)).count();
        assert_eq!((count(0.0), count(20.0), count(12.5), count(100.0)), (0, 200, 125, 1000));
    }
}

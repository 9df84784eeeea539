//! How each fault is injected and healed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use super::fault::Fault;
use super::testbed::Testbed;
use super::workload::Workload;

/// Time that a node may take to end, in addition to its drain.
const END_GRACE: Duration = Duration::from_secs(15);
/// Interval at which continuous faults act.
const TICK: Duration = Duration::from_millis(200);
/// The longest stall of a link that breaks at random.
const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// An active fault.
pub struct Injection {
    fault: Fault,
    undo: Undo,
    next: Instant,
}

/// How a fault is healed.
enum Undo {
    Nothing,
    /// A new node replaces one that has gone.
    AddNode,
    ResumeRedis,
    RestartRedis,
    MendRedis,
    MendLinks,
    StartPostgres,
    RenewStandby,
    FreeDisk,
    ReadAgain,
    SetClock(String),
}

/// Injects a fault. Returns when the fault is active, or over if it does not last.
pub async fn injection(
    fault: Fault,
    testbed: &mut Testbed,
    workload: &Workload,
    rng: &mut StdRng,
) -> Result<Injection> {
    let undo = match fault {
        Fault::None | Fault::Combination => Undo::Nothing,
        Fault::KillNode => {
            let name = any_node(testbed, rng)?;
            testbed.slot(&name).context("a node to kill")?.node.kill().await?;
            Undo::AddNode
        }
        Fault::RollingDeploy => {
            for name in testbed.slots.iter().map(|slot| slot.node.name().to_owned()).collect::<Vec<_>>() {
                testbed.add_node().await?;
                drain(testbed, &name).await?;
            }
            Undo::Nothing
        }
        Fault::ScaleIn => {
            let name = any_node(testbed, rng)?;
            drain(testbed, &name).await?;
            Undo::AddNode
        }
        Fault::Storm => {
            testbed.client_links.iter().for_each(Link::cut);
            Undo::Nothing
        }
        Fault::RedisStop => {
            testbed.redis.stop()?;
            Undo::ResumeRedis
        }
        Fault::RedisKill => {
            testbed.redis.kill().await?;
            Undo::RestartRedis
        }
        Fault::RedisFlush => {
            testbed.redis.flush().await?;
            Undo::Nothing
        }
        Fault::RedisFailover => {
            testbed.redis.fail_over().await?;
            Undo::MendRedis
        }
        Fault::RedisPartition => {
            let name = any_node(testbed, rng)?;
            testbed.slot(&name).and_then(|slot| slot.redis.as_ref()).context("a link to Redis")?.pause();
            Undo::MendLinks
        }
        Fault::NetworkCut => Undo::MendLinks,
        Fault::NetworkDelay => {
            delay_links_to_redis(testbed, rng);
            Undo::MendLinks
        }
        Fault::PostgresStop => {
            testbed.postgres.stop().await?;
            Undo::StartPostgres
        }
        Fault::PostgresHang => {
            testbed.slots.iter().for_each(|slot| slot.database.pause());
            Undo::MendLinks
        }
        Fault::PostgresKillBackends => {
            testbed.postgres.terminate_backends().await?;
            Undo::Nothing
        }
        Fault::PostgresFailover => {
            let standby = testbed.standby.take().context("a standby")?;
            testbed.postgres.crash().await?;
            standby.promote().await?;
            testbed.postgres = standby;
            testbed.follow_database();
            Undo::RenewStandby
        }
        Fault::SlowReader => {
            workload.set_busy(true);
            Undo::ReadAgain
        }
        Fault::ClockJump => {
            let name = any_node(testbed, rng)?;
            let by = [-900, -90, -20, 20, 90, 900];
            testbed.move_clock(&name, *by.choose(rng).context("a distance")?)?;
            Undo::SetClock(name)
        }
        Fault::DiskFull => {
            testbed.disk.as_ref().context("a small disk")?.fill()?;
            Undo::FreeDisk
        }
    };
    Ok(Injection { fault, undo, next: Instant::now() })
}

/// Keeps faults active for a while.
pub async fn hold(
    injections: &mut [Injection],
    testbed: &Testbed,
    rng: &mut StdRng,
    lasts: Duration,
) -> Result<()> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        for injection in injections.iter_mut() {
            if Instant::now() >= injection.next {
                injection.tick(testbed, rng).await?;
            }
        }
        tokio::time::sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(())
}

impl Injection {
    async fn tick(&mut self, testbed: &Testbed, rng: &mut StdRng) -> Result<()> {
        match self.fault {
            Fault::NetworkDelay => delay_links_to_redis(testbed, rng),
            Fault::NetworkCut => {
                let nodes = testbed.slots.iter().flat_map(|slot| [slot.redis.as_ref(), Some(&slot.database)]);
                let links: Vec<&Link> = testbed.client_links.iter().chain(nodes.flatten()).collect();
                let link = links.choose(rng).context("a link")?;
                // Some are reset; others stall for a while.
                if rng.random_bool(0.6) {
                    link.cut();
                } else {
                    link.pause();
                    let finished_senders = rng.random_range(Duration::from_millis(200)..SILENCE_MAX);
                    tokio::time::sleep(finished_senders).await;
                    link.resume();
                }
            }
            Fault::PostgresKillBackends => {
                testbed.postgres.terminate_backends().await?;
                self.next = Instant::now() + Duration::from_millis(rng.random_range(300..1500));
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the fault and repairs what it broke.
    pub async fn heal(self, testbed: &mut Testbed, workload: &Workload) -> Result<()> {
        match self.undo {
            Undo::Nothing => {}
            Undo::AddNode => {
                let dead: Vec<String> = testbed
                    .slots
                    .iter()
                    .filter(|slot| !slot.node.is_running())
                    .map(|slot| slot.node.name().to_owned())
                    .collect();
                for name in dead {
                    drop(testbed.remove_node(&name).await?);
                }
                testbed.add_node().await?;
            }
            Undo::ResumeRedis => testbed.redis.resume()?,
            Undo::RestartRedis => testbed.redis.restart().await?,
            Undo::MendRedis => testbed.redis.mend().await?,
            Undo::MendLinks => {
                let redis = testbed.slots.iter().filter_map(|slot| slot.redis.as_ref());
                for link in
                    redis.chain(testbed.slots.iter().map(|slot| &slot.database)).chain(&testbed.client_links)
                {
                    link.resume();
                    link.delay(Duration::ZERO);
                }
            }
            Undo::StartPostgres => testbed.postgres.start_again().await?,
            Undo::RenewStandby => testbed.standby = Some(Postgres::standby_of(&testbed.postgres).await?),
            Undo::FreeDisk => {
                testbed.disk.as_ref().context("a small disk")?.free()?;
                // PostgreSQL ends by itself when it can't write its log.
                if !testbed.postgres.is_running() {
                    testbed.postgres.start_again().await?;
                }
            }
            Undo::ReadAgain => workload.set_busy(false),
            Undo::SetClock(name) => testbed.move_clock(&name, 0)?,
        }
        Ok(())
    }

    /// Whether healing it replaces a server, which needs everything else to work again.
    pub fn needs_recovery(&self) -> bool {
        matches!(self.undo, Undo::AddNode | Undo::MendRedis | Undo::RenewStandby)
    }
}

fn delay_links_to_redis(testbed: &Testbed, rng: &mut StdRng) {
    for link in testbed.slots.iter().filter_map(|slot| slot.redis.as_ref()) {
        link.delay(Duration::from_millis(rng.random_range(50..=300)));
    }
}

fn any_node(testbed: &Testbed, rng: &mut StdRng) -> Result<String> {
    let running: Vec<_> = testbed.slots.iter().filter(|slot| slot.node.is_running()).collect();
    Ok(running.choose(rng).context("no node is left")?.node.name().to_owned())
}

/// Sends SIGTERM to a node, and waits for its end. Fails unless the exit status is 0.
pub async fn drain(testbed: &mut Testbed, name: &str) -> Result<()> {
    let drain = testbed.drain();
    let slot = testbed.slot(name).context("a node to drain")?;
    slot.node.begin_termination()?;
    let status = slot.node.ended(drain + END_GRACE).await?;
    ensure!(status.code() == Some(0), "{name} did not end well: {status}\n{}", slot.node.log());
    drop(testbed.remove_node(name).await?);
    Ok(())
}

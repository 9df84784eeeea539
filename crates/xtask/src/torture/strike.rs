//! How each fault is done, and undone.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use starling_testkit::postgres::Postgres;
use starling_testkit::proxy::Link;

use super::crowd::Scene;
use super::fault::Fault;
use super::stage::Stage;

/// How much longer than its drain a node may take to end.
const END_GRACE: Duration = Duration::from_secs(15);
/// Between two looks at faults that go on.
const TICK: Duration = Duration::from_millis(200);
/// How long a link is silent at most, where links break at random.
const SILENCE_MAX: Duration = Duration::from_millis(1500);

/// A fault under way.
pub struct Strike {
    fault: Fault,
    undo: Undo,
    next: Instant,
}

/// What ends it.
enum Undo {
    Nothing,
    /// A node is to take the place of one that is gone.
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

/// Does it. Returns with it under way, or when it is over, where it does not last.
pub async fn strike(fault: Fault, stage: &mut Stage, scene: &Scene, rng: &mut StdRng) -> Result<Strike> {
    let undo = match fault {
        Fault::None | Fault::Combination => Undo::Nothing,
        Fault::KillNode => {
            let name = any_node(stage, rng)?;
            stage.seat(&name).context("a node to kill")?.node.kill().await?;
            Undo::AddNode
        }
        Fault::RollingDeploy => {
            for name in stage.seats.iter().map(|seat| seat.node.name().to_owned()).collect::<Vec<_>>() {
                stage.add_node().await?;
                drain(stage, &name).await?;
            }
            Undo::Nothing
        }
        Fault::ScaleIn => {
            let name = any_node(stage, rng)?;
            drain(stage, &name).await?;
            Undo::AddNode
        }
        Fault::Storm => {
            stage.fronts.iter().for_each(Link::cut);
            Undo::Nothing
        }
        Fault::RedisStop => {
            stage.redis.stop()?;
            Undo::ResumeRedis
        }
        Fault::RedisKill => {
            stage.redis.kill().await?;
            Undo::RestartRedis
        }
        Fault::RedisFlush => {
            stage.redis.flush().await?;
            Undo::Nothing
        }
        Fault::RedisFailover => {
            stage.redis.fail_over().await?;
            Undo::MendRedis
        }
        Fault::RedisPartition => {
            let name = any_node(stage, rng)?;
            stage.seat(&name).and_then(|seat| seat.redis.as_ref()).context("a link to Redis")?.pause();
            Undo::MendLinks
        }
        Fault::NetworkCut => Undo::MendLinks,
        Fault::NetworkDelay => {
            delay_links_to_redis(stage, rng);
            Undo::MendLinks
        }
        Fault::PostgresStop => {
            stage.postgres.stop().await?;
            Undo::StartPostgres
        }
        Fault::PostgresHang => {
            stage.seats.iter().for_each(|seat| seat.database.pause());
            Undo::MendLinks
        }
        Fault::PostgresKillBackends => {
            stage.postgres.terminate_backends().await?;
            Undo::Nothing
        }
        Fault::PostgresFailover => {
            let standby = stage.standby.take().context("a standby")?;
            stage.postgres.crash().await?;
            standby.promote().await?;
            stage.postgres = standby;
            stage.follow_database();
            Undo::RenewStandby
        }
        Fault::SlowReader => {
            scene.set_busy(true);
            Undo::ReadAgain
        }
        Fault::ClockJump => {
            let name = any_node(stage, rng)?;
            let by = [-900, -90, -20, 20, 90, 900];
            stage.move_clock(&name, *by.choose(rng).context("a distance")?)?;
            Undo::SetClock(name)
        }
        Fault::DiskFull => {
            stage.disk.as_ref().context("a small disk")?.fill()?;
            Undo::FreeDisk
        }
    };
    Ok(Strike { fault, undo, next: Instant::now() })
}

/// Lets them go on for a while.
pub async fn hold(strikes: &mut [Strike], stage: &Stage, rng: &mut StdRng, lasts: Duration) -> Result<()> {
    let until = Instant::now() + lasts;
    while Instant::now() < until {
        for strike in strikes.iter_mut() {
            if Instant::now() >= strike.next {
                strike.tick(stage, rng).await?;
            }
        }
        tokio::time::sleep(TICK.min(until.saturating_duration_since(Instant::now()))).await;
    }
    Ok(())
}

impl Strike {
    async fn tick(&mut self, stage: &Stage, rng: &mut StdRng) -> Result<()> {
        match self.fault {
            Fault::NetworkDelay => delay_links_to_redis(stage, rng),
            Fault::NetworkCut => {
                let nodes = stage.seats.iter().flat_map(|seat| [seat.redis.as_ref(), Some(&seat.database)]);
                let links: Vec<&Link> = stage.fronts.iter().chain(nodes.flatten()).collect();
                let link = links.choose(rng).context("a link")?;
                // Some break aloud, some in silence; those speak again after a while.
                if rng.random_bool(0.6) {
                    link.cut();
                } else {
                    link.pause();
                    let silence = rng.random_range(Duration::from_millis(200)..SILENCE_MAX);
                    tokio::time::sleep(silence).await;
                    link.resume();
                }
            }
            Fault::PostgresKillBackends => {
                stage.postgres.terminate_backends().await?;
                self.next = Instant::now() + Duration::from_millis(rng.random_range(300..1500));
            }
            _ => {}
        }
        Ok(())
    }

    /// Undoes it, as far as it can be undone.
    pub async fn heal(self, stage: &mut Stage, scene: &Scene) -> Result<()> {
        match self.undo {
            Undo::Nothing => {}
            Undo::AddNode => {
                let dead: Vec<String> = stage
                    .seats
                    .iter()
                    .filter(|seat| !seat.node.is_running())
                    .map(|seat| seat.node.name().to_owned())
                    .collect();
                for name in dead {
                    drop(stage.remove_node(&name).await?);
                }
                stage.add_node().await?;
            }
            Undo::ResumeRedis => stage.redis.resume()?,
            Undo::RestartRedis => stage.redis.restart().await?,
            Undo::MendRedis => stage.redis.mend().await?,
            Undo::MendLinks => {
                let redis = stage.seats.iter().filter_map(|seat| seat.redis.as_ref());
                for link in redis.chain(stage.seats.iter().map(|seat| &seat.database)).chain(&stage.fronts) {
                    link.resume();
                    link.delay(Duration::ZERO);
                }
            }
            Undo::StartPostgres => stage.postgres.start_again().await?,
            Undo::RenewStandby => stage.standby = Some(Postgres::standby_of(&stage.postgres).await?),
            Undo::FreeDisk => {
                stage.disk.as_ref().context("a small disk")?.free()?;
                // It ends by itself when it can't write its log.
                if !stage.postgres.is_running() {
                    stage.postgres.start_again().await?;
                }
            }
            Undo::ReadAgain => scene.set_busy(false),
            Undo::SetClock(name) => stage.move_clock(&name, 0)?,
        }
        Ok(())
    }

    /// Whether undoing it only makes ready for the next, and needs everything else to work again.
    pub fn is_for_later(&self) -> bool {
        matches!(self.undo, Undo::AddNode | Undo::MendRedis | Undo::RenewStandby)
    }
}

fn delay_links_to_redis(stage: &Stage, rng: &mut StdRng) {
    for link in stage.seats.iter().filter_map(|seat| seat.redis.as_ref()) {
        link.delay(Duration::from_millis(rng.random_range(50..=300)));
    }
}

fn any_node(stage: &Stage, rng: &mut StdRng) -> Result<String> {
    let running: Vec<_> = stage.seats.iter().filter(|seat| seat.node.is_running()).collect();
    Ok(running.choose(rng).context("no node is left")?.node.name().to_owned())
}

/// SIGTERM, and waits for the end, which must be a good one.
async fn drain(stage: &mut Stage, name: &str) -> Result<()> {
    let drain = stage.drain();
    let seat = stage.seat(name).context("a node to drain")?;
    seat.node.begin_termination()?;
    let status = seat.node.ended(drain + END_GRACE).await?;
    ensure!(status.code() == Some(0), "{name} did not end well: {status}\n{}", seat.node.log());
    drop(stage.remove_node(name).await?);
    Ok(())
}

//! `cargo xtask race`: several connections attach the same session at about the same time, through several nodes, round after round,
//! while Redis is wiped, frozen and killed. In each round only the connection that began last must remain.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_testkit::node::Cluster;
use starling_testkit::race::{Racer, Rounds};

/// Sessions that are raced for at the same time.
const RACERS: usize = 12;
/// Duration of each outage of Redis.
const AWAY: Duration = Duration::from_secs(3);

/// Lets connections race for the same sessions, through several nodes and with Redis failing, and counts which one remains.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many rounds
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Through how many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=8))]
    nodes: u8,
    /// How often Redis fails: wiped, frozen and killed in turn
    #[arg(long, default_value_t = 9)]
    faults: u64,
    /// Sets a variable for all nodes; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::faults::parse_variable)]
    node_env: Vec<(String, String)>,
    /// Runs this program instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Runs the rounds. Returns whether the right connection remained each time.
pub async fn run(arguments: &Arguments) -> Result<bool> {
    let program = crate::program::program(arguments.program.as_ref()).await?;
    let began = Instant::now();
    let cluster = Cluster::builder(arguments.nodes.into()).program(program).unlimited();
    let cluster = arguments.node_env.iter().fold(cluster, |cluster, (name, value)| cluster.env(name, value));
    let cluster = cluster.start().await?;
    let race = Race {
        cluster: &cluster,
        rounds: arguments.rounds,
        begun: AtomicU64::new(0),
        failed: AtomicU64::new(0),
        began,
    };
    let racing = async {
        let rounds = futures_util::future::try_join_all((0..RACERS).map(|number| race.run(number))).await?;
        let mut sum = Rounds::default();
        rounds.iter().for_each(|rounds| sum.add(rounds));
        anyhow::Ok(sum)
    };
    let (faults, sum) = tokio::try_join!(race.break_redis(arguments.faults), racing)?;
    let failed = race.failed.load(Ordering::Relaxed);
    println!(
        "{} rounds through {} nodes in {:.0} s, Redis broken {faults} times: {failed} failed; in {} the last socket was sure and was left, in {} one was cut in the middle",
        sum.run + failed,
        arguments.nodes,
        began.elapsed().as_secs_f64(),
        sum.last_one_left,
        sum.cut,
    );
    ensure!(sum.last_one_left > 0, "in no round it was sure which socket was the last");
    Ok(failed == 0)
}

struct Race<'a> {
    cluster: &'a Cluster,
    rounds: u64,
    begun: AtomicU64,
    failed: AtomicU64,
    began: Instant,
}

impl Race<'_> {
    /// Runs rounds of one racer until all rounds are done.
    async fn run(&self, number: usize) -> Result<Rounds> {
        let mut sum = Rounds::default();
        for turn in 0_u64.. {
            let mut racer = match Racer::enter(self.cluster, &format!("racer-{number}-{turn}")).await {
                Ok(racer) => racer,
                // Redis may be down.
                Err(_) if self.begun.load(Ordering::Relaxed) < self.rounds => {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            loop {
                if self.begun.fetch_add(1, Ordering::Relaxed) >= self.rounds {
                    return Ok(sum);
                }
                match racer.round().await {
                    Ok(round) => sum.add(&round),
                    Err(error) => {
                        self.failed.fetch_add(1, Ordering::Relaxed);
                        println!("{:8.1} s  {error:#}", self.began.elapsed().as_secs_f64());
                        // Further rounds with this session would show nothing.
                        break;
                    }
                }
            }
        }
        Ok(sum)
    }

    /// Breaks Redis this many times, spread over the rounds. Returns the number of times.
    async fn break_redis(&self, faults: u64) -> Result<u64> {
        let redis = self.cluster.redis()?;
        for turn in 0..faults {
            let due = self.rounds * (turn + 1) / (faults + 1);
            while self.begun.load(Ordering::Relaxed) < due {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let tell = |what: &str| println!("{:8.1} s  Redis is {what}", self.began.elapsed().as_secs_f64());
            match turn % 3 {
                0 => {
                    tell("wiped");
                    redis.flushall().await?;
                }
                1 => {
                    tell("frozen");
                    redis.stop()?;
                    tokio::time::sleep(AWAY).await;
                    redis.resume()?;
                }
                _ => {
                    tell("killed");
                    redis.kill().await?;
                    tokio::time::sleep(AWAY).await;
                    redis.restart().await?;
                }
            }
        }
        Ok(faults)
    }
}

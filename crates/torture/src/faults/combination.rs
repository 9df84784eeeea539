//! Random combinations of faults.

use clap::ValueEnum;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::fault::{DatabaseKind, Fault, RedisKind, Topology};

/// Draws two or three faults that this topology supports at the same time, in the order in which they begin.
pub fn draw(topology: Topology, rng: &mut StdRng) -> Vec<Fault> {
    let possible: Vec<Fault> =
        Fault::value_variants().iter().copied().filter(|fault| is_possible(*fault, topology)).collect();
    let mut drawn: Vec<Fault> = Vec::new();
    let count = rng.random_range(2..=3);
    while drawn.len() < count {
        let fits = |fault: &Fault| drawn.iter().all(|other| go_together(*fault, *other));
        let left: Vec<Fault> = possible.iter().copied().filter(fits).collect();
        let Some(next) = left.choose(rng) else { break };
        drawn.push(*next);
    }
    drawn.shuffle(rng);
    // Faults that take long to inject come last, while the others are active.
    drawn.sort_by_key(|fault| fault.drains());
    drawn
}

/// Whether the topology has what the fault needs.
fn is_possible(fault: Fault, topology: Topology) -> bool {
    match fault {
        Fault::None | Fault::Combination => false,
        Fault::ClockJump => topology.clocks,
        Fault::DiskFull => topology.database == DatabaseKind::SmallDisk,
        Fault::PostgresFailover => topology.database == DatabaseKind::Pair,
        Fault::RedisFailover => topology.redis != RedisKind::Alone,
        fault if fault.needs_links_to_redis() => topology.redis == RedisKind::Alone,
        _ => true,
    }
}

/// Whether one fault can be injected while the other is active.
fn go_together(one: Fault, other: Fault) -> bool {
    use Fault::*;
    // A dead server can't be stopped or queried, and a node that has gone can't be asked to end.
    let redis = |fault| matches!(fault, RedisStop | RedisKill | RedisFlush | RedisFailover);
    let postgres = |fault| matches!(fault, PostgresStop | PostgresKillBackends | PostgresFailover | DiskFull);
    let settings = |fault| matches!(fault, KillNode | RollingDeploy | ScaleIn);
    let same = |of: &dyn Fn(Fault) -> bool| of(one) && of(other);
    // A new node can't start while its servers are down.
    let away = |fault| matches!(fault, RedisStop | RedisKill | PostgresStop | PostgresHang);
    let futile = |deploy, fault| deploy == RollingDeploy && away(fault);
    one != other
        && !same(&redis)
        && !same(&postgres)
        && !same(&settings)
        && !futile(one, other)
        && !futile(other, one)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::SeedableRng;

    use super::*;

    fn draws(seed: u64, redis: RedisKind, database: DatabaseKind) -> Vec<Vec<Fault>> {
        let mut rng = StdRng::seed_from_u64(seed);
        (0..500).map(|_| draw(Topology { redis, database, clocks: false }, &mut rng)).collect()
    }

    fn all(draws: Vec<Vec<Fault>>) -> HashSet<Fault> {
        draws.into_iter().flatten().collect()
    }

    #[test]
    fn a_seed_draws_the_same_again() {
        let usual = |seed| draws(seed, RedisKind::Alone, DatabaseKind::Pair);
        assert_eq!(usual(7), usual(7));
        assert_ne!(usual(7), usual(8));
    }

    #[test]
    fn everything_is_drawn_that_the_stage_allows_and_nothing_else() {
        let usual = all(draws(7, RedisKind::Alone, DatabaseKind::Pair));
        for fault in [Fault::RollingDeploy, Fault::ScaleIn, Fault::SlowReader, Fault::PostgresFailover] {
            assert!(usual.contains(&fault), "{fault:?}");
        }
        assert!(!usual.contains(&Fault::RedisFailover) && !usual.contains(&Fault::Combination));
        let sentinel = all(draws(7, RedisKind::Sentinel, DatabaseKind::Alone));
        assert!(sentinel.contains(&Fault::RedisFailover) && !sentinel.contains(&Fault::PostgresFailover));
        assert!(!sentinel.contains(&Fault::RedisPartition) && !sentinel.contains(&Fault::DiskFull));
    }

    #[test]
    fn what_is_drawn_can_be_done_together() {
        for drawn in draws(9, RedisKind::Alone, DatabaseKind::Pair) {
            assert!((2..=3).contains(&drawn.len()), "{drawn:?}");
            let deploys = drawn.contains(&Fault::RollingDeploy);
            assert!(!deploys || drawn.last() == Some(&Fault::RollingDeploy), "{drawn:?}");
            let away = [Fault::RedisStop, Fault::RedisKill, Fault::PostgresStop, Fault::PostgresHang];
            assert!(!deploys || !drawn.iter().any(|fault| away.contains(fault)), "{drawn:?}");
        }
    }
}

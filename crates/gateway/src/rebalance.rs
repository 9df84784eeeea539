//! After a scale-out the new nodes stand empty: a node that holds far more than the mean asks some of its clients to go to others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use starling_hub::Hub;
use tokio::time::MissedTickBehavior;

use crate::GatewayConfig;
use crate::shard::{Asked, Inboxes, Item};

/// How often is looked. Clients that were asked to go, and are still here the next time, count as gone.
const EVERY: Duration = Duration::from_secs(15);
/// Fewer clients than this too many are not worth moving.
const WORTH: u64 = 50;

/// Looks every while, for ever.
pub(crate) async fn run(config: GatewayConfig, hub: Arc<Hub>, inboxes: Arc<Inboxes>, asked: Arc<Asked>) {
    if config.shed_above_percent == 0 {
        return;
    }
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let own = hub.gauges().connections.load(Ordering::Relaxed).saturating_sub(asked.count());
        let others: Vec<u64> = hub.other_nodes().iter().map(|node| node.connections).collect();
        let most = u64::from(config.drain_clients_per_second) * EVERY.as_secs() * others.len() as u64;
        let surplus = surplus(own, &others, config.shed_above_percent).min(most);
        if surplus == 0 {
            continue;
        }
        tracing::info!(own, others = ?others, asked = surplus, "holds far more than the mean; asks clients to go");
        let shards = inboxes.count();
        for shard in 0..shards {
            // The first ones take what does not divide.
            let part = surplus as usize / shards + usize::from(shard < surplus as usize % shards);
            inboxes.send(shard, Item::Shed(part)).await;
        }
    }
}

/// How many clients are to go: half of what is above the mean, since of those who go some come back to this node.
fn surplus(own: u64, others: &[u64], above_percent: u32) -> u64 {
    if others.is_empty() {
        return 0;
    }
    let mean = (own + others.iter().sum::<u64>()) / (others.len() as u64 + 1);
    let above = own.saturating_sub(mean);
    if above < WORTH || above * 100 <= mean * u64::from(above_percent) { 0 } else { above.div_ceil(2) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_far_more_than_the_mean_gives_half_of_the_surplus_away() {
        assert_eq!(surplus(10_000, &[10_000, 0], 20), 1_667);
        assert_eq!(surplus(7_000, &[7_000, 6_000], 20), 0, "near the mean");
        assert_eq!(surplus(0, &[10_000], 20), 0, "below it");
        assert_eq!(surplus(60, &[0], 20), 0, "not worth it");
        assert_eq!(surplus(10_000, &[], 20), 0, "nowhere to go");
    }
}

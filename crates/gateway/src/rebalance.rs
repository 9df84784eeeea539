//! Balancing: a node that holds far more sessions than the mean of all nodes asks some of its clients to move, for example after a
//! scale-out, when new nodes stand empty.
//!
//! It only asks, by the event `draining`: a client that does not follow stays. It counts sessions, not connections, so that connections
//! without a session move nobody. It asks nobody unless it knows for certain how many sessions the others have. If asking does not help,
//! since clients ignore it or a load balancer sends them back, it pauses, longer each time.

use std::sync::Arc;
use std::time::Duration;

use starling_hub::{Hub, LoadsUnknown};
use tokio::time::{Instant, MissedTickBehavior};

use crate::GatewayConfig;
use crate::metrics::{Comparison, METRICS};
use crate::shard::{Inboxes, Item};

/// Asking counts as effective if the surplus shrank by at least one session per `HELPED_ONE_IN` clients asked.
const HELPED_ONE_IN: u64 = 4;
/// Comparisons that a node waits after another node came or went. Its clients are moving, and dropped sessions still count on their old node
/// for ten seconds.
const SETTLES_FOR: u32 = 2;
/// Comparisons in the first pause after asking did not help. Each further pause is twice as long.
const FIRST_PAUSE: u32 = 4;
/// Comparisons in the longest pause.
const LONGEST_PAUSE: u32 = 240;

/// The limits beyond which a node asks clients to move.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Time from one comparison to the next. Clients that follow have moved by then.
    every: Duration,
    /// Allowed surplus over the mean, percent.
    above_percent: u32,
    /// Allowed surplus over the mean, sessions. Both limits must be exceeded.
    above_sessions: u64,
    /// Number of clients that each of the other nodes can take until the next comparison.
    most_per_node: u64,
}

/// The result of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// There is no surplus worth moving.
    Balanced,
    /// The sessions of the other nodes are not known.
    Unknown(LoadsUnknown),
    /// There is a surplus, but asking did not help lately.
    Paused,
    /// The number of clients to ask.
    Ask(u64),
}

/// What a node remembers from one comparison to the next.
#[derive(Debug, Default)]
struct Balance {
    /// The surplus when clients were last asked, and the number that were.
    asked: Option<(u64, u64)>,
    /// The length of the last pause; zero after asking helped.
    pause: Duration,
    paused_until: Option<Instant>,
}

/// Compares this node with the others from time to time, for ever.
pub(crate) async fn run(config: Arc<GatewayConfig>, hub: Arc<Hub>, inboxes: Arc<Inboxes>) {
    if config.shed_above_percent == 0 {
        return;
    }
    let every = config.shed_every;
    let limits = Limits {
        every,
        above_percent: config.shed_above_percent,
        above_sessions: config.shed_above_sessions,
        most_per_node: u64::from(config.drain_clients_per_second) * every.as_secs(),
    };
    let mut balance = Balance::default();
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        let (own, others) = (hub.attached(), hub.loads_of_others(every * SETTLES_FOR));
        let verdict = balance.look(Instant::now(), own, others.as_deref(), limits);
        METRICS.looked(match verdict {
            Verdict::Balanced => Comparison::Balanced,
            Verdict::Unknown(_) => Comparison::Unknown,
            Verdict::Paused => Comparison::Paused,
            Verdict::Ask(_) => Comparison::Asked,
        });
        let others = others.unwrap_or_default();
        match verdict {
            Verdict::Ask(count) => {
                tracing::info!(
                    own,
                    ?others,
                    asked = count,
                    "this node has far more sessions than the mean of all nodes; it asks some clients to move"
                );
                ask(&inboxes, count).await;
            }
            Verdict::Unknown(why) => {
                tracing::debug!(
                    why = why.as_str(),
                    "not balancing: the load of the other nodes is not known"
                );
            }
            Verdict::Paused => {
                tracing::debug!(own, ?others, "not balancing: asking clients to move did not help recently");
            }
            Verdict::Balanced => {}
        }
    }
}

async fn ask(inboxes: &Inboxes, count: u64) {
    let (shards, count) = (inboxes.count(), usize::try_from(count).unwrap_or(usize::MAX));
    for shard in 0..shards {
        // The first shards take the remainder.
        let part = count / shards + usize::from(shard < count % shards);
        inboxes.send(shard, Item::Shed(part)).await;
    }
}

impl Balance {
    /// Compares this node's sessions with those of the others.
    fn look(
        &mut self,
        now: Instant,
        own: u64,
        others: Result<&[u64], &LoadsUnknown>,
        limits: Limits,
    ) -> Verdict {
        let others = match others {
            Ok(others) => others,
            Err(why) => {
                // Whether asking helped is not known, either.
                self.asked = None;
                return Verdict::Unknown(*why);
            }
        };
        let above = above_mean(own, others);
        if let Some((before, asked)) = self.asked.take() {
            self.learn(now, before.saturating_sub(above), asked, limits.every);
        }
        let mean = own - above;
        if above <= limits.above_sessions
            || above.saturating_mul(100) <= mean.saturating_mul(limits.above_percent.into())
        {
            return Verdict::Balanced;
        }
        if self.paused_until.is_some_and(|until| now < until) {
            return Verdict::Paused;
        }
        // Half of the surplus, since some of the clients that go come back to this node.
        let count = above.div_ceil(2).min(limits.most_per_node.saturating_mul(others.len() as u64));
        self.asked = Some((above, count));
        Verdict::Ask(count)
    }

    fn learn(&mut self, now: Instant, moved: u64, asked: u64, every: Duration) {
        if moved.saturating_mul(HELPED_ONE_IN) >= asked {
            (self.pause, self.paused_until) = (Duration::ZERO, None);
        } else {
            self.pause = (self.pause * 2).clamp(every * FIRST_PAUSE, every * LONGEST_PAUSE);
            self.paused_until = Some(now + self.pause);
            tracing::info!(
                asked,
                moved,
                pause_seconds = self.pause.as_secs(),
                "most clients that were asked to move have stayed or come back; pausing"
            );
        }
    }
}

/// Number of sessions by which a node is above the mean of all.
fn above_mean(own: u64, others: &[u64]) -> u64 {
    let sum = others.iter().fold(own, |sum, other| sum.saturating_add(*other));
    own.saturating_sub(sum / (others.len() as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(15);
    const LIMITS: Limits =
        Limits { every: EVERY, above_percent: 50, above_sessions: 300, most_per_node: 7_500 };

    /// A balance that looks every 15 s.
    struct Node {
        balance: Balance,
        now: Instant,
    }

    impl Node {
        fn new() -> Node {
            Node { balance: Balance::default(), now: Instant::now() }
        }
        fn look(&mut self, own: u64, others: Result<&[u64], LoadsUnknown>) -> Verdict {
            self.now += EVERY;
            self.balance.look(self.now, own, others.as_ref().copied(), LIMITS)
        }
    }

    fn first(own: u64, others: &[u64]) -> Verdict {
        Node::new().look(own, Ok(others))
    }

    #[test]
    fn a_node_far_above_the_mean_asks_half_of_its_surplus_to_move() {
        assert_eq!(first(9_000, &[9_000, 0]), Verdict::Balanced, "half above, not more");
        assert_eq!(first(10_000, &[5_000, 0]), Verdict::Ask(2_500));
        assert_eq!(first(7_000, &[7_000, 6_000]), Verdict::Balanced);
        assert_eq!(first(0, &[10_000]), Verdict::Balanced);
        assert_eq!(first(10_000, &[]), Verdict::Balanced, "nowhere to go");
        assert_eq!(first(100_000, &[0]), Verdict::Ask(7_500), "as many as the other one can take");
        assert_eq!(first(u64::MAX / 200, &[u64::MAX]), Verdict::Balanced);
    }

    #[test]
    fn a_few_hundred_sessions_are_not_worth_moving_whatever_the_mean_is() {
        assert_eq!(first(600, &[0]), Verdict::Balanced);
        assert_eq!(first(602, &[0]), Verdict::Ask(151));
        assert_eq!(first(120, &[0, 0, 0, 0, 0, 0]), Verdict::Balanced);
    }

    #[test]
    fn nobody_is_asked_while_the_others_are_not_known() {
        for why in [
            LoadsUnknown::Deaf,
            LoadsUnknown::Stale,
            LoadsUnknown::Changed,
            LoadsUnknown::Silent,
            LoadsUnknown::Unreported,
        ] {
            let mut node = Node::new();
            assert_eq!(node.look(10_000, Err(why)), Verdict::Unknown(why));
            assert_eq!(node.look(10_000, Ok(&[0])), Verdict::Ask(2_500));
            assert_eq!(node.look(10_000, Err(why)), Verdict::Unknown(why));
            // What became of those who were asked can't be told, so it is no reason to pause.
            assert_eq!(node.look(10_000, Ok(&[0])), Verdict::Ask(2_500));
        }
    }

    #[test]
    fn clients_that_follow_are_asked_until_the_node_is_near_the_mean() {
        let (mut node, mut own, mut rounds) = (Node::new(), 10_000, 0);
        while let Verdict::Ask(count) = node.look(own, Ok(&[10_000 - own])) {
            own -= count;
            rounds += 1;
        }
        assert_eq!((own, rounds), (7_500, 1));
        // As many as that one asked for have come anew: it goes on, since asking helped.
        assert!(matches!(node.look(10_000, Ok(&[2_500])), Verdict::Ask(_)));
    }

    /// Looks for a day at a cluster in which asking changes nothing, and counts what is asked.
    fn in_vain(mut look: impl FnMut(&mut Node) -> Verdict) -> Vec<Instant> {
        let mut node = Node::new();
        let end = node.now + Duration::from_secs(24 * 3_600);
        let mut asked = Vec::new();
        while node.now < end {
            match look(&mut node) {
                Verdict::Ask(_) => asked.push(node.now),
                verdict => assert_eq!(verdict, Verdict::Paused),
            }
        }
        asked
    }

    #[test]
    fn asking_in_vain_makes_a_node_pause_longer_each_time() {
        let asked = in_vain(|node| node.look(10_000, Ok(&[0])));
        let pauses: Vec<u64> =
            asked.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_secs()).collect();
        assert!(pauses.is_sorted(), "{pauses:?}");
        assert!(pauses[0] >= 60 && pauses.last().is_some_and(|last| *last >= 3_600), "{pauses:?}");
        // A node that does not learn asks 5,760 times a day.
        assert!(asked.len() < 40, "{}", asked.len());
    }

    #[test]
    fn a_trickle_that_follows_does_not_keep_a_node_asking() {
        let mut own = 100_000;
        let asked = in_vain(|node| {
            let verdict = node.look(own, Ok(&[0]));
            if matches!(verdict, Verdict::Ask(_)) {
                own -= 10;
            }
            verdict
        });
        assert!(asked.len() < 40, "{}", asked.len());
    }

    #[test]
    fn a_node_that_paused_asks_at_its_old_pace_once_asking_helps_again() {
        let mut node = Node::new();
        assert_eq!(node.look(10_000, Ok(&[0])), Verdict::Ask(2_500));
        assert_eq!(node.look(10_000, Ok(&[0])), Verdict::Paused);
        while node.look(10_000, Ok(&[0])) == Verdict::Paused {}
        // It has asked again, and this time they went.
        assert_eq!(node.look(8_500, Ok(&[1_500])), Verdict::Ask(1_750));
    }
}

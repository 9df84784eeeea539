//! The timetable of a drain.

use std::time::Duration;

/// Limit on a drain where there is no other node: it only waits for answers that are under way.
const ALONE_MAX: Duration = Duration::from_secs(10);

/// The timetable of a drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DrainPlan {
    /// How long the drain may still take.
    pub limit: Duration,
    /// The time over which clients that follow `draining` move; `None` if there is no other node to move to.
    pub spread: Option<Duration>,
}

impl DrainPlan {
    /// A drain that the other nodes can take: each is sent `clients_per_second`, or more if half of the time would not suffice.
    pub fn new(limit: Duration, connections: u64, others: usize, clients_per_second: u32) -> DrainPlan {
        let rate = f64::from(clients_per_second.max(1)) * others as f64;
        if others == 0 {
            return DrainPlan { limit: limit.min(ALONE_MAX), spread: None };
        }
        let spread = Duration::from_secs_f64(connections as f64 / rate).min(limit / 2);
        DrainPlan { limit, spread: Some(spread) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_spread_as_the_other_nodes_can_take_them_and_over_half_of_the_time_at_most() {
        let plan = |connections, others| DrainPlan::new(Duration::from_secs(30), connections, others, 500);
        let spread = |connections, others| plan(connections, others).spread.map(|spread| spread.as_millis());
        assert_eq!(spread(0, 2), Some(0));
        assert_eq!(spread(1_000, 2), Some(1_000));
        assert_eq!(spread(10_000, 4), Some(5_000));
        assert_eq!(spread(1_000_000, 2), Some(15_000));
        assert_eq!(spread(1_000, 0), None);
        assert_eq!(plan(1_000, 0).limit, ALONE_MAX);
    }
}

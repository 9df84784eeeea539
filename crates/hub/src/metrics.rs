//! The hub's metrics: handles that are registered once.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::room::sequencer::Fed;

/// The hub's metrics.
pub struct HubMetrics {
    pub committed: Counter,
    pub duplicate: Counter,
    pub commit_seconds: Histogram,
    pub append_batch: Histogram,
    pub command_seconds: Histogram,
    pub publish_batch: Histogram,
    pub fanout_lag: Histogram,
    pub holes: Counter,
    pub repeats: Counter,
    pub repairs: Counter,
    pub gaps: Counter,
    pub resumed: Counter,
    pub new_sessions: Counter,
    pub presence_changes: Counter,
    pub publications_dropped: Counter,
    pub unwanted: Counter,
    pub interest_own: Gauge,
    pub interest_known: Gauge,
    pub interest_uncertain: Gauge,
    pub sessions: Gauge,
    pub joined: Gauge,
    pub topics: Gauge,
    pub fanout_up: Gauge,
    pub append_depth: Gauge,
    pub publish_depth: Gauge,
    pub topic_depth: Gauge,
    pub presence_depth: Gauge,
    pub reads_waiting: Gauge,
    pub limited_user_writes: Counter,
    pub limited_user_reads: Counter,
    pub limited_reads_waiting: Counter,
    pub limited_tenant_connections: Counter,
    pub limited_tenant_conversations: Counter,
    pub limited_joins: Counter,
    pub limited_topics: Counter,
}

/// Registers the metrics.
#[expect(clippy::disallowed_macros, reason = "handles are registered here, once")]
pub static METRICS: LazyLock<HubMetrics> = LazyLock::new(|| HubMetrics {
    committed: counter!("starling_messages_committed_total"),
    duplicate: counter!("starling_messages_duplicate_total"),
    commit_seconds: histogram!("starling_commit_seconds"),
    append_batch: histogram!("starling_append_batch_size"),
    // Only commands that were replied to from a lane. The gateway counts the others in the same histogram.
    command_seconds: histogram!("starling_command_seconds"),
    publish_batch: histogram!("starling_publish_batch_size"),
    fanout_lag: histogram!("starling_fanout_lag_seconds"),
    holes: counter!("starling_sequencer_holes_total"),
    repeats: counter!("starling_sequencer_repeats_total"),
    repairs: counter!("starling_sequencer_repairs_total"),
    gaps: counter!("starling_gaps_total"),
    resumed: counter!("starling_resumes_total", "result" => "resumed"),
    new_sessions: counter!("starling_resumes_total", "result" => "new"),
    presence_changes: counter!("starling_presence_changes_total"),
    publications_dropped: counter!("starling_drops_total", "kind" => "publication"),
    unwanted: counter!("starling_fanout_unwanted_total"),
    interest_own: gauge!("starling_interest_conversations"),
    interest_known: gauge!("starling_interest_known"),
    interest_uncertain: gauge!("starling_interest_uncertain_nodes"),
    sessions: gauge!("starling_sessions"),
    joined: gauge!("starling_conversations_joined"),
    topics: gauge!("starling_topics_subscribed"),
    fanout_up: gauge!("starling_fanout_up"),
    append_depth: gauge!("starling_lane_depth", "lane" => "append"),
    publish_depth: gauge!("starling_lane_depth", "lane" => "publish"),
    topic_depth: gauge!("starling_lane_depth", "lane" => "topic"),
    presence_depth: gauge!("starling_lane_depth", "lane" => "presence"),
    reads_waiting: gauge!("starling_reads_waiting"),
    limited_user_writes: counter!("starling_limited_total", "limit" => "user_writes"),
    limited_user_reads: counter!("starling_limited_total", "limit" => "user_reads"),
    limited_reads_waiting: counter!("starling_limited_total", "limit" => "reads_waiting"),
    limited_tenant_connections: counter!("starling_limited_total", "limit" => "tenant_connections"),
    limited_tenant_conversations: counter!("starling_limited_total", "limit" => "tenant_conversations"),
    limited_joins: counter!("starling_limited_total", "limit" => "joins"),
    limited_topics: counter!("starling_limited_total", "limit" => "topics"),
});

/// Counts the result of feeding a message to a sequencer.
pub fn sequencer(fed: Fed) {
    match fed {
        Fed::Released => {}
        Fed::Repeat => METRICS.repeats.increment(1),
        Fed::Waits => METRICS.holes.increment(1),
    }
}

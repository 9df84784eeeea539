//! What becomes due for a connection, and when.
//!
//! Whatever becomes due is a field of the connection. So nothing outlives a socket, and a new time replaces the one before it: a
//! client that refreshes its token a thousand times costs no more than one that never does.

use rand::Rng;
use rand::rngs::SmallRng;

use super::settings::ShardSettings;

/// Seconds for which a connection stays open after the node's close frame, to wait for the client's close frame or end of stream.
pub(super) const CLOSE_SECONDS: u32 = 3;

/// A tick that never comes.
const NEVER: u32 = u32::MAX;

/// The times at which something becomes due for a connection: ticks of the shard, unless another unit is named.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// The last bytes came from the client.
    heard: u32,
    /// A ping is sent.
    ping: u32,
    /// The client must have said `connect`.
    connect: u32,
    /// The connection is as old as it may get, and its client is asked to move to another node.
    age: u32,
    /// The connection ends, whether the client has taken the close frame or not.
    close: u32,
    /// The client's token ends, Unix milliseconds.
    token_ms: i64,
}

impl Deadlines {
    /// Creates the deadlines of a connection that opens at this tick.
    pub fn new(tick: u32, settings: &ShardSettings, random: &mut SmallRng) -> Deadlines {
        Deadlines {
            heard: tick,
            ping: tick.saturating_add(settings.heartbeat_s()),
            // The second that has begun is not counted: nobody gets less than the time that was promised.
            connect: tick.saturating_add(settings.connect_timeout_s()).saturating_add(1),
            age: next_age(tick, settings, random),
            close: NEVER,
            token_ms: i64::MAX,
        }
    }

    /// Records that bytes came from the client at this tick.
    pub fn hear(&mut self, tick: u32) {
        self.heard = tick;
    }

    /// Sets the end of the connection, a few seconds after this tick. An earlier end stays.
    pub fn end_soon(&mut self, tick: u32) {
        self.close = self.close.min(tick.saturating_add(CLOSE_SECONDS));
    }

    /// Sets when the client's token ends, in place of an earlier token's end.
    pub fn set_token_end(&mut self, at_ms: i64) {
        self.token_ms = at_ms;
    }

    /// Whether anything is due.
    pub fn any_due(&self, tick: u32, now_ms: i64, settings: &ShardSettings) -> bool {
        let first = self.ping.min(self.connect).min(self.age).min(self.close);
        first <= tick || self.token_ms <= now_ms || self.is_silent(tick, settings)
    }

    /// Returns whether the connection is over: its time after the close has passed, or its client has been silent for two heartbeats.
    pub fn is_over(&self, tick: u32, settings: &ShardSettings) -> bool {
        self.close <= tick || self.is_silent(tick, settings)
    }

    /// Whether the client has been silent for two heartbeats. The second in which it was heard is not counted, so that nobody gets less
    /// than was promised.
    fn is_silent(&self, tick: u32, settings: &ShardSettings) -> bool {
        self.heard.saturating_add(settings.heartbeat_s().saturating_mul(2)).saturating_add(1) <= tick
    }

    /// Returns whether the time for `connect` is over. Returns `true` only once, unless `again`: then also at the next tick.
    pub fn take_connect(&mut self, tick: u32, again: bool) -> bool {
        let due = self.connect <= tick;
        if due {
            self.connect = if again { tick.saturating_add(1) } else { NEVER };
        }
        due
    }

    /// Returns whether the client's token has expired. Returns `true` only once.
    pub fn take_token_end(&mut self, now_ms: i64) -> bool {
        let due = self.token_ms <= now_ms;
        if due {
            self.token_ms = i64::MAX;
        }
        due
    }

    /// Returns whether the connection has reached its greatest age. Returns `true` again after each further such time.
    pub fn take_age(&mut self, tick: u32, settings: &ShardSettings, random: &mut SmallRng) -> bool {
        let due = self.age <= tick;
        if due {
            self.age = next_age(tick, settings, random);
        }
        due
    }

    /// Returns whether a ping is due. The next one is a heartbeat later.
    pub fn take_ping(&mut self, tick: u32, settings: &ShardSettings) -> bool {
        let due = self.ping <= tick;
        if due {
            self.ping = tick.saturating_add(settings.heartbeat_s());
        }
        due
    }
}

/// The tick at which a connection that is young now is as old as it may get. Clients that came together, after a deployment, must not
/// all move together.
fn next_age(tick: u32, settings: &ShardSettings, random: &mut SmallRng) -> u32 {
    match settings.max_age_s() {
        0 => NEVER,
        max => tick.saturating_add(((f64::from(max) * random.random_range(0.8..1.0)) as u32).max(1)),
    }
}

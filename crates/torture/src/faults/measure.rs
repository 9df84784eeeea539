//! Figures from the histories of the clients: counts, times to detect and to recover, and latency over time.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use starling_testkit::client::{Log, Verdict};

use super::client::{End, History, IncidentKind, Outage};
use super::workload::{Busy, CONVERSATIONS, Workload};

/// Length of the window in which latency must be normal again, in seconds.
const WINDOW: f64 = 0.25;
/// Latency that always counts as normal, in seconds.
const FAST: f64 = 0.05;
/// Latency up to this many times that before the fault counts as normal.
const SAME_SPEED: f64 = 3.0;
/// Points of a curve.
const POINTS: usize = 240;

/// The time in which a fault was active, in seconds from the start of the case.
#[derive(Clone, Debug)]
pub struct FaultWindow {
    /// The name of the fault.
    pub label: String,
    /// Start of the fault.
    pub from: f64,
    /// End of the fault.
    pub to: f64,
    /// Whether nodes were drained.
    pub drains: bool,
}

/// The figures of a case. Times are in seconds.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Messages sent; retries are not counted.
    pub sent: u64,
    /// The comparison of the clients' records with the log.
    pub verdict: Verdict,
    /// Messages in the log.
    pub logged: u64,
    /// Messages in the log that repeat an earlier one: retries that became second messages.
    pub repeated: u64,
    /// From the start of a fault until the first client noticed it by its socket or a refusal; the longest. `None` if no client did.
    pub detect: Option<f64>,
    /// From the end of a fault until all clients were connected and had caught up, and latency was normal; the longest. `None` if
    /// that never happened.
    pub recover: Option<f64>,
    /// From the first try of a send to its acknowledgement.
    pub acknowledge: Percentiles,
    /// From the first sign of the commit to the delivery to another client.
    pub deliver: Percentiles,
    /// The same for messages committed during a fault, without the clients that had no connection.
    pub deliver_meanwhile: Percentiles,
    /// From the start of a fault until the clients that lost their connection had another one; the longest. `None` if no client did.
    pub back: Option<Reconnects>,
    /// Times without a connection.
    pub away: Percentiles,
    /// Interruptions for clients that follow `draining`: during the move, or because the old connection ended first.
    pub interruptions: Percentiles,
    /// Sockets that the clients cut themselves.
    pub cuts: u64,
    /// Sends that were repeated because the reply was lost.
    pub retries: u64,
    /// Repeated sends whose reply said `duplicate`.
    pub duplicates: u64,
    /// Sends that were refused with a request to retry.
    pub refused: u64,
    /// Reconnects that began a new session.
    pub fresh_sessions: u64,
    /// Sockets that ended by themselves, counted by how they ended.
    pub ends: BTreeMap<String, u64>,
    /// Latency and throughput over time.
    pub curve: Vec<Point>,
}

/// How long clients took to reconnect, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reconnects {
    /// Number of clients.
    pub clients: usize,
    /// The median.
    pub half: f64,
    /// The 99th percentile.
    pub most: f64,
    /// The longest.
    pub all: f64,
}

/// Percentiles of times, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Percentiles {
    /// Number of values.
    pub count: usize,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// A point of a curve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// Start of its interval.
    pub at: f64,
    /// Delivery of messages that were committed in the interval.
    pub deliver: Percentiles,
    /// Acknowledged sends per second.
    pub acknowledged: f64,
    /// Refused sends per second.
    pub refused: f64,
}

/// A message: index of its conversation over both tenants, and number.
type Key = (usize, u64);

/// An event with its duration.
#[derive(Clone, Copy)]
struct Timed {
    at: f64,
    took: f64,
}

/// Computes the figures of one case.
pub fn measure(
    workload: &Workload,
    histories: &[History],
    logs: &[Log; 2],
    windows: &[FaultWindow],
) -> Measures {
    let since = |at: Instant| at.saturating_duration_since(workload.begun).as_secs_f64();
    let committed = commits(workload, histories);
    let end = committed.values().copied().fold(0.0, f64::max);
    let sends: Vec<Timed> = sorted(histories.iter().flat_map(|history| {
        let timed = |send: &super::client::Send| Timed {
            at: since(send.at),
            took: send.acknowledged.duration_since(send.at).as_secs_f64(),
        };
        history.sends.iter().map(timed)
    }));
    let (mut deliveries, mut meanwhile) = (Vec::new(), Vec::new());
    for history in histories.iter().filter(|w| w.member.in_busy_conversation() != Some(Busy::StopsReading)) {
        let outages: Vec<(f64, f64)> = history.outages.iter().map(|o| (since(o.from), since(o.to))).collect();
        for (name, seq, at) in history.client.record().shown() {
            let key = (key_of(history.member.tenant(), name), seq);
            let Some(commit) = committed.get(&key) else { continue };
            let timed = Timed { at: *commit, took: since(at) - commit };
            deliveries.push(timed);
            let lasts = windows.iter().any(|m| (m.from..=m.to).contains(commit));
            let away = outages.iter().any(|(from, to)| *from <= since(at) && commit <= to);
            if lasts && !away {
                meanwhile.push(timed.took);
            }
        }
    }
    deliveries.sort_by(|a, b| a.at.total_cmp(&b.at));
    let incidents: Vec<(f64, IncidentKind)> =
        histories.iter().flat_map(|w| w.incidents.iter().map(|i| (since(i.at), i.kind.clone()))).collect();
    let outages: Vec<(f64, f64)> = histories
        .iter()
        .flat_map(|history| history.outages.iter().filter(|outage| outage.end != End::Own))
        .map(|outage| (since(outage.from), since(outage.to)))
        .collect();

    let first = windows.first().map_or(f64::MAX, |window| window.from);
    let usual = |of: &[Timed]| {
        let before =
            of.iter().filter(|timed| timed.at + timed.took < first).map(|timed| timed.took).collect();
        (Percentiles::of(before).p50 * SAME_SPEED).max(FAST)
    };
    let (usual_send, usual_delivery) = (usual(&sends), usual(&deliveries));
    let mut measures = Measures { recover: Some(0.0), ..Measures::default() };
    for (index, window) in windows.iter().enumerate() {
        let next = windows.get(index + 1).map_or(f64::MAX, |next| next.from);
        let span = window.from..next;
        let noticed =
            incidents.iter().map(|(at, _)| *at).filter(|at| span.contains(at)).min_by(f64::total_cmp);
        measures.detect = longest(measures.detect, noticed.map(|at| at - window.from));
        let away: Vec<f64> =
            outages.iter().filter(|(from, _)| span.contains(from)).map(|(_, to)| to - window.from).collect();
        measures.back = worse(measures.back, Reconnects::of(away.clone()));
        let connected = away.iter().map(|to| window.from + to).fold(window.to, f64::max);
        let caught_up = deliveries
            .iter()
            .filter(|d| (window.from..=window.to).contains(&d.at))
            .map(|d| d.at + d.took)
            .fold(connected, f64::max);
        let fast = [(&sends, usual_send), (&deliveries, usual_delivery)]
            .map(|(of, usual)| back_to_speed(of, usual, window.to, next.min(end)));
        measures.recover = match (measures.recover, fast) {
            (Some(worst), [Some(sends), Some(delivery)]) => {
                Some(worst.max(caught_up.max(sends).max(delivery) - window.to))
            }
            _ => None,
        };
    }

    measures.sent = histories.iter().map(|history| history.sent).sum();
    measures.verdict =
        histories.iter().map(|history| history.client.record().verdict(&logs[history.member.tenant()])).sum();
    measures.refused = incidents.iter().filter(|(_, kind)| *kind == IncidentKind::Refused).count() as u64;
    for (_, kind) in &incidents {
        if let IncidentKind::SocketLost(how) = kind {
            *measures.ends.entry(how.clone()).or_default() += 1;
        }
    }
    measures.logged = logs.iter().map(Log::messages).sum();
    measures.repeated = logs.iter().map(Log::repeated).sum();
    measures.retries = histories.iter().map(|history| history.retries).sum();
    measures.duplicates = histories.iter().map(|history| history.duplicates).sum();
    measures.cuts = histories.iter().map(|history| history.cuts).sum();
    measures.fresh_sessions = histories.iter().map(|history| history.fresh_sessions).sum();
    let away = |outage: &Outage| outage.to.duration_since(outage.from).as_secs_f64();
    measures.away = Percentiles::of(histories.iter().flat_map(|w| &w.outages).map(away).collect());
    let handovers = histories.iter().flat_map(|w| &w.handovers).map(Duration::as_secs_f64);
    let followers = histories.iter().filter(|history| history.member.follows_draining());
    let ended_first = followers
        .flat_map(|history| &history.outages)
        .filter(|outage| is_interruption(outage, since(outage.from), windows));
    measures.interruptions = Percentiles::of(handovers.chain(ended_first.map(away)).collect());
    measures.curve = curve(&deliveries, &sends, &incidents, end);
    measures.acknowledge = Percentiles::of(sends.iter().map(|send| send.took).collect());
    measures.deliver = Percentiles::of(deliveries.iter().map(|delivery| delivery.took).collect());
    measures.deliver_meanwhile = Percentiles::of(meanwhile);
    measures
}

/// Whether a client that follows `draining` lost its connection before it had the next one.
fn is_interruption(outage: &Outage, from: f64, windows: &[FaultWindow]) -> bool {
    match outage.end {
        End::AskedToLeave => true,
        // The node did not ask in time, or another connection took the session.
        End::Closed(1012 | 4409) => windows.iter().any(|m| m.drains && (m.from..=m.to).contains(&from)),
        End::Closed(_) | End::Cut | End::Own => false,
    }
}

/// The first sign of the commit of each message: its acknowledgement, or its delivery to some client if that was earlier.
fn commits(workload: &Workload, histories: &[History]) -> HashMap<Key, f64> {
    let since = |at: Instant| at.saturating_duration_since(workload.begun).as_secs_f64();
    let mut committed: HashMap<Key, f64> = HashMap::new();
    let mut note = |key: Key, at: f64| {
        committed.entry(key).and_modify(|known| *known = known.min(at)).or_insert(at);
    };
    for history in histories {
        let tenant = history.member.tenant();
        for send in &history.sends {
            note((tenant * CONVERSATIONS + send.conversation, send.seq), since(send.acknowledged));
        }
        for (name, seq, at) in history.client.record().shown() {
            note((key_of(tenant, name), seq), since(at));
        }
    }
    committed
}

fn key_of(tenant: usize, name: &str) -> usize {
    let number = name.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
    tenant * CONVERSATIONS + number.unwrap_or_default()
}

/// The start of the first window after `over` in which the median is normal.
fn back_to_speed(of: &[Timed], usual: f64, over: f64, end: f64) -> Option<f64> {
    let mut from = over;
    while from < end {
        let first = of.partition_point(|timed| timed.at < from);
        let window: Vec<f64> =
            of[first..].iter().take_while(|timed| timed.at < from + WINDOW).map(|timed| timed.took).collect();
        if window.len() >= 3 && Percentiles::of(window).p50 <= usual {
            return Some(from);
        }
        from += WINDOW / 5.0;
    }
    None
}

fn curve(deliveries: &[Timed], sends: &[Timed], incidents: &[(f64, IncidentKind)], end: f64) -> Vec<Point> {
    let width = (end / POINTS as f64).max(0.1);
    let bins = (end / width).ceil() as usize;
    let bin = |at: f64| ((at / width) as usize).min(bins.saturating_sub(1));
    let mut points = vec![(Vec::new(), 0_u32, 0_u32); bins];
    if bins == 0 {
        return Vec::new();
    }
    for delivery in deliveries {
        points[bin(delivery.at)].0.push(delivery.took);
    }
    for send in sends {
        points[bin(send.at + send.took)].1 += 1;
    }
    for (at, _) in incidents.iter().filter(|(_, kind)| *kind == IncidentKind::Refused) {
        points[bin(*at)].2 += 1;
    }
    let point = |(index, (took, acknowledged, refused)): (usize, (Vec<f64>, u32, u32))| Point {
        at: index as f64 * width,
        deliver: Percentiles::of(took),
        acknowledged: f64::from(acknowledged) / width,
        refused: f64::from(refused) / width,
    };
    points.into_iter().enumerate().map(point).collect()
}

fn sorted(timed: impl Iterator<Item = Timed>) -> Vec<Timed> {
    let mut timed: Vec<Timed> = timed.collect();
    timed.sort_by(|a, b| a.at.total_cmp(&b.at));
    timed
}

fn longest(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

fn worse(one: Option<Reconnects>, other: Option<Reconnects>) -> Option<Reconnects> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.all > one.all { other } else { one }),
        (one, other) => one.or(other),
    }
}

impl Reconnects {
    fn of(mut away: Vec<f64>) -> Option<Self> {
        away.sort_by(f64::total_cmp);
        let all = *away.last()?;
        let of_hundred = |share: usize| away[(away.len() * share).div_ceil(100) - 1];
        Some(Self { clients: away.len(), half: of_hundred(50), most: of_hundred(99), all })
    }
}

impl Percentiles {
    /// Computes the percentiles of these values, in seconds.
    pub fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let Some(max) = times.last().copied() else { return Self::default() };
        let of_hundred = |share: usize| times[(times.len() * share).div_ceil(100) - 1].max(0.0);
        Self { count: times.len(), p50: of_hundred(50), p99: of_hundred(99), max: max.max(0.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_that_occurred() {
        let percentiles = Percentiles::of((1..=200).map(f64::from).collect());
        assert_eq!(
            (percentiles.count, percentiles.p50, percentiles.p99, percentiles.max),
            (200, 100.0, 198.0, 200.0)
        );
        assert_eq!(Percentiles::of(vec![0.5]).p99, 0.5);
        assert_eq!(Percentiles::of(Vec::new()).count, 0);
        let back = Reconnects::of(vec![3.0, 1.0, 2.0]).expect("somebody was away");
        assert_eq!((back.clients, back.half, back.all), (3, 2.0, 3.0));
        assert!(Reconnects::of(Vec::new()).is_none());
    }

    #[test]
    fn a_follower_whose_socket_ends_in_a_deploy_was_interrupted() {
        let now = Instant::now();
        let outage = |end| Outage { from: now, to: now, end };
        let deploy = FaultWindow { label: "rolling-deploy".to_owned(), from: 4.0, to: 9.0, drains: true };
        let other = FaultWindow { label: "redis-stop".to_owned(), from: 20.0, to: 29.0, drains: false };
        let windows = [deploy, other];
        let counts = |end, from| is_interruption(&outage(end), from, &windows);
        assert!(counts(End::AskedToLeave, 5.0) && counts(End::Closed(1012), 5.0));
        assert!(counts(End::Closed(4409), 5.0) && !counts(End::Closed(1012), 25.0));
        assert!(!counts(End::Own, 5.0) && !counts(End::Cut, 5.0) && !counts(End::Closed(1009), 5.0));
    }

    #[test]
    fn speed_is_back_in_the_first_window_that_is_fast() {
        let slow_until = |at: f64| if at < 5.0 { 0.9 } else { 0.01 };
        let timed: Vec<Timed> =
            (0..1000).map(|n| f64::from(n) / 100.0).map(|at| Timed { at, took: slow_until(at) }).collect();
        let back = back_to_speed(&timed, 0.05, 3.0, 10.0).expect("it comes back");
        assert!((4.8..5.1).contains(&back), "{back}");
        assert!(back_to_speed(&timed, 0.001, 3.0, 10.0).is_none());
        assert!(back_to_speed(&timed, 0.05, 6.0, 10.0).is_some_and(|back| back == 6.0));
    }
}

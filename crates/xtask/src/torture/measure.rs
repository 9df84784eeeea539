//! What the clients saw, as figures: counts, times to notice and to recover, and delivery over time.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use starling_testkit::client::{Log, Verdict};

use super::crowd::{Busy, CONVERSATIONS, Scene};
use super::member::{End, IncidentKind, Outage, Witness};

/// How long the window is in which things must be back to normal.
const WINDOW: f64 = 0.25;
/// What is fast whatever it was before, seconds.
const FAST: f64 = 0.05;
/// How many times slower than before still is the same speed on a busy machine.
const SAME_SPEED: f64 = 3.0;
/// How many points a curve has.
const POINTS: usize = 240;

/// A fault that was done: its name, when it began and when it was over, seconds from the start of the case.
#[derive(Clone, Debug)]
pub struct Moment {
    /// What it was.
    pub label: String,
    /// When it began.
    pub from: f64,
    /// When it was over.
    pub to: f64,
    /// Whether nodes were asked to end in it.
    pub drains: bool,
}

/// The figures of a case. Times are in seconds.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Messages that were sent, each counted once however often it was tried.
    pub sent: u64,
    /// What was right and what was wrong.
    pub verdict: Verdict,
    /// Messages in the log.
    pub logged: u64,
    /// Messages in the log that say what their sender had said before: retries that became second messages.
    pub repeated: u64,
    /// From the beginning of a fault until the first client noticed by its socket or by a refusal; the longest. None: nobody did.
    pub detect: Option<f64>,
    /// From the end of a fault until all were connected, had caught up, and everything was as fast as before; the longest.
    /// None: it never was.
    pub recover: Option<f64>,
    /// From the first try of a send to its acknowledgement.
    pub acknowledge: Spread,
    /// From the commit, as far as anybody knew of it, until another client was shown it.
    pub deliver: Spread,
    /// The same, of what was committed while a fault lasted, without who had no socket then.
    pub deliver_meanwhile: Spread,
    /// From the beginning of a fault until half, 99 % and all of those whose sockets it ended had another; the longest. None where
    /// nobody's was.
    pub back: Option<Back>,
    /// How long clients were without a socket, each time.
    pub away: Spread,
    /// How long nothing was shown to clients that follow `draining`: while they did, or because their older socket ended first.
    pub interruptions: Spread,
    /// How many sockets the clients cut by themselves.
    pub cuts: u64,
    /// How many sends were repeated because their answers were lost.
    pub retries: u64,
    /// How many of those were answered as known already.
    pub duplicates: u64,
    /// How many sends were refused for now.
    pub refused: u64,
    /// How many sessions were not taken up again.
    pub afresh: u64,
    /// How sockets ended that the clients did not cut themselves, and how many did so.
    pub ends: BTreeMap<String, u64>,
    /// Over time.
    pub curve: Vec<Point>,
}

/// How long clients were away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Back {
    /// How many.
    pub clients: usize,
    /// Half of them.
    pub half: f64,
    /// 99 of a hundred.
    pub most: f64,
    /// All.
    pub all: f64,
}

/// How times are spread.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spread {
    /// How many there are.
    pub count: usize,
    /// Half are below.
    pub p50: f64,
    /// 99 of a hundred are below.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

/// A piece of a curve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Point {
    /// When it begins.
    pub at: f64,
    /// Delivery of what was committed in it.
    pub deliver: Spread,
    /// Sends that were acknowledged in it, per second.
    pub acknowledged: f64,
    /// Sends that were refused in it, per second.
    pub refused: f64,
}

/// A message: conversation over both tenants, and number.
type Key = (usize, u64);

/// Something that took its time.
#[derive(Clone, Copy)]
struct Timed {
    at: f64,
    took: f64,
}

/// Counts and times of one case.
pub fn measure(scene: &Scene, witnesses: &[Witness], logs: &[Log; 2], moments: &[Moment]) -> Measures {
    let since = |at: Instant| at.saturating_duration_since(scene.begun).as_secs_f64();
    let committed = commits(scene, witnesses);
    let end = committed.values().copied().fold(0.0, f64::max);
    let sends: Vec<Timed> = sorted(witnesses.iter().flat_map(|witness| {
        let timed = |send: &super::member::Send| Timed {
            at: since(send.at),
            took: send.acknowledged.duration_since(send.at).as_secs_f64(),
        };
        witness.sends.iter().map(timed)
    }));
    let (mut deliveries, mut meanwhile) = (Vec::new(), Vec::new());
    for witness in witnesses.iter().filter(|w| w.member.in_busy_conversation() != Some(Busy::StopsReading)) {
        let outages: Vec<(f64, f64)> = witness.outages.iter().map(|o| (since(o.from), since(o.to))).collect();
        for (name, seq, at) in witness.client.record().shown() {
            let key = (key_of(witness.member.tenant(), name), seq);
            let Some(commit) = committed.get(&key) else { continue };
            let timed = Timed { at: *commit, took: since(at) - commit };
            deliveries.push(timed);
            let lasts = moments.iter().any(|m| (m.from..=m.to).contains(commit));
            let away = outages.iter().any(|(from, to)| *from <= since(at) && commit <= to);
            if lasts && !away {
                meanwhile.push(timed.took);
            }
        }
    }
    deliveries.sort_by(|a, b| a.at.total_cmp(&b.at));
    let incidents: Vec<(f64, IncidentKind)> =
        witnesses.iter().flat_map(|w| w.incidents.iter().map(|i| (since(i.at), i.kind.clone()))).collect();
    let outages: Vec<(f64, f64)> = witnesses
        .iter()
        .flat_map(|witness| witness.outages.iter().filter(|outage| outage.end != End::Own))
        .map(|outage| (since(outage.from), since(outage.to)))
        .collect();

    let first = moments.first().map_or(f64::MAX, |moment| moment.from);
    let usual = |of: &[Timed]| {
        let before =
            of.iter().filter(|timed| timed.at + timed.took < first).map(|timed| timed.took).collect();
        (Spread::of(before).p50 * SAME_SPEED).max(FAST)
    };
    let (usual_send, usual_delivery) = (usual(&sends), usual(&deliveries));
    let mut measures = Measures { recover: Some(0.0), ..Measures::default() };
    for (index, moment) in moments.iter().enumerate() {
        let next = moments.get(index + 1).map_or(f64::MAX, |next| next.from);
        let span = moment.from..next;
        let noticed =
            incidents.iter().map(|(at, _)| *at).filter(|at| span.contains(at)).min_by(f64::total_cmp);
        measures.detect = longest(measures.detect, noticed.map(|at| at - moment.from));
        let away: Vec<f64> =
            outages.iter().filter(|(from, _)| span.contains(from)).map(|(_, to)| to - moment.from).collect();
        measures.back = worse(measures.back, Back::of(away.clone()));
        let connected = away.iter().map(|to| moment.from + to).fold(moment.to, f64::max);
        let caught_up = deliveries
            .iter()
            .filter(|d| (moment.from..=moment.to).contains(&d.at))
            .map(|d| d.at + d.took)
            .fold(connected, f64::max);
        let fast = [(&sends, usual_send), (&deliveries, usual_delivery)]
            .map(|(of, usual)| back_to_speed(of, usual, moment.to, next.min(end)));
        measures.recover = match (measures.recover, fast) {
            (Some(worst), [Some(sends), Some(delivery)]) => {
                Some(worst.max(caught_up.max(sends).max(delivery) - moment.to))
            }
            _ => None,
        };
    }

    measures.sent = witnesses.iter().map(|witness| witness.sent).sum();
    measures.verdict =
        witnesses.iter().map(|witness| witness.client.record().verdict(&logs[witness.member.tenant()])).sum();
    measures.refused = incidents.iter().filter(|(_, kind)| *kind == IncidentKind::Refused).count() as u64;
    for (_, kind) in &incidents {
        if let IncidentKind::SocketLost(how) = kind {
            *measures.ends.entry(how.clone()).or_default() += 1;
        }
    }
    measures.logged = logs.iter().map(Log::messages).sum();
    measures.repeated = logs.iter().map(Log::repeated).sum();
    measures.retries = witnesses.iter().map(|witness| witness.retries).sum();
    measures.duplicates = witnesses.iter().map(|witness| witness.duplicates).sum();
    measures.cuts = witnesses.iter().map(|witness| witness.cuts).sum();
    measures.afresh = witnesses.iter().map(|witness| witness.afresh).sum();
    let away = |outage: &Outage| outage.to.duration_since(outage.from).as_secs_f64();
    measures.away = Spread::of(witnesses.iter().flat_map(|w| &w.outages).map(away).collect());
    let handovers = witnesses.iter().flat_map(|w| &w.handovers).map(Duration::as_secs_f64);
    let followers = witnesses.iter().filter(|witness| witness.member.follows_draining());
    let ended_first = followers
        .flat_map(|witness| &witness.outages)
        .filter(|outage| is_interruption(outage, since(outage.from), moments));
    measures.interruptions = Spread::of(handovers.chain(ended_first.map(away)).collect());
    measures.curve = curve(&deliveries, &sends, &incidents, end);
    measures.acknowledge = Spread::of(sends.iter().map(|send| send.took).collect());
    measures.deliver = Spread::of(deliveries.iter().map(|delivery| delivery.took).collect());
    measures.deliver_meanwhile = Spread::of(meanwhile);
    measures
}

/// Whether this is what a client that follows `draining` should not see: its socket ended before the next one stood.
fn is_interruption(outage: &Outage, from: f64, moments: &[Moment]) -> bool {
    match outage.end {
        End::AskedToLeave => true,
        // The node has not asked in time, or another socket took the session away.
        End::Closed(1012 | 4409) => moments.iter().any(|m| m.drains && (m.from..=m.to).contains(&from)),
        End::Closed(_) | End::Cut | End::Own => false,
    }
}

/// When each message was known to be committed: when its sender was told, or when somebody was shown it, if that was before.
fn commits(scene: &Scene, witnesses: &[Witness]) -> HashMap<Key, f64> {
    let since = |at: Instant| at.saturating_duration_since(scene.begun).as_secs_f64();
    let mut committed: HashMap<Key, f64> = HashMap::new();
    let mut note = |key: Key, at: f64| {
        committed.entry(key).and_modify(|known| *known = known.min(at)).or_insert(at);
    };
    for witness in witnesses {
        let tenant = witness.member.tenant();
        for send in &witness.sends {
            note((tenant * CONVERSATIONS + send.conversation, send.seq), since(send.acknowledged));
        }
        for (name, seq, at) in witness.client.record().shown() {
            note((key_of(tenant, name), seq), since(at));
        }
    }
    committed
}

fn key_of(tenant: usize, name: &str) -> usize {
    let number = name.rsplit('.').next().and_then(|number| number.parse::<usize>().ok());
    tenant * CONVERSATIONS + number.unwrap_or_default()
}

/// The first window from `over` on in which the median is as it was.
fn back_to_speed(of: &[Timed], usual: f64, over: f64, end: f64) -> Option<f64> {
    let mut from = over;
    while from < end {
        let first = of.partition_point(|timed| timed.at < from);
        let window: Vec<f64> =
            of[first..].iter().take_while(|timed| timed.at < from + WINDOW).map(|timed| timed.took).collect();
        if window.len() >= 3 && Spread::of(window).p50 <= usual {
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
        deliver: Spread::of(took),
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

fn worse(one: Option<Back>, other: Option<Back>) -> Option<Back> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.all > one.all { other } else { one }),
        (one, other) => one.or(other),
    }
}

impl Back {
    fn of(mut away: Vec<f64>) -> Option<Self> {
        away.sort_by(f64::total_cmp);
        let all = *away.last()?;
        let of_hundred = |share: usize| away[(away.len() * share).div_ceil(100) - 1];
        Some(Self { clients: away.len(), half: of_hundred(50), most: of_hundred(99), all })
    }
}

impl Spread {
    /// Of these, in seconds.
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
        let spread = Spread::of((1..=200).map(f64::from).collect());
        assert_eq!((spread.count, spread.p50, spread.p99, spread.max), (200, 100.0, 198.0, 200.0));
        assert_eq!(Spread::of(vec![0.5]).p99, 0.5);
        assert_eq!(Spread::of(Vec::new()).count, 0);
        let back = Back::of(vec![3.0, 1.0, 2.0]).expect("somebody was away");
        assert_eq!((back.clients, back.half, back.all), (3, 2.0, 3.0));
        assert!(Back::of(Vec::new()).is_none());
    }

    #[test]
    fn a_follower_whose_socket_ends_in_a_deploy_was_interrupted() {
        let now = Instant::now();
        let outage = |end| Outage { from: now, to: now, end };
        let deploy = Moment { label: "rolling-deploy".to_owned(), from: 4.0, to: 9.0, drains: true };
        let other = Moment { label: "redis-stop".to_owned(), from: 20.0, to: 29.0, drains: false };
        let moments = [deploy, other];
        let counts = |end, from| is_interruption(&outage(end), from, &moments);
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

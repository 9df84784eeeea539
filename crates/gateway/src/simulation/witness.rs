//! Records what clients sent, were told and were shown, and compares it with the log.

use std::collections::{BTreeMap, BTreeSet};

use starling_conversation_store::Message;

use super::time;

/// Most faults of a run that are described. All are counted.
const DESCRIBED_MAX: usize = 12;

/// A message as a client was shown it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub seq: u64,
    pub id: String,
    pub sender: String,
    pub content: String,
}

/// A conversation's name and its log.
pub type Place = (String, String);

/// A send: conversation, sender and key.
pub type Sending = (String, String, String);

/// Records what clients sent, were told and were shown.
#[derive(Default)]
pub struct Witness {
    /// The messages that each client was shown of each log, in the order of arrival.
    shown: BTreeMap<(usize, Place), Vec<Shown>>,
    /// The text of each send.
    sent: BTreeMap<Sending, String>,
    /// Sends without an `ok` whose sender has gone.
    abandoned: BTreeSet<Sending>,
    /// The seq and the id in each `ok`.
    acknowledged: BTreeMap<Sending, Vec<(u64, String)>>,
    /// Faults that were noticed at once.
    seen: Vec<String>,
    /// The number of reconnects with which a session was resumed.
    resumed: usize,
    /// The number of reconnects with which another session began.
    expired: usize,
    /// A hash of the course of the run. Equal runs have equal digests.
    digest: u64,
}

/// The outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub sent: usize,
    pub acknowledged: usize,
    pub delivered: usize,
    /// Reconnects with which a session was resumed.
    pub resumed: usize,
    /// Reconnects that came too late for that.
    pub expired: usize,
    /// Messages that were acknowledged but are not in the log, or are in the log but were not shown to a client.
    pub lost: usize,
    /// Messages that were shown twice, or are in the log twice.
    pub doubled: usize,
    /// Messages that were shown after a later one.
    pub swapped: usize,
    /// Messages that differ from what was sent, or from what the log has.
    pub altered: usize,
    /// Sends that were never acknowledged.
    pub unacknowledged: usize,
    /// Seqs of the log that do not follow each other.
    pub misnumbered: usize,
    /// Everything else, such as wrong presence.
    pub others: usize,
    /// Descriptions of some of these faults.
    pub described: Vec<String>,
    pub digest: u64,
    pub simulated_ms: u64,
}

impl Verdict {
    /// Whether all promises were kept.
    pub fn is_clean(&self) -> bool {
        let faults = [
            self.lost,
            self.doubled,
            self.swapped,
            self.altered,
            self.unacknowledged,
            self.misnumbered,
            self.others,
        ];
        faults.iter().all(|count| *count == 0)
    }

    /// Adds the numbers of the run of a seed to a sum. The order of the seeds does not matter.
    pub fn add(&mut self, seed: u64, other: &Verdict) {
        self.sent += other.sent;
        self.acknowledged += other.acknowledged;
        self.delivered += other.delivered;
        self.resumed += other.resumed;
        self.expired += other.expired;
        self.simulated_ms += other.simulated_ms;
        self.digest ^= other.digest.rotate_left((seed % 64) as u32);
    }

    fn count(&mut self, of: impl FnOnce(&mut Verdict) -> &mut usize, text: String) {
        *of(self) += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(text);
        }
    }
}

impl Witness {
    /// Records the length of a frame that a client received, for the digest.
    pub fn hears(&mut self, client: usize, bytes: usize) {
        self.mix(&[time::elapsed_ms(), client as u64, bytes as u64]);
    }

    /// Records that a client that had a session is connected again.
    pub fn returns(&mut self, resumed: bool) {
        *(if resumed { &mut self.resumed } else { &mut self.expired }) += 1;
    }

    /// Records a send.
    pub fn sends(&mut self, sending: Sending, content: String) {
        self.sent.insert(sending, content);
    }

    /// Records an `ok` to a send.
    pub fn acknowledge(&mut self, sending: &Sending, seq: u64, id: &str) {
        self.mix(&[time::elapsed_ms(), 1, seq]);
        self.acknowledged.entry(sending.clone()).or_default().push((seq, id.to_owned()));
    }

    /// Records that the sender of this send has gone without an `ok`.
    pub fn abandon(&mut self, sending: Sending) {
        self.abandoned.insert(sending);
    }

    /// Records a message that a client was shown.
    pub fn show(&mut self, client: usize, place: &Place, shown: Shown) {
        self.mix(&[time::elapsed_ms(), 2, client as u64, shown.seq]);
        self.shown.entry((client, place.clone())).or_default().push(shown);
    }

    /// Records something that must not happen.
    pub fn fault(&mut self, text: String) {
        self.seen.push(text);
    }

    /// Returns the number of sends that still wait for an `ok`.
    pub fn outstanding(&self) -> usize {
        self.waited_for().count()
    }

    fn waited_for(&self) -> impl Iterator<Item = &Sending> {
        let answered = |sending: &&Sending| {
            !self.acknowledged.contains_key(*sending) && !self.abandoned.contains(*sending)
        };
        self.sent.keys().filter(answered)
    }

    /// Compares everything with the logs. `current`: the logs that were not deleted. `readers`: the clients that stayed to the end.
    pub fn judge(
        &self,
        logs: &BTreeMap<Place, Vec<Message>>,
        current: &BTreeSet<Place>,
        readers: &BTreeSet<usize>,
    ) -> Verdict {
        let mut verdict = Verdict {
            sent: self.sent.len(),
            acknowledged: self.acknowledged.len(),
            delivered: self.shown.values().map(Vec::len).sum(),
            resumed: self.resumed,
            expired: self.expired,
            digest: self.digest,
            simulated_ms: time::elapsed_ms(),
            ..Verdict::default()
        };
        for text in &self.seen {
            verdict.count(|v| &mut v.others, text.clone());
        }
        for (place, log) in logs {
            self.judge_log(&place.0, log, &mut verdict);
        }
        self.judge_answers(logs, &mut verdict);
        // A client that stayed to the end must have been shown each current log, even an empty one.
        let ends =
            readers.iter().flat_map(|reader| current.iter().map(move |place| (*reader, place.clone())));
        let places: BTreeSet<(usize, Place)> = ends.chain(self.shown.keys().cloned()).collect();
        for (client, place) in places {
            let to_the_end = readers.contains(&client) && current.contains(&place);
            let log = logs.get(&place).map_or(&[][..], Vec::as_slice);
            let shown = self.shown.get(&(client, place.clone())).map_or(&[][..], Vec::as_slice);
            judge_reader(client, &format!("{place:?}"), shown, log, to_the_end, &mut verdict);
        }
        for sending in self.waited_for() {
            verdict.count(|v| &mut v.unacknowledged, format!("{sending:?} was never acknowledged"));
        }
        verdict
    }

    /// Checks the seqs and the texts of a log.
    fn judge_log(&self, conversation: &str, log: &[Message], verdict: &mut Verdict) {
        for (message, expected) in log.iter().zip(1..) {
            if message.seq != expected {
                let text =
                    format!("{conversation}: {} is in the log in the place of {expected}", message.seq);
                verdict.count(|v| &mut v.misnumbered, text);
                break;
            }
        }
        let mut contents = BTreeSet::new();
        let sent: BTreeSet<&String> = self.sent.values().collect();
        for message in log {
            if !sent.contains(&message.content) {
                let text = format!("{conversation}: {} is in the log and was never sent", message.content);
                verdict.count(|v| &mut v.altered, text);
            }
            if !contents.insert((&message.sender, &message.content)) {
                let text = format!("{conversation}: {} is in the log twice", message.content);
                verdict.count(|v| &mut v.doubled, text);
            }
        }
    }

    /// Compares each `ok` with the logs of its conversation, deleted ones included.
    fn judge_answers(&self, logs: &BTreeMap<Place, Vec<Message>>, verdict: &mut Verdict) {
        let mut by_id: BTreeMap<(&str, String), &Message> = BTreeMap::new();
        for ((conversation, _), log) in logs {
            by_id
                .extend(log.iter().map(|message| ((conversation.as_str(), message.id.to_string()), message)));
        }
        for (sending, answers) in &self.acknowledged {
            for (seq, id) in answers {
                match by_id.get(&(sending.0.as_str(), id.clone())) {
                    None => verdict.count(
                        |v| &mut v.lost,
                        format!("{sending:?} was acknowledged as {seq} and is not in the log"),
                    ),
                    Some(message) if message.seq != *seq => {
                        let text = format!(
                            "{sending:?} was acknowledged as {seq} and is {} in the log",
                            message.seq
                        );
                        verdict.count(|v| &mut v.misnumbered, text);
                    }
                    Some(message) if Some(&message.content) != self.sent.get(sending) => {
                        let text = format!("{sending:?} is in the log as {}", message.content);
                        verdict.count(|v| &mut v.altered, text);
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn mix(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.digest = (self.digest ^ number).wrapping_mul(0x0100_0000_01b3).rotate_left(17);
        }
    }
}

/// Compares what a client was shown of a log with the log. `to_the_end`: whether it must have been shown all of it.
fn judge_reader(
    reader: usize,
    conversation: &str,
    shown: &[Shown],
    log: &[Message],
    to_the_end: bool,
    verdict: &mut Verdict,
) {
    let mut seen = BTreeSet::new();
    let mut highest = 0;
    for each in shown {
        let seq = each.seq;
        if !seen.insert(seq) {
            verdict
                .count(|v| &mut v.doubled, format!("client {reader}, {conversation}: {seq} was shown twice"));
        } else if seq < highest {
            let text = format!("client {reader}, {conversation}: {seq} was shown after {highest}");
            verdict.count(|v| &mut v.swapped, text);
        }
        highest = highest.max(seq);
        let stored = log.iter().find(|message| message.seq == seq && message.id.to_string() == each.id);
        if stored.is_none_or(|message| message.content != each.content || *message.sender != *each.sender) {
            let text = format!(
                "client {reader}, {conversation}: {seq} was shown as {each:?}, which the log does not have"
            );
            verdict.count(|v| &mut v.altered, text);
        }
    }
    let expected = if to_the_end { log.len() as u64 } else { highest };
    for seq in (1..=expected).filter(|seq| !seen.contains(seq)) {
        verdict.count(
            |v| &mut v.lost,
            format!("client {reader}, {conversation}: {seq} of {} was never shown", log.len()),
        );
    }
}

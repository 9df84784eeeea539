//! Keeps all that clients sent, were told and were shown, and holds it against the log.

use std::collections::{BTreeMap, BTreeSet};

use starling_conversation_store::Message;

use super::time;

/// How many faults of a run are described; all are counted.
const DESCRIBED_MAX: usize = 12;

/// A message, as a client was shown it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub seq: u64,
    pub id: String,
    pub sender: String,
    pub content: String,
}

/// A conversation's name and its log.
pub type Place = (String, String);

/// A message, by who sent it where under which key.
pub type Sending = (String, String, String);

/// What clients sent, were told and were shown.
#[derive(Default)]
pub struct Witness {
    /// What each client was shown of each log, in the order of arrival.
    shown: BTreeMap<(usize, Place), Vec<Shown>>,
    sent: BTreeMap<Sending, String>,
    /// What nobody waits for any more, since its sender has gone.
    abandoned: BTreeSet<Sending>,
    /// What an `ok` said: number and id.
    acknowledged: BTreeMap<Sending, Vec<(u64, String)>>,
    /// What must not happen and was seen at once.
    seen: Vec<String>,
    /// How many clients went on with their session, and how many had lost it.
    resumed: usize,
    expired: usize,
    /// Follows from the course of the run: two runs that are the same have the same.
    digest: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub sent: usize,
    pub acknowledged: usize,
    pub delivered: usize,
    /// Clients that came back and went on with their session.
    pub resumed: usize,
    /// Clients that came back too late for that.
    pub expired: usize,
    /// Acknowledged but not in the log, or in the log but not shown to somebody.
    pub lost: usize,
    /// Shown twice, or twice in the log.
    pub doubled: usize,
    /// Shown after a later one.
    pub swapped: usize,
    /// Not what was sent, or not what the log says.
    pub altered: usize,
    /// Sent, tried again and again, and never acknowledged.
    pub unacknowledged: usize,
    /// Numbers of the log that do not follow each other.
    pub misnumbered: usize,
    /// Presence that is not so, and everything else.
    pub others: usize,
    /// Some of these, in words.
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

    fn count(&mut self, of: impl FnOnce(&mut Verdict) -> &mut usize, words: String) {
        *of(self) += 1;
        if self.described.len() < DESCRIBED_MAX {
            self.described.push(words);
        }
    }
}

impl Witness {
    /// Takes down that a client was sent so many bytes, for the digest alone.
    pub fn hears(&mut self, client: usize, bytes: usize) {
        self.mix(&[time::elapsed_ms(), client as u64, bytes as u64]);
    }

    /// A client that had a session is connected again.
    pub fn returns(&mut self, resumed: bool) {
        *(if resumed { &mut self.resumed } else { &mut self.expired }) += 1;
    }

    pub fn sends(&mut self, sending: Sending, content: String) {
        self.sent.insert(sending, content);
    }

    pub fn acknowledge(&mut self, sending: &Sending, seq: u64, id: &str) {
        self.mix(&[time::elapsed_ms(), 1, seq]);
        self.acknowledged.entry(sending.clone()).or_default().push((seq, id.to_owned()));
    }

    /// The sender goes without an answer.
    pub fn abandon(&mut self, sending: Sending) {
        self.abandoned.insert(sending);
    }

    pub fn show(&mut self, client: usize, place: &Place, shown: Shown) {
        self.mix(&[time::elapsed_ms(), 2, client as u64, shown.seq]);
        self.shown.entry((client, place.clone())).or_default().push(shown);
    }

    /// Something that must not happen.
    pub fn fault(&mut self, words: String) {
        self.seen.push(words);
    }

    /// Sends that have not been acknowledged yet.
    pub fn outstanding(&self) -> usize {
        self.waited_for().count()
    }

    fn waited_for(&self) -> impl Iterator<Item = &Sending> {
        let answered = |sending: &&Sending| {
            !self.acknowledged.contains_key(*sending) && !self.abandoned.contains(*sending)
        };
        self.sent.keys().filter(answered)
    }

    /// Holds everything against the logs. `current`: those that were not deleted. `readers`: clients that were there to the end.
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
        for words in &self.seen {
            verdict.count(|v| &mut v.others, words.clone());
        }
        for (place, log) in logs {
            self.judge_log(&place.0, log, &mut verdict);
        }
        self.judge_answers(logs, &mut verdict);
        // Whoever was there to the end was shown all that there is, even if that is nothing.
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

    fn judge_log(&self, conversation: &str, log: &[Message], verdict: &mut Verdict) {
        for (message, expected) in log.iter().zip(1..) {
            if message.seq != expected {
                let words =
                    format!("{conversation}: {} stands in the log where {expected} should", message.seq);
                verdict.count(|v| &mut v.misnumbered, words);
                break;
            }
        }
        let mut contents = BTreeSet::new();
        let sent: BTreeSet<&String> = self.sent.values().collect();
        for message in log {
            if !sent.contains(&message.content) {
                let words = format!("{conversation}: {} is in the log, and was never sent", message.content);
                verdict.count(|v| &mut v.altered, words);
            }
            if !contents.insert((&message.sender, &message.content)) {
                let words = format!("{conversation}: {} is twice in the log", message.content);
                verdict.count(|v| &mut v.doubled, words);
            }
        }
    }

    /// Whatever was acknowledged stands in a log of its conversation, and be it one that was deleted afterwards.
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
                        format!("{sending:?} was acknowledged as {seq}, and is not there"),
                    ),
                    Some(message) if message.seq != *seq => {
                        let words = format!("{sending:?} was acknowledged as {seq}, and is {}", message.seq);
                        verdict.count(|v| &mut v.misnumbered, words);
                    }
                    Some(message) if Some(&message.content) != self.sent.get(sending) => {
                        let words = format!("{sending:?} stands in the log as {}", message.content);
                        verdict.count(|v| &mut v.altered, words);
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
            let words = format!("client {reader}, {conversation}: {seq} was shown after {highest}");
            verdict.count(|v| &mut v.swapped, words);
        }
        highest = highest.max(seq);
        let stored = log.iter().find(|message| message.seq == seq && message.id.to_string() == each.id);
        if stored.is_none_or(|message| message.content != each.content || *message.sender != *each.sender) {
            let words = format!(
                "client {reader}, {conversation}: {seq} was shown as {each:?}, which the log does not have"
            );
            verdict.count(|v| &mut v.altered, words);
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

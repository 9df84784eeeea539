//! What a user was shown, held against what the log says.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::iter::Sum;
use std::ops::Add;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::log::{Acknowledged, Entry, Log, content_digest, fingerprint};

/// Everything that one user was shown, over all its sockets.
#[derive(Clone, Debug, Default)]
pub struct Record {
    conversations: HashMap<String, Track>,
    acknowledged: Vec<Acknowledged>,
    /// Messages of conversations that were never joined.
    strays: u64,
}

/// One conversation, from the position of the first join on.
#[derive(Clone, Debug)]
struct Track {
    after: u64,
    highest: u64,
    /// By number.
    seen: BTreeMap<u64, Seen>,
    /// Numbers that may come once more: what was seen on an older socket while the next one was already asked to go on after
    /// a lower number.
    again: BTreeSet<u64>,
    doubled: u64,
    out_of_order: u64,
    /// The user left, or was removed: nothing more is owed.
    ended: bool,
}

/// A message that was shown.
#[derive(Clone, Copy, Debug)]
struct Seen {
    print: u64,
    /// When it was shown first.
    at: Instant,
}

impl Record {
    /// Records a join: from here on every message after `after` is owed. A second join changes nothing.
    pub fn joined(&mut self, conversation: &str, after: u64) {
        let track = self.conversations.entry(conversation.to_owned()).or_insert_with(|| Track::from(after));
        track.ended = false;
    }

    /// Records that nothing more is owed: the user left or was removed.
    pub fn left(&mut self, conversation: &str) {
        if let Some(track) = self.conversations.get_mut(conversation) {
            track.ended = true;
        }
    }

    /// Records a `message` event, or of an entry of `history` given as one with its `conversation`, that came just now.
    ///
    /// # Errors
    /// When a field is missing.
    pub fn message(&mut self, event: &Value) -> Result<()> {
        self.message_at(event, Instant::now())
    }

    /// As [`message`](Self::message), for one that came at `at`.
    ///
    /// # Errors
    /// When a field is missing.
    pub fn message_at(&mut self, event: &Value, at: Instant) -> Result<()> {
        let text =
            |name: &str| event[name].as_str().with_context(|| format!("a message without {name}: {event}"));
        let seq = event["seq"].as_u64().with_context(|| format!("a message without seq: {event}"))?;
        let print = fingerprint(text("id")?, text("sender")?, content_digest(text("content")?));
        match self.conversations.get_mut(text("conversation")?) {
            Some(track) => track.message(seq, Seen { print, at }),
            None => self.strays += 1,
        }
        Ok(())
    }

    /// Records that everything seen beyond this number will come once more: another socket was asked to go on from there
    /// while the older one was still read.
    pub fn comes_again(&mut self, conversation: &str, after: u64) {
        if let Some(track) = self.conversations.get_mut(conversation) {
            track.again = track.seen.range(after + 1..).map(|(seq, _)| *seq).collect();
        }
    }

    /// Records a reply to `send`.
    pub fn acknowledged(&mut self, acknowledged: Acknowledged) {
        self.acknowledged.push(acknowledged);
    }

    /// Every acknowledged `send` so far.
    pub fn acknowledgements(&self) -> &[Acknowledged] {
        &self.acknowledged
    }

    /// The highest number seen in a joined conversation, or before the first message the position of the join.
    pub fn cursor(&self, conversation: &str) -> Option<u64> {
        self.conversations.get(conversation).map(|track| track.highest)
    }

    /// The cursors of all conversations that the user is in.
    pub fn cursors(&self) -> impl Iterator<Item = (&str, u64)> {
        let current = self.conversations.iter().filter(|(_, track)| !track.ended);
        current.map(|(name, track)| (name.as_str(), track.highest))
    }

    /// How many messages were seen, each counted once.
    pub fn messages(&self) -> u64 {
        self.conversations.values().map(|track| track.seen.len() as u64).sum()
    }

    /// Every message that was seen, in no order of conversations: where, under which number, and when it was shown first.
    pub fn shown(&self) -> impl Iterator<Item = (&str, u64, Instant)> {
        self.conversations
            .iter()
            .flat_map(|(name, track)| track.seen.iter().map(|(seq, seen)| (name.as_str(), *seq, seen.at)))
    }

    /// Counts what went wrong, where the log is the truth. Everything in the log after a join is owed, so it is read when
    /// the last message has had time to arrive.
    pub fn verdict(&self, log: &Log) -> Verdict {
        let mut verdict = Verdict {
            messages: self.messages(),
            acknowledged: self.acknowledged.len() as u64,
            strays: self.strays,
            ..Verdict::default()
        };
        for (name, track) in &self.conversations {
            let empty = BTreeMap::new();
            let entries = log.entries(name).unwrap_or(&empty);
            verdict.doubled += track.doubled;
            verdict.out_of_order += track.out_of_order;
            verdict.altered += track.differing(entries);
            verdict.lost += track.missing(entries);
        }
        verdict.unkept = self.acknowledged.iter().filter(|ack| !log.keeps(ack)).count() as u64;
        verdict
    }
}

impl Track {
    fn from(after: u64) -> Self {
        let (seen, again) = (BTreeMap::new(), BTreeSet::new());
        Self { after, highest: after, seen, again, doubled: 0, out_of_order: 0, ended: false }
    }

    fn message(&mut self, seq: u64, seen: Seen) {
        if self.again.remove(&seq) && self.seen.get(&seq).is_some_and(|known| known.print == seen.print) {
            return;
        }
        if seq <= self.after || self.seen.contains_key(&seq) {
            self.doubled += 1;
            return;
        }
        if seq != self.highest + 1 {
            self.out_of_order += 1;
        }
        self.seen.insert(seq, seen);
        self.highest = self.highest.max(seq);
    }

    fn missing(&self, entries: &BTreeMap<u64, Entry>) -> u64 {
        let last = if self.ended { self.highest } else { u64::MAX };
        let owed = entries.keys().filter(|seq| **seq > self.after && **seq <= last);
        owed.filter(|seq| !self.seen.contains_key(seq)).count() as u64
    }

    fn differing(&self, entries: &BTreeMap<u64, Entry>) -> u64 {
        let same = |seq: &u64, print: u64| entries.get(seq).is_some_and(|entry| entry.print == print);
        self.seen.iter().filter(|(seq, seen)| !same(seq, seen.print)).count() as u64
    }
}

/// The counts that the guarantees are about. Verdicts of several users add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Messages seen, each counted once per user.
    pub messages: u64,
    /// In the log after the join, and never shown.
    pub lost: u64,
    /// Shown more than once, or shown though it came before the join.
    pub doubled: u64,
    /// Not shown right after its predecessor. A lost message makes its successor count here too.
    pub out_of_order: u64,
    /// Shown with other content than the log has under that number, or not in the log at all.
    pub altered: u64,
    /// Shown though its conversation was never joined.
    pub strays: u64,
    /// Sends answered with `ok`.
    pub acknowledged: u64,
    /// Of those, the ones that the log does not hold under their number and id.
    pub unkept: u64,
}

impl Verdict {
    /// Whether nothing went wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.out_of_order + self.altered + self.strays + self.unkept == 0
    }
}

impl Add for Verdict {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages + other.messages,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            out_of_order: self.out_of_order + other.out_of_order,
            altered: self.altered + other.altered,
            strays: self.strays + other.strays,
            acknowledged: self.acknowledged + other.acknowledged,
            unkept: self.unkept + other.unkept,
        }
    }
}

impl Sum for Verdict {
    fn sum<I: Iterator<Item = Self>>(verdicts: I) -> Self {
        verdicts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, lost, doubled, out_of_order, altered, strays, acknowledged, unkept } = self;
        write!(
            f,
            "{messages} seen: lost {lost}, doubled {doubled}, out of order {out_of_order}, altered {altered}, "
        )?;
        write!(f, "strays {strays}; {acknowledged} acknowledged: not kept {unkept}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(seq: u64) -> Value {
        json!({"ev": "message", "conversation": "c", "seq": seq, "id": format!("m{seq}"), "sender": "ada", "content": "hi"})
    }

    fn log(head: u64) -> Log {
        let mut log = Log::default();
        (1..=head).for_each(|seq| log.insert("c", seq, &format!("m{seq}"), "ada", "hi"));
        log
    }

    fn shown(after: u64, numbers: &[u64]) -> Record {
        let mut record = Record::default();
        record.joined("c", after);
        numbers.iter().for_each(|seq| record.message(&event(*seq)).unwrap());
        record
    }

    #[test]
    fn what_came_whole_and_in_order_is_clean() {
        let verdict = shown(2, &[3, 4, 5]).verdict(&log(5));
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!(verdict.messages, 3);
    }

    #[test]
    fn each_fault_is_counted_as_what_it_is() {
        assert_eq!(shown(0, &[1, 2]).verdict(&log(4)).lost, 2);
        assert_eq!(shown(0, &[1, 3]).verdict(&log(3)).lost, 1);
        assert_eq!(shown(0, &[1, 2, 2, 1, 3]).verdict(&log(3)).doubled, 2);
        assert_eq!(shown(2, &[2, 3]).verdict(&log(3)).doubled, 1, "it came before the join");
        let swapped = shown(0, &[1, 3, 2]).verdict(&log(3));
        assert_eq!((swapped.lost, swapped.out_of_order), (0, 2));
        assert_eq!(shown(0, &[1, 2]).verdict(&log(1)).altered, 1, "the log has no second message");
        let mut other = event(1);
        other["content"] = json!("forged");
        let mut record = Record::default();
        record.joined("c", 0);
        record.message(&other).unwrap();
        assert_eq!(record.verdict(&log(1)).altered, 1);
        let mut stray = event(1);
        stray["conversation"] = json!("elsewhere");
        record.message(&stray).unwrap();
        assert_eq!(record.verdict(&log(1)).strays, 1);
    }

    #[test]
    fn who_left_is_owed_nothing_more() {
        let mut record = shown(0, &[1, 2]);
        record.left("c");
        assert!(record.verdict(&log(9)).is_clean());
        assert_eq!(record.cursors().count(), 0);
    }

    #[test]
    fn what_two_sockets_show_during_a_handover_is_doubled_only_the_third_time() {
        let mut record = shown(0, &[1, 2, 3, 4]);
        record.comes_again("c", 2);
        for seq in 3..=5 {
            record.message(&event(seq)).unwrap();
        }
        assert!(record.verdict(&log(5)).is_clean());
        record.message(&event(4)).unwrap();
        record.message(&event(2)).unwrap();
        assert_eq!(record.verdict(&log(5)).doubled, 2);
    }

    #[test]
    fn an_acknowledged_message_must_be_in_the_log_under_its_number() {
        let mut record = Record::default();
        let ack = |seq, id: &str| Acknowledged {
            conversation: "c".to_owned(),
            key: "k".to_owned(),
            seq,
            id: id.to_owned(),
            duplicate: false,
        };
        record.acknowledged(ack(1, "m1"));
        record.acknowledged(ack(2, "m9"));
        record.acknowledged(ack(7, "m7"));
        let verdict = record.verdict(&log(3));
        assert_eq!((verdict.acknowledged, verdict.unkept), (3, 2));
    }
}

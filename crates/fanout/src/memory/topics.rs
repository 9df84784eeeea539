//! The topics of one partition, with their positions and last publications.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Position, TopicHistory, TopicSettings};

/// How long a topic's numbering outlives its last use.
const NUMBERING: Duration = Duration::from_secs(24 * 60 * 60);

/// How long new numberings get the same epoch: shorter than the life of a numbering, so that no topic has two numberings of one epoch.
const EPOCH: Duration = Duration::from_secs(12 * 60 * 60);

/// The most topics of a partition. When there are more, the least recently used ones are forgotten early.
const TOPICS_MAX: usize = 4096;

/// The most bytes of publications that a partition keeps for all its topics.
const BYTES_MAX: usize = 16 << 20;

/// The topics of one partition.
pub(super) struct Topics {
    settings: TopicSettings,
    topics: HashMap<(Box<str>, Box<str>), Topic, foldhash::fast::RandomState>,
    epochs: Epochs,
    /// Number of bytes in all bodies that are kept.
    bytes: usize,
}

/// The epochs of new numberings. Topics without a numbering share them, so that a subscriber can be given a position although nothing is
/// kept for its topic.
struct Epochs {
    current: String,
    began: Instant,
    /// The previous epoch. It is dropped when a client that was given it may have missed the whole life of a numbering.
    before: Option<(String, Instant)>,
}

struct Topic {
    epoch: String,
    /// An earlier epoch that clients may have been given before the numbering began. For them it counts as the same numbering.
    before: Option<String>,
    offset: u64,
    used: Instant,
    /// The newest publications, ascending and without a hole. The last one has the number `offset`.
    kept: VecDeque<(Instant, Bytes)>,
}

impl Topics {
    pub(super) fn new(settings: TopicSettings) -> Self {
        Self { settings, topics: HashMap::default(), epochs: Epochs::begin(), bytes: 0 }
    }

    /// Numbers one publication and keeps it.
    pub(super) fn append(&mut self, tenant: &str, name: &str, body: Bytes) -> Position {
        let settings = self.settings;
        let now = Instant::now();
        self.bytes += body.len();
        let topic = self.topic(tenant, name, now);
        topic.offset += 1;
        topic.kept.push_back((now, body));
        let position = Position { epoch: topic.epoch.clone(), offset: topic.offset };
        let freed = topic.trim(settings, now);
        self.bytes -= freed;
        if self.bytes > BYTES_MAX {
            self.shed();
        }
        position
    }

    /// Returns a topic's newest position, and the publications since another one.
    pub(super) fn history(&mut self, tenant: &str, name: &str, since: Option<&Position>) -> TopicHistory {
        let settings = self.settings;
        let now = Instant::now();
        self.epochs.renew(now);
        let Some(topic) = self.topics.get_mut(&(Box::from(tenant), Box::from(name))) else {
            return self.epochs.history(since);
        };
        topic.used = now;
        let freed = topic.trim(settings, now);
        let history = topic.since(since);
        self.bytes -= freed;
        history
    }

    /// Removes expired publications and numberings.
    pub(super) fn sweep(&mut self) {
        let (settings, now) = (self.settings, Instant::now());
        let mut freed = 0;
        self.topics.retain(|_, topic| {
            freed += topic.trim(settings, now);
            now.duration_since(topic.used) < NUMBERING
        });
        self.bytes -= freed;
    }

    /// Returns the topic, which is created if it does not exist.
    fn topic(&mut self, tenant: &str, name: &str, now: Instant) -> &mut Topic {
        let key = (Box::from(tenant), Box::from(name));
        if self.topics.len() >= TOPICS_MAX && !self.topics.contains_key(&key) {
            self.forget();
        }
        self.epochs.renew(now);
        let epochs = &self.epochs;
        let topic = self.topics.entry(key).or_insert_with(|| Topic {
            epoch: epochs.current.clone(),
            before: epochs.before.as_ref().map(|(epoch, _)| epoch.clone()),
            offset: 0,
            used: now,
            kept: VecDeque::new(),
        });
        topic.used = now;
        topic
    }

    /// Forgets the least recently used eighth of the topics. So many at once, because the search is slow.
    fn forget(&mut self) {
        let mut used: Vec<Instant> = self.topics.values().map(|topic| topic.used).collect();
        let (_, limit, _) = used.select_nth_unstable(TOPICS_MAX / 8);
        let (limit, mut freed) = (*limit, 0);
        // A topic that is forgotten early may start again, and must then have another epoch.
        self.epochs = Epochs::begin();
        self.topics.retain(|_, topic| {
            let stays = topic.used > limit;
            if !stays {
                freed += topic.clear();
            }
            stays
        });
        self.bytes -= freed;
    }

    /// Drops histories, the least recently used first, until an eighth of the space is free.
    fn shed(&mut self) {
        let mut topics: Vec<&mut Topic> = self.topics.values_mut().collect();
        topics.sort_unstable_by_key(|topic| topic.used);
        for topic in topics {
            if self.bytes <= BYTES_MAX / 8 * 7 {
                break;
            }
            self.bytes -= topic.clear();
        }
    }
}

impl Epochs {
    fn begin() -> Self {
        Self { current: new_epoch(), began: Instant::now(), before: None }
    }

    fn renew(&mut self, now: Instant) {
        if now.duration_since(self.began) >= EPOCH {
            let before = std::mem::replace(&mut self.current, new_epoch());
            self.before = Some((before, std::mem::replace(&mut self.began, now)));
        }
        self.before.take_if(|(_, began)| now.duration_since(*began) >= NUMBERING);
    }

    /// Returns the history of a topic without a numbering.
    fn history(&self, since: Option<&Position>) -> TopicHistory {
        let is_known = |epoch: &String| {
            *epoch == self.current || self.before.as_ref().is_some_and(|(before, _)| before == epoch)
        };
        let recovered = since.is_some_and(|since| since.offset == 0 && is_known(&since.epoch));
        let position = Position { epoch: self.current.clone(), offset: 0 };
        TopicHistory { position, recovered, publications: Vec::new() }
    }
}

fn new_epoch() -> String {
    format!("{:016x}", rand::random::<u64>())
}

impl Topic {
    /// Drops publications beyond the number and the age that are kept. Returns the number of bytes freed.
    fn trim(&mut self, settings: TopicSettings, now: Instant) -> usize {
        let lifetime = Duration::from_secs(settings.history_seconds.into());
        let mut freed = 0;
        while let Some((at, body)) = self.kept.front() {
            if self.kept.len() <= settings.history as usize && now.duration_since(*at) < lifetime {
                break;
            }
            freed += body.len();
            self.kept.pop_front();
        }
        freed
    }

    fn clear(&mut self) -> usize {
        self.kept.drain(..).map(|(_, body)| body.len()).sum()
    }

    fn since(&self, since: Option<&Position>) -> TopicHistory {
        let position = Position { epoch: self.epoch.clone(), offset: self.offset };
        let first = self.offset - self.kept.len() as u64 + 1;
        match since {
            Some(since)
                if (since.epoch == self.epoch || self.before.as_ref() == Some(&since.epoch))
                    && since.offset <= self.offset
                    && since.offset + 1 >= first =>
            {
                let kept = self.kept.iter().enumerate();
                let publications = kept
                    .map(|(index, (_, body))| (first + index as u64, body.clone()))
                    .skip_while(|(offset, _)| *offset <= since.offset)
                    .collect();
                TopicHistory { position, recovered: true, publications }
            }
            _ => TopicHistory { position, recovered: false, publications: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: TopicSettings = TopicSettings { history: 3, history_seconds: 60 };

    fn appended(topics: &mut Topics, name: &str, count: u64) -> Position {
        (0..count).map(|n| topics.append("t", name, Bytes::from(n.to_string()))).last().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_its_time_is_not_kept() {
        let mut topics = Topics::new(SETTINGS);
        let first = appended(&mut topics, "a", 1);
        tokio::time::advance(Duration::from_secs(40)).await;
        appended(&mut topics, "a", 1);
        assert!(topics.history("t", "a", Some(&first)).recovered);
        tokio::time::advance(Duration::from_secs(61)).await;
        topics.sweep();
        assert_eq!(topics.bytes, 0);
        let history = topics.history("t", "a", Some(&first));
        assert!(!history.recovered);
        assert_eq!(history.position, Position { epoch: first.epoch.clone(), offset: 2 });
        tokio::time::advance(NUMBERING).await;
        topics.sweep();
        assert!(topics.topics.is_empty());
        assert_eq!(topics.history("t", "a", None).position.offset, 0);
        assert!(topics.topics.is_empty(), "to ask creates nothing");
        assert_ne!(topics.history("t", "a", None).position.epoch, first.epoch);
    }

    #[tokio::test(start_paused = true)]
    async fn a_position_from_before_the_first_publication_stays_good_beyond_the_epoch() {
        let mut topics = Topics::new(SETTINGS);
        let begin = topics.history("t", "a", None).position;
        tokio::time::advance(EPOCH).await;
        assert!(topics.history("t", "a", Some(&begin)).recovered, "still nothing");
        let first = appended(&mut topics, "a", 1);
        assert_ne!(first.epoch, begin.epoch);
        let history = topics.history("t", "a", Some(&begin));
        assert_eq!((history.recovered, history.publications.len()), (true, 1));
        // Events carry no epoch, so the client assumes the one that it was given.
        assert!(topics.history("t", "a", Some(&Position { offset: 1, ..begin.clone() })).recovered);

        let idle = topics.history("t", "b", None).position;
        tokio::time::advance(EPOCH).await;
        topics.history("t", "b", None);
        tokio::time::advance(EPOCH).await;
        appended(&mut topics, "b", 1);
        assert!(!topics.history("t", "b", Some(&idle)).recovered, "a whole numbering may lie between");
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_unused_topics_make_room() {
        let mut topics = Topics::new(SETTINGS);
        for n in 0..TOPICS_MAX {
            appended(&mut topics, &n.to_string(), 1);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let newest = topics.history("t", &(TOPICS_MAX - 1).to_string(), None).position;
        appended(&mut topics, "one more", 1);
        assert!(topics.topics.len() <= TOPICS_MAX * 7 / 8 + 1);
        assert_eq!(topics.history("t", &(TOPICS_MAX - 1).to_string(), None).position, newest);
        assert_eq!(topics.history("t", "0", None).position.offset, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_are_bounded_and_counted() {
        let mut topics = Topics::new(SETTINGS);
        for n in 0..64 {
            topics.append("t", &n.to_string(), Bytes::from(vec![0; 1 << 20]));
            tokio::time::advance(Duration::from_millis(1)).await;
            assert!(topics.bytes <= BYTES_MAX);
        }
        let kept: usize =
            topics.topics.values().flat_map(|topic| &topic.kept).map(|(_, body)| body.len()).sum();
        assert_eq!(topics.bytes, kept);
    }
}

//! The topics of one lane: where each stands, and its last publications.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::{Position, TopicHistory, TopicSettings};

/// How long a topic's numbering outlives its last use.
const NUMBERING: Duration = Duration::from_secs(24 * 60 * 60);

/// How long numberings begin with the same epoch: less than a numbering lives, so that no topic has two of one epoch.
const EPOCH: Duration = Duration::from_secs(12 * 60 * 60);

/// How many topics a lane remembers. Beyond that the longest unused ones are forgotten, before their time.
const TOPICS_MAX: usize = 4096;

/// How many bytes of publications a lane keeps for all of its topics.
const BYTES_MAX: usize = 16 << 20;

/// The topics of one lane.
pub(super) struct Topics {
    settings: TopicSettings,
    topics: HashMap<(Box<str>, Box<str>), Topic, foldhash::fast::RandomState>,
    epochs: Epochs,
    /// Bytes of all bodies that are kept.
    bytes: usize,
}

/// Which epoch a numbering begins with. Topics without a numbering share it, so that a subscription can be told a position
/// without anything being kept for its topic.
struct Epochs {
    current: String,
    began: Instant,
    /// The one before, while nobody who was told it can have missed a whole life of a numbering since.
    before: Option<(String, Instant)>,
}

struct Topic {
    epoch: String,
    /// Whoever was told this epoch before the numbering began counts on from there.
    before: Option<String>,
    offset: u64,
    used: Instant,
    /// The newest publications, ascending and without a hole; the last one is number `offset`.
    kept: VecDeque<(Instant, Bytes)>,
}

impl Topics {
    pub(super) fn new(settings: TopicSettings) -> Self {
        Self { settings, topics: HashMap::default(), epochs: Epochs::begin(), bytes: 0 }
    }

    /// Numbers and keeps one publication.
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

    /// Where a topic stands, and what came since.
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

    /// Forgets what has outlived its time.
    pub(super) fn sweep(&mut self) {
        let (settings, now) = (self.settings, Instant::now());
        let mut freed = 0;
        self.topics.retain(|_, topic| {
            freed += topic.trim(settings, now);
            now.duration_since(topic.used) < NUMBERING
        });
        self.bytes -= freed;
    }

    /// The topic, begun if it isn't there.
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

    /// Forgets the longest unused eighth of the topics, so that this long search is rare.
    fn forget(&mut self) {
        let mut used: Vec<Instant> = self.topics.values().map(|topic| topic.used).collect();
        let (_, limit, _) = used.select_nth_unstable(TOPICS_MAX / 8);
        let (limit, mut freed) = (*limit, 0);
        // What is forgotten before its time may begin again, under another epoch.
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

    /// Drops histories, the longest unused first, until an eighth of the room is free.
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

    /// Of a topic without a numbering.
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
    /// Drops what is too much or too old; how many bytes that were.
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
        // Events carry no epoch, so the client counts on in the one that it was told.
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

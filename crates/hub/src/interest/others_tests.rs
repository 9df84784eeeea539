//! What is learned of the other nodes, and where publications go.

use std::time::Duration;

use proptest::prelude::*;
use starling_fanout::Destination;
use starling_session_store::NodeRecord;
use tokio::time::Instant;

use super::learned::Learned;
use super::{InterestKey, InterestMessage, NewRooms, OtherNodes, OwnInterest, ROOMS_MAX};
use crate::Set;

fn key(bits: u64) -> InterestKey {
    InterestKey::from_bits(bits)
}

fn record(node: &str) -> NodeRecord {
    NodeRecord { node: node.to_owned(), ..NodeRecord::default() }
}

/// A table with these other nodes.
fn listed(nodes: &[&str], now: Instant) -> OtherNodes {
    let others = OtherNodes::default();
    others.list(&nodes.iter().map(|node| record(node)).collect::<Vec<_>>(), "own", now);
    others
}

fn own(node: &str) -> OwnInterest {
    OwnInterest::new(node.into(), true)
}

fn tell(others: &OtherNodes, messages: Vec<InterestMessage>, now: Instant) -> Vec<Learned> {
    messages.into_iter().map(|message| others.hear(message, now)).collect()
}

/// The nodes that a publication about this conversation is for. `None`: everyone.
fn wanting(others: &OtherNodes, bits: u64, now: Instant) -> Option<Vec<String>> {
    match others.router(now).route(key(bits)) {
        Destination::Everyone => None,
        Destination::Nodes(nodes) => {
            let mut nodes: Vec<String> = nodes.iter().map(|node| node.to_string()).collect();
            nodes.sort();
            Some(nodes)
        }
    }
}

#[test]
fn a_publication_goes_to_the_nodes_that_are_interested() {
    let now = Instant::now();
    let others = listed(&["own", "a", "b", "c", "d"], now);
    assert_eq!(wanting(&others, 1, now), None, "nobody has told anything");
    let nodes = ["a", "b", "c", "d"].map(own);
    for node in &nodes {
        others.hear(node.beat(), now);
    }
    assert_eq!(wanting(&others, 1, now), Some(vec![]));
    for (count, node) in nodes.iter().enumerate() {
        node.add(key(1));
        let learned = tell(&others, node.announce(), now);
        assert_eq!(learned, [Learned { new: NewRooms::Rooms(vec![key(1)]), ask: false }]);
        let few = [Some(vec!["a"]), Some(vec!["a", "b"]), None, None];
        let few = few[count].as_ref().map(|nodes| nodes.iter().map(|node| (*node).to_owned()).collect());
        assert_eq!(wanting(&others, 1, now), few);
    }
    assert_eq!(wanting(&others, 2, now), Some(vec![]));
    for node in &nodes[1..] {
        node.remove(key(1));
        tell(&others, node.announce(), now);
    }
    assert_eq!(wanting(&others, 1, now), Some(vec!["a".to_owned()]));
    others.leave("a");
    assert_eq!((wanting(&others, 1, now), others.sizes(now)), (Some(vec![]), (0, 0)));
}

#[test]
fn a_node_of_an_older_version_or_none_that_was_listed_gets_what_goes_to_everyone() {
    let now = Instant::now();
    assert_eq!(wanting(&OtherNodes::default(), 1, now), None);
    let others = listed(&["a", "older"], now);
    others.hear(own("a").beat(), now);
    assert_eq!(wanting(&others, 1, now), None);
    others.list(&[record("a")], "own", now);
    assert_eq!(wanting(&others, 1, now), Some(vec![]));
    others.expect(&"older".into(), now);
    assert_eq!(wanting(&others, 1, now), None, "it was heard before it was listed");
}

#[test]
fn nodes_that_take_no_clients_are_not_waited_for() {
    let now = Instant::now();
    let worker = NodeRecord { worker_only: true, ..record("worker") };
    let others = OtherNodes::default();
    others.list(&[worker], "own", now);
    assert_eq!(wanting(&others, 1, now), Some(vec![]));
}

#[test]
fn a_node_of_which_something_was_missed_gets_everything_until_its_set_has_come() {
    let now = Instant::now();
    let (others, a) = (listed(&["a", "b", "c"], now), own("a"));
    tell(&others, vec![a.beat(), own("b").beat(), own("c").beat()], now);
    a.add(key(1));
    a.announce();
    a.add(key(2));
    let change = a.announce();
    let doubt = Learned { ask: true, ..Learned::default() };
    assert_eq!(tell(&others, change, now), [doubt], "the change before was lost");
    let to_a = Some(vec!["a".to_owned()]);
    assert_eq!(wanting(&others, 7, now), to_a);
    assert!(!others.is_certain(now));
    let learned = tell(&others, a.set(), now).remove(0);
    let NewRooms::Rooms(mut new) = learned.new else { panic!("not of everything") };
    new.sort();
    assert_eq!((new, learned.ask), (vec![key(1), key(2)], false));
    assert_eq!(wanting(&others, 7, now), Some(vec![]));
    assert!(others.is_certain(now));
    // The same set or change again, as a broker may deliver it, changes nothing.
    assert_eq!(tell(&others, a.set(), now), [Learned::default()]);
    a.add(key(3));
    a.announce();
    assert!(others.hear(a.beat(), now).ask, "a lost change shows with the next beat");
}

#[test]
fn a_silent_node_gets_everything_until_it_is_heard_and_is_forgotten_without_a_lease() {
    let now = Instant::now();
    let after = |seconds: f64| now + Duration::from_secs_f64(seconds);
    let (others, a) = (listed(&["a", "b", "c"], now), own("a"));
    tell(&others, vec![a.beat(), own("b").beat(), own("c").beat()], now);
    let hear_others = |at| tell(&others, vec![own("b").beat(), own("c").beat()], at);
    hear_others(after(2.4));
    assert_eq!(wanting(&others, 1, after(2.4)), Some(vec![]));
    assert_eq!(wanting(&others, 1, after(2.5)), Some(vec!["a".to_owned()]));
    others.list(&[record("b"), record("c")], "own", after(9.0));
    hear_others(after(9.9));
    assert_eq!(wanting(&others, 1, after(9.9)), Some(vec!["a".to_owned()]));
    assert_eq!(others.hear(a.beat(), after(9.9)), Learned::default());
    assert_eq!(wanting(&others, 1, after(9.9)), Some(vec![]));
    hear_others(after(20.0));
    others.list(&[record("b"), record("c")], "own", after(20.0));
    assert_eq!(wanting(&others, 1, after(20.0)), Some(vec![]));
    a.add(key(1));
    a.announce();
    assert!(others.hear(a.beat(), after(21.0)).ask, "it is back, and unknown");
}

#[test]
fn a_gap_is_doubt_until_the_next_beat_confirms_what_is_known() {
    let now = Instant::now();
    let (others, a) = (listed(&["a", "b", "c"], now), own("a"));
    tell(&others, vec![a.beat(), own("b").beat(), own("c").beat()], now);
    others.doubt();
    assert_eq!(wanting(&others, 1, now), None, "all three want it");
    tell(&others, vec![own("b").beat(), own("c").beat()], now);
    assert_eq!(wanting(&others, 1, now), Some(vec!["a".to_owned()]));
    assert_eq!(others.hear(a.beat(), now), Learned::default());
    assert_eq!(wanting(&others, 1, now), Some(vec![]));
}

#[test]
fn a_node_with_too_many_conversations_gets_everything_and_is_known_again_later() {
    let now = Instant::now();
    let (others, a) = (listed(&["a", "b", "c"], now), own("a"));
    tell(&others, vec![a.beat(), own("b").beat(), own("c").beat()], now);
    (0..=ROOMS_MAX as u64).for_each(|bits| a.add(key(bits)));
    assert_eq!(tell(&others, a.announce(), now), [Learned { new: NewRooms::All, ask: false }]);
    assert_eq!(others.hear(a.beat(), now), Learned::default());
    assert_eq!(wanting(&others, u64::MAX, now), Some(vec!["a".to_owned()]));
    (2..=ROOMS_MAX as u64).for_each(|bits| a.remove(key(bits)));
    assert!(tell(&others, a.announce(), now)[0].ask);
    tell(&others, a.set(), now);
    assert_eq!(wanting(&others, 1, now), Some(vec!["a".to_owned()]));
    assert_eq!((wanting(&others, 2, now), others.sizes(now)), (Some(vec![]), (2, 0)));
}

proptest! {
    /// A node's conversations come and go, and any of its messages are lost or come twice. What others learn as new is all that they
    /// did not know, and with one beat, and an answer if it makes them ask, they know everything.
    #[test]
    fn with_a_beat_and_an_answer_everything_is_known(
        steps in prop::collection::vec((0u64..12, any::<bool>(), 0u8..4), 0..60),
    ) {
        let now = Instant::now();
        let (others, a) = (listed(&["a", "b", "c"], now), own("a"));
        tell(&others, vec![a.beat(), own("b").beat(), own("c").beat()], now);
        let (mut has, mut sent_past) = (Set::default(), Set::default());
        let learn = |learned: Vec<Learned>, sent_past: &mut Set<u64>| {
            for learned in learned {
                let NewRooms::Rooms(keys) = learned.new else { panic!("not of everything") };
                keys.iter().for_each(|key| _ = sent_past.remove(&key.bits()));
            }
        };
        for (bits, is_new, fate) in steps {
            if is_new && has.insert(bits) {
                a.add(key(bits));
            } else if !is_new && has.remove(&bits) {
                a.remove(key(bits));
                sent_past.remove(&bits);
            }
            let messages = if fate == 3 { vec![a.beat()] } else { a.announce() };
            for _ in 0..fate.min(2) {
                learn(tell(&others, messages.clone(), now), &mut sent_past);
            }
            for bits in &has {
                if wanting(&others, *bits, now) == Some(vec![]) {
                    sent_past.insert(*bits);
                }
            }
        }
        learn(tell(&others, a.announce(), now), &mut sent_past);
        if others.hear(a.beat(), now).ask {
            learn(tell(&others, a.set(), now), &mut sent_past);
        }
        prop_assert!(sent_past.is_empty(), "the node is not told of {sent_past:?}");
        for bits in 0..12 {
            let expected = if has.contains(&bits) { vec!["a".to_owned()] } else { vec![] };
            prop_assert_eq!(wanting(&others, bits, now), Some(expected));
        }
    }
}

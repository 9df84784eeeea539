//! Publications of topics.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::{PARTITIONS, Position, partition_of};
use tokio::task::JoinSet;

use crate::setting::{Node, Setting};
use crate::witness::of_tenant;

const TOPICS: usize = 20;
const WRITERS: usize = 6;
const BATCHES: usize = 8;

/// Six writers on two nodes publish in all topics at once; what each got for its publications.
async fn write(setting: &Setting, nodes: [&Node; 2]) -> Result<Vec<Vec<(String, Position)>>> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let fanout = nodes[writer % 2].fanout.clone();
        let batches: Vec<Vec<_>> = (0..BATCHES)
            .map(|batch| {
                // Each topic twice in a batch, and in another order in each.
                let item = |n: usize| {
                    let topic = (n * 7 + writer + batch) % TOPICS;
                    setting.topic(&topic.to_string(), format!("{writer}/{batch}/{n}"))
                };
                (0..2 * TOPICS).map(item).collect()
            })
            .collect();
        writers.spawn(async move {
            let mut got = Vec::new();
            for batch in batches {
                let results = fanout.publish_topics(&batch).await;
                assert_eq!(results.len(), batch.len());
                for (publication, result) in batch.iter().zip(results) {
                    got.push((publication.topic.to_string(), result?));
                }
            }
            Ok::<_, anyhow::Error>(got)
        });
    }
    let mut got = Vec::new();
    while let Some(written) = writers.join_next().await {
        got.push(written??);
    }
    Ok(got)
}

pub async fn topics_reach_all_nodes_in_one_order(setting: &Setting) -> Result<()> {
    let nodes = [setting.node("a").await?, setting.node("b").await?, setting.node("c").await?];
    let total = WRITERS * BATCHES * 2 * TOPICS;
    write(setting, [&nodes[0], &nodes[1]]).await?;
    let tenant = setting.tenant();
    let mut seen = Vec::new();
    for node in &nodes {
        let mut partitions: BTreeMap<u16, Vec<(String, u64, Bytes)>> = BTreeMap::new();
        for item in node.inbox.wait_for(total, of_tenant(&tenant)).await? {
            partitions.entry(partition_of(&tenant, &item.0)).or_default().push(item);
        }
        let mut next: BTreeMap<&str, u64> = BTreeMap::new();
        for (topic, offset, _) in partitions.values().flatten() {
            let expected = next.entry(topic).or_insert(1);
            assert_eq!(offset, expected, "{topic}");
            *expected += 1;
        }
        assert_eq!(next.len(), TOPICS);
        seen.push(partitions);
    }
    assert!(seen[0].keys().all(|partition| *partition < PARTITIONS));
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
    Ok(())
}

pub async fn offsets_have_no_holes_under_concurrency(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let got = write(setting, [&a, &b]).await?;
    let mut offsets: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut epochs: BTreeSet<(&str, &str)> = BTreeSet::new();
    for one in &got {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (topic, position) in one {
            offsets.entry(topic).or_default().push(position.offset);
            epochs.insert((topic, &position.epoch));
            let before = last.insert(topic, position.offset).unwrap_or_default();
            assert!(before < position.offset, "a writer's own publications are numbered in its order");
        }
    }
    let each = (WRITERS * BATCHES * 2) as u64;
    for (topic, mut numbers) in offsets {
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=each).collect::<Vec<_>>(), "{topic}");
    }
    assert_eq!(epochs.len(), TOPICS, "one epoch for each topic");
    Ok(())
}

pub async fn names_of_all_characters_are_kept_apart(setting: &Setting) -> Result<()> {
    const ALL: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:@-";
    let name = &ALL[..ALL.len() - setting.mark.len()];
    let (a, b) = (setting.node(name).await?, setting.node("b").await?);
    let of = |tenant: String, topic: String| {
        let mut publication = setting.topic("", topic.clone());
        (publication.tenant, publication.topic) = (tenant.into(), topic.into());
        publication
    };
    let mark = &setting.mark;
    let batch = [
        of(format!("{mark}x"), "y:z".into()),
        of(format!("{mark}x:y"), "z".into()),
        of(format!("{mark}{ALL}"), ALL.into()),
        of(format!("{mark}{ALL}"), "x".repeat(100)),
    ];
    for result in b.fanout.publish_topics(&batch).await {
        assert_eq!(result?.offset, 1, "no two share a numbering");
    }
    for publication in &batch {
        let (tenant, topic) = (&*publication.tenant, &*publication.topic);
        let came = a.inbox.wait_for(1, |delivery| of_tenant(tenant)(delivery).filter(|(of, ..)| of == topic));
        assert_eq!(came.await?, [(topic.to_owned(), 1, publication.body.clone())]);
        let history = a.fanout.topic_history(&tenant.into(), &topic.into(), None).await?;
        let start = Position { offset: 0, ..history.position };
        let history = a.fanout.topic_history(&tenant.into(), &topic.into(), Some(&start)).await?;
        assert_eq!(history.publications, [(1, publication.body.clone())]);
    }
    b.fanout.publish_to(&a.name, Bytes::from_static(b"hello")).await?;
    assert_eq!(a.inbox.wait_for(1, crate::witness::direct).await?, ["hello"]);
    Ok(())
}

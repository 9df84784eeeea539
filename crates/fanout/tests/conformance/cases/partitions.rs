//! Publications to all other nodes.

use std::collections::HashMap;

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::{BATCH_MAX, BODY_BYTES_MAX, Delivery, Error, PARTITIONS, Publication};
use tokio::task::JoinSet;

use crate::setting::Setting;
use crate::witness::marked;

pub async fn publications_of_one_partition_keep_their_order(setting: &Setting) -> Result<()> {
    const BATCHES: usize = 20;
    const BATCH: usize = 32;
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let readers = [setting.node("c").await?, setting.node("d").await?];
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let fanout = if writer % 2 == 0 { &a } else { &b }.fanout.clone();
        let batches: Vec<Vec<Publication>> = (0..BATCHES)
            .map(|batch| {
                let item = |index: usize| {
                    let number = batch * BATCH + index;
                    setting.publication(
                        (number * 7 + writer) as u16 % PARTITIONS,
                        &format!("{writer}/{number:06}"),
                    )
                };
                (0..BATCH).map(item).collect()
            })
            .collect();
        writers.spawn(async move {
            for batch in batches {
                fanout.publish(&batch).await?;
            }
            Ok::<_, Error>(())
        });
    }
    while let Some(written) = writers.join_next().await {
        written??;
    }
    let mut seen = Vec::new();
    for reader in &readers {
        let all = reader.inbox.wait_for(8 * BATCHES * BATCH, marked(&setting.mark)).await?;
        let mut partitions: HashMap<u16, Vec<String>> = HashMap::new();
        for (partition, text) in all {
            partitions.entry(partition).or_default().push(text);
        }
        for texts in partitions.values() {
            for writer in 0..8 {
                let mine: Vec<_> =
                    texts.iter().filter(|text| text.starts_with(&format!("{writer}/"))).collect();
                assert!(mine.is_sorted_by(|one, next| one < next), "{mine:?}");
            }
        }
        seen.push(partitions);
    }
    assert_eq!(seen[0], seen[1], "two nodes see each partition alike");
    assert_eq!(seen[0].values().map(Vec::len).sum::<usize>(), 8 * BATCHES * BATCH, "nothing twice");
    Ok(())
}

pub async fn own_publications_do_not_come_back(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let own: Vec<_> = (0..PARTITIONS).map(|partition| setting.publication(partition, "own")).collect();
    a.fanout.publish(&own).await?;
    b.inbox.wait_for(own.len(), marked(&setting.mark)).await?;
    // What comes after them, in the same partitions, shows that they would have come.
    let other: Vec<_> = (0..PARTITIONS).map(|partition| setting.publication(partition, "other")).collect();
    b.fanout.publish(&other).await?;
    let came = a.inbox.wait_for(other.len(), marked(&setting.mark)).await?;
    assert!(came.iter().all(|(_, text)| text == "other"), "{came:?}");
    Ok(())
}

pub async fn large_batches_arrive_whole_and_in_order(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let count = 3 * BATCH_MAX;
    let batch: Vec<_> = (0..count).map(|n| setting.publication(3, &format!("{n:06}"))).collect();
    a.fanout.publish(&batch).await?;
    let came = b.inbox.wait_for(count, marked(&setting.mark)).await?;
    let expected: Vec<_> = (0..count).map(|n| (3, format!("{n:06}"))).collect();
    assert_eq!(came, expected);
    Ok(())
}

pub async fn large_bodies_arrive_and_larger_ones_are_refused(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let large = |size: usize| {
        let mut body = setting.mark.clone().into_bytes();
        body.resize(size, 0xff);
        Bytes::from(body)
    };
    let body = large(BODY_BYTES_MAX);
    // More than one command may carry.
    let batch = vec![Publication::to_everyone(5, body.clone()); 3];
    a.fanout.publish(&batch).await?;
    let is_body = |delivery: &Delivery| match delivery {
        Delivery::Publication { partition: 5, body: came } => (*came == body).then_some(()),
        _ => None,
    };
    b.inbox.wait_for(3, is_body).await?;
    a.fanout.publish_to(&b.name, body.clone()).await?;
    b.inbox
        .wait_for(1, |delivery| {
            matches!(delivery, Delivery::Direct { body: came } if *came == body).then_some(())
        })
        .await?;

    let larger = large(BODY_BYTES_MAX + 1);
    let mixed =
        [setting.topic("x", body.clone()), setting.topic("x", larger.clone()), setting.topic("y", "small")];
    let results = a.fanout.publish_topics(&mixed).await;
    assert_eq!(results[0].as_ref().map(|position| position.offset).ok(), Some(1));
    assert!(matches!(results[1], Err(Error::TooLarge(size)) if size == BODY_BYTES_MAX + 1));
    assert_eq!(results[2].as_ref().map(|position| position.offset).ok(), Some(1));
    let refused = a.fanout.publish(&[Publication::to_everyone(5, larger.clone())]).await;
    assert!(matches!(refused, Err(Error::TooLarge(_))));
    assert!(matches!(a.fanout.publish_to(&b.name, larger).await, Err(Error::TooLarge(_))));
    Ok(())
}

pub async fn nothing_is_not_an_error(setting: &Setting) -> Result<()> {
    let a = setting.node("a").await?;
    a.fanout.publish(&[]).await?;
    assert!(a.fanout.publish_topics(&[]).await.is_empty());
    Ok(())
}

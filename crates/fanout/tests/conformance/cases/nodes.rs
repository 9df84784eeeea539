//! What goes to one node.

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::{Delivery, PARTITIONS};

use crate::setting::{Node, Setting};
use crate::witness::{direct, marked};

pub async fn something_for_one_node_reaches_it_alone(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    a.fanout.publish_to(&b.name, Bytes::from_static(b"for b")).await?;
    a.fanout.publish_to(&a.name, Bytes::from_static(b"for a")).await?;
    a.fanout.publish_to("nobody", Bytes::from_static(b"for nobody")).await?;
    assert_eq!(b.inbox.wait_for(1, direct).await?, ["for b"]);
    assert_eq!(a.inbox.wait_for(1, direct).await?, ["for a"]);
    // Whatever went astray would have come before this.
    b.fanout.publish_to(&a.name, Bytes::from_static(b"last")).await?;
    b.fanout.publish_to(&b.name, Bytes::from_static(b"last")).await?;
    assert_eq!(a.inbox.wait_for(2, direct).await?, ["for a", "last"]);
    assert_eq!(b.inbox.wait_for(2, direct).await?, ["for b", "last"]);
    Ok(())
}

pub async fn a_probe_comes_back_to_its_node_alone(setting: &Setting) -> Result<()> {
    let (a, b) = (setting.node("a").await?, setting.node("b").await?);
    let probes = |delivery: &Delivery| match delivery {
        Delivery::Probe { nonce } => Some(*nonce),
        _ => None,
    };
    for nonce in [0, 7, u64::MAX] {
        a.fanout.probe(nonce).await?;
    }
    assert_eq!(a.inbox.wait_for(3, probes).await?, [0, 7, u64::MAX]);
    b.fanout.probe(9).await?;
    assert_eq!(b.inbox.wait_for(1, probes).await?, [9]);
    assert_eq!(a.inbox.picked(probes).len(), 3);
    Ok(())
}

pub async fn a_publication_for_some_nodes_reaches_these_alone(setting: &Setting) -> Result<()> {
    let nodes = [setting.node("a").await?, setting.node("b").await?, setting.node("c").await?];
    let [a, b, c] = &nodes;
    for partition in 0..PARTITIONS {
        let batch = [
            setting.publication_for(&[b], partition, "for b"),
            setting.publication_for(&[b, c], partition, "for b and c"),
            setting.publication_for(&[a], partition, "for a itself"),
            setting.publication_for(&[], partition, "for nobody"),
            setting.publication(partition, "for all"),
        ];
        a.fanout.publish(&batch).await?;
    }
    let partitions = usize::from(PARTITIONS);
    for (node, texts) in [(b, &["for b", "for b and c", "for all"][..]), (c, &["for b and c", "for all"])] {
        let came = node.inbox.wait_for(texts.len() * partitions, marked(&setting.mark)).await?;
        for partition in 0..PARTITIONS {
            let of: Vec<_> = came.iter().filter(|(of, _)| *of == partition).map(|(_, text)| text).collect();
            assert_eq!(of, texts, "{} in partition {partition}", node.name);
        }
    }
    // What went astray would have come before this.
    b.fanout.publish(&[setting.publication(0, "last")]).await?;
    let came = a.inbox.wait_for(1, marked(&setting.mark)).await?;
    assert_eq!(came, [(0, "last".to_owned())]);
    Ok(())
}

pub async fn publications_for_some_nodes_and_for_everyone_keep_their_order(setting: &Setting) -> Result<()> {
    const CALLS: usize = 200;
    let (a, b, c) = (setting.node("a").await?, setting.node("b").await?, setting.node("c").await?);
    let everyone: [&[&Node]; 2] = [&[&b], &[&b, &c]];
    for number in 0..CALLS {
        let (partition, text) = ((number % 2) as u16 * 9, format!("{number:06}"));
        let publication = match number % 3 {
            0 => setting.publication(partition, &text),
            n => setting.publication_for(everyone[n - 1], partition, &text),
        };
        a.fanout.publish(&[publication]).await?;
    }
    let came = b.inbox.wait_for(CALLS, marked(&setting.mark)).await?;
    for partition in [0, 9] {
        let texts: Vec<_> = came.iter().filter(|(of, _)| *of == partition).map(|(_, text)| text).collect();
        assert_eq!(texts.len(), CALLS / 2);
        assert!(texts.is_sorted(), "{texts:?}");
    }
    Ok(())
}

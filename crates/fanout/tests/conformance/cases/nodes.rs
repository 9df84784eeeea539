//! What goes to one node.

use anyhow::Result;
use bytes::Bytes;
use starling_fanout::Delivery;

use crate::setting::Setting;
use crate::witness::direct;

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

//! What nodes say of the link between them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use starling_conversation_store::LinkReports;

use crate::place::Place;

/// How long a word may count that does so for a few seconds, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn a_deaf_node_learns_whether_others_hear_for_as_long_as_they_say_so(place: Place) -> Result<()> {
    let (deaf, other) = (place.store().await?, place.store().await?);
    let nothing = LinkReports::default();
    assert_eq!(deaf.compare_links("deaf", None).await?, nothing);
    assert_eq!(deaf.compare_links("deaf", Some(false)).await?, nothing, "a node's own word is none");
    if place.is_for_one_node() {
        assert_eq!(other.compare_links("other", Some(true)).await?, nothing);
        return Ok(());
    }
    // On a machine that stands still a word may be over before it is read.
    let deadline = Instant::now() + PATIENCE;
    let (mut asked, mut answered) = (false, false);
    while !(asked && answered) {
        ensure!(Instant::now() < deadline, "asked: {asked}, answered: {answered}");
        deaf.compare_links("deaf", Some(false)).await?;
        asked |= other.compare_links("other", Some(true)).await?.some_are_deaf;
        answered |= deaf.compare_links("deaf", Some(false)).await?.some_hear;
    }
    // Nobody says anything any more: it counts for nothing, soon.
    while deaf.compare_links("deaf", None).await? != nothing
        || other.compare_links("other", None).await? != nothing
    {
        ensure!(Instant::now() < deadline, "words count for ever");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Nodes that ended long ago are forgotten.
    place.run_sql("UPDATE nodes SET said_at = now() - interval '2 hours'").await?;
    other.compare_links("new", Some(true)).await?;
    place.run_sql("DO $$ BEGIN ASSERT (SELECT count(*) FROM nodes) = 1; END $$").await
}

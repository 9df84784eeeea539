//! Members and their read marks.

use anyhow::{Result, ensure};
use starling_conversation_store::{NewConversation, ReadMark};
use tokio::task::JoinSet;

use crate::place::{Place, Store, append, conversation, new};

pub async fn members_come_and_go(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    ensure!(store.add_member(id, "ann").await?);
    ensure!(!store.add_member(id, "ann").await?, "twice");
    ensure!(store.add_member(id, "Ann").await?, "another user");
    assert_eq!(users(&store).await?, ["Ann", "ann", "owner"]);
    ensure!(store.remove_member(id, "ann").await?);
    ensure!(!store.remove_member(id, "ann").await?, "twice");
    assert_eq!(users(&store).await?, ["Ann", "owner"]);
    ensure!(!store.add_member(id + 1_000, "ann").await?, "no such conversation");
    ensure!(store.remove_member(id, "owner").await? && store.remove_member(id, "Ann").await?);
    assert!(users(&store).await?.is_empty());
    Ok(())
}

pub async fn read_marks_never_fall_and_end_at_the_head(place: Place) -> Result<()> {
    let store = place.store().await?;
    let given = NewConversation { members: vec!["ann".into()], ..new("t", "c", "owner") };
    let id = store.create(&given).await?.id;
    append(&store, id, &["1", "2", "3", "4", "5"]).await?;
    let empty = conversation(&store, "empty").await?;
    let mark = |conversation, user: &str, seq| ReadMark { conversation, user: user.into(), seq };

    assert_eq!(store.mark_read(&[mark(id, "ann", 3)]).await?, [Some(3)]);
    assert_eq!(store.mark_read(&[mark(id, "ann", 3)]).await?, [None], "it stood there already");
    assert_eq!(store.mark_read(&[mark(id, "ann", 2)]).await?, [None], "it never falls");
    let many = [
        mark(id, "stranger", 2),
        mark(id, "owner", 1),
        mark(id, "ann", 4),
        mark(id, "ann", 99),
        mark(empty, "owner", 1),
        mark(id + 1_000, "ann", 1),
        mark(id, "owner", 1),
    ];
    assert_eq!(store.mark_read(&many).await?, [None, Some(1), None, Some(5), None, None, None]);
    assert_eq!(store.mark_read(&[mark(id, "owner", u64::MAX)]).await?, [Some(5)]);
    assert!(store.mark_read(&[]).await?.is_empty());
    let reads = store.open("t", "c").await?.map(|c| c.members.iter().map(|m| m.read).collect::<Vec<_>>());
    assert_eq!(reads, Some(vec![5, 5]));

    // Who comes back starts anew.
    store.remove_member(id, "ann").await?;
    store.add_member(id, "ann").await?;
    let read = store.open("t", "c").await?.map(|c| (c.members[0].user.clone(), c.members[0].read));
    assert_eq!(read, Some(("ann".into(), 0)));
    Ok(())
}

pub async fn of_marks_set_at_once_the_highest_stays(place: Place) -> Result<()> {
    const MARKERS: u64 = 12;
    let stores = [place.store().await?, place.store().await?];
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let id = conversation(&stores[0], name).await?;
        let keys: Vec<String> = (0..MARKERS).map(|key| key.to_string()).collect();
        append(&stores[0], id, &keys.iter().map(String::as_str).collect::<Vec<_>>()).await?;
        ids.push(id);
    }
    let mut markers = JoinSet::new();
    for marker in 0..MARKERS {
        let store = stores[usize::from(marker % 2 == 0)].clone();
        let mut marks: Vec<ReadMark> = ids
            .iter()
            .map(|id| ReadMark { conversation: *id, user: "owner".into(), seq: marker + 1 })
            .collect();
        if marker % 3 == 0 {
            marks.reverse();
        }
        markers.spawn(async move { store.mark_read(&marks).await });
    }
    let mut risen = 0;
    while let Some(answers) = markers.join_next().await {
        risen += answers??.iter().filter(|answer| **answer == Some(MARKERS)).count();
    }
    assert_eq!(risen, ids.len(), "the highest mark rose once in each conversation");
    for name in ["a", "b", "c"] {
        assert_eq!(stores[1].open("t", name).await?.map(|c| c.members[0].read), Some(MARKERS));
    }
    Ok(())
}

pub async fn sharing_needs_a_common_conversation(place: Place) -> Result<()> {
    let store = place.store().await?;
    store.create(&NewConversation { members: vec!["ann".into()], ..new("t", "c", "bob") }).await?;
    store.create(&NewConversation { members: vec!["cid".into()], ..new("t", "d", "bob") }).await?;
    store.create(&NewConversation { members: vec!["cid".into()], ..new("other", "c", "ann") }).await?;
    ensure!(store.share_conversation("t", "ann", "bob").await?);
    ensure!(store.share_conversation("t", "bob", "cid").await?);
    ensure!(!store.share_conversation("t", "ann", "cid").await?, "only in another tenant");
    ensure!(store.share_conversation("other", "ann", "cid").await?);
    ensure!(!store.share_conversation("t", "ann", "nobody").await?);
    Ok(())
}

async fn users(store: &Store) -> Result<Vec<String>> {
    let opened = store.open("t", "c").await?;
    Ok(opened.into_iter().flat_map(|c| c.members).map(|m| m.user).collect())
}

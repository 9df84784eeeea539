//! Members and their read marks.

use anyhow::{Context, Result, ensure};
use starling_conversation_store::{Added, AnnouncedMember, MembersChange, NewConversation, ReadMark, Seq};
use starling_model::ConversationName;
use tokio::task::JoinSet;

use crate::place::{Place, Store, append, conversation, new, unknown};

pub async fn members_come_and_go(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let (changed, same) = (|version| change(true, version), |version| change(false, version));
    assert_eq!(store.add_member(id, &"ann".into()).await?, changed(1));
    assert_eq!(store.add_member(id, &"ann".into()).await?, same(1), "twice");
    assert_eq!(store.add_member(id, &"Ann".into()).await?, changed(2), "another user");
    assert_eq!(users(&store).await?, ["Ann", "ann", "owner"]);
    assert_eq!(store.remove_member(id, &"ann".into()).await?, changed(3));
    assert_eq!(store.remove_member(id, &"ann".into()).await?, same(3), "twice");
    assert_eq!(users(&store).await?, ["Ann", "owner"]);
    assert_eq!(store.add_member(unknown(id), &"ann".into()).await?, None, "no such conversation");
    assert_eq!(store.remove_member(unknown(id), &"ann".into()).await?, None, "no such conversation");
    let handed_on =
        |version| change(true, version).map(|change| MembersChange { owner: "Ann".into(), ..change });
    assert_eq!(store.remove_member(id, &"owner".into()).await?, handed_on(4));
    assert_eq!(store.remove_member(id, &"Ann".into()).await?, handed_on(5));
    assert!(users(&store).await?.is_empty());
    Ok(())
}

pub async fn the_version_tells_whether_members_changed(place: Place) -> Result<()> {
    let store = place.store().await?;
    let given = NewConversation { members: vec!["ann".into(), "bob".into()], ..new("t", "c", "owner") };
    let id = store.create(&given).await?.id;
    let versions = async || -> Result<[Option<u64>; 2]> {
        let (opened, heads) = (store.open(&"t".into(), &"c".into()).await?, store.heads(&[id]).await?);
        Ok([opened.map(|opened| opened.members_version), heads.first().map(|head| head.members_version)])
    };
    assert_eq!(versions().await?, [Some(0); 2], "as it was made");
    store.remove_member(id, &"bob".into()).await?;
    assert_eq!(versions().await?, [Some(1); 2]);
    store.add_member(id, &"ann".into()).await?;
    assert_eq!(versions().await?, [Some(1); 2], "nothing changed");
    append(&store, id, &["a", "b"]).await?;
    store.mark_read(&[ReadMark { conversation: id, user: "ann".into(), seq: Seq::new(2) }]).await?;
    store.update(id, Some(Some("title".into())), None).await?;
    assert_eq!(versions().await?, [Some(1); 2], "members did not change");
    store.delete(id).await?;
    assert_eq!(versions().await?, [None; 2]);
    assert_eq!(store.remove_member(id, &"ann".into()).await?, None);
    Ok(())
}

/// Whoever hears of all changes, in whatever order, can put them in order: no two have the same number, and none is left out.
pub async fn changes_made_at_once_are_numbered_without_a_hole(place: Place) -> Result<()> {
    const EACH: u64 = 8;
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    let mut changers = JoinSet::new();
    for (number, user) in ["ann", "bob", "ann", "cy"].into_iter().enumerate() {
        let store = stores[number % 2].clone();
        changers.spawn(async move {
            let mut answers = Vec::new();
            for _ in 0..EACH {
                answers.push(store.add_member(id, &user.into()).await?);
                answers.push(store.remove_member(id, &user.into()).await?);
            }
            anyhow::Ok(answers)
        });
    }
    let mut versions = Vec::new();
    while let Some(answers) = changers.join_next().await {
        versions.extend(answers??.into_iter().flatten().filter(|c| c.changed).map(|c| c.version));
    }
    versions.sort_unstable();
    let newest = stores[1].open(&"t".into(), &"c".into()).await?.map_or(0, |c| c.members_version);
    assert_eq!(versions, (1..=newest).collect::<Vec<_>>());
    ensure!(newest >= 4 * EACH, "two changers of one user may hinder each other, the others not: {newest}");
    assert_eq!(users(&stores[0]).await?, ["owner"]);
    Ok(())
}

pub async fn many_added_at_once_stay_within_the_limit(place: Place) -> Result<()> {
    const LIMIT: u64 = 10;
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    let mut adders = JoinSet::new();
    for number in 0..40 {
        let store = stores[number % 2].clone();
        adders.spawn(async move { store.add_member_within(id, &format!("u{number}").into(), LIMIT).await });
    }
    let (mut added, mut full) = (0, 0);
    while let Some(answer) = adders.join_next().await {
        match answer?? {
            Some(Added::Member(change)) => added += u64::from(change.changed),
            Some(Added::Full) => full += 1,
            None => anyhow::bail!("the conversation is gone"),
        }
    }
    assert_eq!((added, full), (LIMIT - 1, 40 - (LIMIT - 1)), "the owner is a member, too");
    assert_eq!(users(&stores[1]).await?.len() as u64, LIMIT);
    let again = stores[0].add_member_within(id, &"owner".into(), LIMIT).await?;
    let change = |changed, version, owner: &str| {
        Some(Added::Member(MembersChange { changed, version, owner: owner.into() }))
    };
    assert_eq!(again, change(false, LIMIT - 1, "owner"), "a member of a full conversation");
    // Whoever was added first is the next owner; which of them that was, the store says.
    let left = stores[0].remove_member(id, &"owner".into()).await?.context("the conversation is there")?;
    assert!(left.owner.starts_with('u'), "{left:?}");
    assert_eq!(
        stores[1].add_member_within(id, &"late".into(), LIMIT).await?,
        change(true, LIMIT + 1, &left.owner)
    );
    assert_eq!(stores[1].add_member_within(unknown(id), &"late".into(), LIMIT).await?, None);
    Ok(())
}

pub async fn read_marks_never_fall_and_end_at_the_head(place: Place) -> Result<()> {
    let store = place.store().await?;
    let given = NewConversation { members: vec!["ann".into()], ..new("t", "c", "owner") };
    let id = store.create(&given).await?.id;
    append(&store, id, &["1", "2", "3", "4", "5"]).await?;
    let empty = conversation(&store, "empty").await?;
    let mark =
        |conversation, user: &str, seq| ReadMark { conversation, user: user.into(), seq: Seq::new(seq) };

    assert_eq!(store.mark_read(&[mark(id, "ann", 3)]).await?, [Some(Seq::new(3))]);
    assert_eq!(store.mark_read(&[mark(id, "ann", 3)]).await?, [None], "it stood there already");
    assert_eq!(store.mark_read(&[mark(id, "ann", 2)]).await?, [None], "it never falls");
    let many = [
        mark(id, "stranger", 2),
        mark(id, "owner", 1),
        mark(id, "ann", 4),
        mark(id, "ann", 99),
        mark(empty, "owner", 1),
        mark(unknown(id), "ann", 1),
        mark(id, "owner", 1),
    ];
    assert_eq!(
        store.mark_read(&many).await?,
        [None, Some(Seq::new(1)), None, Some(Seq::new(5)), None, None, None]
    );
    assert_eq!(store.mark_read(&[mark(id, "owner", u64::MAX)]).await?, [Some(Seq::new(5))]);
    assert!(store.mark_read(&[]).await?.is_empty());
    let reads = store
        .open(&"t".into(), &"c".into())
        .await?
        .map(|c| c.members.iter().map(|m| m.read).collect::<Vec<_>>());
    assert_eq!(reads, Some(vec![Seq::new(5), Seq::new(5)]));

    // Who comes back starts anew.
    store.remove_member(id, &"ann".into()).await?;
    store.add_member(id, &"ann".into()).await?;
    let read =
        store.open(&"t".into(), &"c".into()).await?.map(|c| (c.members[0].user.clone(), c.members[0].read));
    assert_eq!(read, Some(("ann".into(), Seq::ZERO)));
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
            .map(|id| ReadMark { conversation: *id, user: "owner".into(), seq: Seq::new(marker + 1) })
            .collect();
        if marker % 3 == 0 {
            marks.reverse();
        }
        markers.spawn(async move { store.mark_read(&marks).await });
    }
    let mut risen = 0;
    while let Some(answers) = markers.join_next().await {
        risen += answers??.iter().filter(|answer| **answer == Some(Seq::new(MARKERS))).count();
    }
    assert_eq!(risen, ids.len(), "the highest mark rose once in each conversation");
    for name in ["a", "b", "c"] {
        assert_eq!(
            stores[1].open(&"t".into(), &name.into()).await?.map(|c| c.members[0].read),
            Some(Seq::new(MARKERS))
        );
    }
    Ok(())
}

pub async fn sharing_needs_a_common_conversation(place: Place) -> Result<()> {
    let store = place.store().await?;
    store.create(&NewConversation { members: vec!["ann".into()], ..new("t", "c", "bob") }).await?;
    store.create(&NewConversation { members: vec!["cid".into()], ..new("t", "d", "bob") }).await?;
    store.create(&NewConversation { members: vec!["cid".into()], ..new("other", "c", "ann") }).await?;
    ensure!(store.share_conversation(&"t".into(), &"ann".into(), &"bob".into()).await?);
    ensure!(store.share_conversation(&"t".into(), &"bob".into(), &"cid".into()).await?);
    ensure!(
        !store.share_conversation(&"t".into(), &"ann".into(), &"cid".into()).await?,
        "only in another tenant"
    );
    ensure!(store.share_conversation(&"other".into(), &"ann".into(), &"cid".into()).await?);
    ensure!(!store.share_conversation(&"t".into(), &"ann".into(), &"nobody".into()).await?);
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "as the store answers")]
fn change(changed: bool, version: u64) -> Option<MembersChange> {
    Some(MembersChange { changed, version, owner: "owner".into() })
}

async fn users(store: &Store) -> Result<Vec<String>> {
    let opened = store.open(&"t".into(), &"c".into()).await?;
    Ok(opened.into_iter().flat_map(|c| c.members).map(|m| m.user.into()).collect())
}

pub async fn those_that_somebody_is_in_are_told_from_those_that_are_not(place: Place) -> Result<()> {
    let store = place.store().await?;
    for name in ["a", "b"] {
        let given = NewConversation { members: vec!["ann".into()], ..new("t", name, "owner") };
        store.create(&given).await?;
    }
    conversation(&store, "c").await?;
    let given = NewConversation { members: vec!["ann".into()], ..new("u", "d", "owner") };
    store.create(&given).await?;
    let mut asked = ["b", "c", "d", "a"].map(ConversationName::from).to_vec();
    asked.extend((0..1_000).map(|number| format!("invented-{number}").into()));
    let mut found = store.member_of(&"t".into(), &"ann".into(), &asked).await?;
    found.sort();
    assert_eq!(found, ["a", "b"]);
    assert!(store.member_of(&"t".into(), &"nobody".into(), &asked).await?.is_empty());
    assert!(store.member_of(&"t".into(), &"ann".into(), &[]).await?.is_empty());
    Ok(())
}

pub async fn an_announced_change_is_noted_once_until_it_is_forgotten(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let noted = async || store.announced_members(10).await;
    store.add_member(id, &"unheard".into()).await?;
    assert!(noted().await?.is_empty());
    for _ in 0..2 {
        // The second time nothing changes.
        store.add_member_and_note(id, &"ann".into(), 0, true).await?;
    }
    let full = store.add_member_and_note(id, &"bob".into(), 1, true).await?;
    assert_eq!(full, Some(Added::Full));
    for _ in 0..2 {
        store.remove_member_and_note(id, &"ann".into(), true).await?;
    }
    assert_eq!(store.add_member_and_note(unknown(id), &"ann".into(), 0, true).await?, None);
    assert_eq!(store.remove_member_and_note(unknown(id), &"ann".into(), true).await?, None);
    let both = noted().await?;
    let changes: Vec<_> =
        both.iter().map(|of| (&*of.tenant, &*of.conversation, &*of.user, of.is_member)).collect();
    assert_eq!(changes, [("t", "c", "ann", true), ("t", "c", "ann", false)]);
    assert!(both[0].event != both[1].event && both.iter().all(|of| of.at_ms > 1_700_000_000_000));
    assert_eq!(store.announced_members(1).await?, both[..1]);
    // The conversation may be gone by the time at which somebody is told.
    store.delete(id).await?;
    let positions = |of: &[AnnouncedMember]| of.iter().map(|of| of.position).collect::<Vec<_>>();
    store.forget_announced_members(&positions(&both[..1])).await?;
    assert_eq!(noted().await?, both[1..]);
    store.forget_announced_members(&positions(&both)).await?;
    assert!(noted().await?.is_empty());
    Ok(())
}

//! Making, changing, deleting and listing conversations.

use anyhow::{Result, ensure};
use starling_conversation_store::{AppendError, Conversation, Member, NewConversation, Range, ReadMark, Seq};
use starling_testkit::wait;
use std::time::Duration;
use tokio::task::JoinSet;

use crate::place::{Place, Store, append, conversation, message, new, unknown};

pub async fn creating_again_tells_of_the_one_that_is_there(place: Place) -> Result<()> {
    let store = place.store().await?;
    let given = NewConversation {
        title: Some("Lunch 🍜".into()),
        metadata: Some(r#"{"b":1, "a":2}"#.into()),
        members: vec!["zoe".into(), "Bob".into(), "ann".into(), "owner".into(), "zoe".into()],
        ..new("t", "c", "owner")
    };
    let first = store.create(&given).await?;
    ensure!(first.created && first.member);

    let member = |user: &str| Member { user: user.into(), read: Seq::ZERO };
    let opened = store.open(&"t".into(), &"c".into()).await?;
    let created_at_ms = opened.as_ref().map_or(0, |c| c.created_at_ms);
    assert_eq!(
        opened,
        Some(Conversation {
            id: first.id,
            conversation: "c".into(),
            owner: "owner".into(),
            title: given.title.clone(),
            metadata: given.metadata.clone(),
            created_at_ms,
            head: Seq::ZERO,
            members: ["Bob", "ann", "owner", "zoe"].map(member).to_vec(),
            members_version: 0,
            details_version: 0,
            log: opened.as_ref().map_or_else(String::new, |c| c.log.clone()),
        })
    );

    let by_member = store.create(&NewConversation { title: None, ..new("t", "c", "ann") }).await?;
    assert_eq!((by_member.id, by_member.created, by_member.member), (first.id, false, true));
    let by_stranger = store.create(&new("t", "c", "eve")).await?;
    assert_eq!((by_stranger.id, by_stranger.created, by_stranger.member), (first.id, false, false));
    assert_eq!(store.open(&"t".into(), &"c".into()).await?, opened);
    assert_eq!(store.open(&"t".into(), &"C".into()).await?, None);
    Ok(())
}

pub async fn many_creators_make_one(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    for round in 0..5 {
        let mut creators = JoinSet::new();
        for creator in 0..8 {
            let store = stores[creator % 2].clone();
            creators.spawn(async move {
                store.create(&new("t", &format!("c{round}"), &format!("u{creator}"))).await
            });
        }
        let mut answers = Vec::new();
        while let Some(created) = creators.join_next().await {
            answers.push(created??);
        }
        assert!(answers.iter().all(|a| a.id == answers[0].id), "{answers:?}");
        assert_eq!(answers.iter().filter(|a| a.created).count(), 1, "{answers:?}");
        assert!(answers.iter().all(|a| a.created == a.member), "{answers:?}");
    }
    Ok(())
}

pub async fn many_created_at_once_stay_within_the_limit(place: Place) -> Result<()> {
    const LIMIT: u64 = 5;
    let stores = [place.store().await?, place.store().await?];
    let mut creators = JoinSet::new();
    for creator in 0..20 {
        let store = stores[creator % 2].clone();
        creators.spawn(async move {
            store.create_within(&new("t", &format!("c{creator}"), "owner"), LIMIT).await
        });
    }
    let mut created = 0;
    while let Some(answer) = creators.join_next().await {
        created += u64::from(answer??.is_some());
    }
    assert_eq!(created, LIMIT);
    assert_eq!(stores[0].count_conversations(&"t".into(), 100).await?, LIMIT);
    let names = stores[0].conversations_of(&"t".into(), &"owner".into(), None, 10).await?.conversations;
    let there = new("t", &names[0].conversation, "owner");
    let again = stores[1].create_within(&there, LIMIT).await?;
    ensure!(again.is_some_and(|again| !again.created && again.member), "what exists is found");
    ensure!(stores[1].create_within(&new("other", "c", "owner"), LIMIT).await?.is_some(), "another tenant");
    ensure!(stores[1].create_within(&new("t", "new", "owner"), 0).await?.is_some(), "0: no limit");
    Ok(())
}

pub async fn title_and_metadata_change_separately(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let shown = async || store.open(&"t".into(), &"c".into()).await.map(|c| c.map(|c| (c.title, c.metadata)));
    ensure!(store.update(id, Some(Some("T".into())), None).await?);
    assert_eq!(shown().await?, Some((Some("T".into()), None)));
    ensure!(store.update(id, None, Some(Some("{\"a\":1}".into()))).await?);
    assert_eq!(shown().await?, Some((Some("T".into()), Some("{\"a\":1}".into()))));
    ensure!(store.update(id, Some(None), None).await?);
    assert_eq!(shown().await?, Some((None, Some("{\"a\":1}".into()))));
    ensure!(store.update(id, Some(Some(String::new())), Some(None)).await?);
    assert_eq!(shown().await?, Some((Some(String::new()), None)));
    ensure!(store.update(id, None, None).await?, "it is there, although nothing is to be changed");
    ensure!(!store.update(unknown(id), Some(None), None).await?, "no such conversation");
    Ok(())
}

pub async fn deleted_and_made_again_is_another(place: Place) -> Result<()> {
    let store = place.store().await?;
    let old = conversation(&store, "c").await?;
    append(&store, old, &["a", "b"]).await?;
    store.add_member(old, &"ann".into()).await?;
    ensure!(store.delete(old).await?);
    ensure!(!store.delete(old).await?, "twice");
    assert_eq!(store.open(&"t".into(), &"c".into()).await?, None);
    assert_eq!(store.append(&[message(old, "c")]).await?, [Err(AppendError::NoSuchConversation)]);
    assert!(store.heads(&[old]).await?.is_empty());
    while store.erase().await? {}
    assert!(store.messages(old, Range::Newest, 10, usize::MAX, true).await?.messages.is_empty());
    assert!(store.conversations_of(&"t".into(), &"ann".into(), None, 10).await?.conversations.is_empty());

    let again = store.create(&new("t", "c", "owner")).await?;
    ensure!(again.created && again.id != old);
    assert_eq!(append(&store, again.id, &["a"]).await?[0].seq, 1);
    assert_eq!(store.append(&[message(old, "d")]).await?, [Err(AppendError::NoSuchConversation)]);
    let opened = store.open(&"t".into(), &"c".into()).await?;
    assert_eq!(opened.map(|c| (c.id, c.head, c.members.len())), Some((again.id, Seq::new(1), 1)));
    Ok(())
}

pub async fn many_are_opened_in_one_call(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (one, other) = (conversation(&store, "one").await?, conversation(&store, "other").await?);
    append(&store, other, &["a", "b"]).await?;
    store.add_member(other, &"ann".into()).await?;
    store.mark_read(&[ReadMark { conversation: other, user: "ann".into(), seq: Seq::new(2) }]).await?;
    let mut opened = store.open_many(&[other, unknown(one), one]).await?;
    opened.sort_by_key(|conversation| conversation.id);
    let mut expected = Vec::new();
    for name in ["one", "other"] {
        expected.extend(store.open(&"t".into(), &name.into()).await?);
    }
    expected.sort_by_key(|conversation| conversation.id);
    assert_eq!(opened, expected);
    assert!(opened.iter().any(|c| c.members.iter().any(|m| m.user == "ann" && m.read == 2)), "{opened:?}");
    assert!(store.open_many(&[]).await?.is_empty());
    Ok(())
}

pub async fn each_of_many_who_open_at_once_gets_its_own(place: Place) -> Result<()> {
    let store = place.store().await?;
    let mut expected = Vec::new();
    for number in 0..40 {
        expected.push(Some(conversation(&store, &format!("c{number}")).await?));
        expected.push(None);
    }
    let mut openers = JoinSet::new();
    for (number, id) in expected.into_iter().enumerate() {
        let store = store.clone();
        // Each one that is there is followed by one that is not.
        let name = if id.is_some() { format!("c{}", number / 2) } else { format!("no-c{number}") };
        openers.spawn(async move {
            let opened = store.open(&"t".into(), &name.as_str().into()).await?;
            ensure!(opened.as_ref().map(|c| c.id) == id, "{name}: {opened:?}");
            ensure!(opened.is_none_or(|c| *c.conversation == *name), "{name} has another name");
            Ok(())
        });
    }
    while let Some(opened) = openers.join_next().await {
        opened??;
    }
    Ok(())
}

/// Appends run into the deletion; each is either before it, or told that the conversation is gone.
pub async fn a_deletion_among_appends_leaves_nothing_behind(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    let mut writers: JoinSet<Result<()>> = JoinSet::new();
    for writer in 0..4 {
        let store = stores[writer % 2].clone();
        writers.spawn(async move {
            for number in 0.. {
                let batch = [
                    message(id, &format!("{writer}-{number}a")),
                    message(id, &format!("{writer}-{number}b")),
                ];
                match store.append(&batch).await?.as_slice() {
                    [Ok(_), Ok(_)] => {}
                    [Err(_), Err(_)] => return Ok(()),
                    mixed => anyhow::bail!("one of two: {mixed:?}"),
                }
            }
            Ok(())
        });
    }
    let busy =
        async || Ok(stores[0].heads(&[id]).await?.first().is_some_and(|head| head.head > Seq::new(20)));
    wait::until_true(Duration::from_secs(30), "some messages", busy).await?;
    ensure!(stores[0].delete(id).await?);
    ensure!(
        stores[1].open(&"t".into(), &"c".into()).await?.is_none(),
        "gone, whatever is still to be erased"
    );
    while stores[0].erase().await? {}
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    assert!(stores[1].messages(id, Range::Newest, 10, usize::MAX, true).await?.messages.is_empty());
    Ok(())
}

pub async fn lists_show_newest_activity_first(place: Place) -> Result<()> {
    let store = place.store().await?;
    let (mut ids, names) = (Vec::new(), ["a", "b", "c"]);
    for name in names {
        ids.push(conversation(&store, name).await?);
    }
    // Each activity has a later millisecond than the one before.
    for position in [1, 0, 2, 0] {
        let newest = store.conversations_of(&"t".into(), &"owner".into(), None, 1).await?.conversations;
        let before = append(&store, newest[0].id, &[&uuid::Uuid::new_v4().to_string()]).await?[0].at_ms;
        let later = async || {
            let key = uuid::Uuid::new_v4().to_string();
            Ok(append(&store, ids[position], &[&key]).await?[0].at_ms > before)
        };
        wait::until_true(Duration::from_secs(10), "the next millisecond", later).await?;
    }
    assert_eq!(listed(&store, "owner").await?, ["a", "c", "b"]);

    let list = store.conversations_of(&"t".into(), &"owner".into(), None, 10).await?;
    let opened =
        store.open(&"t".into(), &"a".into()).await?.map(|c| (c.id, c.created_at_ms, c.head, c.owner));
    let first = &list.conversations[0];
    assert_eq!(Some((first.id, first.created_at_ms, first.head, first.owner.clone())), opened);
    assert_eq!(list.next, None);
    assert!(listed(&store, "stranger").await?.is_empty());
    Ok(())
}

pub async fn lists_go_on_at_the_cursor(place: Place) -> Result<()> {
    let store = place.store().await?;
    for number in 0..7 {
        conversation(&store, &format!("c{number}")).await?;
    }
    let whole = listed(&store, "owner").await?;
    assert_eq!(whole.len(), 7);
    for limit in [1, 3, 7] {
        let (mut paged, mut cursor) = (Vec::new(), None);
        loop {
            let list = store.conversations_of(&"t".into(), &"owner".into(), cursor, limit).await?;
            ensure!(!list.conversations.is_empty() && list.conversations.len() <= limit as usize);
            paged.extend(list.conversations.into_iter().map(|c| String::from(c.conversation)));
            cursor = list.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(paged, whole, "by {limit}");
    }
    Ok(())
}

pub async fn tenants_do_not_see_each_other(place: Place) -> Result<()> {
    let store = place.store().await?;
    let mut ids = Vec::new();
    for number in 0..20 {
        let tenant = format!("tenant{number}");
        let given = NewConversation { members: vec!["ann".into()], ..new(&tenant, "same", "owner") };
        let created = store.create(&given).await?;
        ensure!(created.created, "the name is free in {tenant}");
        ids.push(created.id);
        append(&store, created.id, &[&tenant]).await?;
    }
    for (number, id) in ids.iter().enumerate() {
        let tenant = format!("tenant{number}");
        assert_eq!(
            store.open(&tenant.as_str().into(), &"same".into()).await?.map(|c| (c.id, c.head)),
            Some((*id, Seq::new(1)))
        );
        let list =
            store.conversations_of(&tenant.as_str().into(), &"ann".into(), None, 50).await?.conversations;
        assert_eq!(list.iter().map(|c| c.id).collect::<Vec<_>>(), [*id]);
        let page = store.messages(*id, Range::Newest, 50, usize::MAX, true).await?;
        assert_eq!(page.messages.len(), 1);
        assert_eq!(page.messages[0].content, format!("content of {tenant}"));
    }
    assert_eq!(store.open(&"tenant".into(), &"same".into()).await?, None);
    assert_eq!(store.count_conversations(&"tenant1".into(), 100).await?, 1);
    ensure!(!store.share_conversation(&"tenant".into(), &"ann".into(), &"owner".into()).await?);
    Ok(())
}

pub async fn counting_stops_at_the_limit(place: Place) -> Result<()> {
    let store = place.store().await?;
    for number in 0..5 {
        conversation(&store, &format!("c{number}")).await?;
    }
    assert_eq!(store.count_conversations(&"t".into(), 100).await?, 5);
    assert_eq!(store.count_conversations(&"t".into(), 3).await?, 3);
    assert_eq!(store.count_conversations(&"t".into(), u64::MAX).await?, 5);
    assert_eq!(store.count_conversations(&"nobody".into(), 100).await?, 0);
    Ok(())
}

async fn listed(store: &Store, user: &str) -> Result<Vec<String>> {
    let list = store.conversations_of(&"t".into(), &user.into(), None, 100).await?;
    Ok(list.conversations.into_iter().map(|c| c.conversation.into()).collect())
}

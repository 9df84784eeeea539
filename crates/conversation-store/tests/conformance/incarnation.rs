//! Which log a conversation has, and when that changes.

use anyhow::{Result, ensure};
use starling_conversation_store::{ConversationId, MembersChange, NewConversation, Seq, incarnation_of};

use crate::place::{Place, Store, append, conversation, new, unknown};

pub async fn a_conversation_that_is_made_again_has_another_log(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    let log = log_of(&stores[0], id).await?;
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    ensure!((8..=32).contains(&log.len()) && log.chars().all(is_plain), "{log}");
    assert_eq!(incarnation_of(&log), stores[1].incarnation().await?);
    assert_eq!(log_of(&stores[1], id).await?, log);
    let other = conversation(&stores[0], "d").await?;
    assert_ne!(log_of(&stores[0], other).await?, log);

    stores[0].delete(id).await?;
    let again = conversation(&stores[1], "c").await?;
    assert_ne!(again, id);
    assert_ne!(log_of(&stores[0], again).await?, log);
    Ok(())
}

pub async fn another_incarnation_is_another_log(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    let (log, before) = (log_of(&stores[0], id).await?, stores[0].incarnation().await?);
    let after = stores[0].reincarnate().await?;
    assert_ne!(after, before);
    assert_eq!(stores[1].incarnation().await?, after);
    let renewed = log_of(&stores[1], id).await?;
    assert_eq!(renewed.strip_prefix(&after), log.strip_prefix(&before), "it is the same conversation");
    Ok(())
}

pub async fn a_head_that_went_back_begins_another_incarnation_once(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let id = conversation(&stores[0], "c").await?;
    append(&stores[0], id, &["1", "2"]).await?;
    let log = log_of(&stores[0], id).await?;
    for known in [0, 1, 2] {
        ensure!(!stores[1].report_head(id, Seq::new(known), &log).await?, "{known} is there");
    }
    ensure!(!stores[1].report_head(unknown(id), Seq::new(9), &log).await?, "a deleted one proves nothing");
    assert_eq!(log_of(&stores[0], id).await?, log);

    ensure!(stores[0].report_head(id, Seq::new(3), &log).await?);
    let renewed = log_of(&stores[0], id).await?;
    assert_ne!(incarnation_of(&renewed), incarnation_of(&log));
    // Every node notices, each in its own time.
    ensure!(stores[1].report_head(id, Seq::new(3), &log).await?);
    assert_eq!(log_of(&stores[0], id).await?, renewed);
    Ok(())
}

pub async fn a_conversation_from_before_logs_has_one(place: Place) -> Result<()> {
    let store = place.store().await?;
    let ids = [conversation(&store, "c").await?, conversation(&store, "d").await?];
    drop(store);
    place.close().await;
    place.run_sql("UPDATE conversations SET log = NULL").await?;
    let store = place.store().await?;
    let logs = [log_of(&store, ids[0]).await?, log_of(&store, ids[1]).await?];
    let incarnation = store.incarnation().await?;
    assert_eq!(logs, ids.map(|id| format!("{incarnation}-{id}")));
    Ok(())
}

pub async fn changes_of_title_and_metadata_are_counted(place: Place) -> Result<()> {
    let store = place.store().await?;
    let id = conversation(&store, "c").await?;
    let version = async || {
        let opened = store.open(&"t".into(), &"c".into()).await?.map(|opened| opened.details_version);
        let heads = store.heads(&[id]).await?;
        assert_eq!(heads.first().map(|head| head.details_version), opened);
        anyhow::Ok(opened)
    };
    assert_eq!(version().await?, Some(0));
    store.update(id, Some(Some("Tea".into())), None).await?;
    assert_eq!(version().await?, Some(1));
    store.update(id, None, Some(None)).await?;
    append(&store, id, &["1"]).await?;
    store.add_member(id, &"ann".into()).await?;
    assert_eq!(version().await?, Some(2));
    Ok(())
}

pub async fn an_owner_who_leaves_is_followed_by_who_joined_first(place: Place) -> Result<()> {
    let store = place.store().await?;
    let made = NewConversation { members: vec!["bob".into()], ..new("t", "c", "owner") };
    let id = store.create(&made).await?.id;
    // Not in the order of their names.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    store.add_member(id, &"ann".into()).await?;
    let change = |version, owner: &str| Some(MembersChange { changed: true, version, owner: owner.into() });
    assert_eq!(store.remove_member(id, &"owner".into()).await?, change(2, "bob"));
    assert_eq!(store.add_member(id, &"owner".into()).await?, change(3, "bob"));
    assert_eq!(store.remove_member(id, &"bob".into()).await?, change(4, "ann"));
    assert_eq!(store.open(&"t".into(), &"c".into()).await?.map(|opened| opened.owner), Some("ann".into()));
    assert_eq!(store.remove_member(id, &"ann".into()).await?, change(5, "owner"));
    assert_eq!(store.remove_member(id, &"owner".into()).await?, change(6, "owner"), "nobody is left");
    assert_eq!(store.add_member(id, &"cy".into()).await?, change(7, "cy"));
    Ok(())
}

async fn log_of(store: &Store, id: ConversationId) -> Result<String> {
    let (opened, heads) = (store.open_many(&[id]).await?, store.heads(&[id]).await?);
    ensure!(opened.len() == 1 && heads.len() == 1, "{id} is not there");
    ensure!(opened[0].log == heads[0].log, "{opened:?} {heads:?}");
    Ok(opened[0].log.clone())
}

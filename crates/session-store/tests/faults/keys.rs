use std::time::Duration;

use anyhow::Context;
use starling_model::ConversationId;
use starling_rate::Rate;
use starling_session_store::redis::RedisConfig;
use starling_session_store::{
    Attach, Attached, Change, ConversationKey, Dropped, Hold, NodeRecord, PresenceChange, ResumeAttach,
    SessionChange, SessionRecord, SessionStore,
};
use starling_testkit::redis::{Redis, RedisCluster};
use starling_testkit::wait;

use crate::{PATIENCE, fresh, node, now_ms, store, with};

/// Does everything that writes.
async fn write_everything(store: &dyn SessionStore) -> anyhow::Result<()> {
    let plans =
        ConversationKey { tenant: "acme".into(), conversation: "plans".into(), id: ConversationId::new(7) };
    for name in ["n1", "n2"] {
        store.beat(&node(name)).await?;
    }
    store.leave("n2").await?;
    let mut dropped = Vec::new();
    for i in 0..20 {
        let session = format!("s{i}");
        let Attached::New { stamp } = store.attach(&fresh(&session)).await? else {
            anyhow::bail!("{session} is not new")
        };
        dropped.push(Dropped { session, stamp });
        store
            .update(&[
                SessionChange { session: format!("s{i}"), change: Change::Joined("plans".into()) },
                SessionChange { session: format!("gone{i}"), change: Change::Joined("plans".into()) },
            ])
            .await?;
    }
    store.detach("n1", &dropped[1..3], now_ms()).await?;
    let resume = Some(ResumeAttach { ticket_issued_at_ms: now_ms() });
    let resume = Attach { resume, ..fresh("s2") };
    let Attached::Resumed { stamp, .. } = store.attach(&resume).await? else {
        anyhow::bail!("s2 is not resumed")
    };
    for session in ["s2", "lost"] {
        let hold = Hold {
            session: session.into(),
            tenant: resume.tenant.clone(),
            user: resume.user.clone(),
            node: resume.node.clone(),
            stamp,
            created_at_ms: now_ms(),
            now_ms: now_ms(),
            window_ms: 60_000,
        };
        store.hold(&hold).await?;
    }
    store.end(&"acme".into(), "s3").await?;
    store
        .restore(
            "n1",
            &[SessionRecord {
                session: "restored".into(),
                tenant: "acme".into(),
                user: "alice".into(),
                created_at_ms: now_ms(),
                conversations: vec!["plans".into()],
                topics: vec![],
                stamp: 1,
            }],
        )
        .await?;
    let devices = |devices| PresenceChange { conversation: plans.clone(), user: "alice".into(), devices };
    store.set_presence("n1", &[devices(1)]).await?;
    store.keep_presence(std::slice::from_ref(&plans)).await?;
    let rate = Rate::new(1, Duration::from_secs(60)).expect("a rate");
    for _ in 0..2 {
        store.take(&"acme".into(), &"alice".into(), rate).await?;
    }
    let mut cursor = None;
    loop {
        let page = store.sessions(&"acme".into(), Some(&"alice".into()), cursor.as_deref(), 3).await?;
        cursor = page.next;
        if cursor.is_none() {
            return Ok(());
        }
    }
}

/// All keys, each of which has to have a lifetime.
async fn keys(servers: &[&Redis]) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for server in servers {
        for key in server.cli(&["KEYS", "*"]).await?.texts() {
            let lifetime_ms = server.cli(&["PTTL", &key]).await?.integer();
            assert!(lifetime_ms.is_some_and(|ms| ms > 0), "{key} lives for ever: {lifetime_ms:?}");
            keys.push(key);
        }
    }
    keys.sort();
    keys.retain(|key| !key.starts_with("starling:v1:session:"));
    Ok(keys)
}

const KEYS: [&str; 9] = [
    "starling:v1:limit:{acme:alice}",
    "starling:v1:line:{acme:alice}",
    "starling:v1:presence:{acme:plans}/7",
    "starling:v1:sessions:{acme:alice}",
    "starling:v1:sessions:{acme}",
    "starling:v1:{instance}:n1",
    "starling:v1:{instance}s:active",
    "starling:v1:{instance}s:born",
    "starling:v1:{instance}s:room",
];

/// Waits until these servers have the expected keys and no others. One of them is written in the background.
async fn have_the_keys(servers: &[&Redis]) -> anyhow::Result<()> {
    let mut found = Vec::new();
    let waited = wait::until_true(PATIENCE, "all keys", async || {
        found = keys(servers).await?;
        Ok(found == KEYS)
    });
    waited.await.with_context(|| format!("{found:?}"))
}

#[tokio::test]
async fn every_key_has_a_lifetime_and_a_readable_name() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    write_everything(&*store(redis.url()).await).await?;
    have_the_keys(&[&redis]).await?;
    let session = redis.cli(&["HGETALL", "starling:v1:session:{s5}"]).await?.texts();
    for word in ["tenant", "acme", "user", "alice", "node", "n1", "in:plans"] {
        assert!(session.iter().any(|text| text == word), "{word} is missing in {session:?}");
    }
    Ok(())
}

#[tokio::test]
async fn every_key_in_a_cluster_has_a_lifetime() -> anyhow::Result<()> {
    let cluster = RedisCluster::start().await?;
    write_everything(&*store(cluster.url()).await).await?;
    let masters: Vec<&Redis> = cluster.nodes().iter().collect();
    have_the_keys(&masters).await?;
    for master in masters {
        let redirected = master.cli(&["INFO", "errorstats"]).await?.text();
        assert!(!redirected.contains("errorstat_MOVED"), "{redirected}");
    }
    Ok(())
}

#[tokio::test]
async fn what_a_dead_node_left_behind_is_removed() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let config = RedisConfig { lease: Duration::from_millis(200), ..RedisConfig::new(redis.url().parse()?) };
    let store = with(config).await;
    let plans =
        ConversationKey { tenant: "acme".into(), conversation: "plans".into(), id: ConversationId::new(7) };
    let alice = PresenceChange { conversation: plans.clone(), user: "alice".into(), devices: 1 };
    store.beat(&node("n1")).await?;
    store.set_presence("n1", &[alice]).await?;
    let length = async || {
        let length = redis.cli(&["HLEN", "starling:v1:presence:{acme:plans}/7"]).await?;
        anyhow::Ok(length.integer())
    };
    assert_eq!(length().await?, Some(1));
    wait::until_true(PATIENCE, "the entry's removal", async || {
        store.beat(&node("n2")).await?;
        store.presence(std::slice::from_ref(&plans)).await?;
        Ok(length().await? == Some(0))
    })
    .await
}

/// While an upgrade is rolled out: nodes of the version before keep presence by the conversation's name alone.
#[tokio::test]
async fn nodes_of_the_version_before_and_this_one_see_each_others_people() -> anyhow::Result<()> {
    let redis = Redis::start().await?;
    let store = with(RedisConfig::new(redis.url().parse()?)).await;
    let of = |id| ConversationKey {
        tenant: "acme".into(),
        conversation: "plans".into(),
        id: ConversationId::new(id),
    };
    let alice = |devices| PresenceChange { conversation: of(7), user: "alice".into(), devices };
    let by_name = "starling:v1:presence:{acme:plans}";
    let there = async |id| {
        let entries = store.presence(&[of(id)]).await?.pop().unwrap_or_default();
        anyhow::Ok(entries.into_iter().map(|entry| entry.user).collect::<Vec<_>>())
    };
    let older = NodeRecord { presence_by_id: false, ..node("older") };
    store.beat(&older).await?;
    store.beat(&node("n1")).await?;
    redis.cli(&["HSET", by_name, "older/bob", "1"]).await?;
    store.set_presence("n1", &[alice(2)]).await?;
    assert_eq!(redis.cli(&["HGET", by_name, "n1/alice"]).await?.text(), "2");
    assert_eq!(there(7).await?, ["alice", "bob"]);
    // Alice is in the one with that number; Bob in whichever has the name, as far as his node can say.
    assert_eq!(there(8).await?, ["bob"]);

    store.set_presence("n1", &[alice(0)]).await?;
    assert_eq!(redis.cli(&["HEXISTS", by_name, "n1/alice"]).await?.integer(), Some(0));
    store.leave("older").await?;
    store.beat(&node("n1")).await?;
    store.set_presence("n1", &[alice(1)]).await?;
    assert_eq!(redis.cli(&["HEXISTS", by_name, "n1/alice"]).await?.integer(), Some(0), "for nobody any more");
    assert_eq!(there(7).await?, ["alice"]);
    Ok(())
}

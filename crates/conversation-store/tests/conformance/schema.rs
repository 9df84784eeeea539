//! Migrations and health.

use anyhow::{Result, ensure};
use starling_conversation_store::{Error, SCHEMA};
use tokio::task::JoinSet;

use crate::place::{Place, append, conversation};

pub async fn many_stores_migrate_at_once(place: Place) -> Result<()> {
    place.close().await;
    // As new, whatever was there.
    for (kind, name) in [("TABLE", "starling_migrations"), ("TABLE", "members"), ("TABLE", "conversations")]
        .into_iter()
        .chain(["users", "messages", "erasures", "ended_sessions", "incarnation"].map(|name| ("TABLE", name)))
        .chain([("TABLE", "announced_messages"), ("TABLE", "announced_members")])
    {
        place.run_sql(&format!("DROP {kind} {name}")).await?;
    }
    // SQLite has none.
    let _ = place.run_sql("DROP TABLE nodes").await;
    let functions = ["append", "create", "set_member", "delete", "erase", "incarnation", "origin", "server"];
    for name in functions.into_iter().chain([
        "append_fresh",
        "reincarnate",
        "create_within",
        "add_member",
        "report_head",
        "count_details",
    ]) {
        // SQLite has none.
        let _ = place.run_sql(&format!("DROP FUNCTION starling_{name}")).await;
    }
    let mut stores = JoinSet::new();
    for _ in 0..4 {
        let store = place.store().await?;
        stores.spawn(async move { store.migrate().await });
    }
    while let Some(migrated) = stores.join_next().await {
        migrated??;
    }
    let store = place.store().await?;
    store.migrate().await?;
    let id = conversation(&store, "c").await?;
    assert_eq!(append(&store, id, &["a"]).await?[0].seq, 1);
    Ok(())
}

pub async fn a_newer_schema_is_used_unless_it_needs_a_newer_program(place: Place) -> Result<()> {
    place.close().await;
    let newer = "INSERT INTO starling_migrations (version, name, oldest_program) VALUES";
    let known = SCHEMA.version();
    place.run_sql(&format!("{newer} ({}, 'adds', {known})", known + 1)).await?;
    let store = place.store().await?;
    store.check().await?;
    store.migrate().await?;
    let status = store.schema_status().await?;
    ensure!(status.newer().is_some(), "{status:?}");
    let id = conversation(&store, "c").await?;
    assert_eq!(append(&store, id, &["a"]).await?[0].seq, 1);
    drop(store);

    place.close().await;
    place.run_sql(&format!("{newer} (999, 'takes away', {})", known + 1)).await?;
    let store = place.store().await?;
    for refused in [store.check().await, store.migrate().await] {
        let Err(error) = refused else { anyhow::bail!("a schema of tomorrow was taken") };
        ensure!(matches!(error, Error::Unsupported(_)) && !error.is_transient(), "{error}");
        ensure!(error.to_string().contains("999"), "{error}");
    }
    Ok(())
}

pub async fn conversations_whose_owner_left_are_handed_on(place: Place) -> Result<()> {
    let store = place.store().await?;
    for name in ["left", "empty", "kept"] {
        let id = conversation(&store, name).await?;
        // By the alphabet the other way round.
        for user in ["zoe", "ann"] {
            store.add_member(id, &user.into()).await?;
        }
    }
    drop(store);
    place.close().await;
    // As a version left it that handed nothing on.
    place
        .run_sql(
            "DELETE FROM members WHERE user_name = 'owner' AND conversation_id IN
                 (SELECT id FROM conversations WHERE name = 'left');
             DELETE FROM members WHERE conversation_id IN (SELECT id FROM conversations WHERE name = 'empty');",
        )
        .await?;
    place
        .run_sql_of(
            "UPDATE members SET joined_at = joined_at - interval '1 minute' WHERE user_name = 'zoe'",
            "UPDATE members SET joined_at_ms = joined_at_ms - 60000 WHERE user_name = 'zoe'",
        )
        .await?;
    place.run_sql("DROP TABLE announced_messages").await?;
    place.run_sql("DROP TABLE announced_members").await?;
    place.run_sql("DELETE FROM starling_migrations WHERE version >= 6").await?;
    let store = place.store().await?;
    store.migrate().await?;
    for (name, owner) in [("left", "zoe"), ("empty", "owner"), ("kept", "owner")] {
        let found = store.open(&"t".into(), &name.into()).await?;
        ensure!(found.as_ref().is_some_and(|found| *found.owner == *owner), "{name}: {found:?}");
    }
    Ok(())
}

pub async fn a_checked_store_shows_its_pools(place: Place) -> Result<()> {
    let store = place.store().await?;
    store.check().await?;
    store.ping().await?;
    let id = conversation(&store, "c").await?;
    append(&store, id, &["a"]).await?;
    let pools = store.pools();
    ensure!(!pools.is_empty());
    for pool in pools {
        ensure!(pool.size >= 1 && pool.size <= pool.size_max && pool.idle <= pool.size, "{pool:?}");
        assert_eq!(pool.waiting, 0, "{pool:?}");
    }
    Ok(())
}

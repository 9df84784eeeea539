//! When users were last seen.

use anyhow::Result;
use starling_conversation_store::LastSeen;
use starling_model::UserName;
use tokio::task::JoinSet;

use crate::place::Place;

pub async fn the_latest_sighting_stays(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let seen = |tenant: &str, user: &str, at_ms| LastSeen { tenant: tenant.into(), user: user.into(), at_ms };
    let start = 1_790_000_000_123;
    stores[0].touch_users(&[]).await?;
    stores[0]
        .touch_users(&[seen("t", "ann", start), seen("t", "ann", start + 5), seen("t", "ann", start + 1)])
        .await?;
    stores[0]
        .touch_users(&[seen("t", "ann", start + 4), seen("t", "bob", start), seen("u", "ann", 7)])
        .await?;
    let asked = ["bob", "ann", "nobody"].map(UserName::from);
    let mut found = stores[1].last_seen(&"t".into(), &asked).await?;
    found.sort_by(|a, b| a.user.cmp(&b.user));
    assert_eq!(found, [seen("t", "ann", start + 5), seen("t", "bob", start)]);
    assert_eq!(stores[1].last_seen(&"u".into(), &asked).await?, [seen("u", "ann", 7)]);
    assert!(stores[1].last_seen(&"t".into(), &[]).await?.is_empty());

    // Many nodes at once, in opposite orders: the latest stays, nobody deadlocks.
    let mut nodes = JoinSet::new();
    for node in 0..10_i64 {
        let store = stores[usize::from(node % 2 == 0)].clone();
        let mut batch: Vec<LastSeen> =
            (0..30).map(|user| seen("t", &format!("u{user}"), start + node)).collect();
        if node % 3 == 0 {
            batch.reverse();
        }
        nodes.spawn(async move { store.touch_users(&batch).await });
    }
    while let Some(done) = nodes.join_next().await {
        done??;
    }
    let asked: Vec<UserName> = (0..30).map(|user| format!("u{user}").into()).collect();
    let found = stores[0].last_seen(&"t".into(), &asked).await?;
    assert_eq!(found.len(), 30);
    assert!(found.iter().all(|seen| seen.at_ms == start + 9));
    Ok(())
}

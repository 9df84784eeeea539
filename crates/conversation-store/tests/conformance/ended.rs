//! Sessions that operators ended.

use std::time::Duration;

use anyhow::Result;

use crate::place::Place;

const DAY: Duration = Duration::from_secs(24 * 3_600);

pub async fn an_ended_session_stays_ended_until_it_is_forgotten(place: Place) -> Result<()> {
    let stores = [place.store().await?, place.store().await?];
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(stores[0].ended_sessions(DAY).await?.is_empty());
    for session in ["one", "two", "one"] {
        stores[0].end_session(session, DAY).await?;
    }
    assert_eq!(sorted(stores[1].ended_among(&names(&["two", "three", "one"])).await?), ["one", "two"]);
    assert!(stores[1].ended_among(&names(&["three"])).await?.is_empty());
    assert!(stores[1].ended_among(&[]).await?.is_empty());
    assert_eq!(sorted(stores[1].ended_sessions(DAY).await?), ["one", "two"]);
    // Long enough that a busy machine does not take the next call for a late one.
    const KEPT: Duration = Duration::from_secs(1);
    tokio::time::sleep(KEPT + Duration::from_millis(20)).await;
    assert!(stores[1].ended_sessions(Duration::from_millis(1)).await?.is_empty());
    stores[1].end_session("three", KEPT).await?;
    assert_eq!(stores[0].ended_sessions(DAY).await?, ["three"], "older ones are forgotten");
    assert_eq!(stores[0].ended_among(&names(&["one", "three"])).await?, ["three"]);
    Ok(())
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

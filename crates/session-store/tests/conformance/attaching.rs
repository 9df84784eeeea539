use std::sync::Arc;

use starling_session_store::{
    Attached, Change, Ended, ResumeAttach, SessionChange, SessionState, SessionStore,
};

use crate::world::{WINDOW_MS, World, attach, beat, fresh, now_ms, previous, record, resume, state};

const WINDOW: i64 = WINDOW_MS as i64;

fn change(session: &str, change: Change) -> SessionChange {
    SessionChange { session: session.into(), change }
}

pub async fn a_dropped_session_is_resumed_with_all_it_was_in(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let first = fresh("s1", "n1");
    assert_eq!(attach(&world.a, &first).await, Attached::New);
    let batch = [
        change("s1", Change::Joined("plans".into())),
        change("s1", Change::Joined("team:in:here".into())),
        change("s1", Change::Joined("left".into())),
        change("s1", Change::Subscribed("prices".into())),
        change("s1", Change::Subscribed("news".into())),
        change("s1", Change::Left("left".into())),
        change("s1", Change::Unsubscribed("news".into())),
        change("nobody", Change::Joined("plans".into())),
    ];
    world.a.update(&batch).await.expect("the store answers");
    world.a.detach("n1", &["s1".into(), "nobody".into()], now_ms()).await.expect("the store answers");
    let expected = Attached::Resumed {
        previous_node: None,
        conversations: vec!["plans".into(), "team:in:here".into()],
        topics: vec!["prices".into()],
        created_at_ms: first.now_ms,
    };
    assert_eq!(attach(&world.b, &resume("s1", "n2")).await, expected);
    // What the drop was cannot come a second time: it is attached again.
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n2"));
    assert_eq!(attach(&world.a, &resume("nobody", "n1")).await, Attached::Refused);
}

pub async fn a_resume_of_an_attached_session_names_the_previous_node(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    assert_eq!(previous(&attach(&world.b, &resume("s1", "n2")).await), Some("n1"));
    assert_eq!(previous(&attach(&world.b, &resume("s1", "n2")).await), Some("n2"));
    // An attached session has no window.
    let mut late = resume("s1", "n1");
    late.now_ms += 100 * WINDOW;
    assert_eq!(previous(&attach(&world.a, &late).await), Some("n2"));
}

pub async fn the_window_counts_from_the_drop(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let dropped_at_ms = now_ms();
    attach(&world.a, &fresh("s1", "n1")).await;
    world.a.detach("n1", &["s1".into()], dropped_at_ms).await.expect("the store answers");
    // Said twice, the first time counts.
    world.a.detach("n1", &["s1".into()], dropped_at_ms + 10_000).await.expect("the store answers");
    let mut late = resume("s1", "n2");
    late.now_ms = dropped_at_ms + WINDOW + 1;
    assert_eq!(attach(&world.b, &late).await, Attached::Refused);
    late.now_ms = dropped_at_ms + WINDOW;
    assert_eq!(previous(&attach(&world.b, &late).await), None);
}

pub async fn the_window_of_a_dead_node_counts_from_its_last_beat(world: &World<'_>) {
    let _b = world.live(&world.b, "n2").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    attach(&world.a, &fresh("s2", "n1")).await;
    beat(&world.a, "n1").await;
    let last_beat_ms = now_ms();
    world.wait_for_death(&world.b, "n1").await;
    let mut late = resume("s1", "n2");
    late.now_ms = last_beat_ms + WINDOW + 1_000;
    assert_eq!(attach(&world.b, &late).await, Attached::Refused);
    late.now_ms = last_beat_ms + WINDOW - 1_000;
    assert_eq!(previous(&attach(&world.b, &late).await), None);
    // A node that says that it goes is dead from then on.
    attach(&world.a, &fresh("s3", "n3")).await;
    beat(&world.a, "n3").await;
    world.a.leave("n3").await.expect("the store answers");
    world.wait_for_death(&world.b, "n3").await;
    assert_eq!(previous(&attach(&world.b, &resume("s3", "n2")).await), None);
}

pub async fn an_ended_session_is_refused_and_stays_so(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    attach(&world.a, &fresh("s2", "n1")).await;
    world.a.detach("n1", &["s2".into()], now_ms()).await.expect("the store answers");
    attach(&world.a, &fresh("s3", "n3")).await;
    assert_eq!(world.b.end("other", "s1").await.expect("the store answers"), None);
    assert_eq!(world.b.end("acme", "nobody").await.expect("the store answers"), None);
    assert_eq!(
        world.b.end("acme", "s1").await.expect("the store answers"),
        Some(Ended { node: Some("n1".into()) })
    );
    assert_eq!(world.b.end("acme", "s2").await.expect("the store answers"), Some(Ended { node: None }));
    // That node never lived.
    assert_eq!(world.b.end("acme", "s3").await.expect("the store answers"), Some(Ended { node: None }));
    world.a.update(&[change("s1", Change::Joined("plans".into()))]).await.expect("the store answers");
    world.a.detach("n1", &["s1".into()], now_ms()).await.expect("the store answers");
    for session in ["s1", "s2", "s3"] {
        assert_eq!(attach(&world.b, &resume(session, "n1")).await, Attached::Refused, "{session}");
    }
    assert_eq!(refused(&world.a, "n1", &[state("s1")]).await, [("s1".into(), true)]);
    // Whoever had it before is told the same.
    assert_eq!(refused(&world.b, "n2", &[state("s1")]).await, [("s1".into(), true)]);
    assert_eq!(attach(&world.b, &resume("s1", "n1")).await, Attached::Refused);
    assert_eq!(world.b.sessions("acme", None, None, 10).await.expect("the store answers").sessions, []);
}

pub async fn somebody_elses_session_is_refused(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    let mut foreign = resume("s1", "n1");
    foreign.user = "mallory".into();
    assert_eq!(attach(&world.a, &foreign).await, Attached::Refused);
    let mut foreign = resume("s1", "n1");
    foreign.tenant = "other".into();
    assert_eq!(attach(&world.a, &foreign).await, Attached::Refused);
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n1"));
}

pub async fn a_session_nobody_knows_is_refused(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    // The store is younger than this moment plus a second, whatever the clocks say.
    let mut unknown = resume("s1", "n1");
    unknown.resume = Some(ResumeAttach { ticket_issued_at_ms: now_ms() + 1_000 });
    assert_eq!(attach(&world.a, &unknown).await, Attached::Refused);
    assert_eq!(attach(&world.b, &unknown).await, Attached::Refused);
}

pub async fn of_two_nodes_that_resume_at_once_one_is_told_of_the_other(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let _c = world.live(&world.b, "n3").await;
    for round in 0..50 {
        let session = format!("s{round}");
        attach(&world.a, &fresh(&session, "n3")).await;
        let (by_a, by_b) = (resume(&session, "n1"), resume(&session, "n2"));
        let (on_a, on_b) = tokio::join!(attach(&world.a, &by_a), attach(&world.b, &by_b));
        let winner = match (previous(&on_a), previous(&on_b)) {
            (Some("n3"), Some("n1")) => "n2",
            (Some("n2"), Some("n3")) => "n1",
            other => panic!("round {round}: {other:?}"),
        };
        let page = world.a.sessions("acme", None, None, 1_000).await.expect("the store answers");
        let held = page.sessions.iter().find(|listed| listed.session == session).expect("it is listed");
        assert_eq!((held.node.as_str(), held.attached), (winner, true), "round {round}");
    }
}

pub async fn only_the_node_that_holds_a_session_can_drop_it(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    attach(&world.b, &resume("s1", "n2")).await;
    world.a.detach("n1", &["s1".into()], now_ms()).await.expect("the store answers");
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n2"));
}

pub async fn names_that_look_like_publications_are_names(world: &World<'_>) {
    for name in ["message", "pmessage", "smessage", "subscribe", "unsubscribe"] {
        beat(&world.a, name).await;
        let mut first = fresh(name, name);
        (first.tenant, first.user) = (name.into(), name.into());
        assert_eq!(attach(&world.a, &first).await, Attached::New);
        world.a.update(&[change(name, Change::Joined(name.into()))]).await.expect("the store answers");
        let mut again = resume(name, "n2");
        (again.tenant, again.user) = (name.into(), name.into());
        assert_eq!(previous(&attach(&world.b, &again).await), Some(name));
        let page = world.b.sessions(name, Some(name), None, 10).await.expect("the store answers");
        assert_eq!(page.sessions.len(), 1);
        assert_eq!(page.sessions[0].session, name);
        world.b.detach("n2", &[name.into()], now_ms()).await.expect("the store answers");
        assert!(world.b.end(name, name).await.expect("the store answers").is_some());
    }
    assert_eq!(world.b.nodes().await.expect("the store answers").len(), 5);
}

pub async fn a_wiped_store_believes_tickets_from_before_for_a_window(world: &World<'_>) {
    let _b = world.live(&world.b, "n2").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    attach(&world.a, &fresh("s2", "n1")).await;
    let issued_at_ms = now_ms() - 5_000;
    world.wipe().await;
    let born_ms = now_ms();
    let ticket = |session, ticket_issued_at_ms, at_ms| {
        let mut attach = resume(session, "n2");
        attach.resume = Some(ResumeAttach { ticket_issued_at_ms });
        attach.now_ms = at_ms;
        attach
    };
    assert_eq!(attach(&world.b, &ticket("s1", issued_at_ms, born_ms + 1_000)).await, Attached::Rebuilt);
    // It is there from now on.
    assert_eq!(previous(&attach(&world.b, &resume("s1", "n2")).await), Some("n2"));
    let after = ticket("s2", born_ms + 5_000, born_ms + 6_000);
    assert_eq!(attach(&world.b, &after).await, Attached::Refused);
    let late = ticket("s2", issued_at_ms, born_ms + WINDOW + 5_000);
    assert_eq!(attach(&world.b, &late).await, Attached::Refused);
    let in_time = ticket("s2", issued_at_ms, born_ms + WINDOW - 5_000);
    assert_eq!(attach(&world.b, &in_time).await, Attached::Rebuilt);
}

pub async fn a_wiped_store_is_restored_and_nothing_newer_is_overwritten(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    for session in ["s1", "s2", "s3"] {
        attach(&world.a, &fresh(session, "n1")).await;
    }
    world.wipe().await;
    beat(&world.a, "n1").await;
    beat(&world.b, "n2").await;
    let mut early = resume("s2", "n2");
    early.resume = Some(ResumeAttach { ticket_issued_at_ms: now_ms() - 5_000 });
    assert_eq!(attach(&world.b, &early).await, Attached::Rebuilt);
    let states = [state("s1"), state("s2"), state("s3")];
    assert_eq!(refused(&world.a, "n1", &states).await, [("s2".into(), false)]);
    // Once more does no harm.
    assert_eq!(refused(&world.a, "n1", &states).await, [("s2".into(), false)]);
    let expected = Attached::Resumed {
        previous_node: Some("n1".into()),
        conversations: vec!["plans".into()],
        topics: vec!["prices".into()],
        created_at_ms: states[0].created_at_ms,
    };
    assert_eq!(attach(&world.b, &resume("s1", "n2")).await, expected);
    assert_eq!(previous(&attach(&world.b, &resume("s2", "n2")).await), Some("n2"));
    let mut foreign = state("s3");
    foreign.user = "mallory".into();
    assert_eq!(refused(&world.a, "n1", &[foreign]).await, [("s3".into(), false)]);
}

pub async fn thousands_are_restored_and_dropped_at_once(world: &World<'_>) {
    world.a.beat(&record("n1")).await.expect("the store answers");
    let states: Vec<_> = (0..2_500).map(|i| state(&format!("s{i}"))).collect();
    assert_eq!(refused(&world.a, "n1", &states).await, []);
    let ids: Vec<_> = states.iter().map(|state| state.session.clone()).collect();
    let changes: Vec<_> = ids.iter().map(|id| change(id, Change::Joined("more".into()))).collect();
    world.a.update(&changes).await.expect("the store answers");
    world.a.detach("n1", &ids, now_ms()).await.expect("the store answers");
    for session in ["s0", "s1999", "s2499"] {
        let Attached::Resumed { previous_node, conversations, .. } =
            attach(&world.b, &resume(session, "n2")).await
        else {
            panic!("{session} was not resumed")
        };
        assert_eq!((previous_node, conversations), (None, vec!["more".into(), "plans".into()]));
    }
}

/// Restores sessions; answers those that were not, and whether since they were ended.
async fn refused(store: &Arc<dyn SessionStore>, node: &str, states: &[SessionState]) -> Vec<(String, bool)> {
    let refused = store.restore(node, states).await.expect("the store answers");
    refused.into_iter().map(|refused| (refused.session, refused.ended)).collect()
}

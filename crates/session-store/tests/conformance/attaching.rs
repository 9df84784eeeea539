use std::sync::Arc;
use std::time::Duration;

use starling_model::ConversationId;
use starling_session_store::{
    Attach, Attached, Change, Dropped, EarlierAttach, Ended, Held, JoinedConversation, SessionChange,
    SessionRecord, SessionStore,
};

use crate::world::{
    WINDOW_MS, World, attach, beat, claim, drop_socket, fresh, hold, now_ms, previous, record, resume, stamp,
    state, with_ticket,
};

const WINDOW: i64 = WINDOW_MS as i64;

fn change(session: &str, change: Change) -> SessionChange {
    SessionChange { session: session.into(), change }
}

pub async fn a_dropped_session_is_resumed_with_all_it_was_in(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let first = fresh("s1", "n1");
    let made = attach(&world.a, &first).await;
    assert!(matches!(made, Attached::New { .. }), "{made:?}");
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
    drop_socket(&world.a, "n1", "s1", stamp(&made), now_ms()).await;
    drop_socket(&world.a, "n1", "nobody", stamp(&made), now_ms()).await;
    let resumed = attach(&world.b, &resume("s1", "n2")).await;
    assert!(stamp(&resumed) > stamp(&made));
    let expected = Attached::Resumed {
        stamp: stamp(&resumed),
        previous_node: None,
        conversations: vec!["plans".into(), "team:in:here".into()],
        topics: vec!["prices".into()],
        created_at_ms: first.now_ms,
    };
    assert_eq!(resumed, expected);
    // What the drop was cannot come a second time: it is attached again.
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n2"));
    let unknown = Attach { now_ms: now_ms() + 2 * WINDOW, ..with_ticket("nobody", "n1", now_ms()) };
    assert_eq!(attach(&world.a, &unknown).await, Attached::Refused);
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
    let made = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    drop_socket(&world.a, "n1", "s1", made, dropped_at_ms).await;
    // Said twice, the first time counts.
    drop_socket(&world.a, "n1", "s1", made, dropped_at_ms + 10_000).await;
    let mut late = with_ticket("s1", "n2", dropped_at_ms);
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
    let mut late = with_ticket("s1", "n2", last_beat_ms);
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
    let first = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    let second = stamp(&attach(&world.a, &fresh("s2", "n1")).await);
    drop_socket(&world.a, "n1", "s2", second, now_ms()).await;
    attach(&world.a, &fresh("s3", "n3")).await;
    for (tenant, session, known) in [("acme", "s1", true), ("other", "s1", false), ("acme", "nobody", false)]
    {
        let answer = world.b.knows(&tenant.into(), session).await.expect("the store answers");
        assert_eq!(answer, known, "{tenant}, {session}");
    }
    assert_eq!(world.b.end(&"other".into(), "s1").await.expect("the store answers"), None);
    assert_eq!(world.b.end(&"acme".into(), "nobody").await.expect("the store answers"), None);
    assert_eq!(
        world.b.end(&"acme".into(), "s1").await.expect("the store answers"),
        Some(Ended { node: Some("n1".into()) })
    );
    assert_eq!(
        world.b.end(&"acme".into(), "s2").await.expect("the store answers"),
        Some(Ended { node: None })
    );
    // That node never lived.
    assert_eq!(
        world.b.end(&"acme".into(), "s3").await.expect("the store answers"),
        Some(Ended { node: None })
    );
    world.a.update(&[change("s1", Change::Joined("plans".into()))]).await.expect("the store answers");
    drop_socket(&world.a, "n1", "s1", first, now_ms()).await;
    for session in ["s1", "s2", "s3"] {
        assert_eq!(attach(&world.b, &resume(session, "n1")).await, Attached::Refused, "{session}");
    }
    assert_eq!(refused(&world.a, "n1", &[state("s1")]).await, [("s1".into(), true)]);
    // Whoever had it before is told the same.
    assert_eq!(refused(&world.b, "n2", &[state("s1")]).await, [("s1".into(), true)]);
    assert_eq!(attach(&world.b, &resume("s1", "n1")).await, Attached::Refused);
    assert_eq!(
        world.b.sessions(&"acme".into(), None, None, 10).await.expect("the store answers").sessions,
        []
    );
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

pub async fn a_session_nobody_knows_is_refused_when_its_ticket_is_old(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    // The store has lived for longer than a window.
    let now_ms = now_ms() + 2 * WINDOW;
    let unknown = |age_ms| Attach { now_ms, ..with_ticket("s1", "n1", now_ms - age_ms) };
    assert_eq!(attach(&world.a, &unknown(WINDOW + 1)).await, Attached::Refused);
    assert_eq!(attach(&world.b, &unknown(WINDOW + 1)).await, Attached::Refused);
    // It was attached within the last window: its node could not write it.
    let rebuilt = attach(&world.b, &unknown(WINDOW)).await;
    assert!(matches!(rebuilt, Attached::Rebuilt { .. }), "{rebuilt:?}");
}

pub async fn a_session_was_attached_when_its_ticket_was_issued(world: &World<'_>) {
    let _b = world.live(&world.b, "n2").await;
    for (session, leaves) in [("dropped", false), ("dead", true)] {
        let made = stamp(&attach(&world.a, &fresh(session, "n1")).await);
        if leaves {
            beat(&world.a, "n1").await;
            world.a.leave("n1").await.expect("the store answers");
            world.wait_for_death(&world.b, "n1").await;
        } else {
            drop_socket(&world.a, "n1", session, made, now_ms()).await;
        }
        // Its node attached it again, and could not write that.
        let issued_at_ms = now_ms() + WINDOW;
        let now_ms = issued_at_ms + WINDOW;
        let early = Attach { now_ms, ..with_ticket(session, "n2", issued_at_ms - 1) };
        assert_eq!(attach(&world.b, &early).await, Attached::Refused, "{session}");
        let resumed = attach(&world.b, &Attach { now_ms, ..with_ticket(session, "n2", issued_at_ms) }).await;
        assert_eq!(previous(&resumed), None, "{session}");
    }
}

pub async fn of_two_nodes_that_resume_at_once_the_one_that_began_last_holds_it(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let _c = world.live(&world.b, "n3").await;
    for round in 0..50 {
        let session = format!("s{round}");
        attach(&world.a, &fresh(&session, "n3")).await;
        let (by_a, by_b) = (resume(&session, "n1"), resume(&session, "n2"));
        let (on_a, on_b) = tokio::join!(claim(&world.a, &by_a), claim(&world.b, &by_b));
        assert_eq!((previous(&on_a), previous(&on_b)), (Some("n3"), Some("n3")), "round {round}");
        let (on_a, on_b) = (stamp(&on_a), stamp(&on_b));
        let (held_a, held_b) = tokio::join!(hold(&world.a, &by_a, on_a), hold(&world.b, &by_b, on_b));
        let by = |node: &str| Held::Held { previous_node: Some(node.into()) };
        let winner = if on_a > on_b { "n1" } else { "n2" };
        let (first, last) = if on_a > on_b { (held_b, held_a) } else { (held_a, held_b) };
        let loser = if on_a > on_b { "n2" } else { "n1" };
        // The winner is told of whoever held it until then; the loser held it for a moment, or never.
        match first {
            Held::Superseded => assert_eq!(last, by("n3"), "round {round}"),
            first => assert_eq!((first, last), (by("n3"), by(loser)), "round {round}"),
        }
        let page = world.a.sessions(&"acme".into(), None, None, 1_000).await.expect("the store answers");
        let held = page.sessions.iter().find(|listed| listed.session == session).expect("it is listed");
        assert_eq!((held.node.as_str(), held.attached), (winner, true), "round {round}");
    }
}

pub async fn however_long_an_attach_takes_one_that_began_later_holds_the_session(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    let slow = resume("s1", "n1");
    let began = stamp(&claim(&world.a, &slow).await);
    let quick = resume("s1", "n2");
    let later = stamp(&attach(&world.b, &quick).await);
    assert!(later > began);
    assert_eq!(hold(&world.a, &slow, began).await, Held::Superseded);
    // Its socket is closed then, which is no drop of the other one.
    drop_socket(&world.a, "n1", "s1", began, now_ms()).await;
    drop_socket(&world.b, "n2", "s1", began, now_ms()).await;
    assert_eq!(previous(&claim(&world.a, &resume("s1", "n1")).await), Some("n2"));
    // The same answer, if it has to be asked for again.
    assert_eq!(hold(&world.b, &quick, later).await, Held::Held { previous_node: Some("n1".into()) });
}

pub async fn an_attach_that_breaks_off_takes_nothing(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let made = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    let begun = stamp(&claim(&world.b, &resume("s1", "n2")).await);
    let page = world.a.sessions(&"acme".into(), None, None, 10).await.expect("the store answers");
    assert_eq!((page.sessions[0].node.as_str(), page.sessions[0].attached), ("n1", true));
    drop_socket(&world.b, "n2", "s1", begun, now_ms()).await;
    assert_eq!(previous(&claim(&world.b, &resume("s1", "n2")).await), Some("n1"));
    // The older one goes on, and its drop is one.
    drop_socket(&world.a, "n1", "s1", made, now_ms()).await;
    assert_eq!(previous(&claim(&world.b, &resume("s1", "n2")).await), None);
}

pub async fn an_attach_whose_hold_had_no_answer_learns_whom_it_took_the_session_from(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let made = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    // The answer to the hold in here is lost.
    let taken = stamp(&attach(&world.b, &resume("s1", "n2")).await);
    let again = [SessionRecord { stamp: taken, ..state("s1") }];
    let expected = [EarlierAttach { session: "s1".into(), node: "n1".into() }];
    // So may be the answer to this.
    for _ in 0..2 {
        let restored = world.b.restore("n2", &again).await.expect("the store answers");
        assert_eq!((restored.refused, &restored.earlier[..]), (vec![], &expected[..]));
    }
    let earlier = [SessionRecord { stamp: made, ..state("s1") }];
    assert_eq!(refused(&world.a, "n1", &earlier).await, [("s1".into(), false)]);
    // It broke off, and the older one goes on in its place.
    drop_socket(&world.b, "n2", "s1", taken, now_ms()).await;
    let back = [SessionRecord { stamp: taken + 1, ..state("s1") }];
    let restored = world.a.restore("n1", &back).await.expect("the store answers");
    assert_eq!(restored, Default::default());
    drop_socket(&world.b, "n2", "s1", taken, now_ms()).await;
    assert_eq!(previous(&claim(&world.b, &resume("s1", "n2")).await), Some("n1"));
    // Nobody is told of one that was dropped already.
    drop_socket(&world.a, "n1", "s1", taken + 1, now_ms()).await;
    let later = SessionRecord { stamp: taken + 2, ..state("s1") };
    let restored = world.b.restore("n2", &[later]).await.expect("the store answers");
    assert_eq!(restored, Default::default());
}

pub async fn later_attaches_of_a_node_do_not_hide_whom_it_took_the_session_from(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let expected = |session: &str| [EarlierAttach { session: session.into(), node: "n1".into() }];
    // All answers but the last one are lost. One session is taken by a hold, the other by writing it again.
    for session in ["s1", "s2"] {
        attach(&world.a, &fresh(session, "n1")).await;
        let first = stamp(&claim(&world.b, &resume(session, "n2")).await);
        let again = |stamp| [SessionRecord { stamp, ..state(session) }];
        if session == "s1" {
            hold(&world.b, &resume(session, "n2"), first).await;
            hold(&world.b, &resume(session, "n2"), first + 2).await;
        } else {
            world.b.restore("n2", &again(first)).await.expect("the store answers");
        }
        let restored = world.b.restore("n2", &again(first + 2)).await.expect("the store answers");
        assert_eq!((restored.refused, &restored.earlier[..]), (vec![], &expected(session)[..]));
    }
}

pub async fn stamps_rise_above_all_that_is_known(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let made = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    let now_us = now_ms() * 1_000;
    assert!((now_us - made).abs() < 60_000_000, "{made} is not the time, {now_us}");
    // What a ticket says may be far ahead of this store's clock.
    let ahead = made + 3_600_000_000;
    let mut after = resume("s1", "n1");
    after.after = ahead;
    let risen = stamp(&attach(&world.a, &after).await);
    assert!(risen > ahead);
    let next = stamp(&claim(&world.b, &resume("s1", "n2")).await);
    assert!(next > risen, "{next} is not above {risen}");
    let last = stamp(&claim(&world.a, &resume("s1", "n1")).await);
    assert!(last > next, "{last} is not above {next}, which broke off");
    let mut new = fresh("s2", "n1");
    new.after = ahead;
    assert!(stamp(&attach(&world.a, &new).await) > ahead);
}

pub async fn an_attach_that_waited_before_the_store_heard_of_it_keeps_its_place(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    // Long before what comes now.
    let mut made = fresh("s1", "n1");
    made.waited = Duration::from_secs(20);
    attach(&world.a, &made).await;
    let later = resume("s1", "n2");
    let of_later = stamp(&attach(&world.b, &later).await);
    // A node that stood still, or a queue.
    let mut earlier = resume("s1", "n1");
    earlier.waited = Duration::from_secs(5);
    let of_earlier = stamp(&claim(&world.a, &earlier).await);
    assert!(of_earlier < of_later, "{of_earlier} is not below {of_later}");
    assert_eq!(hold(&world.a, &earlier, of_earlier).await, Held::Superseded);
    let between = world.a.now_us();
    assert!(between > of_later - 1_000_000 && between < of_later + 30_000_000, "{between}, {of_later}");
}

pub async fn an_end_comes_before_whatever_is_being_attached(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    let resume = resume("s1", "n2");
    let begun = stamp(&claim(&world.b, &resume).await);
    assert!(world.a.end(&"acme".into(), "s1").await.expect("the store answers").is_some());
    assert_eq!(hold(&world.b, &resume, begun).await, Held::Refused);
    let mut foreign = resume.clone();
    foreign.user = "mallory".into();
    assert_eq!(hold(&world.b, &foreign, begun).await, Held::Refused);
}

pub async fn only_the_attach_that_holds_a_session_can_drop_it(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let made = stamp(&attach(&world.a, &fresh("s1", "n1")).await);
    let moved = stamp(&attach(&world.b, &resume("s1", "n2")).await);
    drop_socket(&world.a, "n1", "s1", made, now_ms()).await;
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n2"));
    attach(&world.b, &resume("s1", "n2")).await;
    // The drop of an earlier socket of the same node is late.
    drop_socket(&world.b, "n2", "s1", moved, now_ms()).await;
    assert_eq!(previous(&attach(&world.a, &resume("s1", "n1")).await), Some("n2"));
}

pub async fn names_that_look_like_publications_are_names(world: &World<'_>) {
    for name in ["message", "pmessage", "smessage", "subscribe", "unsubscribe"] {
        beat(&world.a, name).await;
        let mut first = fresh(name, name);
        (first.tenant, first.user) = (name.into(), name.into());
        attach(&world.a, &first).await;
        world.a.update(&[change(name, Change::Joined(name.into()))]).await.expect("the store answers");
        let mut again = resume(name, "n2");
        (again.tenant, again.user) = (name.into(), name.into());
        let attached = attach(&world.b, &again).await;
        assert_eq!(previous(&attached), Some(name));
        let page =
            world.b.sessions(&name.into(), Some(&name.into()), None, 10).await.expect("the store answers");
        assert_eq!(page.sessions.len(), 1);
        assert_eq!(page.sessions[0].session, name);
        drop_socket(&world.b, "n2", name, stamp(&attached), now_ms()).await;
        assert!(world.b.end(&name.into(), name).await.expect("the store answers").is_some());
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
    let ticket =
        |session, issued_at_ms, now_ms| Attach { now_ms, ..with_ticket(session, "n2", issued_at_ms) };
    let rebuilt = attach(&world.b, &ticket("s1", issued_at_ms, born_ms + 1_000)).await;
    assert!(matches!(rebuilt, Attached::Rebuilt { .. }), "{rebuilt:?}");
    // It is there from now on.
    assert_eq!(previous(&attach(&world.b, &resume("s1", "n2")).await), Some("n2"));
    let after = ticket("s2", born_ms + 5_000, born_ms + WINDOW + 5_001);
    assert_eq!(attach(&world.b, &after).await, Attached::Refused);
    let late = ticket("s2", issued_at_ms, born_ms + WINDOW + 5_000);
    assert_eq!(attach(&world.b, &late).await, Attached::Refused);
    let in_time = ticket("s2", issued_at_ms, born_ms + WINDOW - 5_000);
    let rebuilt = attach(&world.b, &in_time).await;
    assert!(matches!(rebuilt, Attached::Rebuilt { .. }), "{rebuilt:?}");
}

pub async fn a_wiped_store_is_restored_and_nothing_newer_is_overwritten(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    for session in ["s1", "s2", "s3"] {
        attach(&world.a, &fresh(session, "n1")).await;
    }
    let states = [state("s1"), state("s2"), state("s3")];
    world.wipe().await;
    beat(&world.a, "n1").await;
    beat(&world.b, "n2").await;
    let mut early = with_ticket("s2", "n2", now_ms() - 5_000);
    early.after = states[1].stamp;
    let rebuilt = attach(&world.b, &early).await;
    assert!(matches!(rebuilt, Attached::Rebuilt { .. }), "{rebuilt:?}");
    assert_eq!(refused(&world.a, "n1", &states).await, [("s2".into(), false)]);
    // Once more does no harm.
    assert_eq!(refused(&world.a, "n1", &states).await, [("s2".into(), false)]);
    let resumed = attach(&world.b, &resume("s1", "n2")).await;
    let expected = Attached::Resumed {
        stamp: stamp(&resumed),
        previous_node: Some("n1".into()),
        conversations: vec!["plans".into()],
        topics: vec!["prices".into()],
        created_at_ms: states[0].created_at_ms,
    };
    assert_eq!(resumed, expected);
    assert_eq!(previous(&attach(&world.b, &resume("s2", "n2")).await), Some("n2"));
    let mut foreign = state("s3");
    foreign.user = "mallory".into();
    assert_eq!(refused(&world.a, "n1", &[foreign]).await, [("s3".into(), false)]);
}

pub async fn of_two_nodes_that_write_a_session_again_the_later_attach_stays(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    for (session, first, second) in [("s1", "n1", "n2"), ("s2", "n2", "n1")] {
        let earlier = state(session);
        let later = SessionRecord { stamp: earlier.stamp + 1, ..earlier.clone() };
        let (of_first, of_second) = if first == "n1" { (&earlier, &later) } else { (&later, &earlier) };
        let restored = world.a.restore("n1", std::slice::from_ref(of_first)).await;
        assert_eq!(restored.expect("the store answers"), Default::default());
        let restored =
            world.b.restore("n2", std::slice::from_ref(of_second)).await.expect("the store answers");
        if second == "n2" {
            // The node of the earlier one may not know.
            assert_eq!(restored.earlier, [EarlierAttach { session: session.into(), node: "n1".into() }]);
            assert_eq!(restored.refused, []);
            assert_eq!(refused(&world.a, "n1", &[earlier]).await, [(session.into(), false)]);
        } else {
            assert_eq!(restored.earlier, []);
            assert_eq!(restored.refused.len(), 1);
        }
        let page = world.a.sessions(&"acme".into(), None, None, 10).await.expect("the store answers");
        let listed = page.sessions.iter().find(|listed| listed.session == session).expect("it is listed");
        assert_eq!(listed.node, second);
    }
    // Stamps of nodes that could not ask anybody may be equal: the nodes' names decide, in whichever order they come.
    let equal = state("s3");
    world.b.restore("n2", std::slice::from_ref(&equal)).await.expect("the store answers");
    assert_eq!(refused(&world.a, "n1", std::slice::from_ref(&equal)).await, [("s3".into(), false)]);
    assert_eq!(refused(&world.b, "n2", &[equal]).await, []);
}

pub async fn thousands_are_restored_and_dropped_at_once(world: &World<'_>) {
    world.a.beat(&record("n1")).await.expect("the store answers");
    let states: Vec<_> = (0..2_500).map(|i| state(&format!("s{i}"))).collect();
    assert_eq!(refused(&world.a, "n1", &states).await, []);
    let ids: Vec<_> = states.iter().map(|state| state.session.clone()).collect();
    let changes: Vec<_> = ids.iter().map(|id| change(id, Change::Joined("more".into()))).collect();
    world.a.update(&changes).await.expect("the store answers");
    let dropped: Vec<_> =
        (states.iter()).map(|state| Dropped { session: state.session.clone(), stamp: state.stamp }).collect();
    world.a.detach("n1", &dropped, now_ms()).await.expect("the store answers");
    for session in ["s0", "s1999", "s2499"] {
        let Attached::Resumed { previous_node, conversations, .. } =
            attach(&world.b, &resume(session, "n2")).await
        else {
            panic!("{session} was not resumed")
        };
        assert_eq!((previous_node, conversations), (None, vec!["more".into(), "plans".into()]));
    }
}

pub async fn hundreds_that_begin_at_once_are_told_apart(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let _b = world.live(&world.b, "n2").await;
    let mut beginning = tokio::task::JoinSet::new();
    for number in 0..300 {
        // Sessions of two nodes, and those of a user are not all alike.
        let node = if number % 3 == 0 { "n2" } else { "n1" };
        let user = format!("user{}", number % 7);
        let first = Attach { user: user.as_str().into(), ..fresh(&format!("s{number}"), node) };
        let store = world.a.clone();
        beginning.spawn(async move { (number, attach(&store, &first).await) });
    }
    let mut stamps = vec![0; 300];
    while let Some(begun) = beginning.join_next().await {
        let (number, begun) = begun.expect("no panic");
        assert!(matches!(begun, Attached::New { .. }), "{begun:?}");
        stamps[number] = stamp(&begun);
    }
    for number in [0, 1, 64, 150, 299] {
        let (session, node) = (format!("s{number}"), if number % 3 == 0 { "n2" } else { "n1" });
        let user = format!("user{}", number % 7);
        let again = Attach { user: user.as_str().into(), ..resume(&session, "n1") };
        let resumed = attach(&world.b, &again).await;
        assert_eq!(previous(&resumed), Some(node), "{session}");
        assert!(stamp(&resumed) > stamps[number], "{session}");
        let stranger = Attach { user: "stranger".into(), ..resume(&session, "n1") };
        assert_eq!(attach(&world.b, &stranger).await, Attached::Refused);
    }
}

pub async fn a_session_whose_client_goes_before_the_answer_is_not_attached(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let mut attached = std::collections::BTreeSet::new();
    for number in 0..50 {
        let (store, first) = (world.a.clone(), fresh(&format!("s{number}"), "n1"));
        let beginning = tokio::spawn(async move { attach(&store, &first).await });
        for _ in 0..number % 5 {
            tokio::task::yield_now().await;
        }
        beginning.abort();
        if beginning.await.is_ok() {
            attached.insert(format!("s{number}"));
        } else {
            // As the hub does, which can't know whether the store has answered.
            drop_socket(&world.a, "n1", &format!("s{number}"), 0, now_ms()).await;
        }
    }
    let patience = Duration::from_secs(60);
    let as_answered = async || {
        let listed = world.b.sessions(&"acme".into(), None, None, 100).await?;
        let listed = listed.sessions.into_iter().filter(|session| session.attached);
        Ok(listed.map(|session| session.session).collect::<std::collections::BTreeSet<_>>() == attached)
    };
    starling_testkit::wait::until_true(patience, "only what was answered is attached", as_answered)
        .await
        .expect("within a minute");
}

/// Restores sessions; answers those that were not, and whether since they were ended.
async fn refused(store: &Arc<dyn SessionStore>, node: &str, states: &[SessionRecord]) -> Vec<(String, bool)> {
    let refused = store.restore(node, states).await.expect("the store answers");
    refused.refused.into_iter().map(|refused| (refused.session, refused.ended)).collect()
}

pub async fn a_conversation_that_was_made_again_is_told_apart(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let of = |id: Option<i64>| JoinedConversation { name: "plans".into(), id: id.map(ConversationId::new) };
    let joined = async || match attach(&world.a, &resume("s1", "n1")).await {
        Attached::Resumed { conversations, .. } => conversations,
        other => panic!("{other:?}"),
    };
    attach(&world.a, &fresh("s1", "n1")).await;
    let steps = [
        (Change::Joined(of(Some(7))), vec![of(Some(7))]),
        (Change::Joined(of(Some(8))), vec![of(Some(8))]),
        // Late, of the older one.
        (Change::Left(of(Some(7))), vec![of(Some(8))]),
        (Change::Left(of(Some(8))), vec![]),
        // As a node of the version before writes it.
        (Change::Joined(of(None)), vec![of(None)]),
        (Change::Left(of(Some(9))), vec![]),
        (Change::Joined(of(Some(9))), vec![of(Some(9))]),
        (Change::Left(of(None)), vec![]),
    ];
    for (step, expected) in steps {
        world.a.update(&[change("s1", step.clone())]).await.expect("the store answers");
        assert_eq!(joined().await, expected, "{step:?}");
    }
    let held = stamp(&attach(&world.a, &resume("s1", "n1")).await);
    let states = [SessionRecord { conversations: vec![of(Some(9))], stamp: held, ..state("s1") }];
    assert_eq!(refused(&world.a, "n1", &states).await, []);
    assert_eq!(joined().await, [of(Some(9))]);
}

use std::collections::BTreeSet;

use starling_model::UserName;
use starling_session_store::{Error, SessionList, SessionSummary};

use crate::world::{WINDOW_MS, World, attach, beat, drop_socket, fresh, now_ms, resume, stamp};

/// Reads all pages.
async fn all(world: &World<'_>, tenant: &str, user: Option<&str>, limit: u32) -> Vec<SessionSummary> {
    let (mut sessions, mut cursor) = (Vec::new(), None);
    for _ in 0..1_000 {
        let page: SessionList = world
            .b
            .sessions(&tenant.into(), user.map(UserName::from).as_ref(), cursor.as_deref(), limit)
            .await
            .expect("the store answers");
        assert!(page.sessions.len() <= limit as usize);
        sessions.extend(page.sessions);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return sessions,
        }
    }
    panic!("the pages do not end");
}

pub async fn pages_hold_every_session_once(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let mut expected = BTreeSet::new();
    let mut stamps = Vec::new();
    for i in 0..25 {
        let session = format!("s{i}");
        let mut first = fresh(&session, "n1");
        first.user = if i % 5 == 0 { "bob".into() } else { "alice".into() };
        stamps.push(stamp(&attach(&world.a, &first).await));
        expected.insert(session);
    }
    for limit in [1, 5, 7, 25, 100] {
        let sessions = all(world, "acme", None, limit).await;
        assert_eq!(sessions.len(), 25, "limit {limit}");
        let names: BTreeSet<_> = sessions.iter().map(|listed| listed.session.clone()).collect();
        assert_eq!(names, expected, "limit {limit}");
        assert!(sessions.iter().all(|listed| listed.attached && listed.node == "n1"));
    }
    let of_bob = all(world, "acme", Some("bob"), 2).await;
    assert_eq!(of_bob.len(), 5);
    assert!(of_bob.iter().all(|listed| listed.user == "bob"));
    assert_eq!(all(world, "acme", Some("nobody"), 10).await, []);

    // One within its window, one past it, one ended.
    drop_socket(&world.a, "n1", "s1", stamps[1], now_ms()).await;
    drop_socket(&world.a, "n1", "s2", stamps[2], now_ms() - WINDOW_MS as i64 - 1_000).await;
    world.a.end(&"acme".into(), "s3").await.expect("the store answers");
    let left = all(world, "acme", Some("alice"), 3).await;
    let names: BTreeSet<_> = left.iter().map(|listed| listed.session.as_str()).collect();
    assert_eq!(left.len(), 18);
    assert!(names.contains("s1") && !names.contains("s2") && !names.contains("s3"));
    let detached: Vec<_> =
        left.iter().filter(|listed| !listed.attached).map(|listed| listed.session.as_str()).collect();
    assert_eq!(detached, ["s1"]);
    assert!(left.iter().all(|listed| listed.attached == listed.dropped_at_ms.is_none()));
}

pub async fn sessions_of_dead_nodes_are_listed_as_not_attached(world: &World<'_>) {
    let _b = world.live(&world.b, "n2").await;
    beat(&world.a, "n1").await;
    let first = fresh("s1", "n1");
    attach(&world.a, &first).await;
    attach(&world.b, &fresh("s2", "n2")).await;
    world.wait_for_death(&world.b, "n1").await;
    let mut sessions = all(world, "acme", None, 10).await;
    sessions.sort_by(|a, b| a.session.cmp(&b.session));
    let dropped_at_ms = sessions[0].dropped_at_ms;
    assert!(dropped_at_ms.is_some_and(|at| at >= first.now_ms), "{dropped_at_ms:?}");
    let expected = SessionSummary {
        session: "s1".into(),
        user: "alice".into(),
        node: "n1".into(),
        attached: false,
        dropped_at_ms,
        created_at_ms: first.now_ms,
    };
    assert_eq!(sessions[0], expected);
    assert!(sessions[1].attached);
    attach(&world.b, &resume("s1", "n2")).await;
    assert!(all(world, "acme", None, 10).await.iter().all(|listed| listed.attached && listed.node == "n2"));
}

pub async fn a_tenant_sees_its_own(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    for (session, tenant, user) in [
        ("s1", "acme", "alice"),
        ("s2", "other", "alice"),
        ("s3", "acme:alice", "bob"),
        ("s4", "acme", "alice:bob"),
    ] {
        let mut first = fresh(session, "n1");
        (first.tenant, first.user) = (tenant.into(), user.into());
        attach(&world.a, &first).await;
    }
    let names = |listed: Vec<SessionSummary>| -> BTreeSet<String> {
        listed.into_iter().map(|listed| listed.session).collect()
    };
    assert_eq!(names(all(world, "acme", None, 10).await), BTreeSet::from(["s1".into(), "s4".into()]));
    assert_eq!(names(all(world, "acme", Some("alice"), 10).await), BTreeSet::from(["s1".into()]));
    assert_eq!(names(all(world, "other", Some("alice"), 10).await), BTreeSet::from(["s2".into()]));
    assert_eq!(names(all(world, "acme:alice", Some("bob"), 10).await), BTreeSet::from(["s3".into()]));
    assert_eq!(names(all(world, "nobody", None, 10).await), BTreeSet::new());
}

pub async fn a_cursor_names_no_session_of_another_tenant(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    // Foreign sessions stand before, between and after a tenant's own, in every order that a store may keep.
    for i in 0..30 {
        let mut first = fresh(&format!("{}-{i:02}", ["own", "foreign", "third"][i % 3]), "n1");
        first.tenant = ["acme", "other", "third"][i % 3].into();
        attach(&world.a, &first).await;
    }
    // Those that are not listed any more stand in nobody else's cursor either.
    world.a.end(&"other".into(), "foreign-04").await.expect("the store answers");
    for (tenant, user, own) in
        [("acme", None, "own"), ("acme", Some("alice"), "own"), ("other", None, "foreign")]
    {
        for limit in [1, 3, 7] {
            let mut cursor: Option<String> = None;
            let mut listed = 0;
            loop {
                let page = world
                    .b
                    .sessions(&tenant.into(), user.map(UserName::from).as_ref(), cursor.as_deref(), limit)
                    .await
                    .expect("the store answers");
                listed += page.sessions.len();
                assert!(page.sessions.iter().all(|session| session.session.starts_with(own)), "{page:?}");
                let Some(next) = page.next else { break };
                for other in ["own", "foreign", "third"].into_iter().filter(|other| *other != own) {
                    assert!(!next.contains(other), "{next}");
                }
                cursor = Some(next);
            }
            assert_eq!(listed, if tenant == "acme" { 10 } else { 9 }, "{tenant}, {limit}");
        }
    }
}

pub async fn a_session_that_is_somebody_elses_now_is_listed_under_them_alone(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    let mut session = fresh("s1", "n1");
    attach(&world.a, &session).await;
    session.user = "bob".into();
    attach(&world.a, &session).await;
    assert_eq!(all(world, "acme", Some("alice"), 10).await, []);
    for user in [Some("bob"), None] {
        let listed = all(world, "acme", user, 10).await;
        assert_eq!(listed.len(), 1, "{user:?}");
        assert_eq!((&*listed[0].session, &*listed[0].user), ("s1", "bob"));
    }
}

pub async fn a_cursor_that_no_page_gave_is_refused(world: &World<'_>) {
    let _a = world.live(&world.a, "n1").await;
    attach(&world.a, &fresh("s1", "n1")).await;
    for user in [None, Some("alice")] {
        let page =
            world.b.sessions(&"acme".into(), user.map(UserName::from).as_ref(), Some("nonsense"), 10).await;
        assert!(matches!(page, Err(Error::Cursor)), "{page:?}");
    }
}

//! Which token allows what, and that tenants see nothing of one another.

use serde_json::{Value, json};

use crate::place::{everywhere, json_of, refused};

#[test]
fn a_token_covers_the_queues_that_its_scope_names() {
    everywhere(async |place| {
        let all = place.caller();
        let (mail, import) = (all.add("mail", json!({})).await, all.add("import-1", json!({})).await);
        let one = place.caller_with(0, "jobs:import-*");
        let body = |queue: &str| json!({"queue": queue, "payload": 1});
        refused(&one.post("/v1/jobs", &body("mail")).await, 403, "forbidden");
        json_of(&one.post("/v1/jobs", &body("import-2")).await, 201);
        refused(&one.post("/v1/queues/mail/take", &json!({})).await, 403, "forbidden");
        refused(&one.get("/v1/jobs?queue=mail").await, 403, "forbidden");
        refused(&one.get(&format!("/v1/jobs/{mail}")).await, 403, "forbidden");
        for action in ["done", "fail", "extend", "retry", "cancel", "discard"] {
            let body = json!({"lease": "1", "error": "no", "seconds": 30});
            refused(&one.post(&format!("/v1/jobs/{mail}/{action}"), &body).await, 403, "forbidden");
        }
        for action in ["retry", "cancel", "discard"] {
            let body = json!({"queue": "mail", "state": if action == "retry" { "failed" } else { "ready" }});
            refused(&one.post(&format!("/v1/jobs/{action}"), &body).await, 403, "forbidden");
        }
        refused(&one.post("/v1/queues/mail/pause", &json!({})).await, 403, "forbidden");
        assert_eq!(one.list("").await.last(), Some(&import), "lists show what the scope covers");
        assert_eq!(one.list("").await.len(), 2);
        let queues = json_of(&one.get("/v1/queues").await, 200);
        assert_eq!(
            (&queues["queues"][0]["queue"], queues["queues"].as_array().unwrap().len()),
            (&json!("import-1"), 2)
        );
        assert_eq!(one.post("/v1/queues/import-1/pause", &json!({})).await.status, 204);
    });
}

#[test]
fn operate_alone_sees_pauses_and_resumes_queues() {
    everywhere(async |place| {
        let id = place.caller().add("mail", json!({})).await;
        let operator = place.caller_with(0, "operate");
        assert!(operator.queue_names().await.contains(&"mail".into()));
        assert_eq!(operator.post("/v1/queues/mail/pause", &json!({})).await.status, 204);
        assert_eq!(operator.post("/v1/queues/mail/resume", &json!({})).await.status, 204);
        refused(&operator.get(&format!("/v1/jobs/{id}")).await, 403, "forbidden");
        refused(&operator.get("/v1/jobs").await, 403, "forbidden");
        refused(&operator.post("/v1/queues/mail/take", &json!({})).await, 403, "forbidden");
        let user = place.caller_with(0, "conversations:create publish:*");
        refused(&user.get("/v1/queues").await, 403, "forbidden");
        refused(&user.post("/v1/queues/mail/pause", &json!({})).await, 403, "forbidden");
        let admin = place.caller_with(0, "admin");
        assert_eq!(admin.job(&id).await["state"], "ready", "admin is for everything in its tenant");
    });
}

#[test]
fn the_queues_of_starling_itself_are_not_for_users() {
    everywhere(async |place| {
        let all = place.caller_with(0, "admin operate");
        let body = json!({"queue": "starling.x", "payload": 1});
        let why = refused(&all.post("/v1/jobs", &body).await, 403, "forbidden");
        assert!(why.contains("`starling.`"), "{why}");
        refused(&all.post("/v1/queues/starling.x/take", &json!({})).await, 403, "forbidden");
        refused(&all.get("/v1/jobs?queue=starling.x").await, 403, "forbidden");
        for action in ["retry", "cancel", "discard"] {
            let body =
                json!({"queue": "starling.x", "state": if action == "retry" { "failed" } else { "ready" }});
            refused(&all.post(&format!("/v1/jobs/{action}"), &body).await, 403, "forbidden");
        }
        refused(&place.caller().post("/v1/queues/starling.x/pause", &json!({})).await, 403, "forbidden");
        assert_eq!(all.post("/v1/queues/starling.x/pause", &json!({})).await.status, 204, "an operator may");
        assert!(all.queue_names().await.contains(&"starling.x".into()));
        let without_operate = place.caller().queue_names().await;
        assert!(without_operate.is_empty(), "{without_operate:?}");
        json_of(&all.post("/v1/jobs", &json!({"queue": "starlings", "payload": 1})).await, 201);
    });
}

#[test]
fn tenants_see_nothing_of_one_another() {
    everywhere(async |place| {
        let (ada, stranger) = (place.caller(), place.stranger());
        let id = ada.add("mail", json!({"key": "k"})).await;
        refused(&stranger.get(&format!("/v1/jobs/{id}")).await, 404, "not_found");
        refused(&stranger.post(&format!("/v1/jobs/{id}/cancel"), &json!({})).await, 404, "not_found");
        refused(
            &stranger.post(&format!("/v1/jobs/{id}/done"), &json!({"lease": "1"})).await,
            404,
            "not_found",
        );
        assert!(stranger.take("mail", json!({"wait_seconds": 1})).await.is_empty());
        assert!(stranger.list("").await.is_empty());
        assert_eq!(
            json_of(&stranger.get("/v1/queues").await, 200),
            json!({"queues": [], "next": Value::Null})
        );
        let cancelled = stranger.post("/v1/jobs/cancel", &json!({"queue": "mail", "state": "ready"})).await;
        assert_eq!(json_of(&cancelled, 200)["count"], 0);
        assert_eq!(stranger.post("/v1/queues/mail/pause", &json!({})).await.status, 204);
        stranger.add("mail", json!({"key": "k"})).await;
        assert_eq!(ada.take_one("mail").await["job"], json!(id), "another tenant's pause changes nothing");
    });
}

//! Looking at jobs and acting on them.

use serde_json::{Value, json};
use starling_testkit::wait;

use crate::place::{Caller, SOON, everywhere, json_of, refused};

async fn act(caller: &Caller, id: &str, action: &str) -> (u16, Value) {
    let answer = caller.post(&format!("/v1/jobs/{id}/{action}"), &json!({})).await;
    (answer.status, answer.json().unwrap())
}

async fn fail(caller: &Caller, queue: &str) {
    let taken = caller.take_one(queue).await;
    json_of(&caller.report(&taken, "fail", json!({"error": "no", "retry": false})).await, 200);
}

#[test]
fn jobs_are_listed_newest_first_by_queue_state_and_kind() {
    everywhere(async |place| {
        let ada = place.caller();
        let mut added = Vec::new();
        for number in 0..5 {
            added.insert(0, ada.add("mail", json!({"kind": format!("kind-{}", number % 2)})).await);
        }
        let other = ada.add("other", json!({"delay_seconds": 60})).await;
        assert_eq!(ada.list("limit=2").await, [std::slice::from_ref(&other), &added[..]].concat());
        assert_eq!(ada.list("queue=mail&limit=2").await, added);
        assert_eq!(ada.list("queue=mail&limit=5").await, added);
        assert_eq!(ada.list("queue=mail&kind=kind-1").await, [added[1].clone(), added[3].clone()]);
        assert_eq!(ada.list("state=scheduled").await, std::slice::from_ref(&other));
        ada.take_one("mail").await;
        assert_eq!(ada.list("state=running").await, added[4..]);
        assert_eq!(ada.list("state=ready").await, added[..4]);
        for query in ["state=lost", "queue=a%20b", "kind=..", "limit=0", "cursor=eA"] {
            refused(&ada.get(&format!("/v1/jobs?{query}")).await, 400, "bad_request");
        }
    });
}

#[test]
fn a_page_of_large_jobs_ends_early() {
    everywhere(async |place| {
        let ada = place.caller();
        let mut added = Vec::new();
        for _ in 0..6 {
            added.insert(0, ada.add("mail", json!({"payload": "x".repeat(250 << 10)})).await);
        }
        let page = json_of(&ada.get("/v1/jobs").await, 200);
        assert_eq!(page["jobs"].as_array().unwrap().len(), 4);
        assert_eq!(ada.list("").await, added);
    });
}

#[test]
fn a_job_is_cancelled_before_it_has_ended_and_its_worker_loses_it() {
    everywhere(async |place| {
        let ada = place.caller();
        let running = ada.add("mail", json!({})).await;
        let taken = ada.take_one("mail").await;
        let ready = ada.add("mail", json!({})).await;
        let scheduled = ada.add("mail", json!({"delay_seconds": 60})).await;
        for id in [&running, &ready, &scheduled] {
            assert_eq!(act(&ada, id, "cancel").await, (200, json!({"state": "cancelled"})));
            assert_eq!(act(&ada, id, "cancel").await.0, 409);
        }
        refused(&ada.report(&taken, "extend", json!({"seconds": 30})).await, 409, "conflict");
        refused(&ada.report(&taken, "done", json!({})).await, 409, "conflict");
        assert_eq!(ada.job(&running).await["attempts"][0]["outcome"], "cancelled");
        assert!(ada.take("mail", json!({})).await.is_empty());
    });
}

#[test]
fn a_failed_or_cancelled_job_is_retried_with_all_its_attempts() {
    everywhere(async |place| {
        let ada = place.caller();
        let id = ada.add("mail", json!({"attempts": 1, "key": "k"})).await;
        assert_eq!(act(&ada, &id, "retry").await.0, 409, "it is ready");
        fail(&ada, "mail").await;
        assert_eq!(act(&ada, &id, "retry").await, (200, json!({"state": "ready"})));
        let taken = ada.take_one("mail").await;
        assert_eq!((&taken["job"], &taken["attempt"]), (&json!(id), &json!(1)));
        assert_eq!(act(&ada, &id, "retry").await.0, 409, "it is running");
        act(&ada, &id, "cancel").await;
        // Another job has the key by now.
        let other = ada.add("mail", json!({"key": "k"})).await;
        assert_eq!(act(&ada, &id, "retry").await.1["error"]["code"], "conflict");
        json_of(&ada.report(&ada.take_one("mail").await, "done", json!({})).await, 200);
        assert_eq!(act(&ada, &other, "retry").await.0, 409, "it is done");
        assert_eq!(act(&ada, &id, "retry").await.0, 200);
    });
}

#[test]
fn a_job_that_does_not_run_is_discarded() {
    everywhere(async |place| {
        let ada = place.caller();
        let running = ada.add("mail", json!({})).await;
        let taken = ada.take_one("mail").await;
        assert_eq!(act(&ada, &running, "discard").await.0, 409);
        json_of(&ada.report(&taken, "done", json!({})).await, 200);
        let scheduled = ada.add("mail", json!({"delay_seconds": 60})).await;
        let ready = ada.add("mail", json!({})).await;
        for (id, state) in [(&running, "done"), (&ready, "ready"), (&scheduled, "scheduled")] {
            assert_eq!(act(&ada, id, "discard").await, (200, json!({"state": state})));
            refused(&ada.get(&format!("/v1/jobs/{id}")).await, 404, "not_found");
            assert_eq!(act(&ada, id, "discard").await.0, 404);
        }
        assert!(ada.take("mail", json!({})).await.is_empty());
    });
}

#[test]
fn all_jobs_that_match_are_acted_on() {
    everywhere(async |place| {
        let ada = place.caller();
        for number in 0..12 {
            ada.add("mail", json!({"kind": if number < 8 { "a" } else { "b" }})).await;
        }
        ada.add("other", json!({"kind": "a"})).await;
        let act = async |action: &str, body: Value| {
            json_of(&ada.post(&format!("/v1/jobs/{action}"), &body).await, 200)["count"].clone()
        };
        assert_eq!(act("cancel", json!({"queue": "mail", "state": "ready", "kind": "a"})).await, 8);
        assert_eq!(act("cancel", json!({"queue": "mail", "state": "ready", "kind": "a"})).await, 0);
        assert_eq!(act("retry", json!({"queue": "mail", "state": "cancelled"})).await, 8);
        assert_eq!(act("discard", json!({"queue": "mail", "state": "ready"})).await, 12);
        assert_eq!(ada.list("").await.len(), 1, "the other queue is as it was");
        for (action, body) in [
            ("retry", json!({"queue": "mail", "state": "done"})),
            ("cancel", json!({"queue": "mail", "state": "failed"})),
            ("discard", json!({"queue": "mail", "state": "running"})),
            ("retry", json!({"queue": "mail"})),
            ("retry", json!({"state": "failed"})),
            ("retry", json!({"queue": "mail", "state": "lost"})),
        ] {
            refused(&ada.post(&format!("/v1/jobs/{action}"), &body).await, 400, "bad_request");
        }
    });
}

#[test]
fn jobs_that_match_are_counted() {
    everywhere(async |place| {
        let ada = place.caller();
        for number in 0..7 {
            ada.add("mail", json!({"kind": if number < 4 { "a" } else { "b" }})).await;
        }
        ada.add("other", json!({"delay_seconds": 60})).await;
        let one = place.caller_with(1, "jobs:other");
        let count = async |caller: &Caller, query: &str| {
            let counted = json_of(&caller.get(&format!("/v1/jobs/count?{query}")).await, 200);
            assert_eq!(counted["more"], false, "{counted}");
            counted["count"].clone()
        };
        for (query, expected) in [
            ("", 8),
            ("queue=mail", 7),
            ("queue=mail&state=ready", 7),
            ("queue=mail&state=failed", 0),
            ("queue=mail&state=ready&kind=a", 4),
            ("kind=b", 3),
            ("state=scheduled", 1),
            ("queue=none", 0),
        ] {
            assert_eq!(count(&ada, query).await, expected, "{query}");
        }
        assert_eq!(count(&one, "").await, 1, "what the token covers");
        assert_eq!(count(&place.stranger(), "").await, 0);
        refused(&one.get("/v1/jobs/count?queue=mail").await, 403, "forbidden");
        refused(&place.caller_with(0, "operate").get("/v1/jobs/count").await, 403, "forbidden");
        for query in ["state=lost", "queue=a%20b", "kind=.."] {
            refused(&ada.get(&format!("/v1/jobs/count?{query}")).await, 400, "bad_request");
        }
    });
}

#[test]
fn a_brief_list_leaves_out_payloads_results_and_older_attempts() {
    everywhere(async |place| {
        let ada = place.caller();
        let id = ada.add("mail", json!({"payload": "x".repeat(250 << 10), "backoff_seconds": 0})).await;
        for error in ["first", "second"] {
            let taken = ada.take_one("mail").await;
            json_of(&ada.report(&taken, "fail", json!({"error": error})).await, 200);
        }
        let taken = ada.take_one("mail").await;
        json_of(&ada.report(&taken, "done", json!({"result": [1]})).await, 200);
        let whole = ada.job(&id).await;
        assert_eq!((&whole["attempts_max"], &whole["backoff_seconds"]), (&json!(3), &json!(0.0)));
        assert_eq!(whole["attempts"].as_array().unwrap().len(), 3, "{whole}");
        assert!(whole["created_at"].is_string() && whole["ended_at"].is_string());
        for _ in 0..5 {
            ada.add("mail", json!({"payload": "x".repeat(250 << 10)})).await;
        }
        let page = json_of(&ada.get("/v1/jobs?brief=true").await, 200);
        let jobs = page["jobs"].as_array().unwrap();
        assert_eq!((jobs.len(), &page["next"]), (6, &Value::Null), "it does not end early");
        let mut expected = whole;
        let fields = expected.as_object_mut().unwrap();
        fields.remove("payload");
        fields.remove("result");
        fields["attempts"].as_array_mut().unwrap().drain(..2);
        assert_eq!(jobs[5], expected);
        let query = "queue=mail&brief=true&limit=4";
        assert_eq!(ada.list(query).await.len(), 6);
        refused(&ada.get("/v1/jobs?brief=perhaps").await, 400, "bad_request");
    });
}

#[test]
fn queues_are_shown_with_their_numbers() {
    everywhere(async |place| {
        let ada = place.caller();
        ada.add("mail", json!({})).await;
        fail(&ada, "mail").await;
        for _ in 0..3 {
            ada.add("mail", json!({})).await;
        }
        ada.add("mail", json!({"delay_seconds": 60})).await;
        let taken = ada.take("mail", json!({"max": 2})).await;
        json_of(&ada.report(&taken[0], "done", json!({})).await, 200);
        assert_eq!(ada.post("/v1/queues/paused/pause", &json!({})).await.status, 204);
        let other = place.other_caller();
        let mut list = json_of(&other.get("/v1/queues").await, 200);
        let oldest = list["queues"][0]["oldest_ready_seconds"].take();
        assert!(oldest.as_f64().is_some_and(|oldest| oldest >= 0.0), "{oldest}");
        // One job in a minute.
        assert_eq!(list["queues"][0]["done_per_second"].take(), 0.017);
        list["queues"][1]["done_per_second"].take();
        let queue = |name: &str, paused: bool, numbers: [u32; 5]| {
            json!({
                "queue": name, "paused": paused, "scheduled": numbers[0], "ready": numbers[1], "running": numbers[2],
                "done": numbers[3], "failed": numbers[4], "cancelled": 0, "done_per_second": null, "oldest_ready_seconds": null,
                "limits": null,
            })
        };
        assert_eq!(
            list,
            json!({"queues": [queue("mail", false, [1, 1, 1, 1, 1]), queue("paused", true, [0; 5])], "next": null})
        );
        let first = json_of(&ada.get("/v1/queues?limit=1").await, 200);
        let second = json_of(
            &ada.get(&format!("/v1/queues?limit=1&cursor={}", first["next"].as_str().unwrap())).await,
            200,
        );
        assert_eq!((&second["queues"][0]["queue"], &second["next"]), (&json!("paused"), &Value::Null));
    });
}

#[test]
fn the_newest_jobs_that_ended_are_kept() {
    everywhere(async |place| {
        let ada = place.caller();
        let mut taken = Vec::new();
        for _ in 0..105 {
            ada.add("mail", json!({})).await;
        }
        taken.extend(ada.take("mail", json!({"max": 100})).await);
        taken.extend(ada.take("mail", json!({"max": 100})).await);
        for job in &taken {
            json_of(&ada.report(job, "done", json!({})).await, 200);
        }
        wait::until_true(SOON, "old jobs to be removed", async || {
            Ok(ada.list("state=done&limit=200").await.len() == 100)
        })
        .await
        .unwrap();
        let last = taken.last().unwrap()["job"].as_str().unwrap();
        assert_eq!(ada.job(last).await["state"], "done");
    });
}

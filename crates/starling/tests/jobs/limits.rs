//! Limits of queues, on real nodes. They hold for all tenants, so each scenario has queues of its own.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use starling_testkit::http::Response;

use crate::place::{Caller, everywhere, json_of, refused};

async fn put(operator: &Caller, queue: &str, limits: &Value) -> Response {
    operator.request("PUT", &format!("/v1/queues/{queue}/limits")).json(limits).send().await.unwrap()
}

async fn delete(operator: &Caller, queue: &str) -> u16 {
    operator.request("DELETE", &format!("/v1/queues/{queue}/limits")).send().await.unwrap().status
}

#[test]
fn a_limit_holds_over_all_nodes_and_an_end_wakes_who_waits_at_another() {
    everywhere(async |place| {
        let (ada, other, operator) = (place.caller(), place.other_caller(), place.caller_with(0, "operate"));
        json_of(&put(&operator, "limited-places", &json!({"total": {"concurrency": 2}})).await, 200);
        for _ in 0..5 {
            ada.add("limited-places", json!({})).await;
        }
        let mut taken = ada.take("limited-places", json!({"max": 5})).await;
        assert_eq!(taken.len(), 2);
        assert!(other.take("limited-places", json!({"max": 5, "wait_seconds": 1})).await.is_empty());
        let waiting = async { other.take("limited-places", json!({"max": 5, "wait_seconds": 30})).await };
        let ending = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            json_of(&ada.report(&taken[0], "done", json!({})).await, 200);
        };
        let (next, ()) = tokio::join!(waiting, ending);
        assert_eq!(next.len(), 1, "one place is free");
        taken.remove(0);
        let queues = json_of(&ada.get("/v1/queues").await, 200);
        let shown = &queues["queues"][0];
        assert_eq!((&shown["running"], &shown["ready"]), (&json!(2), &json!(2)), "{shown}");
        assert_eq!(shown["limits"]["total"], json!({"concurrency": 2, "per_second": null, "burst": null}));
        // Without limits the others begin.
        assert_eq!(delete(&operator, "limited-places").await, 204);
        assert_eq!(ada.take("limited-places", json!({"max": 5})).await.len(), 2);
    });
}

#[test]
fn a_key_has_its_places_and_others_go_on() {
    everywhere(async |place| {
        let (ada, other, operator) = (place.caller(), place.other_caller(), place.caller_with(1, "operate"));
        json_of(&put(&operator, "limited-keys", &json!({"per_key": {"concurrency": 1}})).await, 200);
        let mut added = Vec::new();
        for key in ["a", "a", "b", "a"] {
            added.push(ada.add("limited-keys", json!({"concurrency_key": key})).await);
        }
        assert_eq!(ada.job(&added[0]).await["concurrency_key"], "a");
        let first = ada.take("limited-keys", json!({"max": 5})).await;
        let ids: Vec<&Value> = first.iter().map(|job| &job["job"]).collect();
        assert_eq!(ids, [&json!(added[0]), &json!(added[2])]);
        assert_eq!(ada.list("state=ready").await.len(), 2);
        json_of(&ada.report(&first[0], "fail", json!({"error": "no", "retry": false})).await, 200);
        let second = other.take_one("limited-keys").await;
        assert_eq!(second["job"], json!(added[1]));
        // Whoever cancels a job frees its place.
        assert_eq!(ada.post(&format!("/v1/jobs/{}/cancel", added[1]), &json!({})).await.status, 200);
        assert_eq!(other.take_one("limited-keys").await["job"], json!(added[3]));
        assert_eq!(delete(&operator, "limited-keys").await, 204);
    });
}

#[test]
fn a_worker_that_waits_gets_the_next_job_when_the_rate_allows_it() {
    everywhere(async |place| {
        let (ada, operator) = (place.caller(), place.caller_with(0, "operate"));
        let limits = json!({"per_tenant": {"per_second": 4, "burst": 1}});
        json_of(&put(&operator, "limited-rate", &limits).await, 200);
        for _ in 0..4 {
            ada.add("limited-rate", json!({})).await;
        }
        let since = Instant::now();
        for _ in 0..4 {
            assert_eq!(ada.take("limited-rate", json!({"max": 4, "wait_seconds": 30})).await.len(), 1);
        }
        assert!(since.elapsed() >= Duration::from_millis(740), "{:?}", since.elapsed());
        assert_eq!(delete(&operator, "limited-rate").await, 204);
    });
}

#[test]
fn limits_are_for_operators_and_wrong_ones_are_refused() {
    everywhere(async |place| {
        let (ada, operator) = (place.caller(), place.caller_with(0, "operate"));
        let limits = json!({"total": {"concurrency": 1}});
        refused(&put(&ada, "limited-by", &limits).await, 403, "forbidden");
        refused(&put(&place.caller_with(0, "admin"), "limited-by", &limits).await, 403, "forbidden");
        refused(&ada.get("/v1/queues/limited-by/limits").await, 403, "forbidden");
        assert_eq!(delete(&ada, "limited-by").await, 403);
        refused(&operator.get("/v1/queues/limited-by/limits").await, 404, "not_found");
        assert_eq!(delete(&operator, "limited-by").await, 404);
        for wrong in [
            json!({}),
            json!({"total": null}),
            json!({"total": {}}),
            json!({"total": 5}),
            json!({"total": {"concurrency": 0}}),
            json!({"per_key": {"burst": 5}}),
            json!({"per_key": {"per_second": 100_000}}),
        ] {
            refused(&put(&operator, "limited-by", &wrong).await, 400, "bad_request");
        }
        refused(&put(&operator, "a%20b", &limits).await, 400, "bad_request");
        let shown =
            json_of(&put(&operator, "limited-by", &json!({"per_key": {"per_second": 0.5}})).await, 200);
        assert_eq!(shown["per_key"], json!({"concurrency": null, "per_second": 0.5, "burst": 1}));
        assert_eq!(json_of(&operator.get("/v1/queues/limited-by/limits").await, 200), shown);
        let queues = json_of(&operator.get("/v1/queues").await, 200);
        let listed = queues["queues"].as_array().unwrap().iter().find(|queue| queue["queue"] == "limited-by");
        assert_eq!(listed.expect("it has limits")["limits"], shown);
        assert_eq!(json_of(&ada.get("/v1/queues").await, 200)["queues"], json!([]), "it has no jobs");
        let long = json!({"queue": "limited-by", "payload": 1, "concurrency_key": "k".repeat(201)});
        refused(&ada.post("/v1/jobs", &long).await, 400, "bad_request");
        assert_eq!(delete(&operator, "limited-by").await, 204);
    });
}

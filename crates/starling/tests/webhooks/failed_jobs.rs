//! Jobs that have failed for good, as backends are told of them.

use serde_json::{Value, json};
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::wait::until_true;

use crate::place::{Caller, Place, SOON, everywhere, json_of, refused};

/// Adds a webhook that wants failed jobs.
async fn told(place: &Place) -> Backend {
    let backend = Backend::answering(Answer::Status(204)).await.unwrap();
    let body = json!({"url": backend.url("/"), "events": ["job.failed"]});
    json_of(&place.application(0).post("/v1/webhooks", &body).await, 201);
    backend
}

/// Adds a job that is tried once, and returns its id.
async fn add(caller: &Caller, queue: &str, payload: Value) -> String {
    let job = json!({"queue": queue, "kind": "welcome", "payload": payload, "attempts": 1});
    json_of(&caller.post("/v1/jobs", &job).await, 201)["job"].as_str().unwrap().to_owned()
}

/// Takes the only job of a queue.
async fn take(caller: &Caller, queue: &str, seconds: u32) -> Value {
    let body = json!({"wait_seconds": 30, "lease_seconds": seconds});
    let taken = json_of(&caller.post(&format!("/v1/queues/{queue}/take"), &body).await, 200);
    taken["jobs"][0].clone()
}

#[test]
fn a_job_whose_attempts_are_used_up_is_told_as_it_is_shown() {
    everywhere(async |place| {
        let backend = told(place).await;
        // The node that was called had told the database before it answered, so any node will do.
        let (worker, stranger) = (place.caller(1, "worker", "jobs:*"), place.stranger("worker", "jobs:*"));
        for caller in [&worker, &stranger] {
            add(caller, "mail", json!({"to": "ada"})).await;
            let taken = take(caller, "mail", 60).await;
            let path = format!("/v1/jobs/{}/fail", taken["job"].as_str().unwrap());
            json_of(
                &caller.post(&path, &json!({"lease": taken["lease"], "error": "no such address"})).await,
                200,
            );
        }
        let large = add(&worker, "mail", json!("x".repeat(100_000))).await;
        let taken = take(&worker, "mail", 60).await;
        let path = format!("/v1/jobs/{large}/fail");
        json_of(&worker.post(&path, &json!({"lease": taken["lease"], "error": "too large"})).await, 200);

        let requests = backend.wait_for(SOON, 2).await.unwrap();
        for request in &requests {
            let data = &request.body["data"];
            let mut shown =
                json_of(&worker.get(&format!("/v1/jobs/{}", data["job"].as_str().unwrap())).await, 200);
            if data["job"] == large.as_str() {
                shown.as_object_mut().unwrap().remove("payload");
            }
            assert_eq!(*data, shown);
            assert_eq!(
                (&request.body["type"], &request.body["tenant"]),
                (&json!("job.failed"), &json!(place.tenant()))
            );
        }
        assert_eq!(requests.len(), 2, "nothing of the stranger, and each once");
    });
}

#[test]
fn a_job_whose_worker_was_lost_is_told_and_a_late_report_is_not() {
    everywhere(async |place| {
        let backend = told(place).await;
        let worker = place.caller(0, "worker", "jobs:*");
        let job = add(&worker, "mail", json!(1)).await;
        let taken = take(&worker, "mail", 5).await;
        // It says nothing until its lease is over.
        let request = backend.wait_for(SOON, 1).await.unwrap().remove(0);
        assert_eq!(request.body["data"]["job"], job.as_str());
        assert_eq!(request.body["data"]["attempts"][0]["outcome"], "lost");
        let path = format!("/v1/jobs/{job}/fail");
        let late = worker.post(&path, &json!({"lease": taken["lease"], "error": "late"})).await;
        refused(&late, 409, "conflict");
        // One that is tried again and fails again is another event.
        assert_eq!(worker.post(&format!("/v1/jobs/{job}/retry"), &json!({})).await.status, 200);
        let taken = take(&worker, "mail", 60).await;
        json_of(&worker.post(&path, &json!({"lease": taken["lease"], "error": "again"})).await, 200);
        let is_told = async || Ok(backend.requests().len() == 2);
        until_true(SOON, "the second failure", is_told).await.unwrap();
        let ids: Vec<String> = backend.requests().iter().map(|request| request.signed[0].clone()).collect();
        assert_ne!(ids[0], ids[1]);
    });
}

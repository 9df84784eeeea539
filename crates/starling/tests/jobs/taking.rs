//! Taking jobs, and waiting for them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::place::{SOON, everywhere, refused};

fn ids(jobs: &[Value]) -> Vec<&str> {
    jobs.iter().map(|job| job["job"].as_str().unwrap()).collect()
}

#[test]
fn jobs_are_taken_by_priority_and_then_in_order() {
    everywhere(async |place| {
        let ada = place.caller();
        let mut wanted = Vec::new();
        for priority in [9, 5, 0] {
            wanted.push([
                ada.add("mail", json!({"priority": priority})).await,
                ada.add("mail", json!({"priority": priority})).await,
            ]);
        }
        let taken = place.other_caller().take("mail", json!({"max": 100, "worker": "w-1"})).await;
        assert_eq!(ids(&taken), wanted.concat());
        let first = &taken[0];
        assert_eq!((&first["kind"], &first["attempt"]), (&json!("default"), &json!(1)));
        assert_eq!(first["payload"], json!({"n": 1}));
        assert!(first["deadline"].as_str().unwrap().ends_with('Z'), "{first}");
        let job = ada.job(&wanted[0][0]).await;
        assert_eq!((&job["state"], &job["attempts"][0]["worker"]), (&json!("running"), &json!("w-1")));
        assert!(job["attempts"][0].get("ended_at").is_none(), "{job}");
        assert!(ada.take("mail", json!({})).await.is_empty());
    });
}

#[test]
fn each_job_is_taken_once_by_many_workers_on_both_nodes() {
    everywhere(async |place| {
        const JOBS: usize = 60;
        let mut workers = JoinSet::new();
        for worker in 0..6 {
            let caller = if worker % 2 == 0 { place.caller() } else { place.other_caller() };
            workers.spawn(async move {
                let mut taken = Vec::new();
                // The last wait is for nothing.
                loop {
                    let jobs = caller.take("mail", json!({"max": 3, "wait_seconds": 2})).await;
                    if jobs.is_empty() {
                        return taken;
                    }
                    taken.extend(jobs.iter().map(|job| job["job"].as_str().unwrap().to_owned()));
                }
            });
        }
        let mut added = Vec::new();
        for number in 0..JOBS {
            let caller = if number % 2 == 0 { place.caller() } else { place.other_caller() };
            added.push(caller.add("mail", json!({})).await);
        }
        let mut taken = Vec::new();
        while let Some(jobs) = workers.join_next().await {
            taken.extend(jobs.unwrap());
        }
        // What came after a worker had waited in vain.
        taken.extend(
            ids(&place.caller().take("mail", json!({"max": 100})).await).into_iter().map(str::to_owned),
        );
        added.sort();
        taken.sort();
        assert_eq!(taken, added);
    });
}

#[test]
fn a_worker_that_waits_gets_a_job_of_another_node_at_once() {
    everywhere(async |place| {
        let (worker, ada) = (place.other_caller(), place.caller());
        let mut waited = Vec::new();
        for _ in 0..9 {
            let take = async {
                let jobs = worker.take("mail", json!({"wait_seconds": 30})).await;
                (ids(&jobs).first().map(|&id| id.to_owned()), Instant::now())
            };
            let add = async {
                // The worker waits by then.
                sleep(Duration::from_millis(200)).await;
                let id = ada.add("mail", json!({})).await;
                (Some(id), Instant::now())
            };
            let ((taken, taken_at), (added, added_at)) = tokio::join!(take, add);
            assert_eq!(taken, added);
            waited.push(taken_at.saturating_duration_since(added_at));
        }
        waited.sort();
        // By looking once a second alone, half of the jobs would wait for half a second.
        assert!(waited[4] < Duration::from_millis(250), "{waited:?}");
    });
}

#[test]
fn a_wait_ends_without_a_job() {
    everywhere(async |place| {
        let began = Instant::now();
        assert!(place.caller().take("mail", json!({"wait_seconds": 1})).await.is_empty());
        assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    });
}

#[test]
fn a_worker_that_goes_while_it_waits_takes_no_job_along() {
    everywhere(async |place| {
        let (gone, ada) = (place.other_caller(), place.caller());
        let body = json!({"wait_seconds": 30, "lease_seconds": 3600});
        let request = gone.request("POST", "/v1/queues/mail/take").json(&body);
        assert!(tokio::time::timeout(Duration::from_millis(500), request.send()).await.is_err());
        let id = ada.add("mail", json!({})).await;
        assert_eq!(ada.take_one("mail").await["job"], json!(id));
        assert_eq!(ada.job(&id).await["attempts"].as_array().unwrap().last().unwrap()["attempt"], 1);
    });
}

#[test]
fn a_paused_queue_gives_nothing_until_it_is_resumed() {
    everywhere(async |place| {
        let ada = place.caller();
        assert_eq!(ada.post("/v1/queues/mail/pause", &json!({})).await.status, 204);
        let id = ada.add("mail", json!({})).await;
        assert!(ada.take("mail", json!({"wait_seconds": 1})).await.is_empty());
        let resume = async {
            sleep(Duration::from_millis(300)).await;
            assert_eq!(place.other_caller().post("/v1/queues/mail/resume", &json!({})).await.status, 204);
        };
        let (taken, ()) = tokio::join!(ada.take_one("mail"), resume);
        assert_eq!(taken["job"], json!(id));
    });
}

#[test]
fn what_a_worker_asks_for_is_checked() {
    everywhere(async |place| {
        let ada = place.caller();
        for body in [
            json!({"max": 0}),
            json!({"max": 101}),
            json!({"wait_seconds": 31}),
            json!({"lease_seconds": 4}),
            json!({"lease_seconds": 3601}),
            json!({"worker": "a b"}),
            json!({"wait_seconds": "5"}),
        ] {
            refused(&ada.post("/v1/queues/mail/take", &body).await, 400, "bad_request");
        }
        let nothing = ada.request("POST", "/v1/queues/mail/take").send().await.unwrap();
        assert_eq!(nothing.status, 200, "all fields are optional: {}", nothing.text());
        refused(&ada.post("/v1/queues/a%20b/take", &json!({})).await, 400, "bad_request");
    });
}

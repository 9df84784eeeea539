//! What workers report, and leases.

use serde_json::{Value, json};

use crate::place::{everywhere, json_of, refused};

#[test]
fn a_job_that_is_done_keeps_its_result_and_is_done_once() {
    everywhere(async |place| {
        let ada = place.caller();
        let id = ada.add("mail", json!({})).await;
        let taken = ada.take_one("mail").await;
        let other = place.other_caller();
        let done = json_of(&other.report(&taken, "done", json!({"result": {"sent": 1}})).await, 200);
        assert_eq!(done, json!({"state": "done"}));
        // The first answer may have been lost.
        let again = json_of(&ada.report(&taken, "done", json!({"result": "another"})).await, 200);
        assert_eq!(again, json!({"state": "done"}));
        refused(&ada.report(&taken, "fail", json!({"error": "no"})).await, 409, "conflict");
        refused(&ada.report(&taken, "extend", json!({"seconds": 30})).await, 409, "conflict");
        let job = ada.job(&id).await;
        assert_eq!((&job["state"], &job["result"]), (&json!("done"), &json!({"sent": 1})));
        let attempts = job["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &attempts[0]["outcome"]), (1, &json!("done")));
        assert!(attempts[0]["ended_at"].is_string(), "{job}");
    });
}

#[test]
fn a_job_that_fails_is_tried_again_until_its_attempts_are_used_up() {
    everywhere(async |place| {
        let ada = place.caller();
        let id = ada.add("mail", json!({"attempts": 2, "backoff_seconds": 1})).await;
        let first = ada.take_one("mail").await;
        let failed = json_of(&ada.report(&first, "fail", json!({"error": "the server is away"})).await, 200);
        assert_eq!(failed["state"], "scheduled");
        let job = ada.job(&id).await;
        assert_eq!((&job["state"], &job["run_at"]), (&json!("scheduled"), &failed["run_at"]));
        let again = json_of(&ada.report(&first, "fail", json!({"error": "the same again"})).await, 200);
        assert_eq!(again["state"], "scheduled", "a repeated report changes nothing");
        let second = ada.take_one("mail").await;
        assert_eq!((&second["job"], &second["attempt"]), (&json!(id), &json!(2)));
        assert_ne!(second["lease"], first["lease"]);
        refused(&ada.report(&first, "done", json!({})).await, 409, "conflict");
        let failed = json_of(&ada.report(&second, "fail", json!({"error": "still away"})).await, 200);
        assert_eq!(failed, json!({"state": "failed"}));
        let job = ada.job(&id).await;
        let errors: Vec<&Value> =
            job["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["error"]).collect();
        assert_eq!(errors, ["the server is away", "still away"]);
    });
}

#[test]
fn a_worker_can_say_that_no_further_attempt_makes_sense() {
    everywhere(async |place| {
        let ada = place.caller();
        ada.add("mail", json!({})).await;
        let taken = ada.take_one("mail").await;
        let failed = ada.report(&taken, "fail", json!({"error": "no such address", "retry": false})).await;
        assert_eq!(json_of(&failed, 200), json!({"state": "failed"}));
    });
}

#[test]
fn a_lease_that_is_over_is_an_attempt_and_another_worker_gets_the_job() {
    everywhere(async |place| {
        let ada = place.caller();
        let (again, last) = (ada.add("mail", json!({})).await, ada.add("last", json!({"attempts": 1})).await);
        let late = ada.take("mail", json!({"lease_seconds": 5})).await.remove(0);
        let lost = ada.take("last", json!({"lease_seconds": 5})).await.remove(0);
        let second = place.other_caller().take_one("mail").await;
        assert_eq!((&second["job"], &second["attempt"]), (&json!(again), &json!(2)));
        for taken in [&late, &lost] {
            for (what, fields) in
                [("done", json!({})), ("fail", json!({"error": "no"})), ("extend", json!({"seconds": 30}))]
            {
                refused(&ada.report(taken, what, fields).await, 409, "conflict");
            }
        }
        json_of(&ada.report(&second, "done", json!({})).await, 200);
        let job = ada.job(&again).await;
        assert_eq!(
            (&job["attempts"][0]["outcome"], &job["attempts"][1]["outcome"]),
            (&json!("lost"), &json!("done"))
        );
        assert_eq!(ada.until(&last, "failed").await["attempts"][0]["outcome"], "lost");
    });
}

#[test]
fn a_lease_that_is_extended_lasts() {
    everywhere(async |place| {
        let ada = place.caller();
        ada.add("mail", json!({})).await;
        let taken = ada.take("mail", json!({"lease_seconds": 5})).await.remove(0);
        let extended = json_of(&ada.report(&taken, "extend", json!({"seconds": 600})).await, 200);
        assert!(extended["deadline"].as_str().unwrap() > taken["deadline"].as_str().unwrap(), "{extended}");
        assert!(
            ada.take("mail", json!({"wait_seconds": 8})).await.is_empty(),
            "the first lease would be over"
        );
        json_of(&ada.report(&taken, "done", json!({})).await, 200);
    });
}

#[test]
fn reports_are_checked() {
    everywhere(async |place| {
        let ada = place.caller();
        let id = ada.add("mail", json!({})).await;
        ada.add("mail", json!({})).await;
        let taken = ada.take("mail", json!({"max": 2})).await;
        let path = |what: &str| format!("/v1/jobs/{id}/{what}");
        refused(&ada.post(&path("done"), &json!({})).await, 400, "bad_request");
        refused(&ada.post(&path("fail"), &json!({"lease": taken[0]["lease"]})).await, 400, "bad_request");
        for seconds in [json!(null), json!(4), json!(3601), json!("30")] {
            refused(&ada.report(&taken[0], "extend", json!({"seconds": seconds})).await, 400, "bad_request");
        }
        for lease in [json!(""), json!("1"), json!("9-12345678"), taken[1]["lease"].clone()] {
            refused(&ada.post(&path("done"), &json!({"lease": lease})).await, 409, "conflict");
        }
        let nobody = "/v1/jobs/019353a0-7c00-7abc-8def-0123456789ab";
        refused(&ada.get(nobody).await, 404, "not_found");
        refused(&ada.get("/v1/jobs/nonsense").await, 404, "not_found");
        refused(&ada.post(&format!("{nobody}/done"), &json!({"lease": "1"})).await, 404, "not_found");
        assert_eq!(ada.job(&id).await["state"], "running", "none of it has done anything");
    });
}

//! Adding jobs.

use serde_json::{Value, json};

use crate::place::{everywhere, json_of, refused};

#[test]
fn a_job_is_kept_as_it_was_given() {
    everywhere(async |place| {
        let ada = place.caller();
        let payload = json!({"to": "ada@example.com", "n": 1.50, "deep": [{"ä": null}]});
        let id = ada.add("mail", json!({"kind": "welcome", "payload": payload, "priority": 7})).await;
        let job = place.other_caller().job(&id).await;
        let shown = |field: &str| job[field].clone();
        assert_eq!(
            (shown("job"), shown("queue"), shown("kind")),
            (json!(id), json!("mail"), json!("welcome"))
        );
        assert_eq!(
            (shown("payload"), shown("state"), shown("priority")),
            (payload, json!("ready"), json!(7))
        );
        assert_eq!((shown("attempts"), job.get("result")), (json!([]), None));
        assert!(job["run_at"].as_str().unwrap().ends_with('Z'), "{job}");
    });
}

#[test]
fn a_key_is_held_until_its_job_has_ended() {
    everywhere(async |place| {
        let ada = place.caller();
        let body = json!({"queue": "mail", "payload": null, "key": "once"});
        let first = json_of(&ada.post("/v1/jobs", &body).await, 201);
        let again = json_of(&place.other_caller().post("/v1/jobs", &body).await, 200);
        assert_eq!(again, json!({"job": first["job"], "created": false}));
        // Queues have keys of their own.
        json_of(&ada.post("/v1/jobs", &json!({"queue": "other", "payload": null, "key": "once"})).await, 201);
        let taken = ada.take_one("mail").await;
        json_of(&ada.post("/v1/jobs", &body).await, 200);
        json_of(&ada.report(&taken, "done", json!({})).await, 200);
        let second = json_of(&ada.post("/v1/jobs", &body).await, 201);
        assert_ne!(second["job"], first["job"]);
    });
}

#[test]
fn a_job_waits_for_its_time() {
    everywhere(async |place| {
        let ada = place.caller();
        let later = ada.add("mail", json!({"delay_seconds": 3600})).await;
        let moment = ada.add("mail", json!({"run_at": "2099-01-01T00:00:00+01:00"})).await;
        assert_eq!(ada.job(&later).await["state"], "scheduled");
        let job = ada.job(&moment).await;
        assert_eq!(
            (&job["state"], &job["run_at"]),
            (&json!("scheduled"), &json!("2098-12-31T23:00:00.000Z"))
        );
        let past = ada.add("mail", json!({"run_at": "2001-01-01T00:00:00Z"})).await;
        assert_eq!(ada.job(&past).await["state"], "ready");
        let soon = ada.add("soon", json!({"delay_seconds": 0.2})).await;
        assert_eq!(ada.take_one("soon").await["job"], json!(soon));
    });
}

#[test]
fn what_makes_no_sense_is_refused_and_names_the_field() {
    everywhere(async |place| {
        let ada = place.caller();
        for (body, field) in [
            (json!({"payload": 1}), "queue"),
            (json!({"queue": "mail"}), "payload"),
            (json!({"queue": "a b", "payload": 1}), "queue"),
            (json!({"queue": 5, "payload": 1}), "queue"),
            (json!({"queue": "mail", "payload": 1, "kind": ".."}), "kind"),
            (json!({"queue": "mail", "payload": "\u{0}"}), "payload"),
            (json!({"queue": "mail", "payload": 1, "priority": 10}), "priority"),
            (json!({"queue": "mail", "payload": 1, "priority": -1}), "priority"),
            (json!({"queue": "mail", "payload": 1, "attempts": 0}), "attempts"),
            (json!({"queue": "mail", "payload": 1, "attempts": 1.5}), "attempts"),
            (json!({"queue": "mail", "payload": 1, "delay_seconds": -1}), "delay_seconds"),
            (json!({"queue": "mail", "payload": 1, "run_at": "soon"}), "run_at"),
            (json!({"queue": "mail", "payload": 1, "backoff_seconds": 1e9}), "backoff_seconds"),
            (json!({"queue": "mail", "payload": 1, "key": ""}), "key"),
            (json!({"queue": "mail", "payload": 1, "key": "k".repeat(201)}), "key"),
        ] {
            let message = refused(&ada.post("/v1/jobs", &body).await, 400, "bad_request");
            assert!(message.contains(field), "{body}: {message}");
        }
        refused(&ada.request("POST", "/v1/jobs").body("[]").send().await.unwrap(), 400, "bad_request");
        assert_eq!(ada.list("").await, [""; 0], "nothing was added");
    });
}

#[test]
fn payloads_are_limited_as_compact_json() {
    everywhere(async |place| {
        let ada = place.caller();
        let of = |bytes: usize| json!({"queue": "mail", "payload": "x".repeat(bytes - 2)});
        json_of(&ada.post("/v1/jobs", &of(256 << 10)).await, 201);
        refused(&ada.post("/v1/jobs", &of((256 << 10) + 1)).await, 413, "too_large");
        refused(&ada.post("/v1/jobs", &of(600 << 10)).await, 413, "too_large");
        let spaced = format!("{{\"queue\": \"mail\", \"payload\": [{} 1]}}", " ".repeat(300 << 10));
        json_of(&ada.request("POST", "/v1/jobs").body(spaced).send().await.unwrap(), 201);
        let taken = ada.take("mail", json!({"max": 2})).await;
        assert_eq!(taken[1]["payload"], json!([1]));
        let large = Value::String("x".repeat(256 << 10));
        refused(&ada.report(&taken[0], "done", json!({"result": large})).await, 413, "too_large");
    });
}

//! Schedules over HTTP, and nodes that die at the second at which they fire.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use starling_testkit::http::Response;
use starling_testkit::node::{Cluster, SECRET};
use starling_testkit::token::Token;
use starling_testkit::wait::until_true;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::place::{Caller, SOON, everywhere, json_of, refused};

impl Caller {
    /// Sets a schedule of the queue `tick`, with these fields.
    async fn set(&self, name: &str, fields: Value) -> Response {
        let mut body = json!({"cron": "* * * * *", "queue": "tick", "payload": 1});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.request("PUT", &format!("/v1/schedules/{name}")).json(&body).send().await.unwrap()
    }

    async fn unset(&self, name: &str) -> Response {
        self.request("DELETE", &format!("/v1/schedules/{name}")).send().await.unwrap()
    }

    async fn schedule(&self, name: &str) -> Response {
        self.get(&format!("/v1/schedules/{name}")).await
    }

    /// Returns the moments of all jobs of the queue `tick`, in seconds.
    async fn ticks(&self) -> Vec<i64> {
        let mut moments = Vec::new();
        let mut cursor = String::new();
        loop {
            let page =
                json_of(&self.get(&format!("/v1/jobs?queue=tick&limit=200&cursor={cursor}")).await, 200);
            for job in page["jobs"].as_array().unwrap() {
                let moment = OffsetDateTime::parse(job["run_at"].as_str().unwrap(), &Rfc3339).unwrap();
                moments.push(moment.unix_timestamp());
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut cursor),
                None => return moments,
            }
        }
    }
}

#[test]
fn a_schedule_is_set_shown_replaced_and_removed() {
    everywhere(async |place| {
        let ada = place.caller();
        let set =
            json_of(&ada.set("nightly", json!({"time_zone": "Europe/Zurich", "missed": "all"})).await, 201);
        assert_eq!(
            (&set["schedule"], &set["missed"], &set["last_at"]),
            (&json!("nightly"), &json!("all"), &json!(null))
        );
        assert!(set["next_at"].as_str().unwrap().ends_with(":00.000Z"), "{set}");
        assert_eq!(json_of(&ada.schedule("nightly").await, 200), set);
        let replaced = json_of(&ada.set("nightly", json!({"cron": "0 3 * * *", "kind": "clean"})).await, 200);
        assert_eq!((&replaced["kind"], &replaced["missed"]), (&json!("clean"), &json!("once")));
        assert!(replaced["next_at"].as_str().unwrap().ends_with("T03:00:00.000Z"), "{replaced}");
        json_of(&ada.set("another", json!({})).await, 201);
        let first = json_of(&ada.get("/v1/schedules?limit=1").await, 200);
        assert_eq!(first["schedules"][0]["schedule"], "another");
        let cursor = first["next"].as_str().unwrap();
        let second = json_of(&ada.get(&format!("/v1/schedules?limit=1&cursor={cursor}")).await, 200);
        assert_eq!((&second["schedules"][0], &second["next"]), (&replaced, &json!(null)));
        assert_eq!(ada.unset("nightly").await.status, 204);
        refused(&ada.schedule("nightly").await, 404, "not_found");
        refused(&ada.unset("nightly").await, 404, "not_found");
    });
}

#[test]
fn what_is_wrong_with_a_schedule_is_named() {
    everywhere(async |place| {
        let ada = place.caller();
        for (fields, named) in [
            (json!({"cron": "61 * * * *"}), "`cron` is not a cron expression"),
            (json!({"cron": "every day"}), "`cron` is not a cron expression"),
            (json!({"cron": "0 0 30 2 *"}), "`cron` never comes true"),
            (json!({"cron": null}), "`cron` is missing"),
            (json!({"time_zone": "Mars/Olympus"}), "`time_zone` is not a zone"),
            (json!({"missed": "maybe"}), "`missed` must be one of skip, once, all"),
            (json!({"queue": "a b"}), "`queue` must be a name"),
            (json!({"priority": 10}), "`priority` must be an integer from 0 to 9"),
        ] {
            let why = refused(&ada.set("wrong", fields).await, 400, "bad_request");
            assert!(why.contains(named), "{why}");
        }
        let large = json!({"payload": "x".repeat(16 << 10)});
        refused(&ada.set("wrong", large).await, 413, "too_large");
        refused(&ada.set("wrong", json!({"queue": "starling.x"})).await, 403, "forbidden");
        refused(&ada.schedule("wrong").await, 404, "not_found");
    });
}

#[test]
fn a_token_covers_the_schedules_of_its_queues() {
    everywhere(async |place| {
        let (ada, mail) = (place.caller(), place.caller_with(0, "jobs:mail"));
        json_of(&ada.set("s", json!({})).await, 201);
        refused(&mail.schedule("s").await, 403, "forbidden");
        refused(&mail.unset("s").await, 403, "forbidden");
        refused(&mail.set("s", json!({"queue": "mail"})).await, 403, "forbidden");
        refused(&mail.set("t", json!({})).await, 403, "forbidden");
        json_of(&mail.set("t", json!({"queue": "mail"})).await, 201);
        let listed = json_of(&mail.get("/v1/schedules").await, 200);
        assert_eq!(
            (listed["schedules"].as_array().unwrap().len(), &listed["schedules"][0]["schedule"]),
            (1, &json!("t"))
        );
        refused(&place.caller_with(0, "publish:*").get("/v1/schedules").await, 403, "forbidden");
        let stranger = place.stranger();
        refused(&stranger.schedule("s").await, 404, "not_found");
        json_of(&stranger.set("s", json!({})).await, 201);
    });
}

#[test]
fn a_schedule_adds_a_job_at_its_moment() {
    everywhere(async |place| {
        let ada = place.caller();
        json_of(
            &ada.set("s", json!({"cron": "* * * * * *", "kind": "tick", "payload": {"n": 7}})).await,
            201,
        );
        let job = ada.take_one("tick").await;
        assert_eq!((&job["kind"], &job["payload"]), (&json!("tick"), &json!({"n": 7})));
        assert_ne!(json_of(&ada.schedule("s").await, 200)["last_at"], json!(null));
        assert_eq!(ada.unset("s").await.status, 204);
    });
}

/// Waits until just before a second begins.
async fn second() {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let part = Duration::from_nanos(now.subsec_nanos().into());
    tokio::time::sleep((Duration::from_millis(1990).saturating_sub(part)).min(Duration::from_secs(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_second_adds_one_job_whichever_nodes_die_at_it() {
    let cluster = Cluster::builder(3).unlimited().start().await.unwrap();
    let caller = |node| Caller::new(cluster.node(node), Token::of("ada").scope("jobs:*").sign(SECRET));
    json_of(&caller(0).set("s", json!({"cron": "* * * * * *", "missed": "all"})).await, 201);
    // One after the other dies, and comes back; the last one always lives.
    for round in 0..4 {
        let (node, before) = (round % 2, caller(2).ticks().await.len());
        until_true(SOON, "a job", async || Ok(caller(2).ticks().await.len() > before)).await.unwrap();
        second().await;
        cluster.node(node).kill().await.unwrap();
        until_true(SOON, "two jobs", async || Ok(caller(2).ticks().await.len() > before + 2)).await.unwrap();
        cluster.node(node).start_again().await.unwrap();
    }
    assert_eq!(caller(0).unset("s").await.status, 204);
    let ticks = caller(2).ticks().await;
    let moments: BTreeSet<i64> = ticks.iter().copied().collect();
    assert_eq!(moments.len(), ticks.len(), "a second has two jobs: {ticks:?}");
    let (first, last) = (moments.first().unwrap(), moments.last().unwrap());
    let span = usize::try_from(last - first + 1).unwrap();
    assert_eq!(moments.len(), span, "a second has no job: {ticks:?}");
}

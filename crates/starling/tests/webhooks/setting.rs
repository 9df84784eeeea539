//! Setting, listing and removing hooks.

use serde_json::{Value, json};
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::wait;
use starling_webhooks::Secret;

use crate::place::{SOON, Talk, assert_signed, everywhere, json_of, message, refused};

#[test]
fn hooks_are_set_listed_and_removed() {
    everywhere(async |place| {
        let app = place.application(0);
        let url = "https://app.example/hooks";
        let set = json_of(&app.put("/v1/hooks/send", &json!({"url": url})).await, 201);
        let secret = set["secret"].as_str().expect("a secret");
        assert!(secret.starts_with("whsec_"), "{set}");
        let shown = |url: &str, timeout_ms: u64, on_failure: &str| json!({"point": "send", "url": url, "timeout_ms": timeout_ms, "on_failure": on_failure});
        let without_secret = |mut value: Value| {
            value.as_object_mut().expect("an object").remove("secret");
            value
        };
        assert_eq!(without_secret(set.clone()), shown(url, 1000, "refuse"));

        let other = "https://app.example/other";
        let fields = json!({"url": other, "timeout_ms": 250, "on_failure": "allow"});
        let changed = json_of(&app.put("/v1/hooks/send", &fields).await, 200);
        assert_eq!(changed, shown(other, 250, "allow"), "its secret is shown once");
        json_of(&app.put("/v1/hooks/connect", &json!({"url": url})).await, 201);

        // Through the other node, too.
        let list = json_of(&place.application(1).get("/v1/hooks").await, 200);
        let points: Vec<&Value> =
            list["hooks"].as_array().unwrap().iter().map(|hook| &hook["point"]).collect();
        assert_eq!((points, &list["next"]), (vec![&json!("connect"), &json!("send")], &Value::Null));
        assert_eq!(list["hooks"][1], shown(other, 250, "allow"));

        assert_eq!(app.delete("/v1/hooks/send").await.status, 204);
        refused(&app.delete("/v1/hooks/send").await, 404, "not_found");
        assert_eq!(app.delete("/v1/hooks/connect").await.status, 204);
        assert_eq!(json_of(&app.get("/v1/hooks").await, 200), json!({"hooks": [], "next": null}));
    });
}

#[test]
fn questions_are_signed_with_the_secret_before_and_after_a_rotation() {
    everywhere(async |place| {
        let (backend, app) = (Backend::answering(Answer::allow()).await.unwrap(), place.application(0));
        refused(&app.post("/v1/hooks/publish/rotate", &json!({})).await, 404, "not_found");
        let old = place.set("publish", &backend).await;
        let rotated = json_of(&app.post("/v1/hooks/publish/rotate", &json!({})).await, 200);
        let new = Secret::parse(rotated["secret"].as_str().unwrap()).unwrap();
        assert_ne!(old, new);
        let mut ada = place.connect(0, "ada").await;
        ada.ask("publish", json!({"topic": "t", "data": 1})).await;
        let asked = backend.wait_for(SOON, 1).await.unwrap().remove(0);
        assert_signed(&asked, &old);
        assert_signed(&asked, &new);
        refused(&app.post("/v1/hooks/publish/rotate", &json!({})).await, 409, "conflict");
        let stranger = place.stranger("root", "admin");
        refused(&stranger.post("/v1/hooks/publish/rotate", &json!({})).await, 404, "not_found");
        refused(&app.post("/v1/hooks/nothing/rotate", &json!({})).await, 400, "bad_request");
        refused(
            &place.caller(0, "ada", "").post("/v1/hooks/publish/rotate", &json!({})).await,
            403,
            "forbidden",
        );
    });
}

#[test]
fn only_the_application_of_a_tenant_sets_its_hooks() {
    everywhere(async |place| {
        let user = place.caller(0, "ada", "conversations:create publish:* subscribe:* jobs:* operate");
        let body = json!({"url": "https://app.example/"});
        refused(&user.put("/v1/hooks/send", &body).await, 403, "forbidden");
        refused(&user.get("/v1/hooks").await, 403, "forbidden");
        refused(&user.delete("/v1/hooks/send").await, 403, "forbidden");
        json_of(&place.caller(0, "root", "admin").put("/v1/hooks/send", &body).await, 201);
        let stranger = place.stranger("root", "admin");
        assert_eq!(json_of(&stranger.get("/v1/hooks").await, 200)["hooks"], json!([]));
        refused(&stranger.delete("/v1/hooks/send").await, 404, "not_found");
        assert_eq!(json_of(&place.application(0).get("/v1/hooks").await, 200)["hooks"][0]["point"], "send");
    });
}

#[test]
fn what_is_no_hook_is_refused_with_the_reason() {
    everywhere(async |place| {
        let app = place.application(0);
        for (point, body, why) in [
            ("history", json!({"url": "https://app.example/"}), "connect, create, join"),
            ("send", json!({}), "`url` is missing"),
            ("send", json!({"url": 7}), "`url`"),
            ("send", json!({"url": "ftp://app.example/"}), "`url`: the url must begin with https://"),
            ("send", json!({"url": "https://user:word@app.example/"}), "user or a password"),
            ("send", json!({"url": "http://169.254.169.254/latest/"}), "link-local addresses are refused"),
            ("send", json!({"url": "https://[::1]/"}), "loopback addresses are refused"),
            ("send", json!({"url": "https://app.example/", "timeout_ms": 0}), "`timeout_ms`"),
            ("send", json!({"url": "https://app.example/", "timeout_ms": 5001}), "`timeout_ms`"),
            ("send", json!({"url": "https://app.example/", "on_failure": "ignore"}), "`on_failure`"),
        ] {
            let message = refused(&app.put(&format!("/v1/hooks/{point}"), &body).await, 400, "bad_request");
            assert!(message.contains(why), "{body}: {message}");
        }
        refused(&app.delete("/v1/hooks/history").await, 400, "bad_request");
        assert_eq!(json_of(&app.get("/v1/hooks").await, 200)["hooks"], json!([]));
    });
}

#[test]
fn a_hook_set_or_removed_on_one_node_holds_on_the_other() {
    everywhere(async |place| {
        let backend = Backend::answering(Answer::refuse("not here")).await.unwrap();
        let mut ada = place.connect(1, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        ada.ask("send", message("c", "before")).await;

        place.set("send", &backend).await;
        wait::until_true(SOON, "the other node to ask", async || {
            Ok(ada.command("send", message("c", "while")).await.is_err())
        })
        .await
        .unwrap();
        assert_eq!(place.application(0).delete("/v1/hooks/send").await.status, 204);
        wait::until_true(SOON, "the other node to ask nobody", async || {
            Ok(ada.command("send", message("c", "after")).await.is_ok())
        })
        .await
        .unwrap();
    });
}

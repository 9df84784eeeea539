//! Webhooks: what backends are told, and when.

use serde_json::{Value, json};
use starling_testkit::backend::{Answer, Backend, Received};
use starling_testkit::wait;

use crate::place::{Place, SOON, Talk, assert_signed, everywhere, json_of, message, refused};

/// The events of conversations.
const OF_CONVERSATIONS: [&str; 6] = [
    "message.created",
    "conversation.created",
    "conversation.updated",
    "conversation.deleted",
    "member.added",
    "member.removed",
];

/// Adds a webhook through the first node, and returns it.
async fn add(place: &Place, backend: &Backend, fields: Value) -> Value {
    let mut body = json!({"url": backend.url("/"), "events": OF_CONVERSATIONS});
    body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json_of(&place.application(0).post("/v1/webhooks", &body).await, 201)
}

/// The path of a webhook.
fn path(webhook: &Value) -> String {
    format!("/v1/webhooks/{}", webhook["webhook"].as_str().unwrap())
}

fn types(requests: &[Received]) -> Vec<&str> {
    requests.iter().map(|request| request.body["type"].as_str().unwrap()).collect()
}

async fn accepting() -> Backend {
    Backend::answering(Answer::Status(204)).await.unwrap()
}

#[test]
fn a_backend_is_told_of_messages_conversations_and_members() {
    everywhere(async |place| {
        let backend = accepting().await;
        let webhook = add(place, &backend, json!({"ordered": true})).await;
        let secret = starling_webhooks::Secret::parse(webhook["secret"].as_str().unwrap()).unwrap();
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c", "title": "T"})).await;
        backend.wait_for(SOON, 1).await.unwrap();
        let sent = ada.ask("send", message("c", "hello \u{1f600}")).await;
        backend.wait_for(SOON, 2).await.unwrap();
        let owner = place.caller(0, "ada", "");
        assert_eq!(owner.put("/v1/conversations/c/members/bob", &json!({})).await.status, 200);
        backend.wait_for(SOON, 3).await.unwrap();
        json_of(&owner.patch("/v1/conversations/c", &json!({"title": "U"})).await, 200);
        backend.wait_for(SOON, 4).await.unwrap();
        assert_eq!(owner.delete("/v1/conversations/c/members/bob").await.status, 204);
        backend.wait_for(SOON, 5).await.unwrap();
        assert_eq!(owner.delete("/v1/conversations/c").await.status, 204);
        let requests = backend.wait_for(SOON, 6).await.unwrap();
        assert_eq!(
            types(&requests),
            [
                "conversation.created",
                "message.created",
                "member.added",
                "conversation.updated",
                "member.removed",
                "conversation.deleted"
            ]
        );
        for request in &requests {
            assert_signed(request, &secret);
            assert_eq!(request.body["tenant"], place.tenant());
            assert_eq!(request.body["data"]["conversation"], "c");
        }
        let data = |index: usize| &requests[index].body["data"];
        assert_eq!((&data(0)["title"], &data(0)["members"]), (&json!("T"), &json!(["ada"])));
        let told = data(1);
        assert_eq!(
            (&told["content"], &told["sender"], &told["role"]),
            (&json!("hello 😀"), &json!("ada"), &json!("user"))
        );
        assert_eq!((&told["seq"], &told["id"], &told["at"]), (&sent["seq"], &sent["id"], &sent["at"]));
        assert_eq!(requests[1].signed[0], sent["id"].as_str().unwrap(), "the id of the event");
        assert_eq!((&data(2)["user"], &data(4)["user"]), (&json!("bob"), &json!("bob")));
        assert_eq!(data(3)["title"], "U");
        assert!(data(5)["log"].as_str().is_some_and(|log| !log.is_empty()), "{}", data(5));
    });
}

#[test]
fn a_webhook_hears_what_it_wants_through_any_node_and_nobody_else_hears_it() {
    everywhere(async |place| {
        let (all, some) = (accepting().await, accepting().await);
        let first = add(place, &all, json!({"events": ["message.created", "member.added"]})).await;
        add(place, &some, json!({"events": ["member.added"]})).await;
        let (mut ada, mut bob) = (place.connect(1, "ada").await, place.connect_stranger("bob").await);
        for client in [&mut ada, &mut bob] {
            client.ask("create", json!({"conversation": "c"})).await;
        }
        bob.ask("send", message("c", "not yours")).await;
        // The other node learns of the webhook within about a second.
        wait::until_true(SOON, "a message through the other node", async || {
            ada.ask("send", message("c", "hi")).await;
            Ok(!all.requests().is_empty())
        })
        .await
        .unwrap();
        let told = all.requests();
        assert!(told.iter().all(|request| request.body["data"]["content"] == "hi"), "{told:?}");
        assert!(some.requests().is_empty());

        assert_eq!(place.application(1).delete(&path(&first)).await.status, 204);
        ada.ask("send", message("c", "after")).await;
        let owner = place.caller(1, "ada", "");
        assert_eq!(owner.put("/v1/conversations/c/members/bob", &json!({})).await.status, 200);
        some.wait_for(SOON, 1).await.unwrap();
        assert!(all.requests().iter().all(|request| request.body["type"] == "message.created"));
    });
}

#[test]
fn messages_of_a_conversation_arrive_once_and_in_order_where_that_is_wanted() {
    everywhere(async |place| {
        // Each third request fails, and has to come again before the next.
        let count = std::sync::atomic::AtomicU64::new(0);
        let backend = Backend::start(move |_| {
            let fails = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 == 1;
            std::future::ready(Answer::Status(if fails { 500 } else { 200 }))
        })
        .await
        .unwrap();
        let fields = json!({"ordered": true, "events": ["message.created"]});
        let webhook = add(place, &backend, fields).await;
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        for number in 0..6 {
            ada.ask("send", message("c", &number.to_string())).await;
        }
        wait::until_true(SOON, "all deliveries", async || {
            let list =
                json_of(&place.application(0).get(&format!("{}/deliveries", path(&webhook))).await, 200);
            let deliveries = list["deliveries"].as_array().unwrap();
            Ok(deliveries.len() == 6 && deliveries.iter().all(|delivery| delivery["state"] == "delivered"))
        })
        .await
        .unwrap();
        let mut contents: Vec<String> = backend
            .requests()
            .iter()
            .map(|request| request.body["data"]["content"].as_str().unwrap().to_owned())
            .collect();
        assert!(contents.len() > 6, "some failed: {contents:?}");
        contents.dedup();
        assert_eq!(contents, ["0", "1", "2", "3", "4", "5"]);
    });
}

#[test]
fn a_webhook_is_shown_changed_paused_resumed_and_its_events_sent_again() {
    everywhere(async |place| {
        let (backend, app) = (accepting().await, place.application(0));
        let webhook = add(place, &backend, json!({"events": ["message.created"]})).await;
        let path = path(&webhook);
        assert!(webhook["secret"].as_str().is_some_and(|secret| secret.starts_with("whsec_")));
        let shown = json_of(&app.get(&path).await, 200);
        assert_eq!(
            (&shown["state"], &shown["ordered"], &shown["secret"]),
            (&json!("active"), &json!(false), &Value::Null)
        );
        let list = json_of(&place.application(1).get("/v1/webhooks?limit=1").await, 200);
        assert_eq!((&list["webhooks"][0], &list["next"]), (&shown, &Value::Null));

        let paused = json_of(&app.patch(&path, &json!({"paused": true})).await, 200);
        assert_eq!(paused["state"], "paused");
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        let sent = ada.ask("send", message("c", "while it rests")).await;
        let deliveries = format!("{path}/deliveries");
        wait::until_true(SOON, "a delivery that waits", async || {
            Ok(json_of(&app.get(&deliveries).await, 200)["deliveries"][0]["state"] == "waiting")
        })
        .await
        .unwrap();
        assert!(backend.requests().is_empty());
        json_of(&app.patch(&path, &json!({"paused": false})).await, 200);
        let first = backend.wait_for(SOON, 1).await.unwrap().remove(0);
        assert_eq!(first.signed[0], sent["id"].as_str().unwrap());

        wait::until_true(SOON, "its end", async || {
            Ok(json_of(&app.get(&deliveries).await, 200)["deliveries"][0]["state"] == "delivered")
        })
        .await
        .unwrap();
        let again = format!("{deliveries}/{}/resend", first.signed[0]);
        assert_eq!(app.post(&again, &json!({})).await.status, 202);
        let second = backend.wait_for(SOON, 2).await.unwrap().remove(1);
        assert_eq!((&second.signed[0], &second.text), (&first.signed[0], &first.text), "the same event");

        let rotated = json_of(&app.post(&format!("{path}/rotate"), &json!({})).await, 200);
        let [old, new] = [&webhook, &rotated]
            .map(|of| starling_webhooks::Secret::parse(of["secret"].as_str().unwrap()).unwrap());
        ada.ask("send", message("c", "signed by both")).await;
        let third = backend.wait_for(SOON, 3).await.unwrap().remove(2);
        assert_signed(&third, &old);
        assert_signed(&third, &new);

        let stranger = place.stranger("root", "admin");
        refused(&stranger.get(&path).await, 404, "not_found");
        refused(&stranger.get(&deliveries).await, 404, "not_found");
        refused(&stranger.post(&again, &json!({})).await, 404, "not_found");
        refused(&stranger.delete(&path).await, 404, "not_found");
        refused(&place.caller(0, "ada", "publish:*").get("/v1/webhooks").await, 403, "forbidden");
        for (body, why) in [
            (json!({"events": ["*"]}), "`url` is missing"),
            (json!({"url": "https://app.example/"}), "`events` is missing"),
            (json!({"url": "https://app.example/", "events": []}), "`events`"),
            (json!({"url": "https://app.example/", "events": ["message.sent"]}), "`events`"),
            (json!({"url": "http://10.0.0.1/", "events": ["*"]}), "private addresses are refused"),
        ] {
            let message = refused(&app.post("/v1/webhooks", &body).await, 400, "bad_request");
            assert!(message.contains(why), "{body}: {message}");
        }
        assert_eq!(app.delete(&path).await.status, 204);
        refused(&app.get(&path).await, 404, "not_found");
    });
}

#[test]
fn a_test_is_sent_to_one_webhook_and_its_answer_is_shown() {
    everywhere(async |place| {
        let answer = Answer::Json(json!({"thanks": "<b>"}));
        let (backend, app) = (Backend::answering(answer).await.unwrap(), place.application(0));
        let tested = add(place, &backend, json!({"events": ["conversation.deleted"]})).await;
        let other = add(place, &backend, json!({})).await;
        let shown = json_of(&app.get(&path(&tested)).await, 200);
        assert_eq!((&shown["waiting"], &shown["recent"]), (&json!(0), &json!([])));

        let test = json_of(&app.post(&format!("{}/test", path(&tested)), &json!({})).await, 202);
        let received = backend.wait_for(SOON, 1).await.unwrap().remove(0);
        assert_eq!(received.signed[0], test["delivery"].as_str().unwrap());
        assert_eq!(received.body["type"], "webhook.test");
        assert_eq!(received.body["data"], json!({"webhook": tested["webhook"]}));

        let delivery = format!("{}/deliveries/{}", path(&tested), received.signed[0]);
        wait::until_true(SOON, "its end", async || {
            Ok(json_of(&app.get(&delivery).await, 200)["state"] == "delivered")
        })
        .await
        .unwrap();
        let delivery = json_of(&app.get(&delivery).await, 200);
        assert_eq!((&delivery["status"], &delivery["attempts"]), (&json!(200), &json!(1)));
        assert_eq!(
            (&delivery["answer"], &delivery["body"]),
            (&json!("{\"thanks\":\"<b>\"}"), &received.body)
        );
        let list = json_of(&place.application(1).get("/v1/webhooks").await, 200);
        let recent = |at: usize| list["webhooks"][at]["recent"].as_array().unwrap().clone();
        assert_eq!(recent(0).len(), 1, "{list}");
        let newest = recent(0).remove(0);
        for (field, expected) in
            [("delivery", &test["delivery"]), ("state", &json!("delivered")), ("status", &json!(200))]
        {
            assert_eq!(&newest[field], expected, "{newest}");
        }
        assert!(recent(1).is_empty(), "the other one heard nothing: {list}");
        assert_eq!(backend.requests().len(), 1);

        json_of(&app.patch(&path(&tested), &json!({"paused": true})).await, 200);
        refused(&app.post(&format!("{}/test", path(&tested)), &json!({})).await, 409, "conflict");
        let stranger = place.stranger("root", "admin");
        refused(&stranger.post(&format!("{}/test", path(&other)), &json!({})).await, 404, "not_found");
        let deliveries = format!("{}/deliveries", path(&tested));
        let id = received.signed[0].as_str();
        refused(&stranger.get(&format!("{deliveries}/{id}")).await, 404, "not_found");
        refused(&app.get(&format!("{}/deliveries/{id}", path(&other))).await, 404, "not_found");
        refused(&app.get(&format!("{deliveries}/x")).await, 404, "not_found");
    });
}

#[test]
fn a_backend_that_is_gone_does_not_take_the_webhook_from_the_next_one() {
    everywhere(async |place| {
        // It says so once the webhook has another address.
        let (moved, until) = tokio::sync::watch::channel(false);
        let old = Backend::start(move |_| {
            let mut until = until.clone();
            async move {
                until.wait_for(|moved| *moved).await.unwrap();
                Answer::Status(410)
            }
        })
        .await
        .unwrap();
        let (new, app) = (accepting().await, place.application(0));
        let webhook = add(place, &old, json!({"events": ["conversation.created"]})).await;
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        let asked = old.wait_for(SOON, 1).await.unwrap().remove(0);
        json_of(&app.patch(&path(&webhook), &json!({"url": new.url("/")})).await, 200);
        moved.send_replace(true);
        let told = new.wait_for(SOON, 1).await.unwrap().remove(0);
        assert_eq!(told.signed[0], asked.signed[0], "the same event");
        json_of(&app.get(&path(&webhook)).await, 200);
    });
}

#[test]
fn a_backend_that_answers_gone_loses_its_webhook() {
    everywhere(async |place| {
        let backend = Backend::answering(Answer::Status(410)).await.unwrap();
        let webhook = add(place, &backend, json!({"events": ["conversation.created"]})).await;
        let mut ada = place.connect(0, "ada").await;
        ada.ask("create", json!({"conversation": "c"})).await;
        wait::until_true(SOON, "the webhook to be gone", async || {
            Ok(place.application(0).get(&path(&webhook)).await.status == 404)
        })
        .await
        .unwrap();
    });
}

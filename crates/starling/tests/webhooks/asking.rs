//! What backends are asked, and what follows from their answers.

use serde_json::{Value, json};
use starling_testkit::backend::{Answer, Backend};
use starling_testkit::client::Failure;

use crate::place::{Talk, assert_signed, everywhere, json_of, message, refused};

#[test]
fn a_backend_is_asked_before_each_command_with_what_is_about_to_happen() {
    everywhere(async |place| {
        let backend = Backend::answering(Answer::allow()).await.unwrap();
        let mut secrets = Vec::new();
        for point in ["connect", "create", "join", "send", "publish", "subscribe"] {
            secrets.push((point, place.set(point, &backend).await));
        }
        let mut ada = place.connect(0, "ada").await;
        let create = json!({"conversation": "c", "title": "T", "members": ["bob"], "metadata": {"a": 1}});
        ada.ask("create", create).await;
        ada.ask("join", json!({"conversation": "c"})).await;
        let mut send = message("c", "hi");
        send["metadata"] = json!({"m": [1, "ü"]});
        let sent = ada.ask("send", send.clone()).await;
        ada.ask("subscribe", json!({"topic": "news"})).await;
        ada.ask("publish", json!({"topic": "news", "data": {"n": 1}})).await;
        // Nobody decides about other commands.
        ada.ask("history", json!({"conversation": "c"})).await;
        ada.ask("unsubscribe", json!({"topic": "news"})).await;
        assert_eq!(ada.hears().await, (json!("hi"), json!({"m": [1, "ü"]})));
        assert_eq!(sent["seq"], 1);

        let expected = [
            ("connect", json!({"user": "ada"})),
            (
                "create",
                json!({"user": "ada", "conversation": "c", "title": "T", "members": ["bob"], "metadata": {"a": 1}}),
            ),
            ("join", json!({"user": "ada", "conversation": "c"})),
            (
                "send",
                json!({"user": "ada", "conversation": "c", "key": send["key"], "content": "hi", "metadata": {"m": [1, "ü"]}}),
            ),
            ("subscribe", json!({"user": "ada", "topic": "news"})),
            ("publish", json!({"user": "ada", "topic": "news", "data": {"n": 1}})),
        ];
        let requests = backend.requests();
        assert_eq!(requests.len(), expected.len(), "{requests:?}");
        for (request, (point, data)) in requests.iter().zip(expected) {
            let body = &request.body;
            assert_eq!((&body["type"], &body["tenant"]), (&json!(point), &json!(place.tenant())));
            assert_eq!(body["data"], data, "{point}");
            assert!(body["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{body}");
            let (_, secret) = secrets.iter().find(|(of, _)| *of == point).unwrap();
            assert_signed(request, secret);
        }
    });
}

#[test]
fn what_a_backend_refuses_does_not_happen() {
    everywhere(async |place| {
        let mut bob = place.connect(0, "bob").await;
        bob.ask("create", json!({"conversation": "c"})).await;
        let backend = Backend::answering(Answer::refuse("not on Sundays")).await.unwrap();
        for point in ["connect", "create", "join", "send", "publish", "subscribe"] {
            place.set(point, &backend).await;
        }
        let commands = [
            ("create", json!({"conversation": "d"})),
            ("join", json!({"conversation": "c"})),
            ("send", message("c", "hi")),
            ("publish", json!({"topic": "t", "data": 1})),
            ("subscribe", json!({"topic": "t"})),
        ];
        for (op, fields) in commands {
            let error = bob.refusal(op, fields).await;
            assert_eq!((&*error.code, &*error.message), ("forbidden", "not on Sundays"), "{op}");
        }
        match place.try_connect(0, "ada").await {
            Err(Failure::Refused(error)) => assert_eq!(&*error.code, "forbidden"),
            other => panic!("she is connected: {other:?}"),
        }
        let mut calls = Vec::new();
        let http = place.caller(0, "bob", "conversations:create publish:*");
        calls.push(http.post("/v1/conversations", &json!({"conversation": "d"})).await);
        calls.push(http.post("/v1/conversations/c/messages", &json!({"key": "k", "content": "hi"})).await);
        calls.push(http.post("/v1/topics/t/publications", &json!({"data": 1})).await);
        for call in calls {
            assert_eq!(refused(&call, 403, "forbidden"), "not on Sundays");
        }
        assert_eq!(backend.requests().len(), 9);

        let history = bob.ask("history", json!({"conversation": "c"})).await;
        assert_eq!(history["messages"], json!([]));
        let conversations = json_of(&http.get("/v1/conversations").await, 200);
        assert_eq!(conversations["conversations"].as_array().unwrap().len(), 1);
    });
}

#[test]
fn a_backend_rewrites_messages() {
    everywhere(async |place| {
        let backend = Backend::start(async |request| {
            let content = request.body["data"]["content"].as_str().unwrap_or_default().to_owned();
            let mut answer = json!({"allow": true});
            if content.contains("word") {
                answer["content"] = content.replace("word", "****").into();
                answer["metadata"] = json!({"masked": true});
            }
            Answer::Json(answer)
        })
        .await
        .unwrap();
        place.set("send", &backend).await;
        let (mut ada, mut bob) = (place.connect(0, "ada").await, place.connect(1, "bob").await);
        ada.ask("create", json!({"conversation": "c", "members": ["bob"]})).await;
        bob.wait_for_event("member").await.unwrap();
        bob.ask("join", json!({"conversation": "c"})).await;
        let mut send = message("c", "a bad word");
        send["metadata"] = json!({"app": 1});
        let first = ada.ask("send", send.clone()).await;
        ada.ask("send", message("c", "all good")).await;
        assert_eq!(bob.hears().await, (json!("a bad ****"), json!({"masked": true})));
        assert_eq!(bob.hears().await, (json!("all good"), Value::Null));
        // A retry is the same message, whatever the backend makes of it.
        let again = ada.ask("send", send).await;
        assert_eq!((&again["seq"], &again["duplicate"]), (&first["seq"], &json!(true)));
    });
}

#[test]
fn nobody_is_asked_about_what_may_not_happen_anyway_nor_about_what_the_application_does() {
    everywhere(async |place| {
        let mut bob = place.connect(0, "bob").await;
        bob.ask("create", json!({"conversation": "c"})).await;
        let backend = Backend::answering(Answer::refuse("no")).await.unwrap();
        for point in ["create", "join", "send", "publish", "subscribe"] {
            place.set(point, &backend).await;
        }
        let mut ada = place.connect(0, "ada").await;
        for op in [message("c", "hi"), message("nowhere", "hi")] {
            assert_eq!(ada.refusal("send", op).await.code, "not_found");
        }
        assert_eq!(ada.refusal("join", json!({"conversation": "c"})).await.code, "not_found");
        let powerless = place.caller(0, "ada", "");
        refused(&powerless.post("/v1/conversations", &json!({})).await, 403, "forbidden");
        refused(&powerless.post("/v1/topics/t/publications", &json!({"data": 1})).await, 403, "forbidden");

        let app = place.caller(0, "backend", "admin");
        json_of(&app.post("/v1/conversations", &json!({"conversation": "d"})).await, 201);
        let post = json!({"key": "k", "content": "hi", "sender": "ada"});
        json_of(&app.post("/v1/conversations/c/messages", &post).await, 201);
        json_of(&app.post("/v1/topics/t/publications", &json!({"data": 1})).await, 201);
        assert!(backend.requests().is_empty(), "{:?}", backend.requests());
    });
}

#[test]
fn who_lost_membership_while_a_backend_thought_sends_nothing() {
    everywhere(async |place| {
        let (tell, told) = tokio::sync::watch::channel(false);
        let backend = Backend::start(move |_| {
            let mut told = told.clone();
            async move {
                let _ = told.wait_for(|may_answer| *may_answer).await;
                Answer::allow()
            }
        })
        .await
        .unwrap();
        let (mut ada, mut bob) = (place.connect(0, "ada").await, place.connect(0, "bob").await);
        ada.ask("create", json!({"conversation": "c", "members": ["bob"]})).await;
        bob.wait_for_event("member").await.unwrap();
        place.set("send", &backend).await;
        let sending = bob.submit("send", message("c", "too late")).await.unwrap();
        backend.wait_for(crate::place::SOON, 1).await.unwrap();
        let owner = place.caller(0, "ada", "");
        assert_eq!(owner.delete("/v1/conversations/c/members/bob").await.status, 204);
        tell.send(true).unwrap();
        match bob.reply(sending).await {
            Err(Failure::Refused(error)) => assert_eq!(error.code, "not_found"),
            other => panic!("it was sent: {other:?}"),
        }
    });
}

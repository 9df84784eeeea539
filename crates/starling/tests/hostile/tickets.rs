//! Tickets and session ids of other users: they begin a new, empty session, and their owner is unaffected.
//!
//! `contract::resume` tests a single wrong ticket. These tests send many, truncated at every length and changed at every
//! position, while the owner is connected.

use serde_json::{Value, json};
use starling_testkit::client::{Client, Encoding};
use starling_testkit::http::Request;
use starling_testkit::node::Node;
use starling_testkit::token::Token;

use crate::witness::Witness;
use crate::{Memory, SOON, TURN, mib};

#[tokio::test(flavor = "multi_thread")]
async fn no_cut_changed_or_stolen_ticket_opens_a_session() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let witness = Witness::of(&node).await;
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    ada.set_patience(SOON);
    ada.command("create", json!({"conversation": "secret"})).await.unwrap();
    ada.command("join", json!({"conversation": "secret"})).await.unwrap();
    let session = ada.welcome()["session"].clone();
    let ticket = ada.welcome()["ticket"].as_str().unwrap().to_owned();
    let memory = Memory::of(&node);

    let mut forged: Vec<(String, String)> = Vec::new();
    for at in (0..ticket.len()).step_by(3) {
        let other = if ticket.as_bytes()[at] == b'A' { 'B' } else { 'A' };
        forged.push(("ada".to_owned(), format!("{}{other}{}", &ticket[..at], &ticket[at + 1..])));
        forged.push(("ada".to_owned(), ticket[..at].to_owned()));
    }
    forged.push(("ada".to_owned(), format!("{ticket}A")));
    forged.push(("ada".to_owned(), ticket.repeat(200)));
    forged.push(("ada".to_owned(), "\u{0}".repeat(100)));
    // A valid ticket of somebody else.
    forged.push(("mallory".to_owned(), ticket.clone()));
    for (user, ticket) in &forged {
        refused(&node, &node.token(user), &session, ticket).await;
    }
    // The same user's name in another tenant, even as its administrator.
    let elsewhere = Token::of("ada").tenant("other").scope("admin").sign(node.secret());
    refused(&node, &elsewhere, &session, &ticket).await;
    // A token is not a ticket, and a ticket is not a token.
    refused(&node, &node.token("ada"), &session, &node.token("ada")).await;
    let failure = Client::connect(&node.ws_url(), &ticket, Encoding::Json).await.unwrap_err();
    assert_eq!(failure.code(), Some("unauthorized"));

    println!("{} forged tickets", forged.len());
    memory.grew_at_most(&node, mib(24), "forged tickets");
    // None of them closed her connection, and she is still in her conversation.
    ada.command("send", json!({"conversation": "secret", "key": "k", "content": "x"})).await.unwrap();
    ada.wait_for_event("message").await.unwrap();
    witness.was_served().await;
}

async fn refused(node: &Node, token: &str, session: &Value, ticket: &str) {
    let resume = json!({"session": session, "ticket": ticket, "cursors": {"secret": 0}});
    match Client::resume(&node.ws_url(), token, Encoding::Json, resume).await {
        Ok(client) => {
            let welcome = client.welcome();
            assert_eq!(welcome["resumed"], false, "{ticket}");
            assert_ne!(&welcome["session"], session, "{ticket}");
            assert!(welcome.get("conversations").is_none() && welcome.get("gone").is_none(), "{welcome}");
        }
        Err(failure) => assert_eq!(failure.code(), Some("bad_request"), "{ticket}: {failure}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_ids_are_not_to_be_guessed_and_of_no_use_to_others() {
    let _turn = TURN.lock().await;
    let node = Node::builder().unlimited().start().await.unwrap();
    let mut ada = Client::connect(&node.ws_url(), &node.token("ada"), Encoding::Json).await.unwrap();
    let session = ada.welcome()["session"].as_str().unwrap().to_owned();
    let mut seen = std::collections::HashSet::from([session.clone()]);
    for _ in 0..20 {
        let other = Client::connect(&node.ws_url(), &node.token("mallory"), Encoding::Json).await.unwrap();
        let id = other.welcome()["session"].as_str().unwrap().to_owned();
        assert!(id.len() >= 24 && seen.insert(id.clone()), "{id}");
    }
    let admin_elsewhere = Token::of("root").tenant("other").scope("admin operate").sign(node.secret());
    for (token, status) in [(node.token("mallory"), 403), (admin_elsewhere, 404)] {
        let url = format!("{}/v1/sessions/{session}", node.http_url());
        assert_eq!(Request::new("DELETE", &url).bearer(&token).send().await.unwrap().status, status);
    }
    ada.command("ping", json!({})).await.unwrap();
}

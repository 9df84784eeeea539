//! What a message costs in the log, by the size of the batch that it comes in.
//!
//! `cargo run --release -p starling-conversation-store --example append_cost [DATABASE_URL [BATCH]]`; without a URL a
//! PostgreSQL of its own is started, and then an SQLite file is used.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use starling_conversation_store::{Append, ConversationId, ConversationStore, NewConversation, connect};
use starling_testkit::Folder;
use starling_testkit::postgres::Postgres;

const CONVERSATIONS: usize = 1_000;
const CONTENT: &str = "Some hundred and twenty-eight bytes, which is what people tend to write to each other at a time, \
                       give or take a few words...";

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(url) = std::env::args().nth(1) {
        let only = std::env::args().nth(2).map(|batch| batch.parse()).transpose().context("BATCH")?;
        return measure(&url, only).await;
    }
    let postgres = Postgres::start().await?;
    measure(&postgres.url(), None).await?;
    let folder = Folder::new("append-cost")?;
    measure(&format!("sqlite://{}", folder.join("starling.db").display()), None).await
}

async fn measure(url: &str, only: Option<usize>) -> Result<()> {
    let store = connect(url).await?;
    store.migrate().await?;
    let mut conversations = Vec::new();
    for number in 0..CONVERSATIONS {
        let new = NewConversation {
            tenant: "cost".into(),
            conversation: format!("c{number}").into(),
            owner: "owner".into(),
            title: None,
            metadata: None,
            members: Vec::new(),
        };
        conversations.push(store.create(&new).await?.id);
    }
    println!("{}", url.split("://").next().unwrap_or_default());
    for (batch, conversations, what) in [
        (1, conversations.as_slice(), "spread over 1,000 conversations"),
        (10, &conversations, "spread over 1,000 conversations"),
        (100, &conversations, "spread over 1,000 conversations"),
        (500, &conversations, "spread over 1,000 conversations"),
        (100, &conversations[..1], "in one conversation"),
    ] {
        if only.is_some_and(|only| only != batch) {
            continue;
        }
        run(&*store, conversations, batch, Duration::from_millis(500)).await?;
        let (messages, taken) = run(&*store, conversations, batch, Duration::from_secs(3)).await?;
        let per_message_us = taken.as_secs_f64() * 1e6 / messages as f64;
        println!("  {batch:>4} a batch, {what}: {per_message_us:.1} us a message");
    }
    Ok(())
}

/// Appends batch after batch for a while; returns how many messages, and the time they took.
async fn run(
    store: &dyn ConversationStore,
    conversations: &[ConversationId],
    batch: usize,
    how_long: Duration,
) -> Result<(usize, Duration)> {
    let (started, mut messages) = (Instant::now(), 0);
    while started.elapsed() < how_long {
        let appends: Vec<Append> = (0..batch)
            .map(|_| {
                let conversation = conversations[rand::random_range(0..conversations.len())];
                let (id, key) = (uuid::Uuid::now_v7(), uuid::Uuid::new_v4());
                Append::of_user(id, conversation, "owner", key.to_string(), CONTENT)
            })
            .collect();
        for answer in store.append(&appends).await? {
            answer.context("every conversation is there")?;
        }
        messages += batch;
    }
    Ok((messages, started.elapsed()))
}

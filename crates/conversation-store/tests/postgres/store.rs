//! A store, and what the tests put into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use starling_conversation_store::postgres::{PostgresConfig, PostgresStore};
use starling_conversation_store::{
    Append, Appended, ConversationId, ConversationStore, Error, NewConversation,
};

/// For conditions that come true by themselves, on a machine busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(60);

pub fn store(url: &str) -> Result<Arc<PostgresStore>> {
    Ok(Arc::new(PostgresStore::connect(PostgresConfig::new(url))?))
}

/// Repeats a call as long as it fails for now, as the rest of Starling does.
pub async fn eventually<T, F, C>(what: &str, mut call: C) -> Result<T>
where
    F: Future<Output = Result<T, Error>>,
    C: FnMut() -> F,
{
    let started = Instant::now();
    loop {
        match call().await {
            Ok(value) => return Ok(value),
            Err(error) if error.is_transient() && started.elapsed() < LIMIT => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return Err(error).with_context(|| what.to_owned()),
        }
    }
}

pub fn failed<T>(result: Result<T, Error>) -> Result<Error> {
    result.err().context("succeeded")
}

pub async fn append(store: &PostgresStore, id: ConversationId, key: &str) -> Result<Appended> {
    let batch = [message(id, key)];
    Ok(eventually("an append", || store.append(&batch)).await?[0]?)
}

pub fn new(name: &str) -> NewConversation {
    NewConversation {
        tenant: "t".into(),
        conversation: name.into(),
        owner: "owner".into(),
        title: None,
        metadata: None,
        members: Vec::new(),
    }
}

pub fn message(conversation: ConversationId, key: &str) -> Append {
    Append::of_user(uuid::Uuid::now_v7(), conversation, "owner", key, key)
}

//! The store's metrics, with their handles registered once.

use std::future::Future;
use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};

use crate::{AppendError, Appended, Error};

/// The metrics of a store.
pub(crate) struct Metrics {
    /// Duration of an `append`, from the call to the answer after the commit.
    commit_seconds: Histogram,
    /// Number of messages in an `append`.
    commit_messages: Histogram,
    /// Duration of any other call that writes.
    write_seconds: Histogram,
    /// Duration of a call that only reads.
    read_seconds: Histogram,
    stored: Counter,
    duplicate: Counter,
    no_conversation: Counter,
    refused_messages: Counter,
    unavailable_messages: Counter,
    unavailable: Counter,
    refused: Counter,
    unsupported: Counter,
    address: Counter,
    /// Reads that the primary answered because the replica failed.
    pub(crate) replica_fallbacks: Counter,
}

/// The kind of a call.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Read,
    Write,
}

impl Metrics {
    /// Registers the metrics. `database` is `postgres` or `sqlite`.
    pub(crate) fn new(database: &'static str) -> Self {
        let calls = |work: &'static str| histogram!("starling_store_call_seconds", "database" => database, "work" => work);
        let messages = |outcome: &'static str| counter!("starling_store_messages_total", "database" => database, "outcome" => outcome);
        let errors = |kind: &'static str| counter!("starling_store_errors_total", "database" => database, "kind" => kind);
        Self {
            commit_seconds: histogram!("starling_store_commit_seconds", "database" => database),
            commit_messages: histogram!("starling_store_commit_messages", "database" => database),
            write_seconds: calls("write"),
            read_seconds: calls("read"),
            stored: messages("stored"),
            duplicate: messages("duplicate"),
            no_conversation: messages("no_such_conversation"),
            refused_messages: messages("refused"),
            unavailable_messages: messages("unavailable"),
            unavailable: errors("unavailable"),
            refused: errors("refused"),
            unsupported: errors("unsupported"),
            address: errors("address"),
            replica_fallbacks: counter!("starling_store_replica_fallbacks_total", "database" => database),
        }
    }

    /// Times a call and counts its error.
    pub(crate) async fn call<T>(
        &self,
        work: Work,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let seconds = match work {
            Work::Read => &self.read_seconds,
            Work::Write => &self.write_seconds,
        };
        self.timed(seconds, call).await
    }

    /// Times an append, and counts its messages or its error.
    pub(crate) async fn append(
        &self,
        call: impl Future<Output = Result<Vec<Result<Appended, AppendError>>, Error>>,
    ) -> Result<Vec<Result<Appended, AppendError>>, Error> {
        let answers = self.timed(&self.commit_seconds, call).await?;
        let (mut stored, mut duplicate, mut no_conversation, mut refused, mut unavailable) = (0, 0, 0, 0, 0);
        for answer in &answers {
            match answer {
                Ok(appended) if appended.duplicate => duplicate += 1,
                Ok(_) => stored += 1,
                Err(AppendError::NoSuchConversation) => no_conversation += 1,
                Err(AppendError::Refused) => refused += 1,
                Err(AppendError::Unavailable) => unavailable += 1,
            }
        }
        self.commit_messages.record(answers.len() as f64);
        self.stored.increment(stored);
        self.duplicate.increment(duplicate);
        self.no_conversation.increment(no_conversation);
        self.refused_messages.increment(refused);
        self.unavailable_messages.increment(unavailable);
        Ok(answers)
    }

    async fn timed<T>(
        &self,
        seconds: &Histogram,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let result = call.await;
        seconds.record(started.elapsed());
        if let Err(error) = &result {
            match error {
                Error::Unavailable(_) => self.unavailable.increment(1),
                Error::Refused(_) => self.refused.increment(1),
                Error::Unsupported(_) => self.unsupported.increment(1),
                Error::Address(_) => self.address.increment(1),
                _ => {}
            }
        }
        result
    }
}

//! Asking a backend before something happens.

mod answer;
mod breaker;
mod bulkhead;
mod question;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::client::{Client, Post};
use crate::{Hook, HookPoint, OnFailure, Secret};

use breaker::Breakers;
use bulkhead::Bulkheads;

pub(crate) use answer::read;
pub use breaker::BreakerSettings;
pub use question::{Question, WrittenQuestion};
pub use verdict::{AskFailure, Asked, Rewrite, Verdict};

/// The longest answer of a backend, bytes. A message with all its characters escaped fits.
pub const HOOK_ANSWER_BYTES_MAX: usize = 512 << 10;

/// Time to retry after a hook failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Asks the backends of hooks.
///
/// Each tenant has a number of questions that may be under way, so that a slow backend delays only the commands of its own tenant. Each
/// hook has a *breaker*: after some failures in a row its backend is not asked for a while, and then one question tells whether it works
/// again.
///
/// It keeps no order: a caller that needs one asks the next question after the answer to the one before.
pub struct AskingClient {
    client: Client,
    bulkheads: Arc<Bulkheads>,
    breakers: Arc<Breakers>,
}

/// The limits of an [`AskingClient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskingLimits {
    /// The most questions of a tenant that are under way.
    pub under_way_max: usize,
    /// The most questions of a tenant that wait until fewer are under way.
    pub waiting_max: usize,
    /// When a backend is not asked.
    pub breaker: BreakerSettings,
}

impl Default for AskingLimits {
    fn default() -> Self {
        Self { under_way_max: 64, waiting_max: 1024, breaker: BreakerSettings::default() }
    }
}

impl AskingClient {
    /// Makes a client that sends its questions by `client`.
    #[must_use]
    pub fn new(client: Client, limits: AskingLimits) -> Self {
        Self {
            client,
            bulkheads: Arc::new(Bulkheads::new(limits.under_way_max, limits.waiting_max)),
            breakers: Arc::new(Breakers::new(limits.breaker)),
        }
    }

    /// Asks the backend of a hook. Returns within the hook's time, whatever the backend does.
    ///
    /// The question must have been written for this hook. It is signed with all of its secrets.
    pub async fn ask(&self, hook: &Hook, secrets: &[Secret], question: WrittenQuestion) -> Asked {
        let failure = match self.decided(hook, secrets, question).await {
            Ok(verdict) => return Asked { verdict, failure: None },
            Err(failure) => failure,
        };
        let verdict = match hook.on_failure {
            OnFailure::Refuse => Verdict::Unavailable(RETRY_AFTER),
            OnFailure::Allow => Verdict::Allow(Rewrite::default()),
        };
        Asked { verdict, failure: Some(failure) }
    }

    /// Returns how many of the hooks have backends that have failed too often and have not answered since.
    #[must_use]
    pub fn open_breakers(&self) -> usize {
        self.breakers.open()
    }

    /// Forgets the failures of all other hooks, and those of backends that these hooks no longer name.
    pub fn keep<'a>(&self, hooks: impl Iterator<Item = &'a Hook>) {
        self.breakers.keep(hooks);
    }

    async fn decided(
        &self,
        hook: &Hook,
        secrets: &[Secret],
        question: WrittenQuestion,
    ) -> Result<Verdict, AskFailure> {
        let deadline = Instant::now() + hook.timeout;
        let _place = self.bulkheads.enter(&hook.tenant, deadline).await.ok_or(AskFailure::Busy)?;
        let attempt = self.breakers.begin(hook, Instant::now()).ok_or(AskFailure::Open)?;
        let decision = self.answered(hook, secrets, question, deadline).await;
        attempt.end(decision.is_ok(), Instant::now());
        decision
    }

    async fn answered(
        &self,
        hook: &Hook,
        secrets: &[Secret],
        question: WrittenQuestion,
        deadline: Instant,
    ) -> Result<Verdict, AskFailure> {
        let id = Uuid::now_v7().to_string();
        let post = Post {
            endpoint: &hook.endpoint,
            id: &id,
            secrets,
            body: question.body,
            limit: deadline.saturating_duration_since(Instant::now()),
            answer_bytes_max: HOOK_ANSWER_BYTES_MAX,
        };
        let answer = self.client.post(&post).await.map_err(AskFailure::Request)?;
        if answer.status != 200 {
            return Err(AskFailure::Status(answer.status));
        }
        if let Some(incomplete) = answer.incomplete {
            return Err(AskFailure::Request(incomplete));
        }
        read(&answer.body, hook.point == HookPoint::Send).map_err(AskFailure::Answer)
    }
}

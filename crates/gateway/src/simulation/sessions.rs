//! The simulated session store: the one for a single process, which all nodes share. Each node reaches it over a line of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use starling_model::{ConversationId, TenantName, UserName};
use starling_rate::Rate;
use starling_session_store::memory::{MemoryConfig, MemoryStore};
use starling_session_store::{
    Attach, Attached, Beat, Clock, ConversationKey, Dropped, Ended, Error, Held, Hold, NodeRecord,
    PresenceChange, PresenceEntry, Restored, SessionChange, SessionList, SessionRecord, SessionStore, Stamp,
    Verdict,
};
use tokio::time::Instant;

use super::line::{Line, NoAnswer};
use super::sabotage::Sabotage;
use super::time;

/// Makes an empty store whose leases expire in simulated time.
pub fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::with(MemoryConfig { clock: Clock::new(time::now_ms), ..MemoryConfig::default() }))
}

/// The store as one node reaches it.
pub struct SessionClient {
    pub store: Arc<MemoryStore>,
    pub line: Line,
    pub sabotage: Option<Sabotage>,
    /// Whether the node does not know yet that its lease was lost, because a beat got no answer.
    pub lost: AtomicBool,
}

impl SessionClient {
    async fn ask<T>(&self, ask: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let answer = self.line.call(ask).await;
        answer.unwrap_or_else(|NoAnswer| Err(Error::Unavailable("simulated".to_owned())))
    }

    /// Returns a stamp as the store keeps it.
    fn kept(&self, stamp: Stamp) -> Stamp {
        if self.sabotage == Some(Sabotage::CoarseStamps) { stamp / 20_000 * 20_000 } else { stamp }
    }

    /// Returns the key under which the presence in a conversation is kept.
    fn presence_key(&self, of: &ConversationKey) -> ConversationKey {
        match self.sabotage {
            Some(Sabotage::ByName("Presence")) => {
                ConversationKey { id: ConversationId::new(0), ..of.clone() }
            }
            _ => of.clone(),
        }
    }
}

#[async_trait]
impl SessionStore for SessionClient {
    async fn beat(&self, node: &NodeRecord) -> Result<Beat, Error> {
        let beat = async {
            let beat = self.store.beat(node).await?;
            self.lost.fetch_or(beat.lost, Ordering::Relaxed);
            Ok(beat)
        };
        let beat = self.ask(beat).await?;
        Ok(Beat { lost: self.lost.swap(false, Ordering::Relaxed), ..beat })
    }

    async fn leave(&self, node: &str) -> Result<(), Error> {
        self.ask(self.store.leave(node)).await
    }

    async fn nodes(&self) -> Result<Vec<NodeRecord>, Error> {
        self.ask(self.store.nodes()).await
    }

    fn now_us(&self) -> i64 {
        self.store.now_us()
    }

    async fn attach(&self, attach: &Attach) -> Result<Attached, Error> {
        let asked = Instant::now();
        // A client of a real server knows the server's clock and counts the time on the way.
        let attach = async {
            let waited = attach.waited + asked.elapsed();
            self.store.attach(&Attach { waited, ..attach.clone() }).await
        };
        let mut attached = self.ask(attach).await?;
        if self.sabotage == Some(Sabotage::SameStamps)
            && let Attached::New { stamp } | Attached::Resumed { stamp, .. } | Attached::Rebuilt { stamp } =
                &mut attached
        {
            *stamp = 1;
        }
        Ok(attached)
    }

    async fn hold(&self, hold: &Hold) -> Result<Held, Error> {
        let hold = Hold { stamp: self.kept(hold.stamp), ..hold.clone() };
        let held = self.ask(self.store.hold(&hold)).await?;
        Ok(match self.sabotage {
            Some(Sabotage::HoldAll) => Held::Held { previous_node: None },
            _ => held,
        })
    }

    async fn restore(&self, node: &str, sessions: &[SessionRecord]) -> Result<Restored, Error> {
        let kept =
            |record: &SessionRecord| SessionRecord { stamp: self.kept(record.stamp), ..record.clone() };
        let sessions: Vec<SessionRecord> = sessions.iter().map(kept).collect();
        self.ask(self.store.restore(node, &sessions)).await
    }

    async fn detach(&self, node: &str, dropped: &[Dropped], now_ms: i64) -> Result<(), Error> {
        let kept = |dropped: &Dropped| Dropped { stamp: self.kept(dropped.stamp), ..dropped.clone() };
        let dropped: Vec<Dropped> = dropped.iter().map(kept).collect();
        self.ask(self.store.detach(node, &dropped, now_ms)).await
    }

    async fn update(&self, batch: &[SessionChange]) -> Result<(), Error> {
        self.ask(self.store.update(batch)).await
    }

    async fn knows(&self, tenant: &TenantName, session: &str) -> Result<bool, Error> {
        self.ask(self.store.knows(tenant, session)).await
    }

    async fn end(&self, tenant: &TenantName, session: &str) -> Result<Option<Ended>, Error> {
        if self.sabotage == Some(Sabotage::HideEnds) {
            return Ok(Some(Ended { node: None }));
        }
        self.ask(self.store.end(tenant, session)).await
    }

    async fn sessions(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        self.ask(self.store.sessions(tenant, user, cursor, limit)).await
    }

    async fn set_presence(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        let conversation = |change: &PresenceChange| self.presence_key(&change.conversation);
        let batch: Vec<PresenceChange> = batch
            .iter()
            .map(|change| PresenceChange { conversation: conversation(change), ..change.clone() })
            .collect();
        self.ask(self.store.set_presence(node, &batch)).await
    }

    async fn presence(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        let of: Vec<ConversationKey> = of.iter().map(|key| self.presence_key(key)).collect();
        let entries = self.ask(self.store.presence(&of)).await?;
        Ok(match self.sabotage {
            Some(Sabotage::HidePresence) => vec![Vec::new(); entries.len()],
            _ => entries,
        })
    }

    async fn keep_presence(&self, of: &[ConversationKey]) -> Result<(), Error> {
        self.ask(self.store.keep_presence(of)).await
    }

    async fn set_connections(
        &self,
        node: &str,
        tenant: &TenantName,
        count: u64,
        max: Option<u64>,
    ) -> Result<bool, Error> {
        self.ask(self.store.set_connections(node, tenant, count, max)).await
    }

    async fn take(&self, tenant: &TenantName, user: &UserName, rate: Rate) -> Result<Verdict, Error> {
        self.ask(self.store.take(tenant, user, rate)).await
    }

    async fn ping(&self) -> Option<Result<(), Error>> {
        Some(self.ask(async { Ok(()) }).await)
    }
}

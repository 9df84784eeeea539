//! Presence: which users are in which conversation.

use std::sync::Arc;
use std::time::Instant;

use fred::types::Value;
use starling_model::UserName;
use starling_redis_link::{Command, Connection};

use super::link::{Link, PRESENCE};
use super::registry::{Registry, millis};
use super::reply::Reply;
use crate::{ConversationKey, Error, PresenceChange, PresenceEntry};

/// Lifetime of a conversation's presence that is not extended, milliseconds.
const LIFETIME_MS: i64 = 2 * 60 * 60 * 1000;
/// The most changes in one command.
const RUN_MAX: usize = 500;
/// The most conversations in one command.
const RUNS_MAX: usize = 64;
/// How long a node must be dead before its entries are removed, in leases. A node that only stalled writes its entries again when it
/// comes back, and those must not be mistaken for the old ones.
const REMOVE_AFTER_LEASES: i64 = 4;

#[derive(Debug)]
pub(super) struct Presence {
    link: Arc<Link>,
    registry: Arc<Registry>,
}

impl Presence {
    pub(super) fn new(link: Arc<Link>, registry: Arc<Registry>) -> Self {
        Self { link, registry }
    }

    pub(super) async fn set(&self, node: &str, batch: &[PresenceChange]) -> Result<(), Error> {
        let by_name_too = !self.registry.older().is_empty();
        // The changes of one conversation keep their order.
        let mut sorted: Vec<&PresenceChange> = batch.iter().collect();
        sorted.sort_by(|a, b| a.conversation.cmp(&b.conversation));
        let mut runs = Vec::new();
        for run in
            sorted.chunk_by(|a, b| a.conversation == b.conversation).flat_map(|run| run.chunks(RUN_MAX))
        {
            let of = &run[0].conversation;
            runs.push((self.link.keys.presence(of), run));
            if by_name_too {
                runs.push((self.link.keys.presence_by_name(of), run));
            }
        }
        // In a cluster each conversation is in a slot of its own.
        let runs_max = if self.link.pool.is_cluster() { 1 } else { RUNS_MAX };
        let commands = runs.chunks(runs_max).map(|runs| self.set_command(node, runs)).collect();
        self.link.pool.pipeline(PRESENCE, commands).await?;
        Ok(())
    }

    /// Makes a command that writes changes, each run of them to its key.
    fn set_command(&self, node: &str, runs: &[(String, &[&PresenceChange])]) -> Command {
        let keys = runs.iter().map(|(key, _)| key.clone()).collect();
        let set = self.link.scripts.set.call(keys).with(LIFETIME_MS);
        runs.iter().fold(set, |set, (_, run)| {
            let set = set.with(i64::try_from(run.len()).unwrap_or(i64::MAX));
            run.iter().fold(set, |set, change| {
                set.with(format!("{node}/{}", change.user)).with(i64::from(change.devices))
            })
        })
    }

    pub(super) async fn of(&self, of: &[ConversationKey]) -> Result<Vec<Vec<PresenceEntry>>, Error> {
        let begun = Instant::now();
        let older = self.registry.older();
        let mut keys: Vec<String> = of.iter().map(|key| self.link.keys.presence(key)).collect();
        if !older.is_empty() {
            keys.extend(of.iter().map(|key| self.link.keys.presence_by_name(key)));
        }
        let commands = keys.into_iter().map(|key| Command::new("HGETALL", key)).collect();
        let mut hashes: Vec<Vec<Entry>> =
            self.link.pool.pipeline(Connection::Any, commands).await?.into_iter().map(entries).collect();
        let by_name = hashes.split_off(of.len().min(hashes.len()));
        for (hash, by_name) in hashes.iter_mut().zip(by_name) {
            // Newer nodes write there for the older ones only, and possibly about an earlier conversation of that name.
            hash.extend(by_name.into_iter().filter(|entry| older.contains(&entry.node)));
        }
        let mut nodes = self.registry.recent().await?;
        if hashes.iter().flatten().any(|entry| !nodes.lives(&entry.node)) {
            // The node may have just started, or come back.
            nodes = self.registry.since(begun).await?;
        }
        let remove_before_ms = nodes.now_ms - REMOVE_AFTER_LEASES * millis(self.registry.lease);
        let mut stale = Vec::new();
        let mut present = Vec::with_capacity(of.len());
        for (key, hash) in of.iter().zip(hashes) {
            let (there, gone): (Vec<_>, Vec<_>) =
                hash.into_iter().partition(|entry| nodes.lives(&entry.node));
            let mut unset = self.link.scripts.unset.call(vec![self.link.keys.presence(key)]);
            let arguments = unset.argument_count();
            for entry in gone {
                if nodes.died_at(&entry.node).is_some_and(|at| at < remove_before_ms) {
                    unset = unset.with(entry.field).with(entry.value);
                }
            }
            if unset.argument_count() > arguments {
                stale.push(unset);
            }
            let mut there: Vec<_> = there.into_iter().filter_map(Entry::present).collect();
            there.sort_by(|a, b| (&a.user, &a.node).cmp(&(&b.user, &b.node)));
            present.push(there);
        }
        self.remove(stale).await;
        Ok(present)
    }

    pub(super) async fn keep(&self, of: &[ConversationKey]) -> Result<(), Error> {
        // The key by name is only for the older nodes, so it may expire.
        let prolong = |key| Command::new("PEXPIRE", self.link.keys.presence(key)).with(LIFETIME_MS);
        self.link.pool.pipeline(PRESENCE, of.iter().map(prolong).collect()).await?;
        Ok(())
    }

    async fn remove(&self, stale: Vec<Command>) {
        if stale.is_empty() {
            return;
        }
        match self.link.pool.pipeline(PRESENCE, stale).await {
            Ok(removed) => {
                let removed: i64 = removed.iter().filter_map(Value::as_i64).sum();
                self.link.metrics.stale_presence.increment(removed.unsigned_abs());
            }
            // The next reader tries again.
            Err(error) => tracing::debug!(%error, "presence of dead nodes could not be removed"),
        }
    }
}

/// A field of a conversation's hash.
#[derive(Debug)]
pub(super) struct Entry {
    field: String,
    value: String,
    node: String,
    user: UserName,
}

impl Entry {
    pub(super) fn present(self) -> Option<PresenceEntry> {
        let devices = self.value.parse().ok().filter(|devices| *devices > 0)?;
        Some(PresenceEntry { user: self.user, node: self.node, devices })
    }
}

pub(super) fn entries(hash: Value) -> Vec<Entry> {
    let mut reply = Reply::of(hash);
    let mut entries = Vec::new();
    while let (Some(field), Some(value)) = (reply.optional_text(), reply.optional_text()) {
        // A user's name contains no slash; a node's name may.
        let Some((node, user)) = field.rsplit_once('/') else { continue };
        let (node, user) = (node.to_owned(), user.into());
        entries.push(Entry { field, value, node, user });
    }
    entries
}

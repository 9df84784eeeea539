//! Requests of operators: nodes, sessions, a user's presence, health.

use starling_auth::Identity;
use starling_conversation_store::PoolStatus;
use starling_model::{TenantName, UserName};
use starling_session_store::{NodeRecord, SessionList, SessionSummary};
use starling_wire::protocol::{ErrorCode, Timestamp};

use crate::hub::Hub;
use crate::node_message::NodeMessage;
use crate::presence::LINGER;
use crate::{CommandError, HubConfig, clock};

/// Sessions of a user that are read per page to count devices, and the most pages that are read.
const DEVICES_PER_PAGE: u32 = 200;
const DEVICE_PAGES_MAX: usize = 50;

/// A user's presence, over all conversations.
#[derive(Clone, Debug)]
pub struct UserPresence {
    /// The user's name.
    pub user: UserName,
    /// Whether the user is connected to any node.
    pub online: bool,
    /// The number of the user's sessions.
    pub devices: u32,
    /// When the user was last seen, if they are not connected and it is known.
    pub last_seen: Option<Timestamp>,
}

impl Hub {
    /// Returns all living nodes, this one included.
    pub async fn nodes(&self, identity: &Identity) -> Result<Vec<NodeRecord>, CommandError> {
        need_admin(identity)?;
        let mut nodes = self.session_store.nodes().await?;
        // This node's own record is newer than the one of its last beat.
        nodes.retain(|record| record.node != *self.node);
        for record in &mut nodes {
            record.node = HubConfig::node_of(&record.node).to_owned();
        }
        nodes.push(self.record());
        // A node that has just been restarted may appear twice, since the lease of its last run may not have expired. Keep the newer one.
        nodes.sort_by(|a, b| a.node.cmp(&b.node).then(b.started_at_ms.cmp(&a.started_at_ms)));
        nodes.dedup_by(|older, newer| older.node == newer.node);
        Ok(nodes)
    }

    /// Makes a node drain and end, as SIGTERM does.
    pub async fn drain_node(&self, identity: &Identity, node: &str) -> Result<(), CommandError> {
        if !identity.scopes.may_operate() {
            return Err(CommandError::forbidden("this needs the scope operate"));
        }
        if *node == *self.name {
            self.drain_wanted.notify_one();
            return Ok(());
        }
        let nodes = self.session_store.nodes().await?;
        let lives = nodes.iter().filter(|record| HubConfig::node_of(&record.node) == node);
        let Some(record) = lives.max_by_key(|record| record.started_at_ms) else {
            return Err(CommandError::new(ErrorCode::NotFound, "no such node lives"));
        };
        let message = NodeMessage::Drain { node: record.node.as_str().into() };
        self.publisher.send_to(&record.node, &message).await.map_err(|error| {
            tracing::debug!(%error, peer = node, "a node could not be told to drain");
            CommandError::unavailable("the node could not be told to drain; nothing was done")
        })
    }

    /// Lists the tenant's sessions: those of one user, or all.
    pub async fn list_sessions(
        &self,
        identity: &Identity,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, CommandError> {
        need_admin(identity)?;
        let mut list = self.session_store.sessions(&identity.tenant, user, cursor, limit).await?;
        for session in &mut list.sessions {
            session.node = HubConfig::node_of(&session.node).to_owned();
        }
        Ok(list)
    }

    /// Ends a session. Its connections are closed with 4410, and its tickets are never accepted again.
    pub async fn end_session(&self, identity: &Identity, session: &str) -> Result<(), CommandError> {
        need_admin(identity)?;
        let is_here = || self.sessions.get(session).is_some_and(|found| found.tenant == identity.tenant);
        match self.session_store.knows(&identity.tenant, session).await {
            Ok(true) => {}
            // The store may be down, or may have just lost its data. This node knows the sessions that it serves.
            _ if is_here() => {}
            Ok(false) => return Err(CommandError::new(ErrorCode::NotFound, "no such session")),
            Err(error) => return Err(error.into()),
        }
        // The database comes first. If it is down, nothing has happened yet, and the session goes on.
        self.ended.keep(session).await?;
        if let Err(error) = self.session_store.end(&identity.tenant, session).await {
            tracing::debug!(%error, "an ended session could not be removed from the session store");
        }
        self.ended.end_here(session);
        if self.publisher.is_clustered() {
            let message = NodeMessage::Ended { session: session.into() };
            if let Err(error) = self.publisher.publish_now(0, &message).await {
                // The other nodes read it from the database within a second.
                tracing::debug!(%error, "the end of a session could not be published to the other nodes");
            }
        }
        Ok(())
    }

    /// Returns whether a user is connected. Allowed to users who share a conversation with them, and to admins.
    pub async fn user_presence(
        &self,
        identity: &Identity,
        user: &UserName,
    ) -> Result<UserPresence, CommandError> {
        let tenant = &identity.tenant;
        self.reads.take(tenant, &identity.user)?;
        // The turn is held for the database only, so that other reads go on while Redis stalls.
        let turn = self.reads.turn(tenant, &identity.user).await?;
        let allowed = identity.scopes.is_admin()
            || identity.user == *user
            || self.store.share_conversation(tenant, &identity.user, user).await?;
        drop(turn);
        if !allowed {
            return Err(CommandError::new(
                ErrorCode::NotFound,
                "no such user, or you share no conversation with them",
            ));
        }
        let devices = self.devices(tenant, user).await?;
        let last_seen = match devices {
            0 => self
                .last_seen
                .read(tenant, std::slice::from_ref(user))
                .await
                .first()
                .map(|seen| Timestamp(seen.at_ms)),
            _ => None,
        };
        Ok(UserPresence { user: user.clone(), online: devices > 0, devices, last_seen })
    }

    /// Returns the number of sessions with which a user is connected. A session whose connection dropped a moment ago counts, as it does in
    /// a conversation.
    async fn devices(&self, tenant: &TenantName, user: &UserName) -> Result<u32, CommandError> {
        let linger_ms = i64::try_from(LINGER.as_millis()).unwrap_or(i64::MAX);
        let since_ms = clock::now_ms().saturating_sub(linger_ms);
        let (mut devices, mut cursor) = (0_u32, None);
        // Dropped sessions come first in the list, so several pages may be needed.
        for _ in 0..DEVICE_PAGES_MAX {
            let page = self.session_store.sessions(tenant, Some(user), cursor.as_deref(), DEVICES_PER_PAGE);
            let page = page.await?;
            let there = |session: &&SessionSummary| session.dropped_at_ms.is_none_or(|at| at > since_ms);
            let count = page.sessions.iter().filter(there).count();
            devices = devices.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        Ok(devices)
    }

    /// Checks whether the database responds.
    pub async fn database_health(&self) -> Result<(), String> {
        self.store.ping().await.map_err(|error| error.to_string())
    }

    /// Whether the session store has no memory for anything new, as far as this node knows.
    pub fn session_store_is_full(&self) -> bool {
        self.session_store.is_full()
    }

    /// Checks whether the session store responds. `None`: it is in the process.
    pub async fn session_store_health(&self) -> Option<Result<(), String>> {
        self.session_store.ping().await.map(|result| result.map_err(|error| error.to_string()))
    }

    /// Returns the state of the database's connection pools.
    pub fn pools(&self) -> Vec<PoolStatus> {
        self.store.pools()
    }
}

fn need_admin(identity: &Identity) -> Result<(), CommandError> {
    if identity.scopes.is_admin() {
        Ok(())
    } else {
        Err(CommandError::forbidden("this needs the scope admin"))
    }
}

//! Pages of sessions.

use std::sync::Arc;

use fred::types::Value;
use starling_model::{TenantName, UserName};
use starling_redis_link::{Command, Connection, Resend};

use super::link::SESSIONS;
use super::registry::Nodes;
use super::reply::Reply;
use super::sessions::Sessions;
use crate::clock::system_now_ms;
use crate::{Error, SessionList, SessionSummary};

/// The most sessions in a page.
const PAGE_MAX: u32 = 1_000;
/// The most reads of an index for one page, if much of it is stale.
const READS_MAX: usize = 10;

impl Sessions {
    /// Returns a page, in the order in which the entries of the index expire. A session that is attached or dropped while the pages are
    /// read may be missed or appear twice; all others appear once.
    pub(super) async fn page(
        &self,
        tenant: &TenantName,
        user: Option<&UserName>,
        cursor: Option<&str>,
        limit: u32,
    ) -> Result<SessionList, Error> {
        let index = match user {
            Some(user) => self.link.keys.sessions_of_user(tenant, user),
            None => self.link.keys.sessions_of_tenant(tenant),
        };
        let limit = limit.clamp(1, PAGE_MAX) as usize;
        let nodes = self.registry.recent().await?;
        let mut from = cursor.map(|cursor| Position::read(cursor).ok_or(Error::Cursor)).transpose()?;
        let mut sessions = Vec::new();
        for _ in 0..READS_MAX {
            // One more than asked for, to learn whether there is another page.
            let wanted = limit + 1 - sessions.len();
            let positions = self.read_index(&index, from.as_ref(), wanted).await?;
            let end = positions.len() < wanted;
            let found = self.read_sessions(&positions).await?;
            let mut stale = Vec::new();
            for (position, fields) in positions.into_iter().zip(found) {
                match summary(&position.session, tenant, user, Reply::of(fields), &nodes) {
                    Some(_) if sessions.len() == limit => {
                        let next = from.map(|last| last.written());
                        self.forget(&index, stale).await;
                        return Ok(SessionList { sessions, next });
                    }
                    Some(session) => sessions.push(session),
                    None => stale.push(position.session.clone()),
                }
                from = Some(position);
            }
            self.forget(&index, stale).await;
            if end {
                return Ok(SessionList { sessions, next: None });
            }
        }
        Ok(SessionList { sessions, next: from.map(|last| last.written()) })
    }

    async fn read_index(
        &self,
        index: &str,
        from: Option<&Position>,
        count: usize,
    ) -> Result<Vec<Position>, Error> {
        let page = self
            .link
            .scripts
            .page
            .call(vec![index.to_owned()])
            .with(system_now_ms())
            .with(count as i64)
            .with(from.map_or(Value::from_static_str(""), |from| from.expires_ms.into()))
            .with(from.map_or("", |from| &from.session));
        let mut reply = Reply::of(self.link.pool.call(Connection::Any, Resend::Yes, page).await?);
        let count = reply.integer()?;
        (0..count).map(|_| Ok(Position { session: reply.text()?, expires_ms: reply.integer()? })).collect()
    }

    async fn read_sessions(&self, positions: &[Position]) -> Result<Vec<Value>, Error> {
        let read = |position: &Position| {
            // The first field is a number. The client could take a name there for a publication.
            ["created_at", "node", "tenant", "user", "dropped_at", "window", "attached_at", "ended"]
                .into_iter()
                .fold(Command::new("HMGET", self.link.keys.session(&position.session)), Command::with)
        };
        Ok(self.link.pool.pipeline(Connection::Any, positions.iter().map(read).collect()).await?)
    }

    async fn forget(&self, index: &str, stale: Vec<String>) {
        let forget = |session| Command::new("ZREM", index.to_owned()).with(session);
        if let Err(error) = self.link.pool.pipeline(SESSIONS, stale.into_iter().map(forget).collect()).await {
            // The next reader tries again.
            tracing::debug!(%error, "stale entries of an index could not be removed");
        }
    }
}

/// The position in an index at which a page ended.
pub(super) struct Position {
    expires_ms: i64,
    session: String,
}

impl Position {
    pub(super) fn read(cursor: &str) -> Option<Self> {
        let (expires, session) = cursor.split_once(':')?;
        Some(Self { expires_ms: expires.parse().ok()?, session: session.to_owned() })
    }

    pub(super) fn written(&self) -> String {
        format!("{}:{}", self.expires_ms, self.session)
    }
}

/// Reads a session; `None` if it is missing, expired or of another tenant or user.
pub(super) fn summary(
    session: &str,
    tenant: &TenantName,
    user: Option<&UserName>,
    mut fields: Reply,
    nodes: &Arc<Nodes>,
) -> Option<SessionSummary> {
    let created_at_ms = fields.optional_text()?.parse().ok()?;
    let (node, of_tenant, of_user) =
        (fields.optional_text()?, fields.optional_text()?, fields.optional_text()?);
    let dropped_at_ms: Option<i64> = fields.optional_text().and_then(|at| at.parse().ok());
    let window_ms: i64 = fields.optional_text().and_then(|window| window.parse().ok())?;
    let attached_at_ms: i64 = fields.optional_text().and_then(|at| at.parse().ok())?;
    let ended = fields.optional_text().is_some();
    // The node was alive when it attached the session.
    let dropped_at_ms =
        dropped_at_ms.or_else(|| nodes.died_at(&node).map(|died_at_ms| died_at_ms.max(attached_at_ms)));
    let over = dropped_at_ms.is_some_and(|at| nodes.now_ms.saturating_sub(at) > window_ms);
    if *tenant != *of_tenant || user.is_some_and(|user| **user != of_user) || ended || over {
        return None;
    }
    Some(SessionSummary {
        session: session.to_owned(),
        user: of_user.into(),
        node,
        attached: dropped_at_ms.is_none(),
        dropped_at_ms,
        created_at_ms,
    })
}

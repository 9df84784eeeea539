//! Claims of deliveries whose time has come.

use std::collections::HashMap;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use starling_model::TenantName;

use super::values::{blob, ms, now_ms};
use super::webhooks::secrets;
use crate::{DeliveryClaim, DueDelivery, Endpoint, Error, EventId, WebhookId};

const LOOKED_AT: &str = "
    SELECT tenant, id FROM (
        SELECT tenant, id FROM webhooks WHERE NOT paused AND NOT (ordered AND failing_since_ms IS NOT NULL) ORDER BY id)
    UNION ALL SELECT tenant, id FROM (
        SELECT tenant, id FROM webhooks WHERE NOT paused AND ordered AND failing_since_ms IS NOT NULL ORDER BY random() LIMIT ?1)";
const DUE: &str = "
    SELECT d.due_at_ms, d.position
    FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE d.webhook = ?1 AND d.state = 0 AND d.due_at_ms <= ?2
        AND (NOT w.ordered OR d.order_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM webhook_deliveries e
            WHERE e.webhook = d.webhook AND e.order_key = d.order_key AND e.state = 0 AND e.position < d.position))
    ORDER BY d.due_at_ms, d.position LIMIT ?3";
const CLAIMED: &str = "
    SELECT w.tenant, d.event, w.url, d.attempts, d.body, d.first_attempt_at_ms, w.id
    FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook WHERE d.position = ?1";
const CLAIM: &str = "UPDATE webhook_deliveries SET due_at_ms = ?2, claimed_until_ms = ?2 WHERE position = ?1";

/// A delivery that may be claimed.
struct Candidate {
    tenant: TenantName,
    /// How many of its tenant's come before it.
    turn: usize,
    due_at_ms: i64,
    position: i64,
}

pub(super) fn claim(connection: &Connection, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error> {
    let now_ms = now_ms();
    let until_ms = now_ms.saturating_add(ms(claim.lasts));
    let mut claimed = Vec::new();
    for position in chosen(candidates(connection, claim, now_ms)?, claim) {
        connection.prepare_cached(CLAIM)?.execute(params![position, until_ms])?;
        match readable(connection, position, now_ms, until_ms) {
            Ok(delivery) => claimed.push(delivery),
            // The row can't be read. Another error is one of the database.
            Err(Error::Refused(error)) => {
                tracing::error!(position, error, "a delivery can't be read and is left out");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(claimed)
}

fn readable(
    connection: &Connection,
    position: i64,
    now_ms: i64,
    until_ms: i64,
) -> Result<DueDelivery, Error> {
    let mut statement = connection.prepare_cached(CLAIMED)?;
    let mut delivery = statement.query_row([position], |row| Ok(due(row, now_ms, until_ms)))??;
    delivery.secrets = secrets(connection, &delivery.tenant, delivery.webhook)?;
    Ok(delivery)
}

/// Looks at each webhook for itself, so that the backlog of one hides nothing of the others.
fn candidates(connection: &Connection, claim: &DeliveryClaim, now_ms: i64) -> Result<Vec<Candidate>, Error> {
    let mut looked_at = connection.prepare_cached(LOOKED_AT)?;
    let webhooks = looked_at.query_map([claim.failing_in_order], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, [u8; 16]>(1)?))
    })?;
    let mut candidates = Vec::new();
    for webhook in webhooks {
        let (tenant, id) = webhook?;
        let (tenant, id) = (TenantName::from(tenant.as_str()), WebhookId(uuid::Uuid::from_bytes(id)));
        if claim.except.contains(&id) || claim.except_tenants.contains(&tenant) {
            continue;
        }
        let mut statement = connection.prepare_cached(DUE)?;
        let found = statement.query_map(params![blob(id.0), now_ms, claim.of_each], |row| {
            Ok(Candidate { tenant: tenant.clone(), turn: 0, due_at_ms: row.get(0)?, position: row.get(1)? })
        })?;
        for candidate in found {
            candidates.push(candidate?);
        }
    }
    Ok(candidates)
}

/// Lets tenants take turns, and returns the positions of those that are claimed.
fn chosen(mut candidates: Vec<Candidate>, claim: &DeliveryClaim) -> impl Iterator<Item = i64> {
    candidates.sort_unstable_by_key(|candidate| (candidate.due_at_ms, candidate.position));
    let mut of_tenants: HashMap<TenantName, usize> = HashMap::new();
    for candidate in &mut candidates {
        let before = of_tenants.entry(candidate.tenant.clone()).or_default();
        candidate.turn = *before;
        *before += 1;
    }
    candidates.retain(|candidate| candidate.turn < usize::from(claim.of_tenant));
    candidates.sort_by_key(|candidate| candidate.turn);
    candidates.into_iter().take(claim.limit.into()).map(|candidate| candidate.position)
}

fn due(row: &Row<'_>, now_ms: i64, until_ms: i64) -> Result<DueDelivery, Error> {
    let first_ms: Option<i64> = row.get(5)?;
    let since_first_ms = first_ms.map_or(0, |first_ms| now_ms.saturating_sub(first_ms));
    let url: String = row.get(2)?;
    Ok(DueDelivery {
        tenant: row.get::<_, String>(0)?.as_str().into(),
        webhook: WebhookId(uuid::Uuid::from_bytes(row.get(6)?)),
        event: EventId(uuid::Uuid::from_bytes(row.get(1)?)),
        endpoint: Endpoint::parse(&url).map_err(|error| Error::Refused(error.to_string()))?,
        secrets: Vec::new(),
        attempts: row.get(3)?,
        since_first: Duration::from_millis(u64::try_from(since_first_ms).unwrap_or(0)),
        body: row.get(4)?,
        claimed_until_ms: until_ms,
    })
}

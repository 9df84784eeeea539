//! Claims of deliveries whose time has come.

use std::time::Duration;

use rusqlite::{Connection, Row, params};

use super::values::{blob, ms, now_ms};
use super::webhooks::secrets;
use crate::{DeliveryClaim, DueDelivery, Endpoint, Error, EventId, WebhookId};

const LOOKED_AT: &str = "
    SELECT id FROM (
        SELECT id FROM webhooks WHERE NOT paused AND NOT (ordered AND failing_since_ms IS NOT NULL) ORDER BY id)
    UNION ALL SELECT id FROM (
        SELECT id FROM webhooks WHERE NOT paused AND ordered AND failing_since_ms IS NOT NULL ORDER BY random() LIMIT ?1)";
const DUE: &str = "
    SELECT w.tenant, d.event, w.url, d.attempts, d.body, d.first_attempt_at_ms
    FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE d.webhook = ?1 AND d.state = 0 AND d.due_at_ms <= ?2
        AND (NOT w.ordered OR d.order_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM webhook_deliveries e
            WHERE e.webhook = d.webhook AND e.order_key = d.order_key AND e.state = 0 AND e.position < d.position))
    ORDER BY d.due_at_ms, d.position LIMIT ?3";
const CLAIM: &str = "UPDATE webhook_deliveries SET due_at_ms = ?3 WHERE webhook = ?1 AND event = ?2";

pub(super) fn claim(connection: &Connection, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error> {
    let now_ms = now_ms();
    let until_ms = now_ms.saturating_add(ms(claim.lasts));
    let mut claimed: Vec<DueDelivery> = Vec::new();
    let mut looked_at = connection.prepare_cached(LOOKED_AT)?;
    let webhooks: Vec<[u8; 16]> =
        looked_at.query_map([claim.failing_in_order], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for webhook in webhooks.into_iter().map(|id| WebhookId(uuid::Uuid::from_bytes(id))) {
        let left = usize::from(claim.limit).saturating_sub(claimed.len());
        if left == 0 || claim.except.contains(&webhook) {
            continue;
        }
        let limit = i64::try_from(left.min(usize::from(claim.of_each))).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached(DUE)?;
        let rows = statement
            .query_map(params![blob(webhook.0), now_ms, limit], |row| Ok(due(row, webhook, now_ms)))?;
        let mut found = rows.collect::<Result<Result<Vec<_>, Error>, _>>()??;
        for delivery in &mut found {
            let names = params![blob(webhook.0), blob(delivery.event.0), until_ms];
            connection.prepare_cached(CLAIM)?.execute(names)?;
            delivery.secrets = secrets(connection, &delivery.tenant, webhook)?;
        }
        claimed.append(&mut found);
    }
    Ok(claimed)
}

fn due(row: &Row<'_>, webhook: WebhookId, now_ms: i64) -> Result<DueDelivery, Error> {
    let first_ms: Option<i64> = row.get(5)?;
    let since_first_ms = first_ms.map_or(0, |first_ms| now_ms.saturating_sub(first_ms));
    let url: String = row.get(2)?;
    Ok(DueDelivery {
        tenant: row.get::<_, String>(0)?.as_str().into(),
        webhook,
        event: EventId(uuid::Uuid::from_bytes(row.get(1)?)),
        endpoint: Endpoint::parse(&url).map_err(|error| Error::Refused(error.to_string()))?,
        secrets: Vec::new(),
        attempts: row.get(3)?,
        since_first: Duration::from_millis(u64::try_from(since_first_ms).unwrap_or(0)),
        body: row.get(4)?,
    })
}

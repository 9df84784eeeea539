//! Totals over all webhooks.

use std::time::Duration;

use rusqlite::{Connection, Row, params};

use super::values::now_ms;
use crate::{Busy, Error, WebhookOverview};

/// Looks at the first deliveries of each webhook only, however many wait. What may be attempted is as in the claim, among the first hundred that are
/// due: behind a delivery that fails, thousands of its order may wait.
const OVERVIEW: &str = "
    WITH claims AS (
        SELECT w.id, w.tenant, c.claims FROM (
            SELECT d.webhook, count(*) AS claims FROM webhook_deliveries d
            WHERE d.state = 0 AND d.claimed_until_ms > ?1 GROUP BY d.webhook
        ) c JOIN webhooks w ON w.id = c.webhook
    ), busy_tenants AS (
        SELECT tenant FROM claims GROUP BY tenant HAVING sum(claims) >= ?3
    )
    SELECT count(*) FILTER (WHERE paused AND failing_since_ms IS NOT NULL), count(*) FILTER (WHERE paused AND failing_since_ms IS NULL),
        min(waiting_since_ms), min(due_at_ms)
    FROM (
        SELECT w.paused, w.failing_since_ms, (
            SELECT d.recorded_at_ms FROM webhook_deliveries d
            WHERE NOT w.paused AND d.webhook = w.id AND d.state = 0 ORDER BY d.position LIMIT 1
        ) AS waiting_since_ms, (
            SELECT d.due_at_ms FROM (
                SELECT d.due_at_ms, d.position, d.order_key FROM webhook_deliveries d
                WHERE NOT w.paused AND d.webhook = w.id AND d.state = 0 AND d.due_at_ms <= ?1
                    AND w.id NOT IN (SELECT id FROM claims WHERE claims >= ?2) AND w.tenant NOT IN (SELECT tenant FROM busy_tenants)
                ORDER BY d.due_at_ms, d.position LIMIT 100
            ) d
            WHERE NOT w.ordered OR d.order_key IS NULL OR NOT EXISTS (
                SELECT 1 FROM webhook_deliveries e
                WHERE e.webhook = w.id AND e.order_key = d.order_key AND e.state = 0 AND e.position < d.position)
            ORDER BY d.due_at_ms, d.position LIMIT 1
        ) AS due_at_ms
        FROM webhooks w
    )";

pub(super) fn overview(connection: &Connection, busy: Busy) -> Result<WebhookOverview, Error> {
    let now_ms = now_ms();
    let count = |row: &Row<'_>, column| {
        Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(column)?).unwrap_or(0))
    };
    let age = |row: &Row<'_>, column| {
        let since_ms: Option<i64> = row.get(column)?;
        let age_ms = since_ms.map(|since_ms| u64::try_from(now_ms.saturating_sub(since_ms)).unwrap_or(0));
        Ok::<_, rusqlite::Error>(age_ms.map(Duration::from_millis))
    };
    Ok(connection.prepare_cached(OVERVIEW)?.query_row(
        params![now_ms, busy.of_webhook, busy.of_tenant],
        |row| {
            Ok(WebhookOverview {
                paused_for_failures: count(row, 0)?,
                paused_by_hand: count(row, 1)?,
                oldest_waiting: age(row, 2)?,
                oldest_due: age(row, 3)?,
            })
        },
    )?)
}

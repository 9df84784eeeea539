//! Totals over all webhooks.

use std::time::Duration;

use starling_database::postgres::{Pool, column};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::{Busy, Error, WebhookOverview};

/// Looks at the first deliveries of each webhook only, however many wait. What may be attempted is as in the claim, among the first hundred that are
/// due: behind a delivery that fails, thousands of its order may wait.
const OVERVIEW: &str = "
    WITH claims AS (
        SELECT w.id, w.tenant, c.claims FROM (
            SELECT d.webhook, count(*) AS claims FROM webhook_deliveries d
            WHERE d.state = 0 AND d.claimed_until > statement_timestamp() GROUP BY d.webhook
        ) c JOIN webhooks w ON w.id = c.webhook
    ), busy_tenants AS (
        SELECT tenant FROM claims GROUP BY tenant HAVING sum(claims) >= $2
    )
    SELECT count(*) FILTER (WHERE w.paused AND w.failing_since IS NOT NULL),
        count(*) FILTER (WHERE w.paused AND w.failing_since IS NULL),
        (extract(epoch FROM clock_timestamp() - min(waiting.recorded_at)) * 1000)::bigint,
        (extract(epoch FROM clock_timestamp() - min(due.due_at)) * 1000)::bigint
    FROM webhooks w LEFT JOIN LATERAL (
        SELECT d.recorded_at FROM webhook_deliveries d
        WHERE NOT w.paused AND d.webhook = w.id AND d.state = 0 ORDER BY d.position LIMIT 1
    ) waiting ON true LEFT JOIN LATERAL (
        SELECT d.due_at FROM (
            SELECT d.due_at, d.position, d.order_key FROM webhook_deliveries d
            WHERE NOT w.paused AND d.webhook = w.id AND d.state = 0 AND d.due_at <= statement_timestamp()
                AND w.id NOT IN (SELECT id FROM claims WHERE claims >= $1) AND w.tenant NOT IN (SELECT tenant FROM busy_tenants)
            ORDER BY d.due_at, d.position LIMIT 100
        ) d
        WHERE NOT w.ordered OR d.order_key IS NULL OR NOT EXISTS (
            SELECT 1 FROM webhook_deliveries e
            WHERE e.webhook = w.id AND e.order_key = d.order_key AND e.state = 0 AND e.position < d.position)
        ORDER BY d.due_at, d.position LIMIT 1
    ) due ON true";

pub(super) async fn overview(database: &Pool, busy: Busy) -> Result<WebhookOverview, Error> {
    let [of_webhook, of_tenant] = [busy.of_webhook, busy.of_tenant].map(i64::from);
    let rows = database.rows(OVERVIEW, &[(&of_webhook, Type::INT8), (&of_tenant, Type::INT8)]).await?;
    let row = rows.first().ok_or_else(|| Error::Refused("a sum has no row".into()))?;
    Ok(WebhookOverview {
        paused_for_failures: count(row, 0)?,
        paused_by_hand: count(row, 1)?,
        oldest_waiting: age(row, 2)?,
        oldest_due: age(row, 3)?,
    })
}

fn count(row: &Row, position: usize) -> Result<u64, Error> {
    Ok(u64::try_from(column::<i64>(row, position)?).unwrap_or(0))
}

fn age(row: &Row, position: usize) -> Result<Option<Duration>, Error> {
    let ms = column::<Option<i64>>(row, position)?;
    Ok(ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0))))
}

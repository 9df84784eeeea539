//! Claims of deliveries whose time has come.

use std::time::Duration;

use starling_database::postgres::{Parameter, Pool, column, to_ms};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::values::{ms, secret};
use crate::{DeliveryClaim, DueDelivery, Endpoint, Error, EventId, WebhookId};

/// Looks at each webhook for itself, so that the backlog of one hides nothing of the others. Then tenants take turns.
const CLAIM: &str = "
    WITH looked_at AS (
        SELECT id, tenant, ordered FROM webhooks
        WHERE NOT paused AND id <> ALL ($3) AND tenant <> ALL ($5) AND NOT (ordered AND failing_since IS NOT NULL)
        UNION ALL (
            SELECT id, tenant, ordered FROM webhooks
            WHERE NOT paused AND id <> ALL ($3) AND tenant <> ALL ($5) AND ordered AND failing_since IS NOT NULL ORDER BY random() LIMIT $7
        )
    ), candidates AS (
        SELECT w.id, w.tenant, d.event, d.due_at FROM looked_at w CROSS JOIN LATERAL (
            SELECT d.event, d.due_at FROM webhook_deliveries d
            WHERE d.webhook = w.id AND d.state = 0 AND d.due_at <= statement_timestamp()
                AND (NOT w.ordered OR d.order_key IS NULL OR NOT EXISTS (
                    SELECT 1 FROM webhook_deliveries e
                    WHERE e.webhook = d.webhook AND e.order_key = d.order_key AND e.state = 0 AND e.position < d.position))
            ORDER BY d.due_at, d.position LIMIT $2 FOR UPDATE SKIP LOCKED
        ) d
    ), turns AS (
        SELECT id, event, due_at, row_number() OVER (PARTITION BY tenant ORDER BY due_at) AS turn FROM candidates
    ), chosen AS (
        SELECT id, event, clock_timestamp() + $4 * interval '1 millisecond' AS until
        FROM turns WHERE turn <= $6 ORDER BY turn, due_at LIMIT $1
    )
    UPDATE webhook_deliveries d SET due_at = chosen.until, claimed_until = chosen.until
    FROM chosen JOIN webhooks w ON w.id = chosen.id WHERE d.webhook = chosen.id AND d.event = chosen.event
    RETURNING w.tenant, d.webhook, d.event, w.url, d.attempts, d.body,
        (extract(epoch FROM clock_timestamp() - d.first_attempt_at) * 1000)::bigint,
        ARRAY(SELECT s.secret FROM webhook_secrets s
              WHERE s.webhook = w.id AND (s.signs_until IS NULL OR s.signs_until > clock_timestamp()) ORDER BY s.created_at DESC),
        d.due_at";

pub(super) async fn claim(database: &Pool, claim: &DeliveryClaim) -> Result<Vec<DueDelivery>, Error> {
    let except: Vec<uuid::Uuid> = claim.except.iter().map(|id| id.0).collect();
    let except_tenants: Vec<&str> = claim.except_tenants.iter().map(|tenant| &**tenant).collect();
    let [limit, of_each, of_tenant, failing] =
        [claim.limit, claim.of_each, claim.of_tenant, claim.failing_in_order].map(i64::from);
    let lasts = ms(claim.lasts);
    let parameters: [Parameter<'_>; 7] = [
        (&limit, Type::INT8),
        (&of_each, Type::INT8),
        (&except, Type::UUID_ARRAY),
        (&lasts, Type::INT8),
        (&except_tenants, Type::TEXT_ARRAY),
        (&of_tenant, Type::INT8),
        (&failing, Type::INT8),
    ];
    let rows = database.write(CLAIM, &parameters).await?;
    let readable = |row: &Row| match due(row) {
        Ok(due) => Some(due),
        Err(error) => {
            let webhook = column::<uuid::Uuid>(row, 1).unwrap_or_default();
            tracing::error!(%webhook, %error, "a delivery can't be read and is left out");
            None
        }
    };
    Ok(rows.iter().filter_map(readable).collect())
}

fn due(row: &Row) -> Result<DueDelivery, Error> {
    let since_first_ms = column::<Option<i64>>(row, 6)?.unwrap_or_default();
    let secrets: Vec<&str> = column(row, 7)?;
    Ok(DueDelivery {
        tenant: column::<&str>(row, 0)?.into(),
        webhook: WebhookId(column(row, 1)?),
        event: EventId(column(row, 2)?),
        endpoint: Endpoint::parse(column(row, 3)?).map_err(|error| Error::Refused(error.to_string()))?,
        secrets: secrets.into_iter().map(secret).collect::<Result<_, _>>()?,
        attempts: u32::try_from(column::<i32>(row, 4)?).unwrap_or(0),
        since_first: Duration::from_millis(u64::try_from(since_first_ms).unwrap_or(0)),
        body: column(row, 5)?,
        claimed_until_ms: to_ms(column(row, 8)?),
    })
}

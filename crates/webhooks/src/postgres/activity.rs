//! What goes on at webhooks.

use starling_database::postgres::{Parameter, Pool, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::activity::{NEWEST_DELIVERIES, OLDEST_WAITING};
use crate::{AnsweredAttempt, DeliveryState, Error, EventId, WebhookActivity, WebhookId};

const WAITING: &str = "
    SELECT w.id, (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.id AND d.state = 0)
    FROM unnest($2::uuid[]) WITH ORDINALITY g (id, place) JOIN webhooks w ON w.id = g.id WHERE w.tenant = $1 ORDER BY g.place";
const ATTEMPTS: &str = "
    SELECT w.id, a.event, a.type, a.state, a.status, a.reason, a.attempted_at FROM webhooks w CROSS JOIN LATERAL (
        SELECT * FROM (
            (SELECT d.event, d.position, d.type, d.state, d.status, d.reason, d.attempted_at FROM webhook_deliveries d
             WHERE d.webhook = w.id ORDER BY d.position DESC LIMIT $4)
            UNION
            (SELECT d.event, d.position, d.type, d.state, d.status, d.reason, d.attempted_at FROM webhook_deliveries d
             WHERE d.webhook = w.id AND d.state = 0 ORDER BY d.position LIMIT $5)
        ) n WHERE n.attempted_at IS NOT NULL ORDER BY n.attempted_at DESC, n.position DESC LIMIT $3
    ) a WHERE w.tenant = $1 AND w.id = ANY ($2) ORDER BY w.id, a.attempted_at DESC, a.position DESC";

pub(super) async fn activity(
    database: &Pool,
    tenant: &TenantName,
    webhooks: &[WebhookId],
    attempts: u16,
) -> Result<Vec<WebhookActivity>, Error> {
    let ids: Vec<uuid::Uuid> = webhooks.iter().map(|webhook| webhook.0).collect();
    let [limit, newest, oldest] = [attempts, NEWEST_DELIVERIES, OLDEST_WAITING].map(i64::from);
    let parameters: [Parameter<'_>; 5] = [
        (&&**tenant, Type::TEXT),
        (&ids, Type::UUID_ARRAY),
        (&limit, Type::INT8),
        (&newest, Type::INT8),
        (&oldest, Type::INT8),
    ];
    let rows = database.rows(WAITING, &parameters[..2]).await?;
    let quiet = |row: &Row| {
        let waiting = u64::try_from(column::<i64>(row, 1)?).unwrap_or(0);
        Ok(WebhookActivity { webhook: WebhookId(column(row, 0)?), waiting, attempts: Vec::new() })
    };
    let mut activity = rows.iter().map(quiet).collect::<Result<Vec<_>, Error>>()?;
    for row in &database.rows(ATTEMPTS, &parameters).await? {
        let webhook = WebhookId(column(row, 0)?);
        if let Some(of) = activity.iter_mut().find(|activity| activity.webhook == webhook) {
            of.attempts.push(attempt(row)?);
        }
    }
    Ok(activity)
}

fn attempt(row: &Row) -> Result<AnsweredAttempt, Error> {
    let state: i16 = column(row, 3)?;
    Ok(AnsweredAttempt {
        event: EventId(column(row, 1)?),
        kind: column(row, 2)?,
        state: DeliveryState::of_number(state)
            .ok_or_else(|| Error::Refused(format!("{state} is no state of a delivery")))?,
        status: column::<Option<i16>>(row, 4)?.and_then(|status| u16::try_from(status).ok()),
        reason: column(row, 5)?,
        ended_at_ms: to_ms(column(row, 6)?),
    })
}

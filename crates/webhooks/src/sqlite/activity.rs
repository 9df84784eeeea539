//! What goes on at webhooks.

use rusqlite::{Connection, OptionalExtension, Row, params};
use starling_model::TenantName;

use super::values::blob;
use crate::activity::{NEWEST_DELIVERIES, OLDEST_WAITING};
use crate::{AnsweredAttempt, DeliveryState, Error, EventId, WebhookActivity, WebhookId};

const WAITING: &str = "
    SELECT (SELECT count(*) FROM webhook_deliveries d WHERE d.webhook = w.id AND d.state = 0)
    FROM webhooks w WHERE w.tenant = ?1 AND w.id = ?2";
const ATTEMPTS: &str = "
    SELECT event, type, state, status, reason, attempted_at_ms FROM (
        SELECT * FROM (
            SELECT event, position, type, state, status, reason, attempted_at_ms FROM webhook_deliveries
            WHERE webhook = ?1 ORDER BY position DESC LIMIT ?3)
        UNION
        SELECT * FROM (
            SELECT event, position, type, state, status, reason, attempted_at_ms FROM webhook_deliveries
            WHERE webhook = ?1 AND state = 0 ORDER BY position LIMIT ?4)
    ) WHERE attempted_at_ms IS NOT NULL ORDER BY attempted_at_ms DESC, position DESC LIMIT ?2";

pub(super) fn activity(
    connection: &Connection,
    tenant: &TenantName,
    webhooks: &[WebhookId],
    attempts: u16,
) -> Result<Vec<WebhookActivity>, Error> {
    let mut found = Vec::new();
    for webhook in webhooks {
        let waiting: Option<i64> = connection
            .prepare_cached(WAITING)?
            .query_row(params![&**tenant, blob(webhook.0)], |row| row.get(0))
            .optional()?;
        let Some(waiting) = waiting else { continue };
        let limits = params![blob(webhook.0), attempts, NEWEST_DELIVERIES, OLDEST_WAITING];
        let mut statement = connection.prepare_cached(ATTEMPTS)?;
        let attempts = statement.query_map(limits, |row| Ok(attempt(row)))?;
        let attempts = attempts.map(|attempt| attempt?).collect::<Result<Vec<_>, Error>>()?;
        let waiting = u64::try_from(waiting).unwrap_or(0);
        found.push(WebhookActivity { webhook: *webhook, waiting, attempts });
    }
    Ok(found)
}

fn attempt(row: &Row<'_>) -> Result<AnsweredAttempt, Error> {
    let state: i16 = row.get(2)?;
    Ok(AnsweredAttempt {
        event: EventId(uuid::Uuid::from_bytes(row.get(0)?)),
        kind: row.get(1)?,
        state: DeliveryState::of_number(state)
            .ok_or_else(|| Error::Refused(format!("{state} is no state of a delivery")))?,
        status: row.get(3)?,
        reason: row.get(4)?,
        ended_at_ms: row.get(5)?,
    })
}

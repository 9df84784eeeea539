//! Deliveries.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Params, Row, params};
use starling_model::TenantName;

use super::values::{blob, ms, now_ms};
use crate::model::cut;
use crate::store::TOO_MANY_WAITED;
use crate::{
    AttemptEnd, DeliveryDetails, DeliveryState, DeliveryStatus, Error, EventId, NewEvent, Noted,
    REASON_BYTES_MAX, Recorded, Retention, Trimmed, WebhookId,
};

const RECORD: &str = "
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body, recorded_at_ms, due_at_ms)
    SELECT id, ?1, ?3, ?4, ?5, ?6, ?6 FROM webhooks
    WHERE tenant = ?2 AND (events = '*' OR instr(' ' || events || ' ', ' ' || ?3 || ' ') > 0)
    ORDER BY id ON CONFLICT DO NOTHING";
const RECORDED: &str = "
    SELECT d.webhook, w.paused FROM webhooks w JOIN webhook_deliveries d ON d.webhook = w.id AND d.event = ?1
    WHERE w.tenant = ?2 AND d.state = 0 ORDER BY w.id";
const RECORD_FOR: &str = "
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body, recorded_at_ms, due_at_ms)
    SELECT id, ?3, ?4, ?5, ?6, ?7, ?7 FROM webhooks WHERE tenant = ?1 AND id = ?2
    ON CONFLICT (webhook, event) DO UPDATE SET type = excluded.type";
/// The columns that [`status`] reads.
macro_rules! status_and {
    ($rest:literal) => {
        concat!(
            "SELECT d.event, d.position, d.type, d.state, d.attempts, d.status, d.reason, d.answer, d.recorded_at_ms,
                 d.first_attempt_at_ms, d.attempted_at_ms",
            $rest
        )
    };
}
const DELIVERY: &str = status_and!(
    ", d.order_key, d.body FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.event = ?3"
);
const DELIVERIES: &str = status_and!(
    " FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.position < ?3 ORDER BY d.position DESC LIMIT ?4"
);
const WAITING: &str = status_and!(
    " FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.position > ?3 AND d.state = 0 ORDER BY d.position LIMIT ?4"
);
const FIRST_IN_ORDER: &str = "
    SELECT d.event FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.order_key = ?3 AND d.state = 0 ORDER BY d.position LIMIT 1";
/// Whoever has claimed or resent the delivery since has set `due_at_ms` to another time.
const NOTE: &str = "
    UPDATE webhook_deliveries SET state = ?4, attempts = attempts + 1, status = ?5, reason = ?6, answer = ?7,
        first_attempt_at_ms = coalesce(first_attempt_at_ms, ?8), attempted_at_ms = ?8,
        due_at_ms = ?8 + ?9
    WHERE webhook = ?2 AND event = ?3 AND state = 0 AND due_at_ms = ?10
        AND EXISTS (SELECT 1 FROM webhooks WHERE id = ?2 AND tenant = ?1)";
const WELL: &str =
    "UPDATE webhooks SET failing_since_ms = NULL WHERE id = ?1 AND failing_since_ms IS NOT NULL";
const FAILING: &str = "
    UPDATE webhooks SET failing_since_ms = coalesce(failing_since_ms, ?2), paused = coalesce(failing_since_ms, ?2) <= ?3
    WHERE id = ?1 AND NOT paused AND (failing_since_ms IS NULL OR failing_since_ms <= ?3) RETURNING paused";
const RESEND: &str = "
    UPDATE webhook_deliveries SET state = 0, attempts = 0, status = NULL, reason = NULL, answer = '',
        first_attempt_at_ms = NULL, attempted_at_ms = NULL, due_at_ms = ?4
    WHERE webhook = ?2 AND event = ?3 AND state <> 0 AND EXISTS (SELECT 1 FROM webhooks WHERE id = ?2 AND tenant = ?1)";
/// A delivery with a claim in force is being sent already.
const SEND_NOW: &str = "
    UPDATE webhook_deliveries SET due_at_ms = ?4
    WHERE webhook = ?2 AND event = ?3 AND state = 0 AND due_at_ms > ?4 AND claimed_until_ms IS NOT due_at_ms
        AND EXISTS (SELECT 1 FROM webhooks WHERE id = ?2 AND tenant = ?1)";
const TRIM_WAITING: &str = "
    UPDATE webhook_deliveries SET state = 2, reason = ?5 WHERE position IN (
        SELECT d.position FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
        WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.state = 0 ORDER BY d.position DESC LIMIT ?4 OFFSET ?3
    )";
const TRIM_ENDED: &str = "
    DELETE FROM webhook_deliveries WHERE position IN (
        SELECT d.position FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
        WHERE w.tenant = ?1 AND d.webhook = ?2 AND d.state <> 0 ORDER BY d.position DESC LIMIT ?4 OFFSET ?3
    )";

/// The most deliveries that one call trims of each kind.
const TRIM_MAX: i64 = 1000;

/// Adds the deliveries of an event, and returns their number.
pub(super) fn record_one(connection: &Connection, event: &NewEvent) -> Result<u64, Error> {
    let (id, tenant) = (blob(event.id.0), &*event.tenant);
    let (kind, key) = (event.kind.as_str(), &event.order_key);
    let mut statement = connection.prepare_cached(RECORD)?;
    Ok(statement.execute(params![id, tenant, kind, key, event.body(), now_ms()])? as u64)
}

pub(super) fn record(connection: &Connection, events: &[NewEvent]) -> Result<Vec<Recorded>, Error> {
    let mut waiting = Vec::new();
    for event in events {
        record_one(connection, event)?;
        let (id, tenant) = (blob(event.id.0), &*event.tenant);
        let mut statement = connection.prepare_cached(RECORDED)?;
        let recorded = statement.query_map(params![id, tenant], |row| {
            let webhook = WebhookId(uuid::Uuid::from_bytes(row.get(0)?));
            Ok(Recorded { webhook, event: event.id, paused: row.get(1)? })
        })?;
        for recorded in recorded {
            waiting.push(recorded?);
        }
    }
    Ok(waiting)
}

pub(super) fn record_for(
    connection: &Connection,
    webhook: WebhookId,
    event: &NewEvent,
) -> Result<bool, Error> {
    let (kind, key) = (event.kind.as_str(), &event.order_key);
    let names = (&*event.tenant, blob(webhook.0), blob(event.id.0));
    let recorded = connection.prepare_cached(RECORD_FOR)?.execute(params![
        names.0,
        names.1,
        names.2,
        kind,
        key,
        event.body(),
        now_ms()
    ])?;
    Ok(recorded > 0)
}

pub(super) fn delivery(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
) -> Result<Option<DeliveryDetails>, Error> {
    let mut statement = connection.prepare_cached(DELIVERY)?;
    let details = |row: &Row<'_>| {
        Ok(DeliveryDetails { status: status(row)?, order_key: row.get(11)?, body: row.get(12)? })
    };
    let names = params![&**tenant, blob(webhook.0), blob(event.0)];
    statement.query_row(names, |row| Ok(details(row))).optional()?.transpose()
}

pub(super) fn deliveries(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    before: Option<i64>,
    limit: u16,
) -> Result<Vec<DeliveryStatus>, Error> {
    let before = before.unwrap_or(i64::MAX);
    page(connection, DELIVERIES, params![&**tenant, blob(webhook.0), before, limit])
}

pub(super) fn waiting(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    after: Option<i64>,
    limit: u16,
) -> Result<Vec<DeliveryStatus>, Error> {
    let after = after.unwrap_or(i64::MIN);
    page(connection, WAITING, params![&**tenant, blob(webhook.0), after, limit])
}

fn page(connection: &Connection, sql: &str, parameters: impl Params) -> Result<Vec<DeliveryStatus>, Error> {
    let mut statement = connection.prepare_cached(sql)?;
    let found = statement.query_map(parameters, |row| Ok(status(row)))?;
    found.map(|delivery| delivery?).collect()
}

pub(super) fn first_in_order(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    order_key: &str,
) -> Result<Option<EventId>, Error> {
    let mut statement = connection.prepare_cached(FIRST_IN_ORDER)?;
    let found =
        statement.query_row(params![&**tenant, blob(webhook.0), order_key], |row| row.get(0)).optional()?;
    Ok(found.map(|event| EventId(uuid::Uuid::from_bytes(event))))
}

pub(super) fn note_attempt(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
    end: &AttemptEnd,
    pause_after: Duration,
) -> Result<Noted, Error> {
    let (now_ms, webhook) = (now_ms(), blob(webhook.0));
    let reason = end.reason.as_deref().map(|reason| cut(reason, REASON_BYTES_MAX));
    let noted = connection.prepare_cached(NOTE)?.execute(params![
        &**tenant,
        webhook,
        blob(event.0),
        end.state.number(),
        end.status,
        reason,
        end.answer,
        now_ms,
        ms(end.again_after),
        end.claimed_until_ms
    ])?;
    if noted == 0 {
        return Ok(Noted::NotClaimed);
    }
    if reason.is_none() {
        connection.prepare_cached(WELL)?.execute([webhook])?;
        return Ok(Noted::Kept);
    }
    let mut failing = connection.prepare_cached(FAILING)?;
    let too_old_ms = now_ms.saturating_sub(ms(pause_after));
    let paused = failing.query_row(params![webhook, now_ms, too_old_ms], |row| row.get(0)).optional()?;
    Ok(if paused == Some(true) { Noted::Paused } else { Noted::Kept })
}

pub(super) fn resend(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
) -> Result<bool, Error> {
    let names = params![&**tenant, blob(webhook.0), blob(event.0), now_ms()];
    // Those that wait first: one that has ended waits after the second statement.
    let waiting = connection.prepare_cached(SEND_NOW)?.execute(names)?;
    Ok(waiting + connection.prepare_cached(RESEND)?.execute(names)? > 0)
}

pub(super) fn trim(
    connection: &Connection,
    tenant: &TenantName,
    webhook: WebhookId,
    retention: Retention,
) -> Result<Trimmed, Error> {
    let (tenant, webhook) = (&**tenant, blob(webhook.0));
    let failed = connection.prepare_cached(TRIM_WAITING)?.execute(params![
        tenant,
        webhook,
        retention.waiting,
        TRIM_MAX,
        TOO_MANY_WAITED
    ])?;
    let removed = connection.prepare_cached(TRIM_ENDED)?.execute(params![
        tenant,
        webhook,
        retention.ended,
        TRIM_MAX
    ])?;
    Ok(Trimmed { failed: failed as u64, removed: removed as u64 })
}

fn status(row: &Row<'_>) -> Result<DeliveryStatus, Error> {
    let state: i16 = row.get(3)?;
    Ok(DeliveryStatus {
        event: EventId(uuid::Uuid::from_bytes(row.get(0)?)),
        position: row.get(1)?,
        kind: row.get(2)?,
        state: DeliveryState::of_number(state)
            .ok_or_else(|| Error::Refused(format!("{state} is no state of a delivery")))?,
        attempts: row.get(4)?,
        status: row.get(5)?,
        reason: row.get(6)?,
        answer: row.get(7)?,
        recorded_at_ms: row.get(8)?,
        first_attempt_at_ms: row.get(9)?,
        attempted_at_ms: row.get(10)?,
    })
}

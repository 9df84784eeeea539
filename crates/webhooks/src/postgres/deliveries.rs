//! Deliveries.

use std::time::{Duration, SystemTime};

use starling_database::postgres::{Parameter, Pool, Statement, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::values::ms;
use crate::model::cut;
use crate::{
    AttemptEnd, DeliveryDetails, DeliveryState, DeliveryStatus, Error, EventId, NewEvent, Noted,
    REASON_BYTES_MAX, Recorded, Retention, Trimmed, WebhookId,
};

const RECORD: &str = "
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body)
    SELECT w.id, e.id, e.type, e.order_key, e.body
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
        e (id, tenant, type, order_key, body, place)
    JOIN webhooks w ON w.tenant = e.tenant AND (w.events = '*' OR e.type = ANY (string_to_array(w.events, ' ')))
    ORDER BY e.place, w.id ON CONFLICT DO NOTHING";
const RECORDED: &str = "
    SELECT d.webhook, d.event, w.paused FROM unnest($1::uuid[], $2::text[]) WITH ORDINALITY e (id, tenant, place)
    JOIN webhooks w ON w.tenant = e.tenant JOIN webhook_deliveries d ON d.webhook = w.id AND d.event = e.id
    WHERE d.state = 0 ORDER BY e.place, w.id";
const RECORD_FOR: &str = "
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body)
    SELECT w.id, $3, $4, $5, $6 FROM webhooks w WHERE w.tenant = $1 AND w.id = $2
    ON CONFLICT (webhook, event) DO UPDATE SET type = excluded.type RETURNING event";
/// The columns that [`status`] reads.
macro_rules! status_and {
    ($rest:literal) => {
        concat!(
            "SELECT d.event, d.position, d.type, d.state, d.attempts, d.status, d.reason, d.answer, d.recorded_at,
                 d.first_attempt_at, d.attempted_at",
            $rest
        )
    };
}
const DELIVERY: &str = status_and!(
    ", d.order_key, d.body FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = $1 AND d.webhook = $2 AND d.event = $3"
);
const DELIVERIES: &str = status_and!(
    " FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = $1 AND d.webhook = $2 AND d.position < $3 ORDER BY d.position DESC LIMIT $4"
);
const WAITING: &str = status_and!(
    " FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = $1 AND d.webhook = $2 AND d.position > $3 AND d.state = 0 ORDER BY d.position LIMIT $4"
);
const FIRST_IN_ORDER: &str = "
    SELECT d.event FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
    WHERE w.tenant = $1 AND d.webhook = $2 AND d.order_key = $3 AND d.state = 0 ORDER BY d.position LIMIT 1";
/// Whoever has claimed or resent the delivery since has set `due_at` to another time. The row of the webhook is only written when it begins or stops to fail, or is paused.
const NOTE: &str = "
    WITH noted AS (
        UPDATE webhook_deliveries d SET state = $4, attempts = attempts + 1, status = $5, reason = $6, answer = $7,
            first_attempt_at = coalesce(first_attempt_at, clock_timestamp()), attempted_at = clock_timestamp(),
            due_at = clock_timestamp() + $9 * interval '1 millisecond'
        FROM webhooks w
        WHERE w.tenant = $1 AND w.id = $2 AND d.webhook = w.id AND d.event = $3 AND d.state = 0
            AND d.due_at = timestamptz 'epoch' + $10 * interval '1 millisecond'
        RETURNING d.webhook
    ), well AS (
        UPDATE webhooks SET failing_since = NULL
        WHERE id IN (SELECT webhook FROM noted) AND $6::text IS NULL AND failing_since IS NOT NULL
    ), failing AS (
        UPDATE webhooks SET failing_since = coalesce(failing_since, clock_timestamp()),
            paused = coalesce(failing_since, clock_timestamp()) <= clock_timestamp() - $8 * interval '1 millisecond'
        WHERE id IN (SELECT webhook FROM noted) AND $6::text IS NOT NULL AND NOT paused
            AND (failing_since IS NULL OR failing_since <= clock_timestamp() - $8 * interval '1 millisecond')
        RETURNING paused
    )
    SELECT EXISTS (SELECT 1 FROM noted), EXISTS (SELECT 1 FROM failing WHERE paused)";
/// A delivery with a claim in force is being sent already.
const RESEND: &str = "
    WITH ended AS (
        UPDATE webhook_deliveries d
        SET state = 0, attempts = 0, status = NULL, reason = NULL, answer = '', first_attempt_at = NULL, attempted_at = NULL,
            due_at = clock_timestamp()
        FROM webhooks w
        WHERE w.tenant = $1 AND w.id = $2 AND d.webhook = w.id AND d.event = $3 AND d.state <> 0 RETURNING d.event
    ), waiting AS (
        UPDATE webhook_deliveries d SET due_at = clock_timestamp() FROM webhooks w
        WHERE w.tenant = $1 AND w.id = $2 AND d.webhook = w.id AND d.event = $3 AND d.state = 0
            AND d.due_at > clock_timestamp() AND d.claimed_until IS DISTINCT FROM d.due_at
        RETURNING d.event
    )
    SELECT event FROM ended UNION ALL SELECT event FROM waiting";
const TRIM_WAITING: &str = "
    WITH surplus AS (
        SELECT d.event FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
        WHERE w.tenant = $1 AND d.webhook = $2 AND d.state = 0 ORDER BY d.position DESC OFFSET $3 LIMIT $4
    )
    UPDATE webhook_deliveries d SET state = 2, reason = $5 FROM surplus
    WHERE d.webhook = $2 AND d.event = surplus.event AND d.state = 0 RETURNING d.event";
const TRIM_ENDED: &str = "
    WITH surplus AS (
        SELECT d.event FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook
        WHERE w.tenant = $1 AND d.webhook = $2 AND d.state <> 0 ORDER BY d.position DESC OFFSET $3 LIMIT $4
    )
    DELETE FROM webhook_deliveries d USING surplus
    WHERE d.webhook = $2 AND d.event = surplus.event AND d.state <> 0 RETURNING d.event";

/// The most deliveries that one call trims of each kind.
const TRIM_MAX: i64 = 1000;

pub(super) async fn record(database: &Pool, events: &[NewEvent]) -> Result<Vec<Recorded>, Error> {
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<uuid::Uuid> = events.iter().map(|event| event.id.0).collect();
    let tenants: Vec<&str> = events.iter().map(|event| &*event.tenant).collect();
    let types: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let keys: Vec<Option<&str>> = events.iter().map(|event| event.order_key.as_deref()).collect();
    let bodies: Vec<&str> = events.iter().map(NewEvent::body).collect();
    let parameters: [Parameter<'_>; 5] = [
        (&ids, Type::UUID_ARRAY),
        (&tenants, Type::TEXT_ARRAY),
        (&types, Type::TEXT_ARRAY),
        (&keys, Type::TEXT_ARRAY),
        (&bodies, Type::TEXT_ARRAY),
    ];
    let answers = database
        .transaction(&[
            Statement { sql: RECORD, parameters: &parameters },
            Statement { sql: RECORDED, parameters: &parameters[..2] },
        ])
        .await?;
    let recorded = |row: &Row| {
        Ok(Recorded {
            webhook: WebhookId(column(row, 0)?),
            event: EventId(column(row, 1)?),
            paused: column(row, 2)?,
        })
    };
    answers.last().map_or(&[][..], Vec::as_slice).iter().map(recorded).collect()
}

pub(super) async fn record_for(database: &Pool, webhook: WebhookId, event: &NewEvent) -> Result<bool, Error> {
    let (tenant, kind, body) = (&*event.tenant, event.kind.as_str(), event.body());
    let [tenant, webhook, id] = names(&tenant, &webhook, &event.id);
    let parameters: [Parameter<'_>; 6] =
        [tenant, webhook, id, (&kind, Type::TEXT), (&event.order_key, Type::TEXT), (&body, Type::TEXT)];
    Ok(!database.write(RECORD_FOR, &parameters).await?.is_empty())
}

pub(super) async fn delivery(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
) -> Result<Option<DeliveryDetails>, Error> {
    let rows = database.rows(DELIVERY, &names(&&**tenant, &webhook, &event)).await?;
    let details = |row: &Row| {
        Ok(DeliveryDetails { status: status(row)?, order_key: column(row, 11)?, body: column(row, 12)? })
    };
    rows.first().map(details).transpose()
}

pub(super) async fn deliveries(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    before: Option<i64>,
    limit: u16,
) -> Result<Vec<DeliveryStatus>, Error> {
    page(database, DELIVERIES, tenant, webhook, before.unwrap_or(i64::MAX), limit).await
}

pub(super) async fn waiting(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    after: Option<i64>,
    limit: u16,
) -> Result<Vec<DeliveryStatus>, Error> {
    page(database, WAITING, tenant, webhook, after.unwrap_or(i64::MIN), limit).await
}

async fn page(
    database: &Pool,
    sql: &str,
    tenant: &TenantName,
    webhook: WebhookId,
    position: i64,
    limit: u16,
) -> Result<Vec<DeliveryStatus>, Error> {
    let limit = i64::from(limit);
    let parameters: [Parameter<'_>; 4] =
        [(&&**tenant, Type::TEXT), (&webhook.0, Type::UUID), (&position, Type::INT8), (&limit, Type::INT8)];
    database.rows(sql, &parameters).await?.iter().map(status).collect()
}

pub(super) async fn first_in_order(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    order_key: &str,
) -> Result<Option<EventId>, Error> {
    let parameters: [Parameter<'_>; 3] =
        [(&&**tenant, Type::TEXT), (&webhook.0, Type::UUID), (&order_key, Type::TEXT)];
    let rows = database.rows(FIRST_IN_ORDER, &parameters).await?;
    rows.first().map(|row| column(row, 0).map(EventId)).transpose()
}

pub(super) async fn note_attempt(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
    end: &AttemptEnd,
    pause_after: Duration,
) -> Result<Noted, Error> {
    let status = end.status.map(|status| i16::try_from(status).unwrap_or(i16::MAX));
    let reason = end.reason.as_deref().map(|reason| cut(reason, REASON_BYTES_MAX));
    let (state, pause_after) = (end.state.number(), ms(pause_after));
    let tenant = &**tenant;
    let [tenant, webhook, event] = names(&tenant, &webhook, &event);
    let again_after = ms(end.again_after);
    let parameters: [Parameter<'_>; 10] = [
        tenant,
        webhook,
        event,
        (&state, Type::INT2),
        (&status, Type::INT2),
        (&reason, Type::TEXT),
        (&end.answer, Type::TEXT),
        (&pause_after, Type::INT8),
        (&again_after, Type::INT8),
        (&end.claimed_until_ms, Type::INT8),
    ];
    let rows = database.write(NOTE, &parameters).await?;
    let (noted, paused) = match rows.first() {
        Some(row) => (column(row, 0)?, column(row, 1)?),
        None => (false, false),
    };
    Ok(match (noted, paused) {
        (false, _) => Noted::NotClaimed,
        (true, false) => Noted::Kept,
        (true, true) => Noted::Paused,
    })
}

pub(super) async fn resend(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    event: EventId,
) -> Result<bool, Error> {
    Ok(!database.write(RESEND, &names(&&**tenant, &webhook, &event)).await?.is_empty())
}

pub(super) async fn trim(
    database: &Pool,
    tenant: &TenantName,
    webhook: WebhookId,
    retention: Retention,
) -> Result<Trimmed, Error> {
    let (waiting, ended) = (i64::from(retention.waiting), i64::from(retention.ended));
    let tenant = &**tenant;
    let (tenant, webhook): (Parameter<'_>, Parameter<'_>) = ((&tenant, Type::TEXT), (&webhook.0, Type::UUID));
    let most: Parameter<'_> = (&TRIM_MAX, Type::INT8);
    let answers = database
        .transaction(&[
            Statement {
                sql: TRIM_WAITING,
                parameters: &[
                    tenant.clone(),
                    webhook.clone(),
                    (&waiting, Type::INT8),
                    most.clone(),
                    (&crate::store::TOO_MANY_WAITED, Type::TEXT),
                ],
            },
            Statement { sql: TRIM_ENDED, parameters: &[tenant, webhook, (&ended, Type::INT8), most] },
        ])
        .await?;
    let count = |statement: usize| answers.get(statement).map_or(0, |rows| rows.len() as u64);
    Ok(Trimmed { failed: count(0), removed: count(1) })
}

fn names<'a>(tenant: &'a &'a str, webhook: &'a WebhookId, event: &'a EventId) -> [Parameter<'a>; 3] {
    [(tenant, Type::TEXT), (&webhook.0, Type::UUID), (&event.0, Type::UUID)]
}

fn status(row: &Row) -> Result<DeliveryStatus, Error> {
    let state: i16 = column(row, 3)?;
    let time = |position| Ok::<_, Error>(column::<Option<SystemTime>>(row, position)?.map(to_ms));
    Ok(DeliveryStatus {
        event: EventId(column(row, 0)?),
        position: column(row, 1)?,
        kind: column(row, 2)?,
        state: DeliveryState::of_number(state)
            .ok_or_else(|| Error::Refused(format!("{state} is no state of a delivery")))?,
        attempts: u32::try_from(column::<i32>(row, 4)?).unwrap_or(0),
        status: column::<Option<i16>>(row, 5)?.and_then(|status| u16::try_from(status).ok()),
        reason: column(row, 6)?,
        answer: column(row, 7)?,
        recorded_at_ms: to_ms(column(row, 8)?),
        first_attempt_at_ms: time(9)?,
        attempted_at_ms: time(10)?,
    })
}

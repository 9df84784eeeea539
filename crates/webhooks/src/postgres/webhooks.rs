//! Webhooks and their secrets.

use std::time::SystemTime;

use starling_database::postgres::{Parameter, Pool, Statement, column, to_ms};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::registry::{COUNT, counted};
use super::values::{ms, secret};
use crate::{
    Endpoint, Error, Events, NewWebhook, ROTATION_OVERLAP, Rotated, SECRETS_MAX, Secret, Webhook,
    WebhookChange, WebhookId,
};

/// Additions of one tenant wait for each other, so that together they don't exceed its limit.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('starling webhooks of ' || $1, 0))";
const ADD: &str = "
    INSERT INTO webhooks (id, tenant, url, events, ordered) SELECT $1, $2, $3, $4, $5
    WHERE (SELECT count(*) FROM webhooks WHERE tenant = $2) < $6 ON CONFLICT DO NOTHING";
const ADD_SECRET: &str = "
    INSERT INTO webhook_secrets (webhook, secret) SELECT id, $3 FROM webhooks WHERE id = $1 AND tenant = $2
    ON CONFLICT DO NOTHING";
const WEBHOOK: &str = "
    SELECT id, tenant, url, events, ordered, paused, failing_since, created_at FROM webhooks WHERE id = $1 AND tenant = $2";
const WEBHOOKS: &str = "
    SELECT id, tenant, url, events, ordered, paused, failing_since, created_at FROM webhooks
    WHERE tenant = $1 AND ($2::uuid IS NULL OR id > $2) ORDER BY id LIMIT $3";
/// What a webhook has missed is sent when it is resumed, and its time for retries begins anew. A claim in force stays: its delivery is being sent.
const CHANGE: &str = counted!(
    ", due AS (
        UPDATE webhook_deliveries d SET due_at = clock_timestamp(),
            attempts = CASE WHEN w.paused THEN 0 ELSE d.attempts END,
            first_attempt_at = CASE WHEN w.paused THEN NULL ELSE d.first_attempt_at END
        FROM webhooks w
        WHERE $6 = false AND w.id = $1 AND w.tenant = $2 AND d.webhook = w.id AND d.state = 0
            AND (d.claimed_until IS DISTINCT FROM d.due_at OR d.due_at <= clock_timestamp())
    )
    UPDATE webhooks SET url = coalesce($3, url), events = coalesce($4, events), ordered = coalesce($5, ordered),
        paused = coalesce($6, paused), failing_since = CASE WHEN $6 = false THEN NULL ELSE failing_since END
    WHERE id = $1 AND tenant = $2
    RETURNING id, tenant, url, events, ordered, paused, failing_since, created_at"
);
const REMOVE: &str = counted!(" DELETE FROM webhooks WHERE id = $1 AND tenant = $2 RETURNING id");
const REMOVE_GONE: &str =
    counted!(" DELETE FROM webhooks WHERE id = $1 AND tenant = $2 AND url = $3 RETURNING id");
const LOCK_WEBHOOK: &str = "SELECT id FROM webhooks WHERE id = $1 AND tenant = $2 FOR UPDATE";
const FORGET_OLD: &str = "
    DELETE FROM webhook_secrets s USING webhooks w
    WHERE w.id = $1 AND w.tenant = $2 AND s.webhook = w.id AND s.signs_until <= clock_timestamp()";
const END_SECRET: &str = "
    UPDATE webhook_secrets s SET signs_until = clock_timestamp() + $3 * interval '1 millisecond' FROM webhooks w
    WHERE w.id = $1 AND w.tenant = $2 AND s.webhook = w.id AND s.signs_until IS NULL
        AND (SELECT count(*) FROM webhook_secrets WHERE webhook = $1) < $4";
const NEXT_SECRET: &str = "
    INSERT INTO webhook_secrets (webhook, secret) SELECT id, $3 FROM webhooks
    WHERE id = $1 AND tenant = $2 AND NOT EXISTS (SELECT 1 FROM webhook_secrets WHERE webhook = $1 AND signs_until IS NULL)
    RETURNING webhook";
const SECRETS: &str = "
    SELECT s.secret FROM webhook_secrets s JOIN webhooks w ON w.id = s.webhook
    WHERE w.id = $1 AND w.tenant = $2 AND (s.signs_until IS NULL OR s.signs_until > clock_timestamp())
    ORDER BY s.created_at DESC";

pub(super) async fn add(
    database: &Pool,
    webhook: &NewWebhook,
    secret: &Secret,
    webhooks_max: u32,
) -> Result<Option<Webhook>, Error> {
    let NewWebhook { id, tenant, endpoint, events, ordered } = webhook;
    let (tenant, secret, events) = (&**tenant, secret.expose(), events.stored());
    let (url, most) = (endpoint.as_str(), i64::from(webhooks_max));
    let id: Parameter<'_> = (&id.0, Type::UUID);
    let tenant: Parameter<'_> = (&tenant, Type::TEXT);
    let answers = database
        .transaction(&[
            Statement { sql: LOCK, parameters: std::slice::from_ref(&tenant) },
            Statement {
                sql: ADD,
                parameters: &[
                    id.clone(),
                    tenant.clone(),
                    (&url, Type::TEXT),
                    (&events, Type::TEXT),
                    (ordered, Type::BOOL),
                    (&most, Type::INT8),
                ],
            },
            Statement { sql: ADD_SECRET, parameters: &[id.clone(), tenant.clone(), (&secret, Type::TEXT)] },
            Statement { sql: COUNT, parameters: &[] },
            Statement { sql: WEBHOOK, parameters: &[id, tenant.clone()] },
        ])
        .await?;
    answers.last().and_then(|rows| rows.first()).map(of_row).transpose()
}

pub(super) async fn webhook(
    database: &Pool,
    tenant: &TenantName,
    id: WebhookId,
) -> Result<Option<Webhook>, Error> {
    let rows = database.rows(WEBHOOK, &[(&id.0, Type::UUID), (&&**tenant, Type::TEXT)]).await?;
    rows.first().map(of_row).transpose()
}

pub(super) async fn webhooks(
    database: &Pool,
    tenant: &TenantName,
    after: Option<WebhookId>,
    limit: u16,
) -> Result<Vec<Webhook>, Error> {
    let (after, limit) = (after.map(|id| id.0), i64::from(limit));
    let parameters: [Parameter<'_>; 3] =
        [(&&**tenant, Type::TEXT), (&after, Type::UUID), (&limit, Type::INT8)];
    database.rows(WEBHOOKS, &parameters).await?.iter().map(of_row).collect()
}

pub(super) async fn change(
    database: &Pool,
    tenant: &TenantName,
    id: WebhookId,
    change: &WebhookChange,
) -> Result<Option<Webhook>, Error> {
    let url = change.endpoint.as_ref().map(Endpoint::as_str);
    let events = change.events.as_ref().map(Events::stored);
    let parameters: [Parameter<'_>; 6] = [
        (&id.0, Type::UUID),
        (&&**tenant, Type::TEXT),
        (&url, Type::TEXT),
        (&events, Type::TEXT),
        (&change.ordered, Type::BOOL),
        (&change.paused, Type::BOOL),
    ];
    database.write(CHANGE, &parameters).await?.first().map(of_row).transpose()
}

pub(super) async fn remove(database: &Pool, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
    let rows = database.write(REMOVE, &[(&id.0, Type::UUID), (&&**tenant, Type::TEXT)]).await?;
    Ok(!rows.is_empty())
}

pub(super) async fn remove_gone(
    database: &Pool,
    tenant: &TenantName,
    id: WebhookId,
    endpoint: &Endpoint,
) -> Result<bool, Error> {
    let parameters: [Parameter<'_>; 3] =
        [(&id.0, Type::UUID), (&&**tenant, Type::TEXT), (&endpoint.as_str(), Type::TEXT)];
    Ok(!database.write(REMOVE_GONE, &parameters).await?.is_empty())
}

pub(super) async fn rotate(
    database: &Pool,
    tenant: &TenantName,
    id: WebhookId,
    secret: &Secret,
) -> Result<Rotated, Error> {
    let (secret, overlap) = (secret.expose(), ms(ROTATION_OVERLAP));
    let most = i64::from(SECRETS_MAX);
    let tenant = &**tenant;
    let names: [Parameter<'_>; 2] = [(&id.0, Type::UUID), (&tenant, Type::TEXT)];
    let [id, tenant] = names.clone();
    let answers = database
        .transaction(&[
            Statement { sql: LOCK_WEBHOOK, parameters: &names },
            Statement { sql: FORGET_OLD, parameters: &names },
            Statement {
                sql: END_SECRET,
                parameters: &[id.clone(), tenant.clone(), (&overlap, Type::INT8), (&most, Type::INT8)],
            },
            Statement { sql: NEXT_SECRET, parameters: &[id, tenant, (&secret, Type::TEXT)] },
        ])
        .await?;
    let found = answers.first().is_some_and(|rows| !rows.is_empty());
    let rotated = answers.last().is_some_and(|rows| !rows.is_empty());
    Ok(match (found, rotated) {
        (false, _) => Rotated::NotFound,
        (true, false) => Rotated::TooMany,
        (true, true) => Rotated::Rotated,
    })
}

pub(super) async fn secrets(
    database: &Pool,
    tenant: &TenantName,
    id: WebhookId,
) -> Result<Vec<Secret>, Error> {
    let rows = database.rows(SECRETS, &[(&id.0, Type::UUID), (&&**tenant, Type::TEXT)]).await?;
    rows.iter().map(|row| secret(column(row, 0)?)).collect()
}

fn of_row(row: &Row) -> Result<Webhook, Error> {
    let url: &str = column(row, 2)?;
    Ok(Webhook {
        id: WebhookId(column(row, 0)?),
        tenant: column::<&str>(row, 1)?.into(),
        endpoint: Endpoint::parse(url).map_err(|error| Error::Refused(error.to_string()))?,
        events: Events::of_stored(column(row, 3)?),
        ordered: column(row, 4)?,
        paused: column(row, 5)?,
        failing_since_ms: column::<Option<SystemTime>>(row, 6)?.map(to_ms),
        created_at_ms: to_ms(column(row, 7)?),
    })
}

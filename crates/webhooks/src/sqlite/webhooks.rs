//! Webhooks and their secrets.

use rusqlite::{Connection, OptionalExtension, Row, params};
use starling_model::TenantName;

use super::registry;
use super::values::{blob, ms, now_ms, secret};
use crate::{
    Endpoint, Error, Events, NewWebhook, ROTATION_OVERLAP, Rotated, SECRETS_MAX, Secret, Webhook,
    WebhookChange, WebhookId,
};

const ADD: &str = "
    INSERT INTO webhooks (id, tenant, url, events, ordered, created_at_ms) SELECT ?1, ?2, ?3, ?4, ?5, ?6
    WHERE (SELECT count(*) FROM webhooks WHERE tenant = ?2) < ?7 ON CONFLICT DO NOTHING";
const WEBHOOK: &str = "
    SELECT id, tenant, url, events, ordered, paused, failing_since_ms, created_at_ms FROM webhooks WHERE id = ?1 AND tenant = ?2";
const WEBHOOKS: &str = "
    SELECT id, tenant, url, events, ordered, paused, failing_since_ms, created_at_ms FROM webhooks
    WHERE tenant = ?1 AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3";
const CHANGE: &str = "
    UPDATE webhooks SET url = coalesce(?3, url), events = coalesce(?4, events), ordered = coalesce(?5, ordered),
        paused = coalesce(?6, paused), failing_since_ms = CASE WHEN ?6 = 0 THEN NULL ELSE failing_since_ms END
    WHERE id = ?1 AND tenant = ?2";
/// What a webhook has missed is sent when it is resumed, and its time for retries begins anew. A claim in force stays: its delivery is being sent.
const DUE: &str = "
    UPDATE webhook_deliveries AS d SET due_at_ms = ?3, attempts = CASE WHEN w.paused THEN 0 ELSE d.attempts END,
        first_attempt_at_ms = CASE WHEN w.paused THEN NULL ELSE d.first_attempt_at_ms END
    FROM webhooks w
    WHERE w.id = ?1 AND w.tenant = ?2 AND d.webhook = w.id AND d.state = 0
        AND (d.claimed_until_ms IS NOT d.due_at_ms OR d.due_at_ms <= ?3)";
const REMOVE: &str = "DELETE FROM webhooks WHERE id = ?1 AND tenant = ?2";
const REMOVE_GONE: &str = "DELETE FROM webhooks WHERE id = ?1 AND tenant = ?2 AND url = ?3";
const FORGET_OLD: &str = "DELETE FROM webhook_secrets WHERE webhook = ?1 AND signs_until_ms <= ?2";
const COUNT: &str = "SELECT count(*) FROM webhook_secrets WHERE webhook = ?1";
const END_SECRET: &str =
    "UPDATE webhook_secrets SET signs_until_ms = ?2 WHERE webhook = ?1 AND signs_until_ms IS NULL";
const ADD_SECRET: &str =
    "INSERT INTO webhook_secrets (webhook, secret) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const SECRETS: &str = "
    SELECT s.secret FROM webhook_secrets s JOIN webhooks w ON w.id = s.webhook
    WHERE w.id = ?1 AND w.tenant = ?2 AND (s.signs_until_ms IS NULL OR s.signs_until_ms > ?3) ORDER BY s.number DESC";

pub(super) fn add(
    connection: &Connection,
    webhook: &NewWebhook,
    secret: &Secret,
    webhooks_max: u32,
) -> Result<Option<Webhook>, Error> {
    let NewWebhook { id, tenant, endpoint, events, ordered } = webhook;
    let added = connection.prepare_cached(ADD)?.execute(params![
        blob(id.0),
        &**tenant,
        endpoint.as_str(),
        events.stored(),
        ordered,
        now_ms(),
        webhooks_max
    ])?;
    if added > 0 {
        connection.prepare_cached(ADD_SECRET)?.execute(params![blob(id.0), secret.expose()])?;
        registry::count(connection)?;
    }
    self::webhook(connection, tenant, *id)
}

pub(super) fn webhook(
    connection: &Connection,
    tenant: &TenantName,
    id: WebhookId,
) -> Result<Option<Webhook>, Error> {
    let mut statement = connection.prepare_cached(WEBHOOK)?;
    let found = statement.query_row(params![blob(id.0), &**tenant], |row| Ok(of_row(row))).optional()?;
    found.transpose()
}

pub(super) fn webhooks(
    connection: &Connection,
    tenant: &TenantName,
    after: Option<WebhookId>,
    limit: u16,
) -> Result<Vec<Webhook>, Error> {
    let mut statement = connection.prepare_cached(WEBHOOKS)?;
    let found =
        statement.query_map(params![&**tenant, after.map(|id| blob(id.0)), limit], |row| Ok(of_row(row)))?;
    found.map(|webhook| webhook?).collect()
}

pub(super) fn change(
    connection: &Connection,
    tenant: &TenantName,
    id: WebhookId,
    change: &WebhookChange,
) -> Result<Option<Webhook>, Error> {
    // Before the change, while it shows whether the webhook is paused.
    if change.paused == Some(false) {
        connection.prepare_cached(DUE)?.execute(params![blob(id.0), &**tenant, now_ms()])?;
    }
    connection.prepare_cached(CHANGE)?.execute(params![
        blob(id.0),
        &**tenant,
        change.endpoint.as_ref().map(Endpoint::as_str),
        change.events.as_ref().map(Events::stored),
        change.ordered,
        change.paused
    ])?;
    registry::count(connection)?;
    webhook(connection, tenant, id)
}

pub(super) fn remove(connection: &Connection, tenant: &TenantName, id: WebhookId) -> Result<bool, Error> {
    registry::count(connection)?;
    Ok(connection.prepare_cached(REMOVE)?.execute(params![blob(id.0), &**tenant])? > 0)
}

pub(super) fn remove_gone(
    connection: &Connection,
    tenant: &TenantName,
    id: WebhookId,
    endpoint: &Endpoint,
) -> Result<bool, Error> {
    registry::count(connection)?;
    let parameters = params![blob(id.0), &**tenant, endpoint.as_str()];
    Ok(connection.prepare_cached(REMOVE_GONE)?.execute(parameters)? > 0)
}

pub(super) fn rotate(
    connection: &Connection,
    tenant: &TenantName,
    id: WebhookId,
    secret: &Secret,
) -> Result<Rotated, Error> {
    if webhook(connection, tenant, id)?.is_none() {
        return Ok(Rotated::NotFound);
    }
    let (id, now_ms) = (blob(id.0), now_ms());
    connection.prepare_cached(FORGET_OLD)?.execute(params![id, now_ms])?;
    let signing: u32 = connection.prepare_cached(COUNT)?.query_row([id], |row| row.get(0))?;
    if signing >= SECRETS_MAX {
        return Ok(Rotated::TooMany);
    }
    let until_ms = now_ms.saturating_add(ms(ROTATION_OVERLAP));
    connection.prepare_cached(END_SECRET)?.execute(params![id, until_ms])?;
    connection.prepare_cached(ADD_SECRET)?.execute(params![id, secret.expose()])?;
    Ok(Rotated::Rotated)
}

pub(super) fn secrets(
    connection: &Connection,
    tenant: &TenantName,
    id: WebhookId,
) -> Result<Vec<Secret>, Error> {
    let mut statement = connection.prepare_cached(SECRETS)?;
    let texts =
        statement.query_map(params![blob(id.0), &**tenant, now_ms()], |row| row.get::<_, String>(0))?;
    texts.map(|text| secret(&text?)).collect()
}

fn of_row(row: &Row<'_>) -> Result<Webhook, Error> {
    let (tenant, url, events): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Webhook {
        id: WebhookId(uuid::Uuid::from_bytes(row.get(0)?)),
        tenant: tenant.into(),
        endpoint: Endpoint::parse(&url).map_err(|error| Error::Refused(error.to_string()))?,
        events: Events::of_stored(&events),
        ordered: row.get(4)?,
        paused: row.get(5)?,
        failing_since_ms: row.get(6)?,
        created_at_ms: row.get(7)?,
    })
}

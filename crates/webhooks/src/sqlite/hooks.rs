//! Hooks that ask first.

use rusqlite::{Connection, OptionalExtension, Row, params};
use starling_model::TenantName;

use super::registry;
use super::values::{ms, now_ms, secrets};
use crate::hook::of_columns;
use crate::{Error, Hook, HookPoint, ROTATION_OVERLAP, Rotated, Secret};

/// A hook that is there keeps its secret, so its secret tells whether it is new.
const PUT: &str = "
    INSERT INTO webhook_hooks (tenant, point, url, timeout_ms, on_failure, secret) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (tenant, point) DO UPDATE
    SET url = excluded.url, timeout_ms = excluded.timeout_ms, on_failure = excluded.on_failure
    RETURNING secret = ?6";
const HOOKS: &str = "
    SELECT point, url, timeout_ms, on_failure FROM webhook_hooks WHERE tenant = ?1 ORDER BY point";
const HOOK: &str = "
    SELECT point, url, timeout_ms, on_failure, secret, CASE WHEN previous_until_ms > ?3 THEN previous_secret END
    FROM webhook_hooks WHERE tenant = ?1 AND point = ?2";
const ROTATE: &str = "
    UPDATE webhook_hooks SET previous_secret = secret, previous_until_ms = ?4 + ?5, secret = ?3
    WHERE tenant = ?1 AND point = ?2 AND (previous_until_ms IS NULL OR previous_until_ms <= ?4)";
const REMOVE: &str = "DELETE FROM webhook_hooks WHERE tenant = ?1 AND point = ?2";

pub(super) fn put(connection: &Connection, hook: &Hook, secret: &Secret) -> Result<bool, Error> {
    let parameters = params![
        &*hook.tenant,
        hook.point.as_str(),
        hook.endpoint.as_str(),
        hook.timeout_ms(),
        hook.on_failure.as_str(),
        secret.expose()
    ];
    registry::count(connection)?;
    Ok(connection.prepare_cached(PUT)?.query_row(parameters, |row| row.get(0))?)
}

pub(super) fn hooks(connection: &Connection, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
    let mut statement = connection.prepare_cached(HOOKS)?;
    let hooks = statement.query_map([&**tenant], |row| Ok(of_row(tenant, row)))?;
    hooks.map(|hook| hook?).collect()
}

pub(super) fn hook(
    connection: &Connection,
    tenant: &TenantName,
    point: HookPoint,
) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
    let mut statement = connection.prepare_cached(HOOK)?;
    let with_secrets = |row: &Row<'_>| Ok((of_row(tenant, row)?, secrets(row, 4)?));
    let names = params![&**tenant, point.as_str(), now_ms()];
    let found = statement.query_row(names, |row| Ok(with_secrets(row))).optional()?;
    found.transpose()
}

pub(super) fn rotate(
    connection: &Connection,
    tenant: &TenantName,
    point: HookPoint,
    secret: &Secret,
) -> Result<Rotated, Error> {
    if hook(connection, tenant, point)?.is_none() {
        return Ok(Rotated::NotFound);
    }
    registry::count(connection)?;
    let parameters = params![&**tenant, point.as_str(), secret.expose(), now_ms(), ms(ROTATION_OVERLAP)];
    let rotated = connection.prepare_cached(ROTATE)?.execute(parameters)? > 0;
    Ok(if rotated { Rotated::Rotated } else { Rotated::TooMany })
}

pub(super) fn remove(connection: &Connection, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
    registry::count(connection)?;
    Ok(connection.prepare_cached(REMOVE)?.execute([&**tenant, point.as_str()])? > 0)
}

fn of_row(tenant: &TenantName, row: &Row<'_>) -> Result<Hook, Error> {
    let (point, url, on_failure): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
    of_columns(tenant.clone(), &point, &url, row.get(2)?, &on_failure)
}

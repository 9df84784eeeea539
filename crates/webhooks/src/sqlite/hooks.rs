//! Hooks that ask first.

use rusqlite::{Connection, OptionalExtension, Row, params};
use starling_model::TenantName;

use super::registry;
use super::values::secret;
use crate::hook::of_columns;
use crate::{Error, Hook, HookPoint, Secret};

/// A hook that is there keeps its secret, so its secret tells whether it is new.
const PUT: &str = "
    INSERT INTO webhook_hooks (tenant, point, url, timeout_ms, on_failure, secret) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
    ON CONFLICT (tenant, point) DO UPDATE
    SET url = excluded.url, timeout_ms = excluded.timeout_ms, on_failure = excluded.on_failure
    RETURNING secret = ?6";
const HOOKS: &str = "
    SELECT point, url, timeout_ms, on_failure FROM webhook_hooks WHERE tenant = ?1 ORDER BY point";
const HOOK: &str = "
    SELECT point, url, timeout_ms, on_failure, secret FROM webhook_hooks WHERE tenant = ?1 AND point = ?2";
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
) -> Result<Option<(Hook, Secret)>, Error> {
    let mut statement = connection.prepare_cached(HOOK)?;
    let with_secret = |row: &Row<'_>| Ok((of_row(tenant, row)?, secret(&row.get::<_, String>(4)?)?));
    let found = statement.query_row([&**tenant, point.as_str()], |row| Ok(with_secret(row))).optional()?;
    found.transpose()
}

pub(super) fn remove(connection: &Connection, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
    registry::count(connection)?;
    Ok(connection.prepare_cached(REMOVE)?.execute([&**tenant, point.as_str()])? > 0)
}

fn of_row(tenant: &TenantName, row: &Row<'_>) -> Result<Hook, Error> {
    let (point, url, on_failure): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
    of_columns(tenant.clone(), &point, &url, row.get(2)?, &on_failure)
}

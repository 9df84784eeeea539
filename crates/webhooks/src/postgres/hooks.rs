//! Hooks that ask first.

use starling_database::postgres::{Parameter, Pool, column};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::registry::counted;
use super::values::{ms, secrets};
use crate::hook::of_columns;
use crate::{Error, Hook, HookPoint, ROTATION_OVERLAP, Rotated, Secret};

/// A hook that is there keeps its secret, so its secret tells whether it is new.
const PUT: &str = counted!(
    " INSERT INTO webhook_hooks (tenant, point, url, timeout_ms, on_failure, secret) VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (tenant, point) DO UPDATE
    SET url = excluded.url, timeout_ms = excluded.timeout_ms, on_failure = excluded.on_failure
    RETURNING secret = $6"
);
const HOOKS: &str = "
    SELECT point, url, timeout_ms, on_failure FROM webhook_hooks WHERE tenant = $1 ORDER BY point";
const HOOK: &str = "
    SELECT point, url, timeout_ms, on_failure, secret, CASE WHEN previous_until > clock_timestamp() THEN previous_secret END
    FROM webhook_hooks WHERE tenant = $1 AND point = $2";
const ROTATE: &str = counted!(
    " UPDATE webhook_hooks SET previous_secret = secret, previous_until = clock_timestamp() + $4 * interval '1 millisecond', secret = $3
    WHERE tenant = $1 AND point = $2 AND (previous_until IS NULL OR previous_until <= clock_timestamp()) RETURNING point"
);
const REMOVE: &str = counted!(" DELETE FROM webhook_hooks WHERE tenant = $1 AND point = $2 RETURNING point");

pub(super) async fn put(database: &Pool, hook: &Hook, secret: &Secret) -> Result<bool, Error> {
    let (secret, timeout_ms) = (secret.expose(), hook.timeout_ms());
    let parameters: [Parameter<'_>; 6] = [
        (&&*hook.tenant, Type::TEXT),
        (&hook.point.as_str(), Type::TEXT),
        (&hook.endpoint.as_str(), Type::TEXT),
        (&timeout_ms, Type::INT4),
        (&hook.on_failure.as_str(), Type::TEXT),
        (&secret, Type::TEXT),
    ];
    let rows = database.write(PUT, &parameters).await?;
    rows.first().map_or(Ok(false), |row| column(row, 0))
}

pub(super) async fn hooks(database: &Pool, tenant: &TenantName) -> Result<Vec<Hook>, Error> {
    let rows = database.rows(HOOKS, &[(&&**tenant, Type::TEXT)]).await?;
    rows.iter().map(|row| of_row(tenant, row)).collect()
}

pub(super) async fn hook(
    database: &Pool,
    tenant: &TenantName,
    point: HookPoint,
) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
    let rows = database.rows(HOOK, &[(&&**tenant, Type::TEXT), (&point.as_str(), Type::TEXT)]).await?;
    rows.first().map(|row| Ok((of_row(tenant, row)?, secrets(row, 4)?))).transpose()
}

pub(super) async fn rotate(
    database: &Pool,
    tenant: &TenantName,
    point: HookPoint,
    secret: &Secret,
) -> Result<Rotated, Error> {
    let (secret, overlap, point_name) = (secret.expose(), ms(ROTATION_OVERLAP), point.as_str());
    let parameters: [Parameter<'_>; 4] =
        [(&&**tenant, Type::TEXT), (&point_name, Type::TEXT), (&secret, Type::TEXT), (&overlap, Type::INT8)];
    if !database.write(ROTATE, &parameters).await?.is_empty() {
        return Ok(Rotated::Rotated);
    }
    let is_there = !database.rows(HOOK, &parameters[..2]).await?.is_empty();
    Ok(if is_there { Rotated::TooMany } else { Rotated::NotFound })
}

pub(super) async fn remove(database: &Pool, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
    let parameters: [Parameter<'_>; 2] = [(&&**tenant, Type::TEXT), (&point.as_str(), Type::TEXT)];
    Ok(!database.write(REMOVE, &parameters).await?.is_empty())
}

fn of_row(tenant: &TenantName, row: &Row) -> Result<Hook, Error> {
    of_columns(tenant.clone(), column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?)
}

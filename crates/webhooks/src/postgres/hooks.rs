//! Hooks that ask first.

use starling_database::postgres::{Parameter, Pool, column};
use starling_model::TenantName;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::registry::counted;
use super::values::secret;
use crate::hook::of_columns;
use crate::{Error, Hook, HookPoint, Secret};

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
    SELECT point, url, timeout_ms, on_failure, secret FROM webhook_hooks WHERE tenant = $1 AND point = $2";
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
) -> Result<Option<(Hook, Secret)>, Error> {
    let rows = database.rows(HOOK, &[(&&**tenant, Type::TEXT), (&point.as_str(), Type::TEXT)]).await?;
    rows.first().map(|row| Ok((of_row(tenant, row)?, secret(column(row, 4)?)?))).transpose()
}

pub(super) async fn remove(database: &Pool, tenant: &TenantName, point: HookPoint) -> Result<bool, Error> {
    let parameters: [Parameter<'_>; 2] = [(&&**tenant, Type::TEXT), (&point.as_str(), Type::TEXT)];
    Ok(!database.write(REMOVE, &parameters).await?.is_empty())
}

fn of_row(tenant: &TenantName, row: &Row) -> Result<Hook, Error> {
    of_columns(tenant.clone(), column(row, 0)?, column(row, 1)?, column(row, 2)?, column(row, 3)?)
}

//! Times at which users were last seen.

use std::time::SystemTime;

use starling_database::postgres::{Cause, Failed, Pool, column, to_ms, to_time};
use starling_model::{TenantName, UserName};
use tokio_postgres::types::Type;

use crate::batch::{Parts, Refusals, latest_sightings};
use crate::{Error, LastSeen};

// In the given order, which is the same on all nodes, so that no two wait for each other.
const TOUCH: &str = "
    INSERT INTO users (tenant, user_name, last_seen)
    SELECT tenant, user_name, last_seen
    FROM unnest($1, $2, $3) WITH ORDINALITY AS g (tenant, user_name, last_seen, item) ORDER BY item
    ON CONFLICT (tenant, user_name) DO UPDATE SET last_seen = excluded.last_seen
    WHERE users.last_seen < excluded.last_seen";
const LAST_SEEN: &str = "SELECT user_name, last_seen FROM users WHERE tenant = $1 AND user_name = ANY ($2)";

/// Writes times in one transaction. If that fails because of a row, takes several transactions, so that only the bad row is left out.
pub(super) async fn touch(database: &Pool, batch: &[LastSeen]) -> Result<(), Error> {
    let sightings = latest_sightings(batch);
    let mut parts = Parts::of(sightings.len(), database.statement_timeout());
    let mut refusals = Refusals::default();
    while let Some(part) = parts.next() {
        match touch_at_once(database, &sightings[part.clone()]).await {
            Ok(()) => {}
            Err(failed) if failed.cause == Cause::Row && parts.split(&part) => {}
            Err(failed) if failed.cause == Cause::Row && part.len() < sightings.len() => {
                refusals.note(failed.error);
            }
            Err(failed) => return Err(failed.error),
        }
    }
    refusals.log("sightings", batch.len());
    Ok(())
}

async fn touch_at_once(database: &Pool, sightings: &[&LastSeen]) -> Result<(), Failed> {
    if sightings.is_empty() {
        return Ok(());
    }
    let tenants: Vec<&str> = sightings.iter().map(|seen| &*seen.tenant).collect();
    let users: Vec<&str> = sightings.iter().map(|seen| &*seen.user).collect();
    let times = sightings
        .iter()
        .map(|seen| to_time(seen.at_ms))
        .collect::<Result<Vec<SystemTime>, _>>()
        .map_err(|error| Failed { error, cause: Cause::Row })?;
    let parameters = [
        (&tenants as _, Type::TEXT_ARRAY),
        (&users as _, Type::TEXT_ARRAY),
        (&times as _, Type::TIMESTAMPTZ_ARRAY),
    ];
    database.write(TOUCH, &parameters).await?;
    Ok(())
}

pub(super) async fn last_seen(
    database: &Pool,
    tenant: &TenantName,
    users: &[UserName],
) -> Result<Vec<LastSeen>, Error> {
    if users.is_empty() {
        return Ok(Vec::new());
    }
    let users: Vec<&str> = users.iter().map(UserName::as_str).collect();
    let parameters = [(&tenant.as_str() as _, Type::TEXT), (&users as _, Type::TEXT_ARRAY)];
    let rows = database.rows(LAST_SEEN, &parameters).await?;
    rows.iter()
        .map(|row| {
            Ok(LastSeen {
                tenant: tenant.clone(),
                user: column::<&str>(row, 0)?.into(),
                at_ms: to_ms(column::<SystemTime>(row, 1)?),
            })
        })
        .collect()
}

//! What nodes know of all webhooks and hooks.

use starling_database::postgres::{Pool, column};
use starling_model::TenantName;
use tokio_postgres::Row;

use super::values::secrets;
use crate::hook::{of_columns, readable_or_refusing};
use crate::{Error, Events, Hook, HookPoint, Registry, Secret, WebhookId};

/// A statement that changes the registry is one with this one, which follows the change. So a node that sees the version sees the change.
macro_rules! counted {
    ($change:literal) => {
        concat!("WITH counted AS (UPDATE webhook_registry SET version = version + 1)", $change)
    };
}
pub(super) use counted;

/// Counts a change that is made by other statements of the same transaction.
pub(super) const COUNT: &str = "UPDATE webhook_registry SET version = version + 1";
const VERSION: &str = "SELECT version FROM webhook_registry";
const HOOKS: &str = "
    SELECT point, url, timeout_ms, on_failure, tenant, secret, CASE WHEN previous_until > clock_timestamp() THEN previous_secret END
    FROM webhook_hooks";
const WANTED: &str = "SELECT tenant, events, id FROM webhooks";

pub(super) async fn registry(database: &Pool, known: i64) -> Result<Option<Registry>, Error> {
    // The version is read first. If something changes meanwhile, the next call finds another version.
    let rows = database.rows(VERSION, &[]).await?;
    let version = rows.first().map_or(Ok(0), |row| column(row, 0))?;
    if version == known {
        return Ok(None);
    }
    let (hooks, wanted) = (database.rows(HOOKS, &[]).await?, database.rows(WANTED, &[]).await?);
    Ok(Some(Registry {
        version,
        hooks: hooks.iter().filter_map(|row| hook(row).transpose()).collect::<Result<_, Error>>()?,
        wanted: wanted.iter().map(events).collect::<Result<_, Error>>()?,
    }))
}

/// Reads a hook; `None` if only a newer version knows its point.
fn hook(row: &Row) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
    let name: &str = column(row, 0)?;
    let Some(point) = HookPoint::parse(name) else { return Ok(None) };
    let tenant: TenantName = column::<&str>(row, 4)?.into();
    let hook = of_columns(tenant.clone(), name, column(row, 1)?, column(row, 2)?, column(row, 3)?);
    Ok(readable_or_refusing(tenant, point, hook.and_then(|hook| Ok((hook, secrets(row, 5)?)))))
}

fn events(row: &Row) -> Result<(TenantName, WebhookId, Events), Error> {
    Ok((column::<&str>(row, 0)?.into(), WebhookId(column(row, 2)?), Events::of_stored(column(row, 1)?)))
}

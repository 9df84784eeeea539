//! What the node knows of all webhooks and hooks.

use rusqlite::{Connection, Row};
use starling_model::TenantName;

use super::values::{now_ms, secrets};
use crate::hook::{of_columns, readable_or_refusing};
use crate::{Error, Events, Hook, HookPoint, Registry, Secret, WebhookId};

const COUNT: &str = "UPDATE webhook_registry SET version = version + 1";
const VERSION: &str = "SELECT version FROM webhook_registry";
const HOOKS: &str = "
    SELECT point, url, timeout_ms, on_failure, tenant, secret, CASE WHEN previous_until_ms > ?1 THEN previous_secret END
    FROM webhook_hooks";
const WANTED: &str = "SELECT tenant, events, id FROM webhooks";

/// Counts a change of the registry, in its transaction.
pub(super) fn count(connection: &Connection) -> Result<(), Error> {
    connection.prepare_cached(COUNT)?.execute([])?;
    Ok(())
}

pub(super) fn registry(connection: &Connection, known: i64) -> Result<Option<Registry>, Error> {
    let version = connection.prepare_cached(VERSION)?.query_row([], |row| row.get(0))?;
    if version == known {
        return Ok(None);
    }
    let (mut hooks, mut wanted) = (connection.prepare_cached(HOOKS)?, connection.prepare_cached(WANTED)?);
    let hooks = hooks.query_map([now_ms()], |row| Ok(hook(row)))?;
    let hooks = hooks.filter_map(|found| found.map_err(Error::from).and_then(|hook| hook).transpose());
    let wanted = wanted.query_map([], |row| {
        let events = Events::of_stored(&row.get::<_, String>(1)?);
        let id = WebhookId(uuid::Uuid::from_bytes(row.get(2)?));
        Ok((row.get::<_, String>(0)?.as_str().into(), id, events))
    })?;
    Ok(Some(Registry {
        version,
        hooks: hooks.collect::<Result<_, Error>>()?,
        wanted: wanted.collect::<Result<_, _>>()?,
    }))
}

/// Reads a hook; `None` if only a newer version knows its point.
fn hook(row: &Row<'_>) -> Result<Option<(Hook, Vec<Secret>)>, Error> {
    let (name, url, on_failure): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(3)?);
    let Some(point) = HookPoint::parse(&name) else { return Ok(None) };
    let tenant = TenantName::from(row.get::<_, String>(4)?.as_str());
    let hook = of_columns(tenant.clone(), &name, &url, row.get(2)?, &on_failure);
    Ok(readable_or_refusing(tenant, point, hook.and_then(|hook| Ok((hook, secrets(row, 5)?)))))
}

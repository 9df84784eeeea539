//! Times at which users were last seen.

use rusqlite::{Connection, OptionalExtension};
use starling_model::{TenantName, UserName};

use crate::batch::{Refusals, latest_sightings};
use crate::{Error, LastSeen};

const TOUCH: &str = "
    INSERT INTO users (tenant, user_name, last_seen_ms) VALUES (?1, ?2, ?3)
    ON CONFLICT (tenant, user_name) DO UPDATE SET last_seen_ms = excluded.last_seen_ms
    WHERE last_seen_ms < excluded.last_seen_ms";
const LAST_SEEN: &str = "SELECT last_seen_ms FROM users WHERE tenant = ?1 AND user_name = ?2";

/// Writes times. One that the database refuses is left out, unless it is the only one.
pub(super) fn touch(connection: &Connection, batch: &[LastSeen]) -> Result<(), Error> {
    let mut statement = connection.prepare_cached(TOUCH)?;
    let (sightings, mut refusals) = (latest_sightings(batch), Refusals::default());
    for seen in &sightings {
        match statement.execute((&*seen.tenant, &*seen.user, seen.at_ms)).map_err(Error::from) {
            Ok(_) => {}
            Err(error @ Error::Refused(_)) if sightings.len() > 1 => refusals.note(error),
            Err(error) => return Err(error),
        }
    }
    refusals.log("sightings", batch.len());
    Ok(())
}

pub(super) fn last_seen(
    connection: &Connection,
    tenant: &TenantName,
    users: &[UserName],
) -> Result<Vec<LastSeen>, Error> {
    let mut statement = connection.prepare_cached(LAST_SEEN)?;
    let mut seen = Vec::with_capacity(users.len());
    for user in users {
        if let Some(at_ms) =
            statement.query_row((tenant.as_str(), user.as_str()), |row| row.get(0)).optional()?
        {
            seen.push(LastSeen { tenant: tenant.clone(), user: user.clone(), at_ms });
        }
    }
    Ok(seen)
}

//! Who is online.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::deliveries;
use super::values::{blob, ms, now_ms};
use crate::{BeatOutcome, Error, MoveOutcome, NodeRun, OrphanedUser, UserMove};

const LIST: &str = "
    INSERT INTO webhook_online_nodes (node, alive_since_ms, seen_at_ms) VALUES (?1, ?2, ?2) ON CONFLICT DO NOTHING";
/// After a silence the run has to prove itself again.
const BEAT: &str = "
    UPDATE webhook_online_nodes
    SET seen_at_ms = ?2, alive_since_ms = CASE WHEN seen_at_ms < ?2 - ?3 THEN ?2 ELSE alive_since_ms END
    WHERE node = ?1 AND NOT is_dead RETURNING alive_since_ms <= ?2 - ?3";
const UNLIST: &str = "
    DELETE FROM webhook_online_nodes WHERE node = ?1 AND NOT EXISTS (SELECT 1 FROM webhook_online_places WHERE node = ?1)";
const ALIVE: &str = "SELECT 1 FROM webhook_online_nodes WHERE node = ?1 AND NOT is_dead";
const COME: &str =
    "INSERT INTO webhook_online_places (tenant, user_name, node) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
const BECOME_ONLINE: &str =
    "INSERT INTO webhook_online_users (tenant, user_name) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
const GO: &str = "DELETE FROM webhook_online_places WHERE tenant = ?1 AND user_name = ?2 AND node = ?3";
const BECOME_OFFLINE: &str = "
    DELETE FROM webhook_online_users WHERE tenant = ?1 AND user_name = ?2
        AND NOT EXISTS (SELECT 1 FROM webhook_online_places WHERE tenant = ?1 AND user_name = ?2)";
const REAP: &str =
    "UPDATE webhook_online_nodes SET is_dead = 1 WHERE NOT is_dead AND node <> ?1 AND seen_at_ms < ?2";
const FORGET: &str = "
    DELETE FROM webhook_online_nodes
    WHERE is_dead AND NOT EXISTS (SELECT 1 FROM webhook_online_places p WHERE p.node = webhook_online_nodes.node)";
const LEFT: &str = "
    SELECT p.node, p.tenant, p.user_name FROM webhook_online_nodes n JOIN webhook_online_places p ON p.node = n.node
    WHERE n.is_dead LIMIT ?1";

pub(super) fn list(connection: &Connection, run: NodeRun) -> Result<(), Error> {
    connection.prepare_cached(LIST)?.execute(params![blob(run.0), now_ms()])?;
    Ok(())
}

pub(super) fn beat(connection: &Connection, run: NodeRun, silence: Duration) -> Result<BeatOutcome, Error> {
    let watching = connection
        .prepare_cached(BEAT)?
        .query_row(params![blob(run.0), now_ms(), ms(silence)], |row| row.get(0));
    Ok(match watching.optional()? {
        Some(true) => BeatOutcome::MayReap,
        Some(false) => BeatOutcome::Alive,
        None => BeatOutcome::Dead,
    })
}

pub(super) fn unlist(connection: &Connection, run: NodeRun) -> Result<(), Error> {
    connection.prepare_cached(UNLIST)?.execute([blob(run.0)])?;
    Ok(())
}

pub(super) fn came(connection: &Connection, run: NodeRun, moves: &[UserMove]) -> Result<MoveOutcome, Error> {
    if !connection.prepare_cached(ALIVE)?.exists([blob(run.0)])? {
        return Ok(MoveOutcome::Dead);
    }
    let mut told = 0;
    for moved in moves {
        let (tenant, user) = (&*moved.event.tenant, &*moved.user);
        connection.prepare_cached(COME)?.execute(params![tenant, user, blob(run.0)])?;
        if connection.prepare_cached(BECOME_ONLINE)?.execute([tenant, user])? > 0 {
            told += deliveries::record_one(connection, &moved.event)?;
        }
    }
    Ok(MoveOutcome::Recorded(told))
}

pub(super) fn went(connection: &Connection, run: NodeRun, moves: &[UserMove]) -> Result<u64, Error> {
    let mut told = 0;
    for moved in moves {
        let (tenant, user) = (&*moved.event.tenant, &*moved.user);
        connection.prepare_cached(GO)?.execute(params![tenant, user, blob(run.0)])?;
        if connection.prepare_cached(BECOME_OFFLINE)?.execute([tenant, user])? > 0 {
            told += deliveries::record_one(connection, &moved.event)?;
        }
    }
    Ok(told)
}

pub(super) fn reap(
    connection: &Connection,
    by: NodeRun,
    silence: Duration,
    limit: u16,
) -> Result<Vec<OrphanedUser>, Error> {
    let silent_since_ms = now_ms().saturating_sub(ms(silence));
    connection.prepare_cached(REAP)?.execute(params![blob(by.0), silent_since_ms])?;
    connection.prepare_cached(FORGET)?.execute([])?;
    let mut statement = connection.prepare_cached(LEFT)?;
    let left = statement.query_map([limit], |row| {
        let run = NodeRun(uuid::Uuid::from_bytes(row.get(0)?));
        let (tenant, user): (String, String) = (row.get(1)?, row.get(2)?);
        Ok(OrphanedUser { run, tenant: tenant.into(), user: user.into() })
    })?;
    Ok(left.collect::<Result<_, _>>()?)
}

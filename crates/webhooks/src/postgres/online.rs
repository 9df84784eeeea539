//! Who is online.

use std::time::Duration;

use starling_database::postgres::{Parameter, Pool, Statement, column};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::values::ms;
use crate::{BeatOutcome, Error, MoveOutcome, NodeRun, OrphanedUser, UserMove};

const LIST: &str = "INSERT INTO webhook_online_nodes (node) VALUES ($1) ON CONFLICT DO NOTHING";
/// After a silence the run has to prove itself again: perhaps it was the database that was away.
const BEAT: &str = "
    UPDATE webhook_online_nodes SET seen_at = clock_timestamp(), alive_since =
        CASE WHEN seen_at < clock_timestamp() - $2 * interval '1 millisecond' THEN clock_timestamp() ELSE alive_since END
    WHERE node = $1 AND NOT is_dead RETURNING alive_since <= clock_timestamp() - $2 * interval '1 millisecond'";
const UNLIST: &str = "
    DELETE FROM webhook_online_nodes WHERE node = $1 AND NOT EXISTS (SELECT 1 FROM webhook_online_places WHERE node = $1)";
/// Nobody takes the run for dead until the transaction ends.
const ALIVE: &str = "SELECT node FROM webhook_online_nodes WHERE node = $1 AND NOT is_dead FOR SHARE";
/// Locks the users, in one order, so that two callers can't deadlock. Further statements see what was committed before that.
const LOCK_COMING: &str = r#"
    INSERT INTO webhook_online_users (tenant, user_name)
    SELECT e.tenant, e.user_name FROM unnest($2::text[], $3::text[]) e (tenant, user_name)
    WHERE EXISTS (SELECT 1 FROM webhook_online_nodes WHERE node = $1 AND NOT is_dead)
    ORDER BY e.tenant COLLATE "C", e.user_name COLLATE "C"
    ON CONFLICT (tenant, user_name) DO UPDATE SET user_name = excluded.user_name"#;
const TELL_ONLINE: &str = "
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body)
    SELECT w.id, e.id, e.type, e.order_key, e.body
    FROM unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY
        e (tenant, user_name, id, type, order_key, body, place)
    JOIN webhooks w ON w.tenant = e.tenant AND (w.events = '*' OR e.type = ANY (string_to_array(w.events, ' ')))
    WHERE EXISTS (SELECT 1 FROM webhook_online_nodes WHERE node = $1 AND NOT is_dead)
        AND NOT EXISTS (SELECT 1 FROM webhook_online_places p WHERE p.tenant = e.tenant AND p.user_name = e.user_name)
    ORDER BY e.place, w.id ON CONFLICT DO NOTHING RETURNING event";
const COME: &str = "
    INSERT INTO webhook_online_places (tenant, user_name, node)
    SELECT e.tenant, e.user_name, $1 FROM unnest($2::text[], $3::text[]) e (tenant, user_name)
    WHERE EXISTS (SELECT 1 FROM webhook_online_nodes WHERE node = $1 AND NOT is_dead) ON CONFLICT DO NOTHING";
const LOCK_GOING: &str = "
    SELECT u.tenant FROM webhook_online_users u
    JOIN unnest($2::text[], $3::text[]) e (tenant, user_name) ON u.tenant = e.tenant AND u.user_name = e.user_name
    WHERE $1::uuid IS NOT NULL ORDER BY u.tenant, u.user_name FOR UPDATE OF u";
const GO: &str = "
    DELETE FROM webhook_online_places p USING unnest($2::text[], $3::text[]) e (tenant, user_name)
    WHERE p.tenant = e.tenant AND p.user_name = e.user_name AND p.node = $1";
const TELL_OFFLINE: &str = "
    WITH gone AS (
        DELETE FROM webhook_online_users u
        USING unnest($2::text[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[]) WITH ORDINALITY
            e (tenant, user_name, id, type, order_key, body, place)
        WHERE $1::uuid IS NOT NULL AND u.tenant = e.tenant AND u.user_name = e.user_name
            AND NOT EXISTS (SELECT 1 FROM webhook_online_places p WHERE p.tenant = u.tenant AND p.user_name = u.user_name)
        RETURNING u.tenant, e.id, e.type, e.order_key, e.body, e.place
    )
    INSERT INTO webhook_deliveries (webhook, event, type, order_key, body)
    SELECT w.id, e.id, e.type, e.order_key, e.body FROM gone e
    JOIN webhooks w ON w.tenant = e.tenant AND (w.events = '*' OR e.type = ANY (string_to_array(w.events, ' ')))
    ORDER BY e.place, w.id ON CONFLICT DO NOTHING RETURNING event";
const REAP: &str = "
    WITH silent AS (
        SELECT node FROM webhook_online_nodes
        WHERE NOT is_dead AND node <> $1 AND seen_at < clock_timestamp() - $2 * interval '1 millisecond'
        FOR UPDATE SKIP LOCKED
    )
    UPDATE webhook_online_nodes n SET is_dead = true FROM silent s WHERE n.node = s.node";
const FORGET: &str = "
    DELETE FROM webhook_online_nodes n
    WHERE n.is_dead AND NOT EXISTS (SELECT 1 FROM webhook_online_places p WHERE p.node = n.node)";
const LEFT: &str = "
    SELECT p.node, p.tenant, p.user_name FROM webhook_online_nodes n JOIN webhook_online_places p ON p.node = n.node
    WHERE n.is_dead LIMIT $1";

pub(super) async fn list(database: &Pool, run: NodeRun) -> Result<(), Error> {
    database.write(LIST, &[(&run.0, Type::UUID)]).await?;
    Ok(())
}

pub(super) async fn beat(database: &Pool, run: NodeRun, silence: Duration) -> Result<BeatOutcome, Error> {
    let rows = database.write(BEAT, &[(&run.0, Type::UUID), (&ms(silence), Type::INT8)]).await?;
    Ok(match rows.first().map(|row| column(row, 0)).transpose()? {
        Some(true) => BeatOutcome::MayReap,
        Some(false) => BeatOutcome::Alive,
        None => BeatOutcome::Dead,
    })
}

pub(super) async fn unlist(database: &Pool, run: NodeRun) -> Result<(), Error> {
    database.write(UNLIST, &[(&run.0, Type::UUID)]).await?;
    Ok(())
}

pub(super) async fn came(database: &Pool, run: NodeRun, moves: &[UserMove]) -> Result<MoveOutcome, Error> {
    let columns = Columns::of(moves);
    let all = columns.parameters(&run);
    let statements = [
        Statement { sql: ALIVE, parameters: &all[..1] },
        Statement { sql: LOCK_COMING, parameters: &all[..3] },
        Statement { sql: TELL_ONLINE, parameters: &all },
        Statement { sql: COME, parameters: &all[..3] },
    ];
    let answers = database.transaction(&statements).await?;
    Ok(match &answers[..] {
        [alive, _, told, _] if !alive.is_empty() => MoveOutcome::Recorded(told.len() as u64),
        _ => MoveOutcome::Dead,
    })
}

pub(super) async fn went(database: &Pool, run: NodeRun, moves: &[UserMove]) -> Result<u64, Error> {
    let columns = Columns::of(moves);
    let all = columns.parameters(&run);
    let statements = [
        Statement { sql: LOCK_GOING, parameters: &all[..3] },
        Statement { sql: GO, parameters: &all[..3] },
        Statement { sql: TELL_OFFLINE, parameters: &all },
    ];
    let answers = database.transaction(&statements).await?;
    Ok(answers.last().map_or(0, |told| told.len() as u64))
}

pub(super) async fn reap(
    database: &Pool,
    by: NodeRun,
    silence: Duration,
    limit: u16,
) -> Result<Vec<OrphanedUser>, Error> {
    let (silence, limit) = (ms(silence), i64::from(limit));
    let statements = [
        Statement { sql: REAP, parameters: &[(&by.0, Type::UUID), (&silence, Type::INT8)] },
        Statement { sql: FORGET, parameters: &[] },
        Statement { sql: LEFT, parameters: &[(&limit, Type::INT8)] },
    ];
    let answers = database.transaction(&statements).await?;
    let left = |row: &Row| {
        Ok(OrphanedUser {
            run: NodeRun(column(row, 0)?),
            tenant: column::<&str>(row, 1)?.into(),
            user: column::<&str>(row, 2)?.into(),
        })
    };
    answers.last().map_or(&[][..], Vec::as_slice).iter().map(left).collect()
}

/// Moves as one array per column.
struct Columns<'a> {
    tenants: Vec<&'a str>,
    users: Vec<&'a str>,
    ids: Vec<uuid::Uuid>,
    types: Vec<&'a str>,
    keys: Vec<Option<&'a str>>,
    bodies: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(moves: &'a [UserMove]) -> Self {
        let events = || moves.iter().map(|moved| &moved.event);
        Self {
            tenants: events().map(|event| &*event.tenant).collect(),
            users: moves.iter().map(|moved| &*moved.user).collect(),
            ids: events().map(|event| event.id.0).collect(),
            types: events().map(|event| event.kind.as_str()).collect(),
            keys: events().map(|event| event.order_key.as_deref()).collect(),
            bodies: events().map(|event| event.body()).collect(),
        }
    }

    fn parameters<'b>(&'b self, run: &'b NodeRun) -> [Parameter<'b>; 7] {
        [
            (&run.0, Type::UUID),
            (&self.tenants, Type::TEXT_ARRAY),
            (&self.users, Type::TEXT_ARRAY),
            (&self.ids, Type::UUID_ARRAY),
            (&self.types, Type::TEXT_ARRAY),
            (&self.keys, Type::TEXT_ARRAY),
            (&self.bodies, Type::TEXT_ARRAY),
        ]
    }
}

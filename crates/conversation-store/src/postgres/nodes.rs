//! Nodes' reports on the link between them, which they make while it is in doubt.

use starling_database::postgres::{Pool, column};
use tokio_postgres::types::Type;

use crate::{Error, LinkReports};

// Removes old rows, which belong to nodes that have ended. Skips rows that another node is removing.
const SAY: &str = "
    WITH said AS (
        INSERT INTO nodes (node, hears, said_at) VALUES ($1, $2, now())
        ON CONFLICT (node) DO UPDATE SET hears = excluded.hears, said_at = excluded.said_at
    ), gone AS (
        DELETE FROM nodes WHERE node IN (
            SELECT node FROM nodes WHERE said_at < now() - interval '1 hour' AND node <> $1
            ORDER BY node FOR UPDATE SKIP LOCKED))";
/// Reads the reports of the last seconds. Nodes repeat their reports each second.
const ASK: &str = "
    SELECT coalesce(bool_or(hears AND said_at > now() - interval '3 s'), false),
           coalesce(bool_or(NOT hears AND said_at > now() - interval '5 s'), false)
    FROM nodes WHERE node <> $1";

pub(super) async fn compare_links(
    database: &Pool,
    node: &str,
    hears: Option<bool>,
) -> Result<LinkReports, Error> {
    let rows = match hears {
        Some(hears) => {
            let parameters = [(&node as _, Type::TEXT), (&hears as _, Type::BOOL)];
            database.rows(&format!("{SAY} {ASK}"), &parameters).await?
        }
        None => database.rows(ASK, &[(&node, Type::TEXT)]).await?,
    };
    let read = |row| Ok(LinkReports { some_hear: column(row, 0)?, some_are_deaf: column(row, 1)? });
    rows.first().map_or(Ok(LinkReports::default()), read)
}

//! What stays on a connection: statements and settings where it leads to the server, nothing where a pooler stands between.

use anyhow::{Result, ensure};
use starling_database::postgres::{Cause, Pool, PoolConfig, PreparedStatements, column};
use starling_testkit::postgres::{PgBouncer, Postgres};

/// Asks for what is on the server's connection: statements, and two settings.
const KEPT: &str =
    "SELECT (SELECT count(*) FROM pg_prepared_statements), current_setting('default_transaction_isolation'),
    current_setting('lock_timeout')";
/// Defaults of the database that Starling must not run with.
const DEFAULTS: &str = "ALTER DATABASE kept SET default_transaction_isolation = 'serializable'; ALTER DATABASE kept SET lock_timeout = '77s'";

fn pool(url: &str, prepared_statements: PreparedStatements) -> Result<Pool> {
    Ok(Pool::new("primary", url, &PoolConfig { prepared_statements, ..PoolConfig::default() }, 1)?)
}

async fn kept(pool: &Pool) -> Result<(bool, String, String)> {
    pool.rows("SELECT 1", &[]).await?;
    let rows = pool.rows(KEPT, &[]).await?;
    let (statements, isolation, lock) =
        (column::<i64>(&rows[0], 0)?, column(&rows[0], 1)?, column(&rows[0], 2)?);
    Ok((statements > 0, isolation, lock))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_and_settings_stay_only_where_no_pooler_stands_between() -> Result<()> {
    let postgres = Postgres::start().await?;
    let url = postgres.create_database("kept").await?;
    postgres.psql(DEFAULTS).await?;
    let bouncer = PgBouncer::start(&postgres).await?;
    let others = ("serializable".to_owned(), "77s".to_owned());
    let own = ("read committed".to_owned(), "1250ms".to_owned());
    let (auto, always, never) =
        (PreparedStatements::Auto, PreparedStatements::Always, PreparedStatements::Never);
    for (url, choice, statements, settings) in [
        (&url, auto, true, &own),
        (&url, always, true, &own),
        (&url, never, false, &others),
        (&bouncer.url_of("kept"), auto, false, &others),
        // The control: a statement that was left behind PgBouncer shows.
        (&bouncer.url_of("kept"), always, true, &others),
    ] {
        let (found, isolation, lock) = kept(&pool(url, choice)?).await?;
        ensure!(found == statements, "{choice:?}: {found}");
        assert_eq!(&(isolation, lock), settings, "{choice:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_its_statements_is_replaced() -> Result<()> {
    let url = Postgres::shared().await?.create_database("without_statements").await?;
    let pool = pool(&url, PreparedStatements::Auto)?;
    let process = async || -> Result<i32> {
        let rows = pool.write("SELECT pg_backend_pid()", &[]).await.map_err(|failed| failed.error)?;
        Ok(column(&rows[0], 0)?)
    };
    for _ in 0..2 {
        let before = process().await?;
        assert_eq!(process().await?, before, "one connection serves all");
        pool.rows("DEALLOCATE ALL", &[]).await?;
        ensure!(process().await? != before);
        pool.rows("DEALLOCATE ALL", &[]).await?;
        pool.rows("SELECT pg_backend_pid()", &[]).await?;
    }
    let refused = pool.write("SELECT 1 / 0", &[]).await.map_err(|failed| failed.cause);
    ensure!(matches!(refused, Err(Cause::Row)), "{refused:?}");
    Ok(())
}

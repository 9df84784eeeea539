//! Transactions that several crates write to, and the schemas of several owners in one database.

use anyhow::{Result, ensure};
use starling_database::postgres::{self, Cause, Pool, PoolConfig, PreparedStatements, Statement};
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_database::{Compatibility, Error, Migration, Schema, SchemaStatus};
use starling_testkit::Folder;
use starling_testkit::postgres::Postgres;
use tokio_postgres::types::Type;

static MESSAGES: Schema = Schema {
    history: "messages_migrations",
    migrations: &[Migration {
        version: 1,
        name: "messages",
        postgres: "CREATE TABLE messages (id bigint PRIMARY KEY)",
        sqlite: "CREATE TABLE messages (id INTEGER PRIMARY KEY) STRICT",
        compatibility: Compatibility::Additive,
    }],
};
static JOBS: Schema = Schema {
    history: "jobs_migrations",
    migrations: &[
        Migration {
            version: 1,
            name: "jobs",
            postgres: "CREATE TABLE jobs (message bigint PRIMARY KEY)",
            sqlite: "CREATE TABLE jobs (message INTEGER PRIMARY KEY) STRICT",
            compatibility: Compatibility::Additive,
        },
        Migration {
            version: 2,
            name: "kinds",
            postgres: "ALTER TABLE jobs ADD COLUMN kind text",
            sqlite: "ALTER TABLE jobs ADD COLUMN kind TEXT",
            compatibility: Compatibility::Additive,
        },
    ],
};

/// The schema of jobs as an older program knows it.
static OLDER_JOBS: Schema = Schema { history: "jobs_migrations", migrations: &[] };

const MESSAGE: &str = "INSERT INTO messages (id) SELECT $1 WHERE $1 > 0 RETURNING id";
const JOB: &str =
    "INSERT INTO jobs (message, kind) SELECT id, $2 FROM messages WHERE id = $1 RETURNING message";

async fn pool(database: &str, config: PoolConfig) -> Result<Pool> {
    let url = Postgres::shared().await?.create_database(database).await?;
    let pool = Pool::new("primary", &url, &config, 2)?;
    postgres::migrate(&pool, &MESSAGES).await?;
    postgres::migrate(&pool, &JOBS).await?;
    Ok(pool)
}

/// Writes a message and a job about it, if there is such a message. Returns how many rows each statement wrote.
async fn write(pool: &Pool, id: i64, kind: &str) -> Result<[usize; 2], Cause> {
    let statements = [
        Statement { sql: MESSAGE, parameters: &[(&id, Type::INT8)] },
        Statement { sql: JOB, parameters: &[(&id, Type::INT8), (&kind, Type::TEXT)] },
    ];
    let rows = pool.transaction(&statements).await.map_err(|failed| failed.cause)?;
    assert_eq!(rows.len(), 2);
    Ok([rows[0].len(), rows[1].len()])
}

async fn count(pool: &Pool) -> Result<i64> {
    let rows =
        pool.rows("SELECT (SELECT count(*) FROM messages) * 100 + (SELECT count(*) FROM jobs)", &[]).await?;
    Ok(postgres::column(&rows[0], 0)?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_are_committed_together_or_not_at_all() -> Result<()> {
    let choices = [PreparedStatements::Auto, PreparedStatements::Always, PreparedStatements::Never];
    for (number, prepared_statements) in choices.into_iter().enumerate() {
        let config = PoolConfig { prepared_statements, ..PoolConfig::default() };
        let pool = pool(&format!("together_{number}"), config).await?;
        assert_eq!(write(&pool, 1, "index").await, Ok([1, 1]));
        assert_eq!(write(&pool, -1, "index").await, Ok([0, 0]), "a statement sees what one before it wrote");
        // The second statement fails: text can't hold a null.
        assert_eq!(write(&pool, 2, "\0").await, Err(Cause::Row));
        assert_eq!(count(&pool).await?, 101);
        // The first one fails: the message is there.
        assert_eq!(write(&pool, 1, "index").await, Err(Cause::Row));
        assert_eq!(write(&pool, 2, "index").await, Ok([1, 1]), "the connection is as good as before");
        assert_eq!(count(&pool).await?, 202);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_owner_has_a_history_of_its_own() -> Result<()> {
    let pool = pool("owners", PoolConfig::default()).await?;
    for schema in [&MESSAGES, &JOBS] {
        ensure!(postgres::schema_status(&pool, schema).await? == SchemaStatus::Current);
        postgres::migrate(&pool, schema).await?;
    }
    let refused = postgres::schema_status(&pool, &OLDER_JOBS).await;
    ensure!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn each_owner_has_a_history_of_its_own_in_a_file() -> Result<()> {
    let folder = Folder::new("owners")?;
    let database = SqliteDatabase::open(&folder.join("starling.db"), SqliteConfig::default())?;
    for schema in [&MESSAGES, &JOBS] {
        ensure!(database.schema_status(schema).await? == SchemaStatus::Behind);
        database.migrate(schema).await?;
        database.migrate(schema).await?;
        ensure!(database.schema_status(schema).await? == SchemaStatus::Current);
    }
    let refused = database.schema_status(&OLDER_JOBS).await;
    ensure!(matches!(refused, Err(Error::Unsupported(_))), "{refused:?}");
    Ok(())
}

#[tokio::test]
async fn functions_of_a_connection_share_a_transaction_in_a_file() -> Result<()> {
    let folder = Folder::new("together")?;
    let database = SqliteDatabase::open(&folder.join("starling.db"), SqliteConfig::default())?;
    database.migrate(&MESSAGES).await?;
    database.migrate(&JOBS).await?;
    let message = |connection: &rusqlite::Connection, id: i64| -> Result<(), Error> {
        connection.execute("INSERT INTO messages (id) VALUES (?1)", [id])?;
        Ok(())
    };
    let job = |connection: &rusqlite::Connection, id: i64| -> Result<(), Error> {
        connection.execute("INSERT INTO jobs (message) VALUES (?1)", [id])?;
        Ok(())
    };
    database.write(move |connection| message(connection, 1).and_then(|()| job(connection, 1))).await?;
    // The job is there already, so this message is not written either.
    let failed =
        database.write(move |connection| message(connection, 2).and_then(|()| job(connection, 1))).await;
    ensure!(matches!(failed, Err(Error::Refused(_))), "{failed:?}");
    let count = |connection: &rusqlite::Connection| {
        Ok(connection.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0))?)
    };
    assert_eq!(database.read(count).await?, 1);
    Ok(())
}

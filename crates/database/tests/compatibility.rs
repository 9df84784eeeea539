//! Programs of several versions on one schema: what an older one may use, and what it refuses.

use anyhow::{Result, ensure};
use starling_database::postgres::{self, Pool, PoolConfig};
use starling_database::sqlite::{SqliteConfig, SqliteDatabase};
use starling_database::{Compatibility, Error, Migration, Schema, SchemaStatus};
use starling_testkit::Folder;
use starling_testkit::postgres::Postgres;

const fn migration(version: i32, sql: &'static str, compatibility: Compatibility) -> Migration {
    Migration { version, name: "a step", postgres: sql, sqlite: sql, compatibility }
}

const FIRST: Migration = migration(1, "CREATE TABLE notes (old integer)", Compatibility::Additive);
const ADDS: Migration = migration(2, "ALTER TABLE notes ADD COLUMN new integer", Compatibility::Additive);
const TAKES_AWAY: Migration = migration(3, "ALTER TABLE notes DROP COLUMN old", Compatibility::Since(2));

static OLD: Schema = Schema { history: "history", migrations: &[FIRST] };
static NEXT: Schema = Schema { history: "history", migrations: &[FIRST, ADDS] };
static LAST: Schema = Schema { history: "history", migrations: &[FIRST, ADDS, TAKES_AWAY] };

/// A database of either kind.
enum Database {
    Postgres(Pool),
    /// Dropped before its folder.
    Sqlite(SqliteDatabase, #[expect(dead_code, reason = "it lasts as long as the file")] Folder),
}

impl Database {
    async fn both(name: &str) -> Result<[Database; 2]> {
        let url = Postgres::shared().await?.create_database(name).await?;
        let folder = Folder::new(name)?;
        let file = SqliteDatabase::open(&folder.join("starling.db"), SqliteConfig::default())?;
        let pool = Pool::new("primary", &url, &PoolConfig::default(), 2)?;
        Ok([Database::Postgres(pool), Database::Sqlite(file, folder)])
    }

    async fn migrate(&self, schema: &'static Schema) -> Result<(), Error> {
        match self {
            Database::Postgres(pool) => postgres::migrate(pool, schema).await,
            Database::Sqlite(file, _) => file.migrate(schema).await,
        }
    }

    async fn status(&self, schema: &'static Schema) -> Result<SchemaStatus, Error> {
        match self {
            Database::Postgres(pool) => postgres::schema_status(pool, schema).await,
            Database::Sqlite(file, _) => file.schema_status(schema).await,
        }
    }

    async fn run(&self, sql: &'static str) -> Result<()> {
        match self {
            Database::Postgres(pool) => drop(pool.rows(sql, &[]).await?),
            Database::Sqlite(file, _) => {
                file.write(move |connection| Ok(connection.execute_batch(sql)?)).await?;
            }
        }
        Ok(())
    }

    /// The versions in the history that meet a condition.
    async fn versions(&self, condition: &str) -> Result<Vec<i32>> {
        let sql = format!("SELECT version FROM history WHERE {condition} ORDER BY version");
        match self {
            Database::Postgres(pool) => {
                let rows = pool.rows(&sql, &[]).await?;
                Ok(rows.iter().map(|row| postgres::column(row, 0)).collect::<Result<_, _>>()?)
            }
            Database::Sqlite(file, _) => Ok(file
                .read(move |connection| {
                    let mut versions = connection.prepare(&sql)?;
                    Ok(versions.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
                })
                .await?),
        }
    }
}

fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Unsupported(why)) => why,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_program_uses_a_schema_that_only_adds_and_leaves_it_as_it_is() -> Result<()> {
    for database in Database::both("adds").await? {
        database.migrate(&OLD).await?;
        database.migrate(&NEXT).await?;
        let SchemaStatus::Newer(newer) = database.status(&OLD).await? else { panic!("not newer") };
        assert_eq!(
            newer.to_string(),
            "the schema has version 2 (history), and this program of version 1 can use it"
        );
        database.migrate(&OLD).await?;
        ensure!(database.status(&NEXT).await? == SchemaStatus::Current, "something was taken back");
        assert_eq!(database.versions("oldest_program = 1").await?, [1, 2]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_too_old_is_told_both_versions_and_what_to_do() -> Result<()> {
    for database in Database::both("takes_away").await? {
        // All at once: each row tells what has held since then.
        database.migrate(&LAST).await?;
        assert_eq!(database.versions("oldest_program = 2").await?, [3]);
        let why = refusal(database.status(&OLD).await);
        assert_eq!(
            why,
            "the database's schema has version 3 (history), which needs a program of version 2 or later, and this one has version 1: \
             start the newer program again, or restore a backup from before its migration"
        );
        assert_eq!(refusal(database.migrate(&OLD).await), why);
        // The one in the middle does not need what was taken away.
        ensure!(database.status(&NEXT).await?.newer().is_some());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_from_before_this_rule_learns_it_with_the_next_migration() -> Result<()> {
    for database in Database::both("before").await? {
        database.migrate(&OLD).await?;
        // As programs made it that did not know the rule.
        database.run("ALTER TABLE history DROP COLUMN oldest_program").await?;
        ensure!(database.status(&OLD).await? == SchemaStatus::Current);
        database.migrate(&OLD).await?;
        ensure!(database.status(&NEXT).await? == SchemaStatus::Behind);
        database.migrate(&NEXT).await?;
        assert_eq!(database.versions("oldest_program IS NULL").await?, [1]);
        ensure!(database.status(&OLD).await?.newer().is_some());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_does_not_tell_needs_a_program_that_knows_it() -> Result<()> {
    for database in Database::both("silent").await? {
        database.migrate(&NEXT).await?;
        database.run("UPDATE history SET oldest_program = NULL").await?;
        assert!(refusal(database.status(&OLD).await).contains("needs a program of version 2 or later"));
        // A later one that tells does not speak for the one before.
        database.run("INSERT INTO history (version, name, oldest_program) VALUES (3, 'adds', 1)").await?;
        assert!(refusal(database.status(&OLD).await).contains("needs a program of version 2 or later"));
        database.run("ALTER TABLE history DROP COLUMN oldest_program").await?;
        for program in [&OLD, &NEXT] {
            assert!(
                refusal(database.status(program).await).contains("needs a program of version 3 or later")
            );
        }
    }
    Ok(())
}

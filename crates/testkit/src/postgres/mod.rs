//! PostgreSQL, plain and behind PgBouncer.

mod pgbouncer;
mod standby;
mod start;
mod template;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::net::TcpStream;

pub use pgbouncer::PgBouncer;

use crate::process::Signal;
use crate::programs;
use crate::user::User;
use crate::{Folder, Launch, Port, Process, free_port};

/// How long the server may take to start or to end, on a machine that is busy compiling.
const LIMIT: Duration = Duration::from_secs(60);
/// The role that Starling's nodes log in as, and its database.
const ROLE: &str = "starling";

/// A PostgreSQL server with a role and a database for Starling. Commits reach the disk, as in real life.
#[derive(Debug)]
pub struct Postgres {
    /// Dropped before the folder and the port that it uses.
    process: Process,
    port: Port,
    password: String,
    /// Holds the data, the log and the Unix socket.
    folder: Folder,
}

impl Postgres {
    /// Starts a server on the data that is in a folder.
    async fn begin(folder: Folder, settings: &[(&str, &str)], password: String) -> Result<Self> {
        let program = programs::find("postgres")?;
        let port = free_port()?;
        let mut launch = Launch::new("postgres", program, folder.path())
            .args(["-D", "data", "-h", "127.0.0.1", "-p", &port.number().to_string()])
            .user(User::for_servers()?.as_ref())
            // The one that leaves no shared memory behind.
            .end_by(Signal::QUIT);
        let socket_folder = folder.path().display().to_string();
        let own = [
            ("unix_socket_directories", socket_folder.as_str()),
            ("max_connections", "200"),
            ("shared_buffers", "64MB"),
            ("dynamic_shared_memory_type", "mmap"),
            ("password_encryption", "scram-sha-256"),
            ("log_min_messages", "warning"),
        ];
        for (name, value) in own.iter().chain(settings) {
            launch = launch.args(["-c", &format!("{name}={value}")]);
        }
        let process = Process::start(launch).await?;
        Ok(Self { process, port, password, folder })
    }

    /// `postgres://ROLE:PASSWORD@127.0.0.1:PORT/starling`, an empty database.
    pub fn url(&self) -> String {
        self.url_of(self.address(), ROLE)
    }

    /// `postgres://ROLE:PASSWORD@HOST:PORT,HOST:PORT/starling?target_session_attrs=read-write`: this server or its replica, whichever
    /// takes writes.
    pub fn url_with(&self, replica: &Self) -> String {
        let (own, other) = (self.address(), replica.address());
        format!("postgres://{ROLE}:{}@{own},{other}/{ROLE}?target_session_attrs=read-write", self.password)
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Whether it is running.
    pub fn is_running(&self) -> bool {
        self.process.is_running()
    }

    /// Creates another empty database, and returns its URL.
    ///
    /// # Errors
    /// When a database of this name exists, or the server does not answer.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        self.psql_in("postgres", &format!("CREATE DATABASE \"{name}\" OWNER {ROLE}")).await?;
        Ok(self.url_of(self.address(), name))
    }

    /// Ends it with a fast shutdown: open transactions are rolled back, connections closed.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn stop(&self) -> Result<()> {
        self.process.signal(Signal::INT)?;
        self.process.ended(LIMIT).await.map(drop)
    }

    /// Ends it with an immediate shutdown, like a crash: only committed data is there after [`start_again`](Self::start_again).
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn crash(&self) -> Result<()> {
        self.process.signal(Signal::QUIT)?;
        self.process.ended(LIMIT).await.map(drop)
    }

    /// Starts it again on the same port with the same data.
    ///
    /// # Errors
    /// When it does not come back, with its log.
    pub async fn start_again(&self) -> Result<()> {
        self.process.start_again().await?;
        self.answers().await
    }

    /// Ends the backends of all other connections, and returns how many there were.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn terminate_backends(&self) -> Result<u64> {
        let ended = self
            .psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
            )
            .await?;
        ended.trim().parse().context("a number of backends")
    }

    /// Runs statements in Starling's database as the superuser. Returns the rows, one a line, columns divided by `|`.
    ///
    /// # Errors
    /// When a statement fails, with what psql says.
    pub async fn psql(&self, sql: &str) -> Result<String> {
        self.psql_in(ROLE, sql).await
    }

    /// Like [`psql`](Self::psql), in a database of this name.
    ///
    /// # Errors
    /// When a statement fails, with what psql says.
    pub async fn psql_in(&self, database: &str, sql: &str) -> Result<String> {
        let options = ["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-c", sql];
        self.run("psql", database, &options).await
    }

    /// A database as SQL, as pg_dump writes it with these further options.
    ///
    /// # Errors
    /// When it can't be read, with what pg_dump says.
    pub async fn dump(&self, database: &str, options: &[&str]) -> Result<String> {
        self.run("pg_dump", database, options).await
    }

    /// Runs what [`dump`](Self::dump) wrote.
    ///
    /// # Errors
    /// When a statement fails, with what psql says.
    pub async fn restore(&self, database: &str, dump: &str) -> Result<()> {
        let folder = Folder::new("dump")?;
        let file = folder.join("dump.sql");
        std::fs::write(&file, dump).context("write the dump")?;
        let file = file.to_str().context("a folder's name")?;
        let options = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-1", "-f", file];
        self.run("psql", database, &options).await.map(drop)
    }

    /// Runs one of PostgreSQL's programs as the superuser. Returns what it prints.
    async fn run(&self, name: &str, database: &str, options: &[&str]) -> Result<String> {
        let program = programs::find(name)?;
        let output = tokio::process::Command::new(program)
            .args(["-U", SUPERUSER, "-d", database, "-h"])
            .arg(self.folder.path())
            .args(["-p", &self.port().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        // A write without its standby would wait forever.
        let output = tokio::time::timeout(LIMIT, output).await;
        let output = output.with_context(|| format!("{name} takes too long"))?;
        let output = output.with_context(|| format!("run {name}"))?;
        ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Creates the role and the database if they are missing, and sets the password of the role.
    async fn prepare(&self) -> Result<()> {
        let there = format!(
            "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = '{ROLE}'), \
                    (SELECT count(*) FROM pg_database WHERE datname = '{ROLE}')"
        );
        let there = self.psql_in("postgres", &there).await?;
        let (role, database) = there.trim().split_once('|').context("two counts")?;
        let verb = if role == "0" { "CREATE" } else { "ALTER" };
        let login = format!("{verb} ROLE {ROLE} LOGIN PASSWORD '{}'", self.password);
        self.psql_in("postgres", &login).await?;
        if database == "0" {
            self.create_database(ROLE).await?;
        }
        Ok(())
    }

    fn url_of(&self, address: SocketAddr, database: &str) -> String {
        format!("postgres://{ROLE}:{}@{address}/{database}", self.password)
    }

    /// Waits until the server has replayed what it was started on, and no longer follows another one.
    async fn takes_writes(&self) -> Result<()> {
        let recovered =
            async || Ok(self.psql_in("postgres", "SELECT pg_is_in_recovery()").await?.trim() == "f");
        self.process.ready(LIMIT, "the end of the recovery", recovered).await
    }

    async fn answers(&self) -> Result<()> {
        let takes_connections = async || {
            TcpStream::connect(self.address()).await?;
            Ok(self.psql_in("postgres", "SELECT 1").await?.trim() == "1")
        };
        self.process.ready(LIMIT, "an answer to a query", takes_connections).await
    }
}

/// Folder that PostgreSQL may write to, such as an archive.
///
/// # Errors
/// When it can't be made.
pub fn folder_for_server(name: &str) -> Result<Folder> {
    let folder = Folder::new(name)?;
    if let Some(user) = User::for_servers()? {
        folder.give_to(user.uid, user.gid)?;
    }
    Ok(folder)
}

/// Runs a program to its end as the user that PostgreSQL runs as, with PostgreSQL's programs in `PATH`. Returns what it prints.
///
/// # Errors
/// When it fails, with what it printed, or takes longer than a minute.
pub async fn run_as_server(launch: Launch) -> Result<String> {
    let programs = programs::find("pg_basebackup")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = programs.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&path));
    let launch = launch.env("PATH", std::env::join_paths(folders)?).user(User::for_servers()?.as_ref());
    finished(launch).await
}

/// The superuser of the server. It can log in only through the Unix socket in the server's own folder.
const SUPERUSER: &str = "postgres";

/// How a database cluster is made.
const INITDB: [&str; 6] =
    ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"];

async fn initialise(folder: &Path, user: Option<&User>) -> Result<()> {
    let program = programs::find("initdb")?;
    let launch =
        Launch::new("initdb", program, folder).args(["-D", "data", "-U", SUPERUSER]).args(INITDB).user(user);
    finished(launch).await.map(drop)
}

/// Runs a program to its end. Returns what it prints. Dropping the future ends the program and its children.
async fn finished(launch: Launch) -> Result<String> {
    let process = Process::start(launch).await?;
    let status = process.ended(LIMIT).await?;
    ensure!(status.success(), "{status}: {}", process.log_tail());
    Ok(process.log())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::process::is_alive;
    use crate::wait;

    #[tokio::test]
    async fn a_server_answers_keeps_its_databases_apart_and_is_gone_after_the_drop() {
        let postgres = Postgres::start().await.unwrap();
        let url = postgres.create_database("second").await.unwrap();
        assert!(url.ends_with("/second") && postgres.url().ends_with("/starling"));
        postgres.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1), (2)").await.unwrap();
        assert_eq!(postgres.psql("SELECT n, n * 2 FROM t ORDER BY n").await.unwrap(), "1|2\n2|4\n");
        let elsewhere = postgres.psql_in("second", "SELECT * FROM t").await.unwrap_err();
        assert!(elsewhere.to_string().contains("does not exist"), "{elsewhere}");
        assert!(
            by_url(&postgres.url().replace(&postgres.password, "wrong")).await.is_err(),
            "a password is needed"
        );
        assert_eq!(by_url(&url).await.unwrap(), "starling|second\n");
        let pid = postgres.pid();
        let folder = postgres.folder.path().to_owned();
        drop(postgres);
        assert!(!is_alive(pid) && !folder.exists());
    }

    #[tokio::test]
    async fn what_was_committed_outlives_a_stop_and_a_crash() {
        let postgres = Postgres::start().await.unwrap();
        postgres.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)").await.unwrap();
        postgres.stop().await.unwrap();
        assert!(postgres.psql("SELECT 1").await.is_err());
        postgres.start_again().await.unwrap();
        postgres.psql("INSERT INTO t VALUES (2)").await.unwrap();
        postgres.crash().await.unwrap();
        postgres.start_again().await.unwrap();
        assert_eq!(postgres.psql("SELECT count(*) FROM t").await.unwrap().trim(), "2");
    }

    #[tokio::test]
    async fn a_kept_folder_holds_the_data_for_the_next_server() {
        let place = Folder::new("kept").unwrap();
        std::fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let folder = place.join("pg");
        let first = Postgres::start_in(&folder).await.unwrap();
        first.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (7)").await.unwrap();
        drop(first);
        let second = Postgres::start_in(&folder).await.unwrap();
        assert_eq!(second.psql("SELECT n FROM t").await.unwrap().trim(), "7");
        assert_eq!(by_url(&second.url()).await.unwrap(), "starling|starling\n");
    }

    #[tokio::test]
    async fn terminated_backends_lose_their_connection() {
        // Not the shared one: others would lose their connections too.
        let postgres = Arc::new(Postgres::start().await.unwrap());
        let server = Arc::clone(&postgres);
        let sleeper = tokio::spawn(async move { server.psql("SELECT pg_sleep(600)").await });
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(600)'";
        let asleep = async || Ok(postgres.psql(sleeps).await?.trim() == "1");
        wait::until_true(LIMIT, "the sleeper", asleep).await.unwrap();
        assert!(postgres.terminate_backends().await.unwrap() >= 1);
        let error = sleeper.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("terminat"), "{error}");
    }

    #[tokio::test]
    async fn a_transaction_behind_pgbouncer_reaches_the_server() {
        let postgres = Postgres::shared().await.unwrap();
        postgres.create_database("bounced").await.unwrap();
        let bouncer = PgBouncer::start(postgres).await.unwrap();
        assert_eq!(by_url(&bouncer.url_of("bounced")).await.unwrap(), "starling|bounced\n");
        assert_eq!(by_url(&bouncer.url()).await.unwrap(), "starling|starling\n");
        let pid = bouncer.pid();
        drop(bouncer);
        assert!(!is_alive(pid));
    }

    /// Logs in as a node does.
    async fn by_url(url: &str) -> Result<String> {
        let program = programs::find("psql")?;
        let output = tokio::process::Command::new(program)
            .args(["-X", "-A", "-t", "-d", url, "-c", "SELECT current_user, current_database()"])
            .output()
            .await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

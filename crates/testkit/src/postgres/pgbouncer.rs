//! PgBouncer in transaction mode.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::{LIMIT, Postgres, ROLE};
use crate::programs;
use crate::user::User;
use crate::{Folder, Launch, Port, Process, free_port};

/// PgBouncer before a [`Postgres`], in transaction mode: a session keeps nothing from one transaction to the next.
#[derive(Debug)]
pub struct PgBouncer {
    process: Process,
    port: Port,
    password: String,
    _folder: Folder,
}

impl PgBouncer {
    /// Starts one, and returns when it takes connections.
    ///
    /// # Errors
    /// When it can't be started, with its log.
    pub async fn start(postgres: &Postgres) -> Result<Self> {
        let program = programs::find("pgbouncer")?;
        let user = User::for_servers()?;
        let (port, folder) = (free_port()?, Folder::new("pgbouncer")?);
        let password = postgres.password.clone();
        let users = folder.write("users.txt", &format!("\"{ROLE}\" \"{password}\"\n"))?;
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\npool_mode = transaction\n\
             max_client_conn = 1000\ndefault_pool_size = 20\nignore_startup_parameters = extra_float_digits\n",
            postgres.port(),
            port.number(),
            users.display(),
        );
        let file = folder.write("pgbouncer.ini", &config)?;
        if let Some(user) = &user {
            folder.give_to(user.uid, user.gid)?;
        }
        let launch = Launch::new("pgbouncer", program, folder.path()).args([file]).user(user.as_ref());
        let process = Process::start(launch).await?;
        let bouncer = Self { process, port, password, _folder: folder };
        bouncer.listens().await?;
        Ok(bouncer)
    }

    /// Kills it (SIGKILL), with all connections through it.
    ///
    /// # Errors
    /// When it does not vanish.
    pub async fn kill(&self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again on the same port, after its end.
    ///
    /// # Errors
    /// When it is running, or does not come back.
    pub async fn start_again(&self) -> Result<()> {
        self.process.start_again().await?;
        self.listens().await
    }

    /// `postgres://ROLE:PASSWORD@127.0.0.1:PORT/starling`.
    pub fn url(&self) -> String {
        self.url_of(ROLE)
    }

    /// The URL of another database of the server.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{ROLE}:{}@{}/{database}", self.password, self.address())
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    async fn listens(&self) -> Result<()> {
        let listens = async || {
            TcpStream::connect(self.address()).await.context("connect")?;
            Ok(true)
        };
        self.process.ready(LIMIT, "PgBouncer to listen", listens).await
    }
}

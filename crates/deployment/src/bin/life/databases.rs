//! A Redis and a PostgreSQL on this machine, for the pods of a cluster that reach it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use starling_testkit::postgres::Postgres;
use starling_testkit::redis::Redis;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The running databases, and the ways to them. Both databases only listen on the loopback.
pub struct Databases {
    _postgres: Postgres,
    _redis: Redis,
    _ways: JoinSet<()>,
    /// Addresses of two databases of PostgreSQL, for the pods.
    pub database_urls: [String; 2],
    /// Addresses of the Redis, for the pods: of two of its databases.
    pub redis_urls: [String; 2],
}

impl Databases {
    /// Starts them, and lets pods reach them at this address.
    pub async fn start(address: IpAddr) -> Result<Self> {
        let postgres = Postgres::start_with(&[("max_connections", "300")]).await?;
        let redis = Redis::start().await?;
        let mut ways = JoinSet::new();
        let to_postgres = open_way(&mut ways, address, postgres.address()).await?;
        let to_redis = open_way(&mut ways, address, redis.address()).await?;
        let translate =
            |url: &str, from: SocketAddr, to: SocketAddr| url.replace(&from.to_string(), &to.to_string());
        let database_urls =
            [postgres.create_database("life").await?, postgres.create_database("kustomize").await?]
                .map(|url| translate(&url, postgres.address(), to_postgres));
        let redis_url = translate(&redis.url(), redis.address(), to_redis);
        let redis_urls = [format!("{redis_url}/0"), format!("{redis_url}/1")];
        Ok(Self { _postgres: postgres, _redis: redis, _ways: ways, database_urls, redis_urls })
    }
}

/// Passes connections to a free port of an address on to a server.
async fn open_way(ways: &mut JoinSet<()>, address: IpAddr, to: SocketAddr) -> Result<SocketAddr> {
    let listener = TcpListener::bind((address, 0)).await;
    let listener =
        listener.with_context(|| format!("listen on {address}: is it an address of this machine?"))?;
    let opened = listener.local_addr()?;
    ways.spawn(async move {
        let mut passing = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            while passing.try_join_next().is_some() {}
            passing.spawn(async move {
                if let Ok(mut to) = TcpStream::connect(to).await {
                    // Either end may break the connection at any time.
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    Ok(opened)
}

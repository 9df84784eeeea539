//! `cargo xtask cluster`: a cluster to try.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use starling_testkit::balancer::Balancer;
use starling_testkit::node::{self, Cluster, Node};
use starling_testkit::postgres::Postgres;
use starling_testkit::token::Token;
use tokio::signal::unix::{SignalKind, signal};

/// The users who get a link.
const USERS: [&str; 3] = ["ada", "grace", "linus"];

/// Validity of the tokens in the links.
const LINKS_HOLD: Duration = Duration::from_secs(24 * 3600);

/// Runs a cluster on this machine to try: nodes, Redis, PostgreSQL and a load balancer.
#[derive(clap::Args)]
pub struct Arguments {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
    nodes: u8,
    /// Keeps the database for the next run with --keep
    #[arg(long)]
    keep: bool,
    /// Runs this program instead of the one beside this
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Starts everything, prints the links, and waits for Ctrl-C or SIGTERM. Leaves nothing behind.
pub async fn run(arguments: &Arguments) -> Result<()> {
    let stopped = stop_signals()?;
    tokio::select! {
        failed = play(arguments) => failed?,
        () = stopped => {}
    }
    // By now all servers have been dropped, which ended them.
    starling_testkit::remove_own()
}

/// Runs the cluster until this is dropped.
async fn play(arguments: &Arguments) -> Result<()> {
    let program = match &arguments.program {
        Some(program) => std::path::absolute(program)?,
        None => tokio::task::spawn_blocking(node::program).await??,
    };
    println!("Starting PostgreSQL, Redis, {} nodes and nginx …", arguments.nodes);
    let kept = arguments.keep.then(kept_folder);
    let postgres = match &kept {
        Some(folder) => Postgres::start_in(folder).await?,
        None => Postgres::start().await?,
    };
    let builder = Cluster::builder(usize::from(arguments.nodes)).program(program).database(&postgres.url());
    let cluster = builder.env("STARLING_ALLOWED_ORIGINS", "*").start().await?;
    let addresses: Vec<_> = cluster.nodes().iter().map(Node::address).collect();
    let balancer = Balancer::start(&addresses).await?;
    show(&cluster, &balancer, &postgres, kept.as_ref());
    std::future::pending().await
}

fn show(cluster: &Cluster, balancer: &Balancer, postgres: &Postgres, kept: Option<&PathBuf>) {
    println!("\nOpen one of these in a browser, and another in a second window:\n");
    for user in USERS {
        println!("  {user:<8} {}", link(&balancer.http_url(), &token(cluster, user)));
    }
    println!("\nThe same through one node, which may be killed while you talk:\n");
    for (node, user) in cluster.nodes().iter().zip(USERS.iter().cycle()) {
        println!(
            "  {:<8} process {:<8} {}{}",
            node.name(),
            node.pid(),
            link(&node.http_url(), &cluster.token(user)),
            other_nodes(cluster, node)
        );
    }
    let admin = Token::of("admin").scope("admin conversations:create subscribe:* publish:*").ttl(LINKS_HOLD);
    println!(
        "\nWith scope admin:\n\n  {}",
        link(&balancer.http_url(), &admin.sign(cluster.node(0).secret()))
    );
    println!("\nSecret:     {}  (STARLING_JWT_SECRET, for tokens of your own)", cluster.node(0).secret());
    println!("Metrics:    {}", metrics(cluster).join("  "));
    println!("Redis:      {}", cluster.redis_url());
    println!("PostgreSQL: {}", postgres.url());
    if let Some(folder) = kept {
        println!("            kept in {}", folder.display());
    }
    println!("Logs:");
    for node in cluster.nodes() {
        println!("  {:<8} {}", node.name(), node.log_path().display());
    }
    println!("\nCtrl-C stops all of it.");
}

fn token(cluster: &Cluster, user: &str) -> String {
    Token::of(user).ttl(LINKS_HOLD).sign(cluster.node(0).secret())
}

fn link(url: &str, token: &str) -> String {
    format!("{url}/#token={token}")
}

/// The part of a link that tells the page which nodes to try when its own is gone.
fn other_nodes(cluster: &Cluster, node: &Node) -> String {
    let others = cluster.nodes().iter().filter(|other| other.name() != node.name());
    others.map(|other| format!("&node={}", other.http_url())).collect()
}

fn metrics(cluster: &Cluster) -> Vec<String> {
    cluster.nodes().iter().map(|node| format!("http://{}/metrics", node.metrics_address())).collect()
}

/// A folder outside of the repository: if this runs as root, PostgreSQL runs as another user, who has to reach it.
fn kept_folder() -> PathBuf {
    std::env::temp_dir().join("starling-cluster")
}

/// Completes on Ctrl-C or SIGTERM, from now on: also while servers are still starting.
pub fn stop_signals() -> Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("\nStopping …");
    })
}

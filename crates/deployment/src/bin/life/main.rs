//! Runs the whole life of an installation in a real Kubernetes cluster, while clients talk through it all the time.
//!
//! `cargo xtask kubernetes` builds and runs this program. It uses the cluster that `KUBECONFIG` names, in a namespace of its own, which it
//! removes in the end. The page `docs/operating/try-kubernetes.md` says what it needs.

mod autoscaling;
mod cluster;
mod databases;
mod examples;
mod kustomize;
mod phases;
mod release;
mod report;
mod tools;

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the whole life of an installation in a Kubernetes cluster: install, scale, upgrade, kill, roll back, uninstall.
#[derive(Parser)]
#[command(name = "cargo xtask kubernetes")]
struct Arguments {
    /// The Helm to use: a program in `PATH`. By default the first of `helm`, `helm4` and `helm3`
    #[arg(long, value_name = "PROGRAM")]
    helm: Option<String>,
    /// Image to install, as nodes of the cluster can get it
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("starling:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// Image to upgrade to. By default the same one, with new pods
    #[arg(long, value_name = "NAME:TAG")]
    next_image: Option<String>,
    /// Where clients reach the ingress, `http://HOST` or `http://HOST:PORT`. By default they use a node port of the first node
    #[arg(long, value_name = "URL", requires = "ingress_class")]
    address: Option<String>,
    /// Class of the ingress, whose host is that of the address
    #[arg(long, value_name = "NAME", requires = "address")]
    ingress_class: Option<String>,
    /// Starts a Redis and a PostgreSQL on this machine, for pods that reach it by this address. By default the chart's trial brings both
    #[arg(long, value_name = "ADDRESS")]
    databases: Option<IpAddr>,
    /// A file with further values of the chart; may be given several times
    #[arg(long, value_name = "FILE")]
    values: Vec<PathBuf>,
    /// How many clients talk
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=500))]
    clients: u16,
    /// Seconds in which nothing is changed, before and after each change
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    calm: u64,
    /// Writes the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything. Returns whether nothing was lost, and each phase went as it should.
async fn run(arguments: &Arguments) -> Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cluster = cluster::Cluster::open(arguments).await?;
    let outcome = tokio::select! {
        outcome = phases::run(arguments, &cluster) => outcome,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated")),
    };
    if outcome.is_err() {
        cluster.explain().await;
    }
    // The namespaces go in any case.
    let removed = cluster.remove().await;
    starling_testkit::remove_own()?;
    let held = outcome?;
    removed?;
    Ok(held)
}

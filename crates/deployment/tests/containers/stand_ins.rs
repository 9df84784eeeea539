//! Images with programs of this machine, in place of public images, which the tests do not pull: a shell, the program, and what it needs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use starling_testkit::programs;

use super::docker::Docker;

/// The user that the programs run as.
const USER: u32 = 70;
/// What the shell's scripts use: parts of busybox.
const COMMANDS: [&str; 6] = ["sh", "cat", "grep", "mkdir", "sleep", "wget"];
/// Makes the database at the first start, as the public image does, then starts the server.
const POSTGRES: &str = "#!/bin/sh
set -e
if [ ! -s \"$PGDATA/PG_VERSION\" ]; then
  initdb --pgdata \"$PGDATA\" --no-sync --no-locale --encoding UTF8 --username \"$POSTGRES_USER\" \\
    --pwfile \"$POSTGRES_PASSWORD_FILE\" --auth-local trust --auth-host scram-sha-256
  echo \"CREATE DATABASE $POSTGRES_DB\" | postgres --single -D \"$PGDATA\" postgres
  echo 'host all all all scram-sha-256' >> \"$PGDATA/pg_hba.conf\"
  echo \"listen_addresses = '*'\" >> \"$PGDATA/postgresql.conf\"
  echo \"unix_socket_directories = '/tmp'\" >> \"$PGDATA/postgresql.conf\"
fi
exec \"$@\"
";

/// Makes the image that stands in for the one of this service, under the name of that one.
pub async fn provide(docker: &Docker, service: &str, tag: &str) -> Result<()> {
    let root = Root::new(docker.folder().join(service))?;
    let changes: &[&str] = match service {
        "redis" => {
            root.add_programs(&["redis-server", "redis-cli"])?;
            &[r#"CMD ["redis-server"]"#]
        }
        "load-balancer" => {
            root.add_programs(&["haproxy"])?;
            &[r#"CMD ["haproxy", "-W", "-db", "-f", "/usr/local/etc/haproxy/haproxy.cfg"]"#]
        }
        "postgres" => {
            let folder = root.add_postgres(docker).await?;
            root.add_owned("/var/lib/postgresql/data")?;
            let path = format!("ENV PATH={folder}:/bin");
            return root
                .import(
                    docker,
                    tag,
                    &[
                        &path,
                        "ENV PGDATA=/var/lib/postgresql/data PGHOST=/tmp",
                        r#"ENTRYPOINT ["/bin/start-postgres"]"#,
                        r#"CMD ["postgres"]"#,
                        "VOLUME /var/lib/postgresql/data",
                    ],
                )
                .await;
        }
        "prometheus" => {
            root.add_programs(&["prometheus"])?;
            root.add_owned("/prometheus")?;
            &[r#"ENTRYPOINT ["/bin/prometheus"]"#]
        }
        "alertmanager" => {
            root.add_programs(&["prometheus-alertmanager"])?;
            root.add_folder(docker, Path::new("/usr/share/prometheus/alertmanager")).await?;
            root.add_owned("/alertmanager")?;
            &[
                r#"ENTRYPOINT ["/bin/prometheus-alertmanager"]"#,
                r#"CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]"#,
            ]
        }
        other => bail!("nothing on this machine stands in for {other}"),
    };
    root.import(docker, tag, &[&["ENV PATH=/bin"][..], changes].concat()).await
}

/// An image with busybox and nothing else, whose process 1 sleeps.
pub async fn provide_sleeper(docker: &Docker, tag: &str) -> Result<()> {
    let root = Root::new(docker.folder().join("sleeper"))?;
    root.import(docker, tag, &["ENV PATH=/bin", r#"CMD ["sleep", "1000"]"#]).await
}

/// The root folder of an image.
struct Root(PathBuf);

impl Root {
    /// With a shell, a user and a folder for temporary files.
    fn new(path: PathBuf) -> Result<Self> {
        let root = Self(path);
        let busybox = programs::find("busybox")?;
        root.add_file(&busybox, "/bin/busybox")?;
        root.add_libraries(&busybox)?;
        for command in COMMANDS {
            symlink("busybox", root.inside(&format!("/bin/{command}"))).context("link a command")?;
        }
        root.add_text(
            "/etc/passwd",
            &format!("root:x:0:0::/:/bin/sh\nserver:x:{USER}:{USER}::/:/bin/sh\n"),
            0o644,
        )?;
        root.add_owned("/tmp")?;
        Ok(root)
    }

    fn add_programs(&self, names: &[&str]) -> Result<()> {
        for name in names {
            let program = programs::find(name)?;
            self.add_file(&program, &format!("/bin/{name}"))?;
            self.add_libraries(&program)?;
        }
        Ok(())
    }

    /// The newest PostgreSQL of this machine, at its own place, where it looks for its files. Returns the folder of its programs.
    async fn add_postgres(&self, docker: &Docker) -> Result<String> {
        let program = programs::find("postgres")?;
        let programs = program.parent().context("the folder of PostgreSQL")?;
        let folder = programs.parent().context("the folder of PostgreSQL")?;
        let version = folder.file_name().and_then(|name| name.to_str()).context("a version")?;
        for source in
            [folder, &Path::new("/usr/share/postgresql").join(version), Path::new("/usr/share/zoneinfo")]
        {
            self.add_folder(docker, source).await?;
        }
        for used in ["postgres", "initdb", "pg_isready", "psql"] {
            let real = fs::canonicalize(programs.join(used)).with_context(|| format!("find {used}"))?;
            self.add_libraries(&real)?;
        }
        self.add_text("/bin/start-postgres", POSTGRES, 0o755)?;
        Ok(path_text(programs)?.to_owned())
    }

    fn add_text(&self, path: &str, text: &str, mode: u32) -> Result<()> {
        let at = self.inside(path);
        fs::create_dir_all(at.parent().context("a parent")?)
            .with_context(|| format!("make the folder of {path}"))?;
        fs::write(&at, text)
            .and_then(|()| fs::set_permissions(&at, fs::Permissions::from_mode(mode)))
            .with_context(|| format!("write {path}"))
    }

    fn add_file(&self, source: &Path, path: &str) -> Result<()> {
        let at = self.inside(path);
        fs::create_dir_all(at.parent().context("a parent")?)
            .with_context(|| format!("make the folder of {path}"))?;
        fs::copy(source, at).map(drop).with_context(|| format!("copy {}", source.display()))
    }

    /// A folder of this machine, at its own place.
    async fn add_folder(&self, docker: &Docker, folder: &Path) -> Result<()> {
        let target = self.inside(path_text(folder)?);
        fs::create_dir_all(target.parent().context("a parent")?)
            .with_context(|| format!("make the parent of {}", folder.display()))?;
        docker.command("cp", &["-rL", path_text(folder)?, path_text(&target)?]).await.map(drop)
    }

    /// The libraries that a program is linked with, at their own places. None for a static one.
    fn add_libraries(&self, program: &Path) -> Result<()> {
        let output = std::process::Command::new("ldd").arg(program).output().context("run ldd")?;
        for library in
            String::from_utf8_lossy(&output.stdout).split_whitespace().filter(|word| word.starts_with('/'))
        {
            self.add_file(Path::new(library), library)?;
        }
        Ok(())
    }

    /// A folder that the program may write to.
    fn add_owned(&self, path: &str) -> Result<()> {
        let at = self.inside(path);
        fs::create_dir_all(&at)
            .and_then(|()| chown(&at, Some(USER), Some(USER)))
            .with_context(|| format!("make {path}"))
    }

    /// Where a path of the image is on this machine.
    fn inside(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// Hands it to Docker as an image.
    async fn import(&self, docker: &Docker, tag: &str, changes: &[&str]) -> Result<()> {
        let archive = self.0.with_extension("tar");
        docker.command("tar", &["-C", path_text(&self.0)?, "-cf", path_text(&archive)?, "."]).await?;
        let user = format!("USER {USER}");
        let changes = changes.iter().copied().chain([user.as_str()]).flat_map(|change| ["--change", change]);
        let arguments: Vec<&str> =
            ["import"].into_iter().chain(changes).chain([path_text(&archive)?, tag]).collect();
        docker.run(&arguments).await?;
        fs::remove_file(&archive)
            .and_then(|()| fs::remove_dir_all(&self.0))
            .context("remove what was imported")
    }
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is no text", path.display()))
}

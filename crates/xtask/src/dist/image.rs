//! The image for one kind of processor, as an archive that `docker load` reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::platform::Platform;
use crate::workspace::{self, VERSION};

/// The certificates of authorities on Debian, and on Fedora.
const AUTHORITIES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// The folder that `deploy/docker/Dockerfile` takes a program from that was built before: `SOURCE=prebuilt`.
pub fn source(platform: &Platform) -> PathBuf {
    workspace::root().join("target/image").join(platform.name)
}

/// Makes the image of the program in the platform's [`source`] folder by the Dockerfile, and writes it as an archive.
pub fn write(folder: &Path, platform: &Platform, revision: &str) -> Result<()> {
    let source = source(platform);
    let authorities = AUTHORITIES.iter().find(|path| Path::new(path).is_file());
    let authorities =
        authorities.context("there are no certificates of authorities; apt-get install ca-certificates")?;
    fs::copy(authorities, source.join("ca-certificates.crt"))
        .context("copy the certificates of authorities")?;
    fs::create_dir_all(source.join("data")).context("make the folder for data")?;
    fs::set_permissions(source.join("starling"), fs::Permissions::from_mode(0o755))
        .context("the program's mode")?;
    let tag = format!("localhost/starling:{VERSION}-{}", platform.name);
    let mut build = buildah();
    build
        .args([
            "bud",
            "--isolation",
            "chroot",
            // OCI's own format has no health check.
            "--format",
            "docker",
            "--timestamp",
            "0",
            "--arch",
            platform.name,
        ])
        .args(["--build-arg", "SOURCE=prebuilt"])
        .arg(format!("--build-arg=TARGETARCH={}", platform.name))
        .arg(format!("--build-arg=VERSION={VERSION}"))
        .arg(format!("--build-arg=REVISION={revision}"))
        .args(["--file", "deploy/docker/Dockerfile", "--tag", &tag, "."]);
    run(&mut build)?;
    let archive = folder.join(format!("starling-{VERSION}-image-{}.tar", platform.name));
    let pushed = run(buildah()
        .args(["push", "--quiet", &tag])
        .arg(format!("docker-archive:{}:starling:{VERSION}", archive.display())));
    // The archive is what counts; the image in the local store is not needed any more.
    let removed = run(buildah().args(["rmi", &tag]));
    pushed.and(removed)
}

fn buildah() -> Command {
    let mut command = Command::new("buildah");
    // Works without a kernel that mounts layers, and without privileges for it.
    command.env("STORAGE_DRIVER", "vfs").current_dir(workspace::root());
    command
}

fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .context("run buildah; on Debian: apt-get install buildah, or use --without-images")?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

//! The image: built by the Dockerfile of a program that was linked before, and run as the page says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use starling_deployment::repository;
use starling_testkit::client::{Client, Encoding};
use starling_testkit::{process, wait};

use super::docker::Docker;
use super::{SOON, VERSION, namespaces, program, stand_ins};

const REVISION: &str = "0123456789abcdef";
/// The user that the Dockerfile names.
const USER: &str = "65532";
/// The certificates of authorities on this machine.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How a node is started, as `deploy/docker/README.md` says.
const RUN: [&str; 14] = [
    "run",
    "--name",
    "starling",
    "--detach",
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--publish",
    "127.0.0.1:8080:8080",
    "--volume",
    "starling:/data",
    "--env=DATABASE_URL=sqlite:///data/starling.db",
];
const ADDRESS: &str = "ws://127.0.0.1:8080/v1/ws";

/// The name of the image.
pub fn tag() -> String {
    format!("starling:{VERSION}")
}

/// Builds the image, and hands it to Docker.
pub async fn provide(docker: &Docker) -> Result<()> {
    let (context, architecture) = (docker.folder().join("context"), architecture()?);
    let source = context.join("target/image").join(architecture);
    fs::create_dir_all(source.join("data")).context("make the folder of the image")?;
    for file in ["deploy/docker/Dockerfile", "LICENSE-MIT", "LICENSE-APACHE"] {
        let name = Path::new(file).file_name().context("a name")?;
        fs::copy(repository(file), context.join(name)).with_context(|| format!("copy {file}"))?;
    }
    fs::copy(program::linked_statically()?, source.join("starling")).context("copy the program")?;
    fs::set_permissions(source.join("starling"), fs::Permissions::from_mode(0o755))?;
    fs::copy(AUTHORITIES, source.join("ca-certificates.crt"))
        .context("copy the certificates of authorities")?;

    let storage = ["--root", "/run/buildah", "--runroot", "/run/buildah-run", "--storage-driver", "vfs"];
    let context = context.to_str().context("a path")?;
    let arguments =
        [format!("VERSION={VERSION}"), format!("REVISION={REVISION}"), format!("TARGETARCH={architecture}")];
    let arguments = arguments.iter().flat_map(|argument| ["--build-arg", argument.as_str()]);
    // The format of OCI has no health check.
    let build = [
        "bud",
        "--isolation",
        "chroot",
        "--format",
        "docker",
        "--build-arg",
        "SOURCE=prebuilt",
        "--tag",
        "starling",
    ];
    let build: Vec<&str> = storage.into_iter().chain(build).chain(arguments).chain([context]).collect();
    docker.command("buildah", &build).await?;
    let archive = docker.folder().join("image.tar");
    let archive = archive.to_str().context("a path")?;
    let target = format!("docker-archive:{archive}:{}", tag());
    let push: Vec<&str> = storage.into_iter().chain(["push", "localhost/starling", &target]).collect();
    docker.command("buildah", &push).await?;
    docker.run(&["load", "--input", archive]).await?;
    fs::remove_file(archive).context("remove the archive")
}

/// This machine's processor, as images call it.
fn architecture() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("amd64"),
        "aarch64" => Ok("arm64"),
        other => anyhow::bail!("there is no image for {other}"),
    }
}

#[test]
fn the_image_holds_the_program_and_says_how_it_is_run() -> Result<()> {
    namespaces::run("image::the_image_holds_the_program_and_says_how_it_is_run", async |docker| {
        provide(docker).await?;
        let image: serde_json::Value =
            serde_json::from_str(&docker.inspect(&tag(), "{{json .Config}}").await?)?;
        ensure!(image["User"] == format!("{USER}:{USER}") && image["StopSignal"] == "SIGTERM", "{image}");
        ensure!(image["Entrypoint"] == json!(["/starling"]) && image["Cmd"] == json!(["serve"]), "{image}");
        ensure!(image["ExposedPorts"] == json!({ "8080/tcp": {}, "9090/tcp": {} }), "{image}");
        ensure!(image["Volumes"] == json!({ "/data": {} }), "{image}");
        ensure!(image["Healthcheck"]["Test"] == json!(["CMD", "/starling", "healthcheck"]), "{image}");
        for (label, value) in [
            ("title", "Starling"),
            ("version", VERSION),
            ("revision", REVISION),
            ("licenses", "MIT OR Apache-2.0"),
        ] {
            ensure!(
                image["Labels"][format!("org.opencontainers.image.{label}")] == value,
                "{label}: {image}"
            );
        }
        ensure!(image["Labels"]["org.opencontainers.image.description"].is_string(), "{image}");

        docker.run(&["create", "--name", "files", &tag()]).await?;
        let list = docker.command("sh", &["-c", "docker export files | tar -t"]).await?;
        // Docker itself adds these to each container.
        let of_docker = [
            ".dockerenv",
            "dev/",
            "etc/hostname",
            "etc/hosts",
            "etc/mtab",
            "etc/resolv.conf",
            "proc/",
            "sys/",
        ];
        let files: Vec<&str> =
            list.lines().filter(|file| of_docker.iter().all(|own| !file.starts_with(own))).collect();
        let expected = [
            "data/",
            "etc/",
            "etc/ssl/",
            "etc/ssl/certs/",
            "etc/ssl/certs/ca-certificates.crt",
            "licenses/",
            "licenses/LICENSE-APACHE",
            "licenses/LICENSE-MIT",
            "starling",
        ];
        ensure!(files == expected, "the image holds {files:?}");

        // Without a node, the check that the image brings must fail.
        let unhealthy = docker.run(&["run", "--rm", "--network", "none", &tag(), "healthcheck"]).await;
        ensure!(unhealthy.is_err(), "healthcheck succeeds without a node");
        Ok(())
    })
}

#[test]
fn a_container_has_no_rights_ends_in_order_and_keeps_its_messages() -> Result<()> {
    namespaces::run("image::a_container_has_no_rights_ends_in_order_and_keeps_its_messages", async |docker| {
        provide(docker).await?;
        docker.run(&[&RUN[..], &[tag().as_str()]].concat()).await?;
        docker.healthy("starling").await?;
        let pid = docker.inspect("starling", "{{.State.Pid}}").await?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        ensure!(field("Uid:").is_some_and(|ids| ids.split('\t').all(|id| id == USER)), "{status}");
        ensure!(
            field("CapEff:") == Some("0000000000000000") && field("NoNewPrivs:") == Some("1"),
            "{status}"
        );
        let mounts = fs::read_to_string(format!("/proc/{pid}/mounts"))?;
        let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).context("a root")?;
        ensure!(root.split(' ').nth(3).is_some_and(|options| options.starts_with("ro,")), "{root}");

        let token = docker.run(&["exec", "starling", "/starling", "token", "--user", "ann"]).await?;
        let mut client = Client::connect(ADDRESS, &token, Encoding::Json).await?;
        client.command("create", json!({ "conversation": "kept", "members": [] })).await?;
        client.command("send", json!({ "conversation": "kept", "content": "hello", "key": "1" })).await?;

        docker.run(&["stop", "--time", "40", "starling"]).await?;
        ensure!(docker.inspect("starling", "{{.State.ExitCode}}").await? == "0", "it did not end in order");
        let closed = client.closed(SOON).await?;
        ensure!(closed.code == Some(1012), "the client was not told to come back: {closed:?}");

        // Another container with the same volume, as after an upgrade.
        docker.run(&["rm", "starling"]).await?;
        docker.run(&[&RUN[..], &[tag().as_str()]].concat()).await?;
        docker.healthy("starling").await?;
        let mut client = Client::connect(ADDRESS, &token, Encoding::Json).await?;
        let history = client.command("history", json!({ "conversation": "kept" })).await?;
        ensure!(history["messages"][0]["content"] == "hello", "{history}");
        Ok(())
    })
}

#[test]
fn process_1_reaps_the_orphans_of_its_container() -> Result<()> {
    namespaces::run("image::process_1_reaps_the_orphans_of_its_container", async |docker| {
        provide(docker).await?;
        stand_ins::provide_sleeper(docker, "sleeper").await?;
        docker.run(&[&RUN[..], &[tag().as_str()]].concat()).await?;
        docker.run(&["run", "--name", "sleeper", "--detach", "sleeper"]).await?;
        for (container, reaps) in [("starling", true), ("sleeper", false)] {
            let pid = docker.inspect(container, "{{.State.Pid}}").await?;
            // The shell ends at once. Process 1 becomes the parent of what it has started.
            let script = "sleep 600 > /dev/null 2>&1 & echo begun";
            docker.command("nsenter", &["--target", &pid, "--pid", "sh", "-c", script]).await?;
            let adopted = async || Ok(children(&pid)?.pop());
            let orphan = wait::until(SOON, &format!("{container} to get an orphan"), adopted).await?;
            docker.command("kill", &["-KILL", &orphan]).await?;
            let ended = async || Ok(!process::is_alive(orphan.parse()?));
            wait::until_true(SOON, "the orphan to end", ended).await?;
            if reaps {
                let reaped = async || Ok(children(&pid)?.is_empty());
                wait::until_true(SOON, &format!("{container} to reap its orphan"), reaped).await?;
            } else {
                ensure!(children(&pid)? == [orphan], "the sleeper reaps, so this test shows nothing");
            }
        }
        Ok(())
    })
}

/// The children of a process, including those that have ended and were not reaped.
fn children(pid: &str) -> Result<Vec<String>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        let list = fs::read_to_string(thread.path().join("children"))?;
        children.extend(list.split_whitespace().map(str::to_owned));
    }
    Ok(children)
}

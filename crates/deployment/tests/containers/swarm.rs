//! The stack of `deploy/swarm` in a Docker Swarm of one machine, with what it expects beside it: PostgreSQL, Redis and a load balancer.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use starling_deployment::repository;
use starling_testkit::wait;

use super::docker::Docker;
use super::traffic::Traffic;
use super::{image, namespaces, stand_ins};

/// Where the load balancer is published.
const ADDRESS: &str = "127.0.0.1:8081";
const SECRET: &str = "a-secret-of-a-test-that-is-long-enough";
const PASSWORD: &str = "a-password-of-a-test";
/// Limit for all tasks to be replaced. Swarm waits for the health check of each new one, and 10 s between two.
const LIMIT: Duration = Duration::from_secs(240);
/// What people have outside of the stack. Names lead to the tasks themselves, since this kernel may have no IPVS.
const BESIDE: &str = "version: '3.8'
services:
  postgres:
    image: stand-in/postgres
    environment: { POSTGRES_USER: starling, POSTGRES_DB: starling, POSTGRES_PASSWORD_FILE: /run/secrets/password }
    secrets: [password]
    deploy: { endpoint_mode: dnsrr }
  redis:
    image: stand-in/redis
    command: [redis-server, --save, '', --protected-mode, 'no']
    deploy: { endpoint_mode: dnsrr }
  load-balancer:
    image: stand-in/load-balancer
    configs: [{ source: haproxy, target: /usr/local/etc/haproxy/haproxy.cfg }]
    ports: [{ target: 8080, published: 8081, mode: host }]
    deploy: { endpoint_mode: dnsrr }
secrets: { password: { file: ./password } }
configs: { haproxy: { file: ./haproxy.cfg } }
";
/// The load balancer of Compose, with the tasks of the service instead of three names.
const NODES_OF_COMPOSE: &str =
    "  server one node-1:8080\n  server two node-2:8080\n  server three node-3:8080\n";
const TASKS: &str = "  server-template node 8 tasks.starling:8080\n";

#[test]
#[ignore = "it takes minutes: `cargo xtask containers` runs it"]
fn a_rolling_update_of_the_stack_loses_nothing() -> Result<()> {
    namespaces::run("swarm::a_rolling_update_of_the_stack_loses_nothing", async |docker| {
        image::provide(docker).await?;
        for service in ["postgres", "redis", "load-balancer"] {
            stand_ins::provide(docker, service, &format!("stand-in/{service}")).await?;
        }
        docker.run(&["swarm", "init", "--advertise-addr", "127.0.0.1"]).await?;
        deploy(docker).await?;
        let first = running(docker, 3, &BTreeSet::new()).await?;

        let mut traffic = Traffic::start(ADDRESS, SECRET).await?;
        docker.run(&["service", "update", "--detach", "--force", "starling_starling"]).await?;
        running(docker, 3, &first).await?;
        traffic.check()?;
        traffic.finish("three nodes of Swarm, each replaced").await?;
        let ended =
            docker.run(&["ps", "--all", "--quiet", "--no-trunc", "--filter", "status=exited"]).await?;
        for container in ended.lines().filter(|container| first.contains(*container)) {
            let code = docker.inspect(container, "{{.State.ExitCode}}").await?;
            ensure!(code == "0", "a replaced node ended with {code}");
        }
        if docker.log().contains("ipvs is not enabled") {
            println!("NOT RUN: the routing mesh (port 8080 of each machine): this kernel has no IPVS");
        }
        Ok(())
    })
}

/// Makes the secrets and starts the stack, as `deploy/swarm/README.md` says, with what is beside it.
async fn deploy(docker: &Docker) -> Result<()> {
    let folder = docker.folder().join("stack");
    fs::create_dir_all(&folder).context("make the folder of the stack")?;
    let balancer = fs::read_to_string(repository("deploy/compose/haproxy.cfg"))?;
    ensure!(balancer.matches(NODES_OF_COMPOSE).count() == 2, "haproxy.cfg of Compose has other servers");
    let database = format!("postgres://starling:{PASSWORD}@postgres/starling");
    for (name, text) in [
        ("jwt_secret", SECRET),
        ("database_url", database.as_str()),
        ("redis_url", "redis://redis:6379"),
        ("password", PASSWORD),
        ("haproxy.cfg", &balancer.replace(NODES_OF_COMPOSE, TASKS)),
        ("beside.yaml", BESIDE),
    ] {
        fs::write(folder.join(name), text).with_context(|| format!("write {name}"))?;
    }
    let path = |name: &str| folder.join(name).display().to_string();
    for name in ["jwt_secret", "database_url", "redis_url"] {
        docker.run(&["secret", "create", &format!("starling_{name}"), &path(name)]).await?;
    }
    // Docker looks for files beside the first one.
    fs::copy(repository("deploy/swarm/stack.yaml"), folder.join("stack.yaml")).context("copy the stack")?;
    let (stack, beside) = (path("stack.yaml"), path("beside.yaml"));
    let files = ["--compose-file", &stack, "--compose-file", &beside];
    let deploy = ["stack", "deploy", "--resolve-image", "never"];
    docker.run(&[&deploy[..], &files, &["starling"]].concat()).await.map(drop)
}

/// Waits until so many nodes are healthy, and none of those `before` runs any more. Returns the containers of the nodes.
async fn running(docker: &Docker, count: usize, before: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let of_service = "label=com.docker.swarm.service.name=starling_starling";
    let list = ["ps", "--quiet", "--no-trunc", "--filter", of_service];
    let replaced = async || {
        let all: BTreeSet<String> = docker.run(&list).await?.lines().map(str::to_owned).collect();
        let healthy = docker.run(&[&list[..], &["--filter", "health=healthy"]].concat()).await?;
        let are_new = all.len() == count && all.is_disjoint(before);
        Ok((are_new && healthy.lines().count() == count).then_some(all))
    };
    wait::until(LIMIT, &format!("{count} new nodes to be healthy"), replaced).await
}

//! Bridges to RabbitMQ: which pods can reach it, and what they make of the values.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::chart::{Values, manifests, notes};
use starling_deployment::manifests::{Manifest, kustomize};

use crate::find;
use crate::values::accept;

/// Whether a container has the address of RabbitMQ.
pub fn has_address(container: &Value) -> bool {
    let mut variables = container["env"].as_array().into_iter().flatten();
    variables.any(|variable| variable["name"] == "RABBITMQ_URL_FILE")
}

/// Whether the pods of this name have the address, its file, and the way to RabbitMQ: all or nothing.
fn reaches_rabbitmq(manifests: &[Manifest], name: &str) -> Result<bool> {
    let pod = find(manifests, &format!("Deployment/{name}"))?.pod().context("pods")?;
    let items = pod.pointer("/volumes/1/secret/items").and_then(Value::as_array).context("secrets")?;
    let policy = &find(manifests, &format!("NetworkPolicy/{name}"))?.0["spec"]["egress"];
    let egress = policy.as_array().context("egress")?;
    let open = |port: u16| {
        let mut ports = egress.iter().filter_map(|rule| rule["ports"].as_array()).flatten();
        ports.any(|open| open["port"] == port)
    };
    let found = [
        has_address(&pod["containers"][0]),
        items.contains(&json!({ "key": "rabbitmq-url", "path": "rabbitmq-url" })),
        open(5671),
        open(5672),
    ];
    ensure!(found == [found[0]; 4], "{name} has only some of address, file and ports: {found:?}");
    Ok(found[0])
}

#[test]
fn workers_alone_reach_rabbitmq_and_without_workers_every_node() -> Result<()> {
    for manifests in [manifests(&Values::ci("rabbitmq"))?, kustomize("overlays/production-rabbitmq")?] {
        ensure!(reaches_rabbitmq(&manifests, "starling-worker")?, "nobody carries the bridges");
        ensure!(!reaches_rabbitmq(&manifests, "starling")?, "a node that carries no bridge has the address");
    }
    let alone = manifests(&Values::ci("rabbitmq").set("worker.enabled=false"))?;
    ensure!(reaches_rabbitmq(&alone, "starling")?, "nobody carries the bridges");
    let without = manifests(&Values::ci("workers"))?;
    for name in ["starling", "starling-worker"] {
        ensure!(!reaches_rabbitmq(&without, name)?, "{name}: nobody asked for RabbitMQ");
    }
    Ok(())
}

#[test]
fn the_address_may_come_from_values_and_from_an_external_secret() -> Result<()> {
    let url = "secrets.values.rabbitmqUrl=amqp://ann:example@mq.example";
    let own = manifests(&Values::ci("plain").set(url))?;
    ensure!(find(&own, "Secret/starling")?.0["data"]["rabbitmq-url"].is_string());
    ensure!(reaches_rabbitmq(&own, "starling")?);
    let present = "secrets.present={ticketSecret,databaseUrl,redisUrl,rabbitmqUrl}";
    let external = manifests(&Values::ci("gateway-keda").set(present))?;
    let data = find(&external, "ExternalSecret/starling")?.0["spec"]["data"].to_string();
    ensure!(data.contains("rabbitmq-url"), "{data}");
    ensure!(reaches_rabbitmq(&external, "starling-worker")?);
    Ok(())
}

#[test]
fn the_program_accepts_the_bridges_with_the_authorities_that_the_chart_writes() -> Result<()> {
    let rendered = manifests(&Values::ci("rabbitmq"))?;
    let data = &find(&rendered, "ConfigMap/starling")?.0["data"];
    let file = |name: &str| data[name].as_str().with_context(|| name.to_owned());
    let folder = tempfile::tempdir()?;
    let authorities = folder.path().join("rabbitmq-ca.pem");
    let here = file("starling.toml")?
        .replace("/etc/starling/config/rabbitmq-ca.pem", authorities.to_str().context("a path in UTF-8")?);
    let accept = |url: &str| accept(&here, Some("worker"), Some(url));
    let missing = accept("amqps://mq.example").err().context("a file that is not there was accepted")?;
    ensure!(missing.to_string().contains("rabbitmq_ca_file"), "{missing}");
    std::fs::write(&authorities, file("rabbitmq-ca.pem")?)?;
    accept("amqps://mq.example")
}

#[test]
fn a_change_of_the_authorities_restarts_the_pods() -> Result<()> {
    let checksum = |values: &Values| -> Result<Value> {
        let rendered = manifests(values)?;
        let template = &find(&rendered, "Deployment/starling-worker")?.0["spec"]["template"];
        Ok(template["metadata"]["annotations"]["checksum/config"].clone())
    };
    let before = checksum(&Values::ci("rabbitmq"))?;
    assert_ne!(before, checksum(&Values::ci("rabbitmq").set("rabbitmq.ca=another"))?);
    Ok(())
}

#[test]
fn the_notes_say_how_to_look_at_the_bridges() -> Result<()> {
    let bridges = notes("starling", "chat", &Values::ci("rabbitmq"))?;
    let command = "exec deployment/starling-worker -- /starling doctor --config /etc/starling/config/starling.toml --roles worker";
    ensure!(bridges.contains(command), "{bridges}");
    ensure!(!notes("starling", "chat", &Values::ci("workers"))?.contains("RabbitMQ"));
    Ok(())
}

//! The files of `deploy/compose` and `deploy/swarm`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde_yaml_ng::{Mapping, Value};
use starling_deployment::{repository, run};
use starling_testkit::programs;

const FILES: [&str; 3] =
    ["deploy/compose/one-node.yaml", "deploy/compose/three-nodes.yaml", "deploy/swarm/stack.yaml"];

#[test]
fn haproxy_accepts_its_configuration() -> Result<()> {
    // `-c` only checks. Host names are resolved later, since the containers exist only in Compose.
    run("haproxy", ["-c", "-f", "deploy/compose/haproxy.cfg"]).map(drop)
}

#[test]
fn every_file_is_right_for_the_specification_and_a_typo_is_found() -> Result<()> {
    for file in FILES {
        let compose = read(file)?;
        check_schema(&compose).with_context(|| file.to_owned())?;
        let (name, _) = mapping(&compose, "services")?.into_iter().next().context("a service")?;
        for (key, value) in [("stop_grace_periods", Value::from("40s")), ("ports", Value::from(8080))] {
            let mut bad = compose.clone();
            bad["services"][&name][key] = value;
            let refusal = check_schema(&bad).err().with_context(|| format!("{file}: {key} was accepted"))?;
            ensure!(format!("{refusal:#}").contains(key), "{file}: {refusal:#}");
        }
    }
    Ok(())
}

/// Checks a file with the schema of the Compose specification, which the npm package dclint contains.
fn check_schema(compose: &Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("compose.json");
    fs::write(&file, serde_json::to_string(compose)?)?;
    let helm = programs::find("helm4")?;
    let tools = helm.ancestors().nth(2).context("the folder of tools")?;
    let schema = tools.join("npm/node_modules/dclint/schemas/compose.schema.json");
    let script = "import json, sys, jsonschema\n\
                  files = [json.load(open(name)) for name in sys.argv[1:]]\n\
                  errors = list(jsonschema.Draft7Validator(files[0]).iter_errors(files[1]))\n\
                  sys.exit('\\n'.join(f'{error.json_path}: {error.message}' for error in errors) or 0)";
    let [schema, file] = [&schema, &file].map(|path| path.to_str().context("a path in UTF-8"));
    run("python", ["-c", script, schema?, file?]).map(drop)
}

#[test]
fn the_load_balancer_asks_the_name_servers_of_its_container() -> Result<()> {
    // Docker and Podman have them at different addresses.
    let balancer = fs::read_to_string(repository("deploy/compose/haproxy.cfg"))?;
    ensure!(balancer.contains("\n  parse-resolv-conf\n"), "HAProxy does not read resolv.conf");
    ensure!(!balancer.contains("nameserver"), "HAProxy asks a name server of its own");
    Ok(())
}

#[test]
fn the_program_knows_each_variable_that_nodes_are_given() -> Result<()> {
    let reference = fs::read_to_string(repository("docs/configuration.md"))?;
    let mut found = 0;
    for (file, name, node) in nodes()? {
        for (variable, _) in mapping(&node, "environment")? {
            let variable = variable.as_str().context("a variable")?;
            ensure!(is_known(variable, &reference), "{file}: {name}: the program does not know {variable}");
            found += 1;
        }
    }
    ensure!(found >= 20, "only {found} variables were found");
    for unknown in ["STARLING_NODES", "STARLING_JWT_SECRETS_FILE", "DATABASE_URLS"] {
        ensure!(!is_known(unknown, &reference), "{unknown} counts as known");
    }
    Ok(())
}

#[test]
fn every_node_has_time_to_drain_and_no_more_rights_than_it_needs() -> Result<()> {
    for (file, name, node) in nodes()? {
        let grace = node["stop_grace_period"].as_str().and_then(|grace| grace.strip_suffix('s'));
        let grace: u32 = grace.with_context(|| format!("{file}: {name}: no stop_grace_period"))?.parse()?;
        // 30 s for the drain, and 5 s if the database or Redis hangs.
        ensure!(grace > 35, "{file}: {name}: {grace} s are too short for a drain");
        ensure!(node["read_only"] == true, "{file}: {name}: the root can be written to");
        ensure!(node["cap_drop"][0] == "ALL", "{file}: {name} has capabilities");
    }
    Ok(())
}

#[test]
fn what_is_mounted_is_there_and_each_secret_is_drawn_and_used() -> Result<()> {
    let draws = fs::read_to_string(repository("deploy/compose/make-secrets.sh"))?;
    for file in FILES {
        let compose = read(file)?;
        let folder = repository(file).parent().context("a folder")?.to_owned();
        let mut used: Vec<String> = Vec::new();
        for (name, service) in mapping(&compose, "services")? {
            for volume in sequence(&service["volumes"]) {
                let source = volume.as_str().context("a volume")?.split(':').next().unwrap_or_default();
                if source.starts_with('.') {
                    ensure!(
                        folder.join(source).exists(),
                        "{file}: {name:?} mounts {source}, which does not exist"
                    );
                } else if !source.starts_with('/') {
                    ensure!(compose["volumes"].get(source).is_some(), "{file}: there is no volume {source}");
                }
            }
            used.extend(sequence(&service["secrets"]).iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let secrets = compose["secrets"].as_mapping().cloned().unwrap_or_default();
        for (name, secret) in &secrets {
            let name = name.as_str().context("a secret")?;
            ensure!(used.iter().any(|used| used == name), "{file}: nobody uses the secret {name}");
            if let Some(path) = secret["file"].as_str() {
                let drawn = Path::new(path).file_name().and_then(|file| file.to_str()).context("a file")?;
                let made = [format!("draw {drawn}\n"), format!("> secrets/{drawn}\n")];
                ensure!(
                    made.iter().any(|line| draws.contains(line)),
                    "make-secrets.sh does not draw {drawn}"
                );
            }
        }
        for name in used {
            ensure!(secrets.contains_key(name.as_str()), "{file}: there is no secret {name}");
        }
    }
    Ok(())
}

/// A file, with its YAML merge keys resolved.
fn read(file: &str) -> Result<Value> {
    let mut value: Value = serde_yaml_ng::from_str(&fs::read_to_string(repository(file))?)?;
    value.apply_merge().with_context(|| file.to_owned())?;
    Ok(value)
}

/// The services that run Starling: the file, the name, and the service.
fn nodes() -> Result<Vec<(&'static str, String, Value)>> {
    let mut nodes = Vec::new();
    for file in FILES {
        for (name, service) in mapping(&read(file)?, "services")? {
            if service["image"].as_str().is_some_and(|image| image.starts_with("starling:")) {
                nodes.push((file, name.as_str().unwrap_or_default().to_owned(), service.clone()));
            }
        }
    }
    ensure!(nodes.len() == 5, "{} nodes were found", nodes.len());
    Ok(nodes)
}

/// Whether the generated reference has the setting of this variable.
fn is_known(variable: &str, reference: &str) -> bool {
    let has = |key: &str| reference.contains(&format!("\n| `{key}` |"));
    let key = variable.strip_prefix("STARLING_").unwrap_or(variable).to_lowercase();
    has(&key) || key.strip_suffix("_file").is_some_and(has) || reference.contains(&format!("`{variable}`"))
}

fn mapping(value: &Value, key: &str) -> Result<Mapping> {
    match &value[key] {
        Value::Mapping(mapping) => Ok(mapping.clone()),
        other => bail!("{key} is {other:?}"),
    }
}

fn sequence(value: &Value) -> &[Value] {
    value.as_sequence().map(Vec::as_slice).unwrap_or_default()
}

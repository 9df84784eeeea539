//! The chart: what it renders, with both versions of Helm.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::chart::{HELMS, Values, lint, manifests, notes, render};
use starling_deployment::manifests::{Manifest, text};
use starling_deployment::{golden, repository};

use crate::{find, ids};

#[test]
fn helm_3_and_4_find_no_fault_and_render_the_same() -> Result<()> {
    for name in Values::names()? {
        let values = Values::ci(&name);
        let mut rendered = Vec::new();
        for helm in HELMS {
            lint(helm, &values).with_context(|| format!("{helm} lint, {name}"))?;
            rendered.push(render(helm, "starling", &values).with_context(|| format!("{helm}, {name}"))?);
        }
        ensure!(rendered[0] == rendered[1], "{name}: Helm 3 and Helm 4 render different manifests");
    }
    Ok(())
}

#[test]
fn the_chart_renders_what_was_reviewed() -> Result<()> {
    for name in Values::names()? {
        let mut rendered = manifests(&Values::ci(&name))?;
        rendered.iter_mut().for_each(shorten_dashboards);
        golden::compare(&format!("helm-{name}.yaml"), &text(&rendered)?)?;
    }
    Ok(())
}

/// Dashboards are reviewed as files, not once more in a rendering.
pub fn shorten_dashboards(manifest: &mut Manifest) {
    if manifest.0["metadata"]["labels"]["grafana_dashboard"].is_string()
        && let Some(data) = manifest.0["data"].as_object_mut()
    {
        data.values_mut().for_each(|value| *value = json!("a file of files/dashboards"));
    }
}

#[test]
fn helm_prints_after_an_install_what_the_page_shows() -> Result<()> {
    let page = std::fs::read_to_string(repository("docs/install.md"))?;
    let (_, production) = page.split_once("**For production**").context("the part for production")?;
    let block = |begin: &str| -> Result<&str> {
        let (_, rest) = production.split_once(begin).with_context(|| begin.to_owned())?;
        Ok(rest.split_once("\n```").context("an end")?.0)
    };
    let folder = tempfile::tempdir()?;
    let values = folder.path().join("values.yaml");
    std::fs::write(&values, block("```yaml\n")?)?;
    assert_eq!(notes("starling", "chat", &Values::file(&values))?, block("```text\n")?);
    Ok(())
}

#[test]
fn the_notes_warn_of_what_is_not_meant_to_stay() -> Result<()> {
    let trial = notes("starling", "chat", &Values::ci("trial"))?;
    ensure!(trial.contains("WARNING: trial.enabled"), "{trial}");
    let route = notes("starling", "chat", &Values::ci("gateway-keda"))?;
    ensure!(
        route.contains("config.trusted_proxies is not set") && route.contains("https://chat.example.com/"),
        "{route}"
    );
    let production = notes("starling", "chat", &Values::ci("production"))?;
    ensure!(!production.contains("WARNING") && !production.contains("NOTE"), "{production}");
    Ok(())
}

#[test]
fn names_of_objects_follow_the_release() -> Result<()> {
    let rendered =
        starling_deployment::manifests::parse(&render("helm4", "chat", &Values::ci("production"))?)?;
    for manifest in &rendered {
        ensure!(
            manifest.id().contains("/chat-starling"),
            "{} does not begin with the release",
            manifest.id()
        );
    }
    let rules = find(&rendered, "PrometheusRule/chat-starling")?;
    ensure!(
        rules.0.to_string().contains("(keda-hpa-)?chat-starling(-worker)?"),
        "the alert knows another autoscaler"
    );
    Ok(())
}

#[test]
fn the_number_of_pods_is_left_to_an_autoscaler() -> Result<()> {
    let replicas = |values: &Values| -> Result<Value> {
        Ok(find(&manifests(values)?, "Deployment/starling")?.0["spec"]["replicas"].clone())
    };
    assert_eq!(replicas(&Values::ci("plain"))?, 3);
    assert_eq!(replicas(&Values::ci("production"))?, Value::Null);
    assert_eq!(replicas(&Values::ci("gateway-keda"))?, Value::Null);
    Ok(())
}

#[test]
fn the_autoscaler_knows_cpu_memory_and_connections_and_scales_in_slowly() -> Result<()> {
    let rendered = manifests(&Values::ci("production"))?;
    let spec = &find(&rendered, "HorizontalPodAutoscaler/starling")?.0["spec"];
    let metrics = spec["metrics"].as_array().context("metrics")?;
    let names: Vec<&str> = metrics
        .iter()
        .filter_map(|metric| {
            let name = metric["resource"]["name"].as_str();
            name.or(metric["pods"]["metric"]["name"].as_str())
        })
        .collect();
    assert_eq!(names, ["cpu", "memory", "starling_connections"]);
    let window = |direction: &str| spec["behavior"][direction]["stabilizationWindowSeconds"].as_u64();
    assert!(window("scaleDown") > window("scaleUp"));
    Ok(())
}

#[test]
fn a_change_of_the_configuration_or_a_secret_restarts_the_pods() -> Result<()> {
    let annotations = |values: &Values| -> Result<Value> {
        let rendered = manifests(values)?;
        Ok(find(&rendered, "Deployment/starling")?.0["spec"]["template"]["metadata"]["annotations"].clone())
    };
    let before = annotations(&Values::ci("plain"))?;
    let configured = annotations(&Values::ci("plain").set("config.queue_bytes=1000"))?;
    let secret = annotations(&Values::ci("plain").set("secrets.values.redisUrl=redis://other:6379"))?;
    assert_eq!(before, annotations(&Values::ci("plain"))?);
    assert_ne!(before["checksum/config"], configured["checksum/config"]);
    assert_eq!(before["checksum/secrets"], configured["checksum/secrets"]);
    assert_ne!(before["checksum/secrets"], secret["checksum/secrets"]);
    Ok(())
}

#[test]
fn pods_get_the_time_of_their_drain_and_ten_seconds_more() -> Result<()> {
    for (set, seconds) in [("config.drain_seconds=90", 100), ("terminationGracePeriodSeconds=300", 300)] {
        let rendered = manifests(&Values::ci("plain").set(set))?;
        let pod = find(&rendered, "Deployment/starling")?.pod().context("pods")?;
        assert_eq!(pod["terminationGracePeriodSeconds"], seconds, "{set}");
    }
    Ok(())
}

#[test]
fn the_job_for_migrations_needs_nothing_that_is_installed_after_it() -> Result<()> {
    for name in ["plain", "production", "gateway-keda", "tls"] {
        let rendered = manifests(&Values::ci(name))?;
        let job = find(&rendered, "Job/starling-migrate")?;
        assert_eq!(job.0["metadata"]["annotations"]["helm.sh/hook"], "pre-install,pre-upgrade", "{name}");
        let pod = job.pod().context("a pod")?;
        assert_eq!(pod["serviceAccountName"], Value::Null, "{name}: the account of the namespace is there");
        for volume in pod["volumes"].as_array().context("volumes")? {
            // Further volumes are their owner's affair.
            if volume["name"] != "secrets" {
                continue;
            }
            let secret = volume["secret"]["secretName"].as_str().context("a secret")?;
            let made = rendered.iter().find(|made| made.id().ends_with(&format!("Secret/{secret}")));
            let weight = made.map(|made| made.0["metadata"]["annotations"]["helm.sh/hook-weight"].clone());
            match (name, weight) {
                // Somebody else made it before.
                ("production" | "tls", None) => {}
                (_, Some(weight)) => assert_eq!(weight, "-10", "{name}: {secret} comes before the job"),
                (_, None) => anyhow::bail!("{name}: nobody makes {secret}"),
            }
        }
    }
    Ok(())
}

#[test]
fn the_nodes_of_a_trial_make_their_schema_because_no_database_is_there_for_a_hook() -> Result<()> {
    let rendered = manifests(&Values::ci("trial"))?;
    assert!(!ids(&rendered).iter().any(|id| id.starts_with("Job/")), "no hook waits for a database");
    let config = find(&rendered, "ConfigMap/starling")?.0["data"]["starling.toml"].clone();
    assert!(config.as_str().context("a file")?.contains("database_migrate = true"));
    for (kind, name) in [("Deployment", "trial-redis"), ("StatefulSet", "trial-postgres")] {
        find(&rendered, &format!("{kind}/starling-{name}"))?;
    }
    Ok(())
}

#[test]
fn controllers_speak_tls_to_nodes_that_do() -> Result<()> {
    for (controller, object, annotation) in [
        ("nginx", "Ingress/starling", "nginx.ingress.kubernetes.io/backend-protocol"),
        ("haproxy", "Ingress/starling", "haproxy.org/server-ssl"),
        ("traefik", "Service/starling", "traefik.ingress.kubernetes.io/service.serversscheme"),
        ("aws", "Ingress/starling", "alb.ingress.kubernetes.io/backend-protocol"),
    ] {
        for (file, tls) in [("plain", false), ("tls", true)] {
            let ingress =
                format!("ingress.enabled=true,ingress.hosts[0]=a.example,ingress.controller={controller}");
            let rendered = manifests(&Values::ci(file).set(&ingress))?;
            let annotations = &find(&rendered, object)?.0["metadata"]["annotations"];
            assert_eq!(annotations[annotation].is_string(), tls, "{controller}, {file}");
            let port = &find(&rendered, "Service/starling")?.0["spec"]["ports"][0];
            assert_eq!(port["appProtocol"], if tls { "kubernetes.io/wss" } else { "kubernetes.io/ws" });
        }
    }
    Ok(())
}

#[test]
fn stickiness_has_the_annotations_of_each_controller_and_only_where_it_is_wanted() -> Result<()> {
    for (controller, object, annotation) in [
        ("nginx", "Ingress/starling", "nginx.ingress.kubernetes.io/affinity"),
        ("haproxy", "Ingress/starling", "haproxy.org/cookie-persistence"),
        ("traefik", "Service/starling", "traefik.ingress.kubernetes.io/service.sticky.cookie"),
        ("aws", "Ingress/starling", "alb.ingress.kubernetes.io/target-group-attributes"),
    ] {
        let given = |sticky: bool| -> Result<String> {
            let values = Values::ci("plain")
                .set("ingress.enabled=true,ingress.hosts[0]=chat.example")
                .set(&format!("ingress.controller={controller},ingress.sticky={sticky}"));
            let rendered = manifests(&values)?;
            let annotations = &find(&rendered, object)?.0["metadata"]["annotations"][annotation];
            Ok(annotations.as_str().unwrap_or_default().to_owned())
        };
        assert!(given(true)?.contains(['c', 's', 't']), "{controller}: {annotation}");
        assert_ne!(given(true)?, given(false)?, "{controller}");
    }
    let route = |sticky: bool| -> Result<Value> {
        let rendered = manifests(&Values::ci("gateway-keda").set(&format!("gateway.sticky={sticky}")))?;
        Ok(find(&rendered, "HTTPRoute/starling")?.0["spec"]["rules"][0]["sessionPersistence"].clone())
    };
    assert_eq!(route(true)?["type"], "Cookie");
    assert_eq!(route(false)?, Value::Null);
    Ok(())
}

//! Values that the chart refuses, and what it says.

use anyhow::{Context, Result, ensure};
use starling_deployment::chart::{Values, render};

/// Values on top of those of a file in `ci/`, and what the message has to name.
const REFUSED: [(&str, &str, &[&str]); 57] = [
    // Unknown keys, on each level.
    ("plain", "replicas=3", &["replicas"]),
    ("plain", "image.tags=1", &["image", "tags"]),
    ("plain", "config.drain_second=30", &["config", "drain_second"]),
    ("plain", "tenants.acme.connection=5", &["tenants", "connection"]),
    ("plain", "secrets.values.redisURL=redis://x", &["secrets", "redisURL"]),
    ("plain", "autoscaling.behavior.scaleup.selectPolicy=Max", &["behavior", "scaleup"]),
    ("plain", "resources.limit.memory=1Gi", &["resources", "limit"]),
    ("plain", "metrics.serviceMonitor.intervall=15s", &["serviceMonitor", "intervall"]),
    ("plain", "networkPolicy.ingressFrom[0].podSelectors.a=b", &["ingressFrom", "podSelectors"]),
    // What the chart sets itself, or takes as a secret.
    ("plain", "podLabels.app\\.kubernetes\\.io/name=chat", &["podLabels", "app.kubernetes.io/name"]),
    ("plain", "commonLabels.helm\\.sh/chart=chat", &["commonLabels", "helm.sh/chart"]),
    ("plain", "config.listen=0.0.0.0:80", &["config", "listen"]),
    ("plain", "config.jwt_secret=abc", &["config", "jwt_secret"]),
    // Wrong types and values.
    ("plain", "replicaCount=three", &["replicaCount"]),
    ("plain", "config.drain_seconds=soon", &["drain_seconds"]),
    ("plain", "config.permessage_deflate=1", &["permessage_deflate"]),
    ("plain", "config.shards=2000", &["shards"]),
    ("plain", "service.port=70000", &["port"]),
    ("plain", "image.digest=sha256:short", &["digest"]),
    ("plain", "topologySpread.zone=Sometimes", &["zone"]),
    ("plain", "secrets.values.jwtSecret=short", &["jwtSecret"]),
    ("plain", "secrets.values.databaseUrl=mysql://db", &["databaseUrl"]),
    ("plain", "ingress.controller=apache", &["controller"]),
    // Values that contradict each other.
    ("production", "keda.enabled=true", &["autoscaling.enabled", "keda.enabled"]),
    ("production", "autoscaling.maxReplicas=1", &["autoscaling.maxReplicas", "autoscaling.minReplicas"]),
    ("gateway-keda", "keda.prometheusAddress=,keda.cpuUtilizationPercentage=0", &["keda.prometheusAddress"]),
    (
        "plain",
        "terminationGracePeriodSeconds=30",
        &["terminationGracePeriodSeconds", "config.drain_seconds", "40"],
    ),
    ("plain", "secrets.values.jwtSecret=", &["secrets.values", "jwtSecret"]),
    ("plain", "secrets.values.databaseUrl=", &["secrets.values", "databaseUrl"]),
    ("plain", "secrets.values.redisUrl=", &["secrets.values", "redisUrl"]),
    ("gateway-keda", "secrets.present={databaseUrl}", &["secrets.present", "ticketSecret"]),
    ("gateway-keda", "secrets.external.storeName=", &["secrets.external", "storeName"]),
    ("gateway-keda", "jwt.algorithm=", &["jwt.algorithm"]),
    (
        "production",
        "metrics.prometheusRule.omit={StarlingBackupMising}",
        &["metrics.prometheusRule.omit", "StarlingBackupMising"],
    ),
    ("production", "ingress.hosts=null", &["ingress.hosts"]),
    ("tls", "config.tls_key_file=", &["config.tls_certificate_file", "config.tls_key_file"]),
    ("plain", "updateStrategy.maxSurge=0", &["updateStrategy.maxSurge", "updateStrategy.maxUnavailable"]),
    // Workers.
    ("workers", "worker.replicas=3", &["worker", "replicas"]),
    ("workers", "worker.behavior.scaleup.selectPolicy=Max", &["behavior", "scaleup"]),
    ("workers", "worker.terminationGracePeriodSeconds=10", &["terminationGracePeriodSeconds", "20"]),
    ("workers", "config.roles=worker", &["config", "roles"]),
    ("workers", "worker.keda.enabled=true", &["worker.autoscaling.enabled", "worker.keda.enabled"]),
    ("workers", "worker.enabled=false", &["worker.autoscaling", "worker.enabled"]),
    (
        "workers",
        "worker.autoscaling.minReplicas=9",
        &["worker.autoscaling.maxReplicas", "worker.autoscaling.minReplicas"],
    ),
    (
        "workers",
        "worker.autoscaling.targetWaitingSeconds=0,worker.autoscaling.targetCPUUtilizationPercentage=0",
        &["worker.autoscaling", "targetWaitingSeconds"],
    ),
    (
        "gateway-keda",
        "worker.keda.prometheusAddress=,worker.keda.cpuUtilizationPercentage=0",
        &["worker.keda.prometheusAddress"],
    ),
    // Bridges to RabbitMQ.
    ("rabbitmq", "rabbitmq.in.orders.prefech=5", &["rabbitmq", "prefech"]),
    ("rabbitmq", "rabbitmq.in.orders.prefetch=2000", &["rabbitmq", "prefetch"]),
    ("rabbitmq", "rabbitmq.in.orders.queue_type=stream", &["rabbitmq", "queue_type"]),
    ("rabbitmq", "rabbitmq.in.mail.queue=mail", &["rabbitmq", "exchange"]),
    ("rabbitmq", "rabbitmq.out.a b.queue=q,rabbitmq.out.a b.exchange=e", &["rabbitmq", "a b"]),
    ("rabbitmq", "rabbitmq.url=amqp://h", &["rabbitmq", "url"]),
    ("rabbitmq", "config.rabbitmq_url=amqp://h", &["config", "rabbitmq_url"]),
    ("rabbitmq", "secrets.present={jwtSecret,databaseUrl,redisUrl}", &["secrets.present", "rabbitmqUrl"]),
    ("rabbitmq", "config.rabbitmq_ca_file=/ca.pem", &["rabbitmq.ca", "config.rabbitmq_ca_file"]),
    ("plain", "secrets.values.rabbitmqUrl=http://mq", &["rabbitmqUrl"]),
    ("trial", "secrets.existingSecret=mine", &["trial.enabled", "secrets.existingSecret"]),
];

#[test]
fn wrong_values_are_refused_with_a_message_that_names_the_key() -> Result<()> {
    for (file, set, named) in REFUSED {
        for helm in ["helm3", "helm4"] {
            let refusal = render(helm, "starling", &Values::ci(file).set(set)).err();
            let message = refusal.with_context(|| format!("{helm} accepts {set} with {file}"))?.to_string();
            for word in named {
                ensure!(message.contains(word), "{helm}, {set}: the message does not name {word}: {message}");
            }
        }
    }
    Ok(())
}

#[test]
fn without_any_secret_nothing_is_rendered() -> Result<()> {
    let refusal =
        render("helm4", "starling", &Values::default()).err().context("it was rendered")?.to_string();
    ensure!(refusal.contains("secrets.values lacks jwtSecret"), "{refusal}");
    ensure!(refusal.contains("trial.enabled"), "it says how to begin: {refusal}");
    Ok(())
}

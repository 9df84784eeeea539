//! The HorizontalPodAutoscaler of the cluster, which scales by the connections that pods report.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use starling_deployment::talk::Talk;
use starling_testkit::wait;

use crate::cluster::Cluster;
use crate::release::{NAME, Release};

/// The fewest pods.
const MIN: u64 = 2;
/// The most pods.
const MAX: u64 = 6;
/// The longest time for the number of pods to follow the connections.
const LIMIT: Duration = Duration::from_secs(300);

/// What the autoscaler did: an entry for each change.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub steps: Vec<Step>,
}

/// The state of the autoscaler at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Seconds since it was made.
    pub at: f64,
    /// Pods that there are.
    pub current: u64,
    /// Pods that it wants.
    pub desired: u64,
    /// Connections per pod that it has read.
    pub connections: Option<f64>,
}

/// How many listeners come and go, so that the clients alone need two pods, and all together five.
pub fn listeners(clients: usize) -> usize {
    clients * 5 / 3
}

/// Turns the autoscaler on, lets listeners come and go, and waits for the pods to follow, both times.
pub async fn run(
    cluster: &Cluster,
    release: &mut Release<'_>,
    talk: &mut Talk,
    clients: usize,
    timeline: &mut Timeline,
) -> Result<String> {
    if cluster.kubectl.run(&["get", "--raw", "/apis/custom.metrics.k8s.io"]).await.is_err() {
        return Ok("left out: the cluster serves no custom metrics".to_owned());
    }
    let change = json!({ "autoscaling": {
        "enabled": true,
        "minReplicas": MIN,
        "maxReplicas": MAX,
        "targetCPUUtilizationPercentage": 0,
        "targetMemoryUtilizationPercentage": 0,
        "targetConnectionsPerPod": clients * 6 / 10,
        // The chart's own values wait for ten minutes before they take a pod away.
        "behavior": { "scaleDown": { "stabilizationWindowSeconds": 15, "policies": [{ "type": "Pods", "value": 2, "periodSeconds": 15 }] } },
    } });
    release.upgrade(&change).await?;
    keeps_its_pods(cluster).await?;
    let begun = Instant::now();
    let mut watch = Watch { cluster, begun, timeline };
    watch
        .until("two pods, with the metric read", |step| {
            step.connections.is_some() && step.current == MIN && step.desired == MIN
        })
        .await?;
    talk.add_listeners(listeners(clients)).await?;
    watch
        .until("more pods for more connections", |step| {
            step.current > MIN + 1 && step.current == step.desired
        })
        .await?;
    let most = watch.most();
    talk.dismiss_listeners().await?;
    watch.until("two pods again", |step| step.current == MIN && step.desired == MIN).await?;
    cluster.settled(&cluster.namespace, Some(usize::try_from(MIN)?)).await?;
    talk.check()?;
    Ok(format!("{MIN} pods, then {most}, then {MIN}"))
}

/// Fails if the upgrade that turned the autoscaler on has taken pods away, so that the autoscaler had to bring the fewest back.
async fn keeps_its_pods(cluster: &Cluster) -> Result<()> {
    let looked = wait::until(LIMIT, "the autoscaler's first look", async || {
        let scaler = cluster.get(&["hpa", NAME]).await?;
        // It writes 0 before it has looked.
        Ok(scaler["status"]["desiredReplicas"].as_u64().filter(|desired| *desired >= MIN))
    });
    looked.await?;
    let events = cluster.get(&["events", "--field-selector=reason=SuccessfulRescale"]).await?;
    let events = events["items"].as_array().context("a list without items")?;
    let messages: Vec<&str> = events.iter().filter_map(|event| event["message"].as_str()).collect();
    let below = messages.iter().any(|message| message.contains("below Spec.MinReplicas"));
    ensure!(!below, "the upgrade took pods away: {messages:?}");
    Ok(())
}

struct Watch<'a> {
    cluster: &'a Cluster,
    begun: Instant,
    timeline: &'a mut Timeline,
}

impl Watch<'_> {
    /// Looks at the autoscaler each half second until it is as it should be, and writes down each change.
    async fn until(&mut self, what: &str, reached: impl Fn(&Step) -> bool) -> Result<()> {
        let outcome = wait::until(LIMIT, what, async || {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let scaler = self.cluster.get(&["hpa", NAME]).await?;
            let step = Step::read(&scaler, self.begun.elapsed().as_secs_f64())?;
            if self
                .timeline
                .steps
                .last()
                .is_none_or(|last| (last.current, last.desired) != (step.current, step.desired))
            {
                println!(
                    "           {:5.1} s  {} pods, {} wanted, {} connections per pod",
                    step.at,
                    step.current,
                    step.desired,
                    step.connections
                        .map_or_else(|| "?".to_owned(), |connections| format!("{connections:.1}"))
                );
                self.timeline.steps.push(step.clone());
            }
            Ok(reached(&step).then_some(()))
        });
        let outcome = outcome.await;
        if outcome.is_err() {
            let described =
                self.cluster.kubectl.run(&["-n", &self.cluster.namespace, "describe", "hpa", NAME]).await?;
            println!("{described}");
        }
        outcome
    }

    /// The most pods so far.
    fn most(&self) -> u64 {
        self.timeline.steps.iter().map(|step| step.current).max().unwrap_or_default()
    }
}

impl Step {
    fn read(scaler: &Value, at: f64) -> Result<Self> {
        let status = &scaler["status"];
        ensure!(status.is_object(), "the autoscaler has no status");
        let metrics = status["currentMetrics"].as_array();
        let connections = metrics.and_then(|metrics| metrics.iter().find(|metric| metric["type"] == "Pods"));
        Ok(Self {
            at,
            current: status["currentReplicas"].as_u64().unwrap_or_default(),
            desired: status["desiredReplicas"].as_u64().context("the autoscaler has not looked yet")?,
            connections: connections
                .and_then(|metric| metric["pods"]["current"]["averageValue"].as_str())
                .and_then(number),
        })
    }
}

/// A quantity of Kubernetes: a whole number, or one in thousandths (`53333m`).
fn number(quantity: &str) -> Option<f64> {
    match quantity.strip_suffix('m') {
        Some(thousandths) => thousandths.parse::<f64>().ok().map(|number| number / 1000.0),
        None => quantity.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_an_autoscaler_is_read() {
        let scaler = json!({ "status": { "currentReplicas": 2, "desiredReplicas": 5, "currentMetrics": [
            { "type": "Pods", "pods": { "metric": { "name": "starling_connections" }, "current": { "averageValue": "26500m" } } },
        ] } });
        let step = Step::read(&scaler, 1.5).unwrap();
        assert_eq!(step, Step { at: 1.5, current: 2, desired: 5, connections: Some(26.5) });
        assert!(Step::read(&json!({}), 0.0).is_err());
        assert_eq!((number("80"), number("1k")), (Some(80.0), None));
    }
}

//! RabbitMQ: whether it can be reached, and has what the bridges need.

use starling_rabbitmq_bridge::examine as examine_rabbitmq;

use super::examination::Examination;
use super::quantity::time;
use crate::config::Config;

const REACH: &str = "try the same URL from here: host, port, user, password, virtual host, TLS, and what lies between. Until RabbitMQ is back, messages \
     wait in it, and jobs in the database";
const NEEDS: &str = "the log of RabbitMQ names what was refused; the user needs rights to configure, write and read, or `declare = false` and what \
     docs/rabbitmq.md lists";

/// Examines RabbitMQ, where nodes use one.
pub async fn examine(examination: &mut Examination, config: &Config) {
    examination.section("rabbitmq");
    // What is wrong with the settings was found with the configuration.
    let Ok(plan) = config.rabbitmq.plan(config.node.roles.worker) else {
        return examination.skipped("rabbitmq_url", "the settings have to be mended first");
    };
    let Some(plan) = plan else {
        let meaning = if config.node.roles.worker {
            "is not set: nothing goes to or comes from RabbitMQ"
        } else {
            "is not set, and not needed: this node has not the role `worker`, so it carries no bridges"
        };
        return examination.good("rabbitmq_url", meaning);
    };
    let examined = match examine_rabbitmq(&plan).await {
        Ok(examined) => examined,
        Err(error) => return examination.problem("rabbitmq_url", error.to_string(), REACH),
    };
    examination.good("reachable", format!("logged in after {}", time(examined.took)));
    if !config.node.roles.worker {
        examination.good("roles", "this node has not the role `worker`, so others carry the bridges");
    }
    if examined.bridges.is_empty() {
        let advice = "add [rabbitmq.in.NAME] or [rabbitmq.out.NAME] to the file, or remove the address";
        examination.warning("bridges", "there are none, so no node connects", advice);
    }
    for (bridge, found) in examined.bridges {
        match found {
            Ok(()) => examination.good(&bridge, "RabbitMQ has what it needs, or the bridge declares it"),
            Err(error) => examination.problem(&bridge, error.to_string(), NEEDS),
        }
    }
}

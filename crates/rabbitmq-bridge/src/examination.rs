//! Looking whether RabbitMQ can be used, and has what the bridges need, without changing anything.

use std::time::{Duration, Instant};

use crate::check::{Incoming, Outgoing, Plan};
use crate::connection::BrokerConnection;
use crate::{Error, topology};

/// What RabbitMQ shows to its operators meanwhile.
const NAME: &str = "starling doctor";

/// What was found.
#[derive(Debug)]
pub struct Examined {
    /// How long it took to connect and log in.
    pub took: Duration,
    /// Each bridge, as `in.NAME` or `out.NAME`, and what it lacks.
    pub bridges: Vec<(String, Result<(), Error>)>,
}

/// Connects, and looks for what each bridge needs. A bridge that declares what it needs may lack it before its first start.
///
/// # Errors
/// RabbitMQ can't be reached, or refuses the login.
pub async fn examine(plan: &Plan) -> Result<Examined, Error> {
    let began = Instant::now();
    let connection = BrokerConnection::open(&plan.address, NAME).await?;
    let took = began.elapsed();
    let mut bridges = Vec::new();
    for bridge in &plan.incoming {
        let found = look(&connection, Needs::Incoming(&Incoming { declare: false, ..bridge.clone() })).await;
        bridges.push((format!("in.{}", bridge.name), lacks_only_what_it_declares(found, bridge.declare)));
    }
    for bridge in &plan.outgoing {
        let found = look(&connection, Needs::Outgoing(&Outgoing { declare: false, ..bridge.clone() })).await;
        bridges.push((format!("out.{}", bridge.name), lacks_only_what_it_declares(found, bridge.declare)));
    }
    connection.close().await;
    Ok(Examined { took, bridges })
}

enum Needs<'a> {
    Incoming(&'a Incoming),
    Outgoing(&'a Outgoing),
}

async fn look(connection: &BrokerConnection, needs: Needs<'_>) -> Result<(), Error> {
    // RabbitMQ closes a channel on which something was not found.
    let channel = connection.channel().await?;
    match needs {
        Needs::Incoming(bridge) => topology::of_incoming(&channel, bridge).await,
        Needs::Outgoing(bridge) => topology::of_outgoing(&channel, bridge).await,
    }
}

fn lacks_only_what_it_declares(found: Result<(), Error>, declares: bool) -> Result<(), Error> {
    match found {
        Err(Error::Refused(error)) if declares && Error::is_not_found(&error) => Ok(()),
        found => found,
    }
}

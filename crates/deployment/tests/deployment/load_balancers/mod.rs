//! The load balancers of `deploy/load-balancers`, each started from its file in the repository in front of two real nodes.
//!
//! Only addresses, ports and paths of certificates are replaced in the files, see [`file`].

mod balancer;
mod capacity;
mod drain;
mod file;
mod forwarded;
mod kind;
mod none_ready;
mod overload;
mod sticky;

use std::time::Duration;

/// Limit for something that should happen at once, on a busy machine.
const SOON: Duration = Duration::from_secs(60);

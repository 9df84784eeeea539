//! The HAProxy in front of the three nodes of `deploy/compose`.

use anyhow::Result;
use starling_deployment::run;

#[test]
fn haproxy_accepts_its_configuration() -> Result<()> {
    // `-c` only checks. Host names are resolved later, since the containers exist only in Compose.
    run("haproxy", ["-c", "-f", "deploy/compose/haproxy.cfg"]).map(drop)
}

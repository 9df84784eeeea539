//! Gives every WebSocket message back, over the same listener, shards and codec as the program, with permessage-deflate on:
//! `cargo run --release -p starling-gateway --example echo -- 127.0.0.1:9001`

use std::time::Duration;

use anyhow::Context;
use starling_gateway::{AddressLimits, Gateway, GatewayConfig, Origins, RequestLimits};

fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("which address? For example 127.0.0.1:9001")?;
    let config = GatewayConfig {
        listen: address.parse().with_context(|| format!("{address} is no address"))?,
        heartbeat: Duration::from_secs(60),
        connect_timeout: Duration::from_secs(3_600),
        origins: Origins::Any,
        address_limits: AddressLimits { connections: 0, handshakes_per_second: 0 },
        request_limits: RequestLimits { connection_per_second: 0, user_per_second: 0 },
        trusted_proxies: Default::default(),
        commands_per_second: 0,
        bytes_per_second: 0,
        queue_bytes: 32 << 20,
        deflate: true,
        drain_notice: Duration::ZERO,
        drain: Duration::ZERO,
        drain_clients_per_second: 500,
        connection_max_age: Duration::ZERO,
        shed_above_percent: 0,
        shed_above_sessions: 0,
        connect_wait_max: std::time::Duration::ZERO,
        handshakes_per_second: 0,
        message_bytes_max: 32 << 20,
        ..GatewayConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let gateway = Gateway::bind(config)?;
        println!("echo on {}", gateway.address());
        Ok(gateway.run_echo().await?)
    })
}

//! The limits of the operating system.

use starling_gateway::BACKLOG;

use super::examination::Examination;
use super::host::Host;
use super::quantity::bytes;
use crate::config::Config;

/// Files that a node uses besides those of its connections, at most.
const OWN_FILES: u64 = 100;
/// The fewest files of a node that is worth to be called one.
const FILES_MIN: u64 = 1_024;
/// The files of a node that many clients use.
const FILES_ENOUGH: u64 = 65_536;
/// The least memory in which a node works well with some thousand clients.
const MEMORY_ENOUGH: u64 = 256 << 20;
/// Ports for outgoing connections besides those to the database: to Redis, to an issuer of keys, to collectors.
const OTHER_PORTS: usize = 50;

/// Examines the limits of this process and of this machine.
pub fn examine(examination: &mut Examination, config: &Config, host: &Host) {
    examination.section("limits");
    if config.node.roles.gateway {
        examine_files(examination);
        examine_backlog(examination, host);
    }
    examine_ports(examination, config, host);
    examine_group(examination, config, host);
}

fn examine_files(examination: &mut Examination) {
    let subject = "open files";
    let Ok((_, hard)) = rlimit::Resource::NOFILE.get() else {
        return examination.skipped(subject, "the limit can't be read");
    };
    // Each connection is a file. A starting node raises its soft limit to the hard one.
    let room = hard.saturating_sub(OWN_FILES);
    let advice =
        "raise the hard limit: LimitNOFILE=1048576 (systemd), --ulimit nofile=1048576:1048576 (Docker)";
    match hard {
        _ if hard < FILES_MIN => {
            examination.problem(subject, format!("{hard} at most: room for {room} connections"), advice);
        }
        _ if hard < FILES_ENOUGH => {
            examination.warning(subject, format!("{hard} at most: room for {room} connections"), advice);
        }
        _ => examination.good(subject, format!("{hard} at most: room for {room} connections")),
    }
}

fn examine_backlog(examination: &mut Examination, host: &Host) {
    let subject = "somaxconn";
    let wanted = u64::from(BACKLOG.unsigned_abs());
    match host.backlog_max() {
        None => examination.skipped(subject, "the limit can't be read"),
        Some(limit) if limit < wanted => examination.warning(
            subject,
            format!("{limit}: no more connections wait to be accepted, and others are dropped when many clients come back at once"),
            format!("sysctl -w net.core.somaxconn={wanted}; in a pod, a sysctl of its security context"),
        ),
        Some(limit) => examination.good(subject, format!("{limit} connections may wait to be accepted")),
    }
}

fn examine_ports(examination: &mut Examination, config: &Config, host: &Host) {
    let subject = "ephemeral ports";
    let Some(range) = host.ephemeral_ports() else {
        return examination.skipped(subject, "the range can't be read");
    };
    let count = usize::from(*range.end()).saturating_sub(usize::from(*range.start())) + 1;
    let needed = config.database.pool_size * 2 + OTHER_PORTS;
    if count < needed {
        examination.problem(
            subject,
            format!(
                "{} to {}: {count} outgoing connections at most, and a node may need {needed}",
                range.start(),
                range.end()
            ),
            "sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"",
        );
    } else {
        examination.good(
            subject,
            format!("{} to {}: {count} outgoing connections to each address", range.start(), range.end()),
        );
    }
    let reserved = host.reserved_ports();
    let listens = [
        config.node.roles.gateway.then_some(("listen", config.gateway.listen.port())),
        Some(("metrics_listen", config.node.metrics_listen.port())),
    ];
    for (key, port) in listens.into_iter().flatten() {
        if range.contains(&port) && !reserved.iter().any(|reserved| reserved.contains(&port)) {
            examination.warning(
                key,
                format!("port {port} is one that an outgoing connection may get first, so that a start fails now and then"),
                format!("choose a port below {}, or sysctl -w net.ipv4.ip_local_reserved_ports={port}", range.start()),
            );
        }
    }
}

fn examine_group(examination: &mut Examination, config: &Config, host: &Host) {
    let limits = host.group_limits();
    match limits.memory {
        None => examination.good("memory", "no limit of a control group"),
        Some(limit) if limit < MEMORY_ENOUGH => examination.warning(
            "memory",
            format!("limited to {}: the kernel ends the node when it needs more", bytes(limit)),
            format!("give it {} or more, and see docs/operating/sizing.md", bytes(MEMORY_ENOUGH)),
        ),
        Some(limit) => examination.good("memory", format!("limited to {}", bytes(limit))),
    }
    let there = std::thread::available_parallelism().map_or(1, usize::from);
    let shards = if config.node.shards == 0 { there } else { config.node.shards };
    let Some(processors) = limits.processors else {
        return examination.good("processors", format!("no limit of a control group; {shards} shards"));
    };
    if processors < 1.0 || (shards as f64) > processors.ceil() {
        examination.warning(
            "processors",
            format!("limited to {processors:.1} for {shards} shards: the kernel stops them for some time again and again"),
            "remove the limit and keep the request, or give whole processors and leave shards at 0",
        );
    } else {
        examination.good("processors", format!("limited to {processors:.1}, for {shards} shards"));
    }
}

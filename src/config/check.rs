//! The range of every setting, and what the settings must be to each other.
//!
//! Owns the limits on values. Must not know files or overrides: it sees finished shapes.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::{ClientConfig, Config, ConfigError, KIB, MIB, NodeAddress};

/// Most nodes of one cluster.
const NODES_MAX: usize = 32;
/// What the largest UDP payload may be: no less than every path of QUIC carries, no more than a datagram holds.
pub(super) const MTU_MAX: RangeInclusive<u32> = 1_200..=65_000;
/// Longest cluster name, as certificates carry it in one DNS label.
const CLUSTER_NAME_MAX: usize = 40;

pub(super) fn node(config: &Config) -> Result<(), ConfigError> {
    cluster_name("node.cluster", &config.node.cluster)?;
    if cluster_id_bytes(&config.node.cluster_id).is_none() {
        return refuse(
            "node.cluster_id",
            &config.node.cluster_id,
            "a UUID such as 0f8fad5b-d9cb-469f-a165-70867728950e",
        );
    }
    nodes(&config.nodes)?;
    let id = config.node.id;
    if !config.nodes.iter().any(|node| node.id == id) {
        return refuse("node.id", id, "the id of one of [[nodes]]");
    }
    if config.node.joins && config.nodes.len() == 1 {
        return refuse(
            "node.joins",
            true,
            "true only where [[nodes]] has a node of the cluster to join",
        );
    }
    if config.node.listen.port() == 0 {
        return refuse(
            "node.listen",
            config.node.listen,
            "a port that is not 0, as peers must know it",
        );
    }
    raft(config)?;
    segments(config)?;
    limits(config)?;
    mtu_max("network.mtu_max", config.network.mtu_max)
}

pub(super) fn client(config: &ClientConfig) -> Result<(), ConfigError> {
    cluster_name("cluster", &config.cluster)?;
    nodes(&config.nodes)?;
    config
        .mtu_max
        .map_or(Ok(()), |bytes| mtu_max("mtu_max", bytes))
}

fn mtu_max(key: &str, bytes: u32) -> Result<(), ConfigError> {
    let range = u64::from(*MTU_MAX.start())..=u64::from(*MTU_MAX.end());
    within(key, u64::from(bytes), range)
}

fn raft(config: &Config) -> Result<(), ConfigError> {
    let raft = &config.raft;
    within("raft.heartbeat_ms", raft.heartbeat_ms, 1..=10_000)?;
    within(
        "raft.election_timeout_min_ms",
        raft.election_timeout_min_ms,
        10..=60_000,
    )?;
    within(
        "raft.election_timeout_max_ms",
        raft.election_timeout_max_ms,
        10..=120_000,
    )?;
    within(
        "raft.in_flight_bytes_max",
        raft.in_flight_bytes_max,
        64 * KIB..=1024 * MIB,
    )?;
    within(
        "raft.catch_up_lag_bytes",
        raft.catch_up_lag_bytes,
        64 * KIB..=1024 * 1024 * MIB,
    )?;
    within(
        "raft.catch_up_in_flight_bytes_max",
        raft.catch_up_in_flight_bytes_max,
        MIB..=1024 * MIB,
    )?;
    within(
        "raft.catch_up_bytes_per_s",
        raft.catch_up_bytes_per_s,
        64 * KIB..=1024 * 1024 * MIB,
    )?;
    if raft.election_timeout_min_ms < 2 * raft.heartbeat_ms {
        return refuse(
            "raft.election_timeout_min_ms",
            raft.election_timeout_min_ms,
            "at least twice raft.heartbeat_ms, or one lost heartbeat starts an election",
        );
    }
    if raft.election_timeout_max_ms <= raft.election_timeout_min_ms {
        return refuse(
            "raft.election_timeout_max_ms",
            raft.election_timeout_max_ms,
            "more than raft.election_timeout_min_ms, or the nodes stand for election together",
        );
    }
    Ok(())
}

fn segments(config: &Config) -> Result<(), ConfigError> {
    let log = &config.log;
    within(
        "log.segment_bytes_max",
        log.segment_bytes_max,
        MIB..=2048 * MIB,
    )?;
    within(
        "log.segment_bytes_first",
        log.segment_bytes_first,
        64 * KIB..=log.segment_bytes_max,
    )?;
    if log.scrub_bytes_per_s > 0 {
        within(
            "log.scrub_bytes_per_s",
            log.scrub_bytes_per_s,
            64 * KIB..=64 * 1024 * MIB,
        )?;
    }
    if !log.segment_bytes_max.is_multiple_of(MIB) {
        return refuse(
            "log.segment_bytes_max",
            log.segment_bytes_max,
            "a multiple of 1048576 (1 MiB)",
        );
    }
    if !log.segment_bytes_first.is_multiple_of(64 * KIB) {
        return refuse(
            "log.segment_bytes_first",
            log.segment_bytes_first,
            "a multiple of 65536 (64 KiB)",
        );
    }
    Ok(())
}

fn limits(config: &Config) -> Result<(), ConfigError> {
    let limits = &config.limits;
    within(
        "limits.batch_bytes_max",
        limits.batch_bytes_max,
        64 * KIB..=64 * MIB,
    )?;
    within(
        "limits.produce_in_flight_bytes_max",
        limits.produce_in_flight_bytes_max,
        limits.batch_bytes_max..=16 * 1024 * MIB,
    )?;
    within(
        "limits.peer_queue_bytes_max",
        limits.peer_queue_bytes_max,
        limits.batch_bytes_max..=16 * 1024 * MIB,
    )?;
    within(
        "limits.connections_max",
        u64::from(limits.connections_max),
        8..=100_000,
    )?;
    within(
        "limits.partitions_max",
        u64::from(limits.partitions_max),
        1..=1_000_000,
    )
}

fn nodes(nodes: &[NodeAddress]) -> Result<(), ConfigError> {
    if nodes.is_empty() || nodes.len() > NODES_MAX {
        return refuse(
            "nodes",
            format!("{} entries", nodes.len()),
            &format!("1 to {NODES_MAX} entries of [[nodes]]"),
        );
    }
    for (at, node) in nodes.iter().enumerate() {
        if node.id == 0 {
            return refuse("nodes.id", node.id, "a number from 1");
        }
        if nodes[..at].iter().any(|other| other.id == node.id) {
            return refuse("nodes.id", node.id, "each id once");
        }
        let address = &node.address;
        let port = address
            .rsplit_once(':')
            .filter(|(host, _)| !host.is_empty())
            .and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none_or(|port| port == 0) {
            return refuse("nodes.address", address, "host:port, the port 1 to 65535");
        }
        if nodes[..at].iter().any(|other| other.address == *address) {
            return refuse("nodes.address", address, "each address once");
        }
    }
    Ok(())
}

fn cluster_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || name.len() > CLUSTER_NAME_MAX || !name.bytes().all(allowed) {
        return refuse(
            key,
            name,
            &format!("1 to {CLUSTER_NAME_MAX} characters of a-z, 0-9 and -"),
        );
    }
    Ok(())
}

fn within(key: &str, value: u64, range: RangeInclusive<u64>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    refuse(
        key,
        value,
        &format!("allowed is {} to {}", range.start(), range.end()),
    )
}

fn refuse(key: &str, value: impl Display, allowed: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Range {
        key: key.to_owned(),
        value: value.to_string(),
        allowed: allowed.to_owned(),
    })
}

/// The 16 bytes of a UUID written as 8-4-4-4-12 hexadecimal digits; `None` if it is not one, or is all zero.
#[must_use]
pub fn cluster_id_bytes(text: &str) -> Option<[u8; 16]> {
    let groups: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = groups.iter().map(|group| group.len()).collect();
    if lengths != [8, 4, 4, 4, 12] || !text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit()) {
        return None;
    }
    let id = u128::from_str_radix(&groups.concat(), 16).ok()?;
    (id != 0).then(|| id.to_be_bytes())
}

/// A new random identity for a cluster, as a version 4 UUID.
#[must_use]
pub fn new_cluster_id() -> String {
    let random = fastrand::u128(..);
    let id = random & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{id:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}")
}

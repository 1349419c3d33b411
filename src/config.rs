//! The settings of a node and of a client: what the keys are, their defaults, and the range of each.
//!
//! Owns the shape of `node-N.toml` and `client.toml` and every check on their values. Must not know who reads a setting, nor
//! open anything but the settings file itself. On no walk: it is read once, before a node or a client starts.
//!
//! Loading, with its overrides from the environment and the command line, is in `load`; the ranges are in `check`.

mod check;
mod load;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use check::{cluster_id_bytes, new_cluster_id};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

/// Everything a node is told before it starts: one TOML file, `node-N.toml`.
///
/// Relative paths in the file are relative to the file's own folder; after [`Config::load`] they are joined with it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is and where it lives.
    pub node: NodeConfig,
    /// The certificates it proves that with.
    pub tls: TlsConfig,
    /// Every node of the cluster, this one included, at the address the others dial.
    pub nodes: Vec<NodeAddress>,
    /// Timing and windows of consensus.
    #[serde(default)]
    pub raft: RaftConfig,
    /// Segment files.
    #[serde(default)]
    pub log: LogConfig,
    /// Caps on what clients and peers may hold.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// What goes over the wire to other nodes and to clients.
    #[serde(default)]
    pub network: NetworkConfig,
}

/// Who a node is, and where it keeps its data and listens.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeConfig {
    /// The node's number, from 1, as in its certificate.
    pub id: u64,
    /// Name of the cluster, as in every certificate: 1 to 40 of `a-z`, `0-9`, `-`.
    pub cluster: String,
    /// Identity of the cluster, a UUID, stamped into every file: tells two clusters of one name apart.
    pub cluster_id: String,
    /// The node's own folder. Locked while the node runs.
    pub data_dir: PathBuf,
    /// UDP address of the QUIC endpoint, for peers and clients.
    pub listen: SocketAddr,
    /// TCP address of `/livez`, `/readyz` and `/metrics`.
    pub admin: SocketAddr,
    /// Whether the node joins a cluster that runs already, as `plimsoll init --add-node` says: then the others of `nodes` are where it finds
    /// that cluster. Otherwise `nodes`, the same in the settings of each, are what the cluster is founded with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joins: bool,
}

/// Paths of the PEM files of one side.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// Own certificate.
    pub cert: PathBuf,
    /// Private key of `cert`.
    pub key: PathBuf,
}

/// A node and the address it is dialled at.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NodeAddress {
    /// The node's number.
    pub id: u64,
    /// `host:port` of its QUIC endpoint.
    pub address: String,
}

impl NodeAddress {
    /// Looks the address up. Blocks while the resolver does.
    ///
    /// # Errors
    /// When the name does not resolve to any address.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        let node = self.id;
        let named = |error| {
            let address = &self.address;
            io::Error::other(format!(
                "the address {address:?} of node {node} does not resolve: {error}"
            ))
        };
        let mut found = self.address.to_socket_addrs().map_err(named)?;
        found
            .next()
            .ok_or_else(|| named(io::Error::other("no address")))
    }
}

/// Timing and windows of consensus. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RaftConfig {
    /// Shortest silence of a leader after which a follower may stand for election; also the time during which votes are
    /// refused to others.
    pub election_timeout_min_ms: u64,
    /// Longest such silence; each wait is drawn between the two.
    pub election_timeout_max_ms: u64,
    /// Interval of a leader's heartbeats.
    pub heartbeat_ms: u64,
    /// Most bytes of entries sent to one peer of one group and not yet acknowledged. As many as this node accepts from clients, lest it sends a
    /// peer from the disk what it had in memory a moment ago.
    pub in_flight_bytes_max: u64,
    /// A peer that lacks more bytes of a group than this is fed apart, with less urgency than all else.
    pub catch_up_lag_bytes: u64,
    /// Most bytes sent so to one peer of one group and not yet acknowledged.
    pub catch_up_in_flight_bytes_max: u64,
    /// Most bytes a second that this node sends so, all groups and peers together.
    pub catch_up_bytes_per_s: u64,
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            election_timeout_min_ms: 150,
            election_timeout_max_ms: 300,
            heartbeat_ms: 50,
            in_flight_bytes_max: 64 * MIB,
            catch_up_lag_bytes: 64 * MIB,
            catch_up_in_flight_bytes_max: 4 * MIB,
            catch_up_bytes_per_s: 64 * MIB,
        }
    }
}

/// Segment files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// Full size of a segment file. A multiple of 1 MiB.
    pub segment_bytes_max: u64,
    /// Size of a group's first segment; each one after doubles, up to the full size. A multiple of 64 KiB.
    pub segment_bytes_first: u64,
    /// How fast the logs are read in search of damage, in bytes a second; 0: never.
    pub scrub_bytes_per_s: u64,
    /// Bytes that each partition keeps at least; older segments are removed, whole, whoever still lacks them. 0: all is kept.
    pub retention_bytes: u64,
    /// When this node takes what it has written for kept, and acknowledges it.
    pub durability: Durability,
}

/// When a node takes what it has written for kept. Each node decides for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// When it is synced: neither the end of the process nor a power cut takes anything away.
    #[default]
    Fsync,
    /// When the operating system has it: the end of the process takes nothing away, a power cut the last moment before it.
    PageCache,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes_max: 128 * MIB,
            segment_bytes_first: MIB,
            scrub_bytes_per_s: 16 * MIB,
            retention_bytes: 0,
            durability: Durability::Fsync,
        }
    }
}

/// Caps on what clients and peers may hold, in bytes where not said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Largest payload of one frame, hence of one batch, compressed or not.
    pub batch_bytes_max: u64,
    /// Most bytes of batches accepted from clients of this node and not yet answered. More waits unread, at its sender.
    pub produce_in_flight_bytes_max: u64,
    /// Most bytes queued to one peer. More is dropped; consensus sends it again.
    pub peer_queue_bytes_max: u64,
    /// Most connections accepted at a time, of clients and peers together.
    pub connections_max: u32,
    /// Most partitions of all topics together.
    pub partitions_max: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            batch_bytes_max: 8 * MIB,
            produce_in_flight_bytes_max: 64 * MIB,
            peer_queue_bytes_max: 64 * MIB,
            connections_max: 1024,
            partitions_max: 10_000,
        }
    }
}

/// What goes over the wire.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkConfig {
    /// Largest UDP payload sent, in bytes, where the path carries it. Above 6,500 it has effect on the loopback interface only.
    pub mtu_max: u32,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            mtu_max: *check::MTU_MAX.end(),
        }
    }
}

/// Everything a client is told: `client.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClientConfig {
    /// Name of the cluster, as in every certificate.
    pub cluster: String,
    /// Certificate of the cluster's authority.
    pub ca: PathBuf,
    /// The client's certificate.
    pub cert: PathBuf,
    /// Private key of `cert`.
    pub key: PathBuf,
    /// Nodes to begin with; one that answers is enough.
    pub nodes: Vec<NodeAddress>,
    /// Largest UDP payload sent, as `network.mtu_max` of a node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu_max: Option<u32>,
}

/// Why settings were refused. The message names the file or the key, and what would do.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not TOML, an unknown key, a missing key, or a value of the wrong type.
    #[error("{origin}: {message}")]
    Parse {
        /// The file, with the overrides that went into it.
        origin: String,
        /// What is wrong, with the place in the file where that is known.
        message: String,
    },
    /// An override that cannot be applied.
    #[error("{origin}: {message}")]
    Override {
        /// The flag or the environment variable.
        origin: String,
        /// What is wrong with it.
        message: String,
    },
    /// A value outside its range.
    #[error("{key} = {value} is not possible: {allowed}")]
    Range {
        /// Dotted key.
        key: String,
        /// The value given.
        value: String,
        /// What is allowed.
        allowed: String,
    },
}

impl Config {
    /// Reads the settings of a node: the file, then `PLIMSOLL_SECTION_KEY` of the environment, then `overrides`
    /// (`section.key=value`), the later one winning.
    ///
    /// # Errors
    /// [`ConfigError`], when the file cannot be read, a key is unknown or a value is out of its range.
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        load::node(path, std::env::vars_os(), overrides)
    }

    /// Checks every value against its range, and the values against each other.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for the first value that is not possible.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::node(self)
    }

    /// The cluster's identity as the 16 bytes that files carry.
    ///
    /// # Panics
    /// Never on a configuration that passed [`Config::validate`].
    #[must_use]
    pub fn cluster_id(&self) -> [u8; 16] {
        cluster_id_bytes(&self.node.cluster_id).expect("validate() has checked the form")
    }

    /// The nodes that the cluster is founded with, ascending. A node that joins is none of them.
    #[must_use]
    pub fn founders(&self) -> Vec<u64> {
        let mut founders: Vec<u64> = self.nodes.iter().map(|node| node.id).collect();
        founders.retain(|node| !self.node.joins || *node != self.node.id);
        founders.sort_unstable();
        founders
    }

    /// The settings as TOML text, as `init` writes them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain structs of strings and numbers serialise")
    }
}

impl ClientConfig {
    /// Reads the settings of a client.
    ///
    /// # Errors
    /// [`ConfigError`], when the file cannot be read, a key is unknown or a value is not possible.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load::client(path)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`ConfigError::Range`] for the first value that is not possible.
    pub fn validate(&self) -> Result<(), ConfigError> {
        check::client(self)
    }

    /// The settings as TOML text, as `init` writes them.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("plain structs of strings serialise")
    }
}

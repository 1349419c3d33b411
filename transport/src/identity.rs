//! Who may speak: the identity carried by a certificate, and the protocol it is spoken under.
//!
//! Owns the mapping between identities and DNS names. Knows nothing of certificates' encoding or of sockets. On every walk, at its very
//! start: the handshake.
//!
//! An identity is one DNS name among the certificate's subject alternative names:
//! `node-3.CLUSTER.plimsoll` or `client-NAME.CLUSTER.plimsoll`. A dialing node verifies that name exactly as a browser verifies a web site's.

use std::fmt;
use std::str::FromStr;

/// The protocol name (ALPN) spoken between nodes, with its version.
pub const ALPN_PEER: &[u8] = b"plimsoll-peer/1";
/// The protocol name (ALPN) spoken by clients to nodes, with its version.
pub const ALPN_CLIENT: &[u8] = b"plimsoll-client/1";

/// The last label of every identity's DNS name.
const SUFFIX: &str = "plimsoll";
/// Longest cluster or client name, in bytes: with its prefix it stays within the 63 bytes of a DNS label.
pub const NAME_BYTES_MAX: usize = 40;

/// What a connection is for; told apart by ALPN during the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// Node to node. Only certificates of nodes are let in.
    Peer,
    /// Client to node. Nodes may speak it too.
    Client,
}

impl Alpn {
    /// The bytes that go into the handshake.
    pub const fn as_bytes(self) -> &'static [u8] {
        match self {
            Alpn::Peer => ALPN_PEER,
            Alpn::Client => ALPN_CLIENT,
        }
    }

    /// The protocol these bytes name, if it is one of ours.
    pub fn from_bytes(bytes: &[u8]) -> Option<Alpn> {
        match bytes {
            ALPN_PEER => Some(Alpn::Peer),
            ALPN_CLIENT => Some(Alpn::Client),
            _ => None,
        }
    }
}

/// Who a certificate speaks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A node of a cluster.
    Node {
        /// The cluster's name: `[a-z0-9-]{1,40}`, no hyphen at either end.
        cluster: String,
        /// The node's number, from 1.
        node: u64,
    },
    /// A client of a cluster.
    Client {
        /// The cluster's name, as above.
        cluster: String,
        /// The client's name, under the same rule as the cluster's.
        name: String,
    },
}

impl Identity {
    /// The identity of node `node` (from 1) of `cluster`.
    pub fn node(cluster: &str, node: u64) -> Result<Identity, IdentityError> {
        check_name(cluster)?;
        if node == 0 {
            return Err(IdentityError::NodeZero);
        }
        Ok(Identity::Node {
            cluster: cluster.to_owned(),
            node,
        })
    }

    /// The identity of the client `name` of `cluster`.
    pub fn client(cluster: &str, name: &str) -> Result<Identity, IdentityError> {
        check_name(cluster)?;
        check_name(name)?;
        Ok(Identity::Client {
            cluster: cluster.to_owned(),
            name: name.to_owned(),
        })
    }

    /// The cluster this identity belongs to.
    pub fn cluster(&self) -> &str {
        match self {
            Identity::Node { cluster, .. } | Identity::Client { cluster, .. } => cluster,
        }
    }

    /// The node's number, or `None` for a client.
    pub fn node_id(&self) -> Option<u64> {
        match self {
            Identity::Node { node, .. } => Some(*node),
            Identity::Client { .. } => None,
        }
    }

    /// The DNS name that stands for this identity in a certificate.
    pub fn dns_name(&self) -> String {
        match self {
            Identity::Node { cluster, node } => format!("node-{node}.{cluster}.{SUFFIX}"),
            Identity::Client { cluster, name } => format!("client-{name}.{cluster}.{SUFFIX}"),
        }
    }

    /// The DNS domain all identities of `cluster` lie in.
    pub(crate) fn domain(cluster: &str) -> String {
        format!("{cluster}.{SUFFIX}")
    }
}

/// People read this in logs: `node 3 of cluster "blue"`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Node { cluster, node } => write!(f, "node {node} of cluster \"{cluster}\""),
            Identity::Client { cluster, name } => {
                write!(f, "client \"{name}\" of cluster \"{cluster}\"")
            }
        }
    }
}

/// Parses a DNS name. Only the exact form that [`Identity::dns_name`] writes is an identity: one identity, one spelling.
impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(name: &str) -> Result<Identity, IdentityError> {
        let not_ours = || IdentityError::NotOurs {
            name: name.to_owned(),
        };
        let (label, rest) = name.split_once('.').ok_or_else(not_ours)?;
        let (cluster, suffix) = rest.split_once('.').ok_or_else(not_ours)?;
        if suffix != SUFFIX {
            return Err(not_ours());
        }
        if let Some(client) = label.strip_prefix("client-") {
            return Identity::client(cluster, client);
        }
        let digits = label.strip_prefix("node-").ok_or_else(not_ours)?;
        let node: u64 = digits.parse().map_err(|_| not_ours())?;
        if node.to_string() != digits {
            return Err(not_ours());
        }
        Identity::node(cluster, node)
    }
}

/// Checks the name of a cluster or of a client: `[a-z0-9-]{1,40}`, no hyphen at either end, so that it is a DNS label everywhere.
pub fn check_name(name: &str) -> Result<(), IdentityError> {
    let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let sound = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(letters)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if sound {
        Ok(())
    } else {
        Err(IdentityError::BadName {
            name: name.to_owned(),
        })
    }
}

/// Why a name is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// A cluster or client name outside the allowed form.
    #[error(
        "\"{name}\" cannot name a cluster or a client: use 1 to 40 of a-z, 0-9 and -, with no - at either end"
    )]
    BadName {
        /// The name given.
        name: String,
    },
    /// Nodes are numbered from 1.
    #[error("there is no node 0: nodes are numbered from 1")]
    NodeZero,
    /// A DNS name of some other form.
    #[error(
        "\"{name}\" is not an identity: expected node-N.CLUSTER.plimsoll or client-NAME.CLUSTER.plimsoll"
    )]
    NotOurs {
        /// The name given.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_identity_survives_its_dns_name() {
        for identity in [
            Identity::node("blue", 1).unwrap(),
            Identity::node("blue-2", u64::MAX).unwrap(),
            Identity::client(&"x".repeat(40), "admin").unwrap(),
        ] {
            assert_eq!(identity.dns_name().parse(), Ok(identity));
        }
    }

    #[test]
    fn a_second_spelling_of_an_identity_is_no_identity() {
        for name in [
            "node-03.blue.plimsoll",
            "node-+3.blue.plimsoll",
            "node-0.blue.plimsoll",
            "node-3.Blue.plimsoll",
            "node-3.blue.plimsoll.",
            "node-3..plimsoll",
            "node-3.a.blue.plimsoll",
            "node-3.blue.example",
            "node-18446744073709551616.blue.plimsoll",
            "client-.blue.plimsoll",
            "client--a.blue.plimsoll",
            "admin.blue.plimsoll",
            "*.blue.plimsoll",
            "localhost",
            "",
        ] {
            assert!(name.parse::<Identity>().is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_that_would_not_be_a_dns_label_is_refused() {
        for name in ["", "-a", "a-", "a.b", "A", "ä", "a b", "../a"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"x".repeat(41)).is_err());
    }
}

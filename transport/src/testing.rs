//! What the tests of this crate share: credentials, pairs of connected endpoints, and an upper guard on time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::frame::Limits;
use crate::identity::Alpn;
use crate::options::TransportOptions;
use crate::pki::Authority;

pub(crate) const LIMITS: Limits = Limits {
    head_bytes_max: 64 << 10,
    body_bytes_max: 16 << 20,
};

/// Loopback, with a port the system chooses.
pub(crate) const ANYWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// An upper guard: a test that would hang fails instead.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("hangs")
}

pub(crate) fn node(authority: &Authority, node: u64) -> Credentials {
    let issued = authority.issue_node(node).unwrap();
    Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

pub(crate) fn client(authority: &Authority, name: &str) -> Credentials {
    let issued = authority.issue_client(name).unwrap();
    Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

/// Settings under which a loaded machine does not end a connection by mistake.
pub(crate) fn patient() -> TransportOptions {
    TransportOptions {
        idle_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(30),
        ..TransportOptions::default()
    }
}

/// Two connected nodes: 2 dialed 1. Both endpoints must be kept.
pub(crate) struct Pair {
    pub(crate) dialing: Connection,
    pub(crate) accepting: Connection,
    pub(crate) endpoints: [Endpoint; 2],
}

pub(crate) async fn pair(options: &TransportOptions) -> Pair {
    let authority = Authority::create("blue").unwrap();
    let one = Endpoint::server(&node(&authority, 1), ANYWHERE, options).unwrap();
    let two = Endpoint::server(&node(&authority, 2), ANYWHERE, options).unwrap();
    let (dialing, accepting) = tokio::join!(two.connect(one.local_addr(), 1, Alpn::Peer), async {
        one.accept().await.unwrap().identify().await
    },);
    Pair {
        dialing: dialing.unwrap(),
        accepting: accepting.unwrap(),
        endpoints: [one, two],
    }
}

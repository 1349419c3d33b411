//! When a connection to a peer is over, though nobody has closed it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::watch;
use transport::{Alpn, Authority, Connection, Credentials, Endpoint, TransportOptions};

use super::hold;

fn endpoint(authority: &Authority, node: u64) -> Endpoint {
    let issued = authority.issue_node(node).unwrap();
    let credentials =
        Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let patient = TransportOptions {
        idle_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(30),
        ..TransportOptions::default()
    };
    Endpoint::server(&credentials, anywhere, &patient).unwrap()
}

/// From node 1 to node 2, and what must be kept for it to live.
async fn connected() -> (Connection, (Connection, Endpoint, Endpoint)) {
    let authority = Authority::create("blue").unwrap();
    let (one, two) = (endpoint(&authority, 1), endpoint(&authority, 2));
    let (dialed, accepted) = tokio::join!(one.connect(two.local_addr(), 2, Alpn::Peer), async {
        two.accept().await.unwrap().identify().await.unwrap()
    });
    (dialed.unwrap(), (accepted, one, two))
}

#[tokio::test]
async fn connection_is_closed_once_a_later_start_of_its_node_has_greeted() {
    let (connection, kept) = connected().await;
    let start = watch::Sender::new(Some(7));
    let held = hold(&connection, 7, start.subscribe());
    let again = async {
        tokio::task::yield_now().await;
        assert_eq!(
            connection.close_reason(),
            None,
            "it is the start that greeted"
        );
        start.send_replace(Some(8));
    };
    let both = async { tokio::join!(held, again) };
    let guard = tokio::time::timeout(Duration::from_secs(20), both);
    guard
        .await
        .expect("the other end lives: nothing else ends it");
    assert!(connection.close_reason().is_some());
    drop(kept);
}

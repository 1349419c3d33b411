//! A connection that is dead and does not say so.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use transport::{Authority, Credentials, Endpoint, TransportOptions};

use super::*;

fn patient() -> TransportOptions {
    TransportOptions {
        idle_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(30),
        ..TransportOptions::default()
    }
}

fn server(authority: &Authority) -> Endpoint {
    let issued = authority.issue_node(1).unwrap();
    let credentials =
        Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap();
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Endpoint::server(&credentials, anywhere, &patient()).unwrap()
}

fn client(authority: &Authority) -> Endpoint {
    let issued = authority.issue_client("app").unwrap();
    let credentials =
        Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap();
    Endpoint::client(&credentials, &patient()).unwrap()
}

#[tokio::test]
async fn connection_dialed_beside_a_silent_one_takes_its_place_and_ends_it() {
    let authority = Authority::create("blue").unwrap();
    let (server, endpoint) = (server(&authority), client(&authority));
    let node = Node::new(1, server.local_addr().to_string());
    let serving = tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Some(incoming) = server.accept().await {
            accepted.extend(incoming.identify().await);
        }
    });
    let silent = node.connection(&endpoint).await.unwrap();
    tokio::join!(
        node.dial_beside(&endpoint, &silent),
        node.dial_beside(&endpoint, &silent)
    );
    assert!(!is_live(&silent), "whoever is on it goes on elsewhere");
    let now = node.connection(&endpoint).await.unwrap();
    assert_ne!(now.id(), silent.id());
    assert!(is_live(&now));
    node.dial_beside(&endpoint, &silent).await;
    let same = node.connection(&endpoint).await.unwrap();
    assert_eq!(same.id(), now.id(), "what is over is beside nothing");
    serving.abort();
}

#[tokio::test]
async fn silent_connection_stays_where_no_other_can_be_made() {
    let authority = Authority::create("blue").unwrap();
    let (server, endpoint) = (server(&authority), client(&authority));
    let mut node = Node::new(1, server.local_addr().to_string());
    let (silent, _accepted) = tokio::join!(node.connection(&endpoint), async {
        server.accept().await.unwrap().identify().await.unwrap()
    });
    let silent = silent.unwrap();
    Arc::get_mut(&mut node).unwrap().address = "an address without a port".to_owned();
    node.dial_beside(&endpoint, &silent).await;
    assert!(is_live(&silent));
}

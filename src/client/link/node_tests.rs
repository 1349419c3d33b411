//! A connection that is dead and does not say so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::oneshot;
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

/// Lets one in on a thread of its own; once told, says that it stands still, and does nothing until nobody listens any more.
fn let_one_in_and_stand_still(
    authority: &Authority,
    told: oneshot::Receiver<mpsc::Receiver<()>>,
) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    let server = {
        let _entered = runtime.enter();
        server(authority)
    };
    let address = server.local_addr();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let incoming = server.accept().await.unwrap();
            let _accepted = incoming.identify().await.unwrap();
            let hold = told.await.unwrap();
            hold.recv().unwrap();
            hold.recv().unwrap_err();
        });
    });
    address
}

#[tokio::test]
async fn connection_dialed_beside_a_silent_one_takes_its_place_and_ends_it() {
    let authority = Authority::create("blue").unwrap();
    let (tell, told) = oneshot::channel();
    let address = let_one_in_and_stand_still(&authority, told);
    let endpoint = client(&authority);
    let mut node = Node::new(1, address.to_string());
    let silent = node.connection(&endpoint).await.unwrap();
    let (stands_still, hold) = mpsc::sync_channel(0);
    tell.send(hold).unwrap();
    stands_still.send(()).unwrap();
    let server = server(&authority);
    Arc::get_mut(&mut node).unwrap().address = server.local_addr().to_string();
    let serving = tokio::spawn(async move {
        let mut accepted = Vec::new();
        while let Some(incoming) = server.accept().await {
            accepted.extend(incoming.identify().await);
        }
    });
    // What it said before it stood still may be heard only now, and once more then.
    let replacing = async {
        while is_live(&silent) {
            tokio::join!(
                node.dial_beside(&endpoint, &silent),
                node.dial_beside(&endpoint, &silent)
            );
        }
    };
    let replaced = timeout(Duration::from_secs(60), replacing).await;
    replaced.expect("whoever is on it goes on elsewhere");
    let now = node.connection(&endpoint).await.unwrap();
    assert_ne!(now.id(), silent.id());
    assert!(is_live(&now));
    node.dial_beside(&endpoint, &silent).await;
    let same = node.connection(&endpoint).await.unwrap();
    assert_eq!(same.id(), now.id(), "what is over is beside nothing");
    serving.abort();
}

#[tokio::test]
async fn connection_that_is_heard_while_another_is_dialed_beside_it_stays() {
    let authority = Authority::create("blue").unwrap();
    let (server, endpoint) = (server(&authority), client(&authority));
    let node = Node::new(1, server.local_addr().to_string());
    let (slow, accepted) = tokio::join!(node.connection(&endpoint), async {
        server.accept().await.unwrap().identify().await.unwrap()
    });
    let slow = slow.unwrap();
    let (mut asking, mut answered) = slow.open_bi(0).await.unwrap();
    asking.send(1, b"", &mut []).await.unwrap();
    let (mut answering, _asked) = accepted.accept_bi().await.unwrap();
    tokio::join!(node.dial_beside(&endpoint, &slow), async {
        // It is being dialed, and gets no further before the other connection has been heard.
        let incoming = server.accept().await.unwrap();
        answering.send(1, b"", &mut []).await.unwrap();
        answered.recv(&REPLY_LIMITS).await.unwrap().unwrap();
        incoming.identify().await.unwrap()
    });
    let same = node.connection(&endpoint).await.unwrap();
    assert!(is_live(&slow));
    assert_eq!(same.id(), slow.id());
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

#[tokio::test]
async fn many_who_wait_for_a_dial_that_comes_to_nothing_do_not_dial_one_after_the_other() {
    let authority = Authority::create("blue").unwrap();
    let issued = authority.issue_client("app").unwrap();
    let (cert, key) = (&issued.cert_pem, &issued.key_pem);
    let credentials = Credentials::from_pem(authority.cert_pem(), cert, key).unwrap();
    let options = TransportOptions {
        handshake_timeout: Duration::from_millis(50),
        ..patient()
    };
    let endpoint = Endpoint::client(&credentials, &options).unwrap();
    let nobody = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let node = Node::new(1, nobody.local_addr().unwrap().to_string());
    let waiting = tokio::join!(
        node.connection(&endpoint),
        node.connection(&endpoint),
        node.connection(&endpoint)
    );
    assert!(waiting.0.is_err() && waiting.1.is_err() && waiting.2.is_err());
    assert_eq!(node.heard(), (1, 0), "one dial");
    assert!(node.connection(&endpoint).await.is_err());
    assert_eq!(node.heard(), (2, 0), "who comes later dials anew");
}

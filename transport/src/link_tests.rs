//! Links: up, down, and up again.

use std::net::SocketAddr;

use tokio::sync::{oneshot, watch};

use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::error::{ConnectionLost, close};
use crate::identity::Alpn;
use crate::link::Link;
use crate::options::TransportOptions;
use crate::pki::Authority;
use crate::testing::{ANYWHERE, node, patient, within};

/// Lets everybody in, and keeps the connections until it is dropped with its runtime task.
fn serve(endpoint: Endpoint) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = endpoint.accept().await {
            kept.push(incoming.identify().await);
        }
    })
}

async fn up(connection: &mut watch::Receiver<Option<Connection>>) -> Connection {
    let up = within(connection.wait_for(Option::is_some)).await;
    up.unwrap().clone().unwrap()
}

async fn down(connection: &mut watch::Receiver<Option<Connection>>) {
    let down = within(connection.wait_for(Option::is_none)).await;
    assert!(down.unwrap().is_none());
}

/// Short attempts, so that a test need not wait for long ones to end.
fn brisk() -> TransportOptions {
    TransportOptions {
        handshake_timeout: std::time::Duration::from_millis(500),
        ..patient()
    }
}

fn link(authority: &Authority, address: SocketAddr) -> (Link, Endpoint) {
    let endpoint = Endpoint::client(&node(authority, 2), &brisk()).unwrap();
    let link = Link::spawn(endpoint.clone(), address.to_string(), 1, Alpn::Peer);
    (link, endpoint)
}

#[tokio::test]
async fn a_link_comes_up_again_after_the_server_went_away_in_good_order() {
    let authority = Authority::create("blue").unwrap();
    let server = Endpoint::server(&node(&authority, 1), ANYWHERE, &brisk()).unwrap();
    let address = server.local_addr();
    let serving = serve(server.clone());
    let (link, _endpoint) = link(&authority, address);
    let mut connection = link.connection();
    let first = up(&mut connection).await;
    assert_eq!(first.identity().node_id(), Some(1));
    assert_eq!(link.current().map(|c| c.id()), Some(first.id()));

    within(server.close(close::STOPPING, "stopping")).await;
    down(&mut connection).await;
    assert!(link.current().is_none());
    within(serving).await.unwrap();
    drop(server);

    let again = within(rebind(&node(&authority, 1), address)).await;
    let _serving = serve(again);
    let second = up(&mut connection).await;
    assert!(second.close_reason().is_none());
    assert!(first.close_reason().is_some());
}

/// Binds as soon as the former socket is gone; its driver lets go of it a moment after the endpoint was dropped.
async fn rebind(credentials: &Credentials, address: SocketAddr) -> Endpoint {
    loop {
        match Endpoint::server(credentials, address, &brisk()) {
            Ok(endpoint) => return endpoint,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_link_waits_for_a_server_that_is_not_there_yet() {
    let authority = Authority::create("blue").unwrap();
    let address = std::net::UdpSocket::bind(ANYWHERE)
        .unwrap()
        .local_addr()
        .unwrap();
    let (link, _endpoint) = link(&authority, address);
    let mut connection = link.connection();
    assert!(link.current().is_none());
    let server = Endpoint::server(&node(&authority, 1), address, &brisk()).unwrap();
    let _serving = serve(server);
    up(&mut connection).await;
}

#[tokio::test]
async fn a_server_that_restarts_without_a_word_resets_the_connections_it_forgot() {
    let authority = Authority::create("blue").unwrap();
    let credentials = node(&authority, 1);
    let same = credentials.clone();
    // A runtime of its own, ended as a whole: no goodbye leaves, as if the process had been killed.
    let (bound, address) = oneshot::channel();
    let (kill, killed) = oneshot::channel::<()>();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Endpoint::server(&credentials, ANYWHERE, &brisk()).unwrap();
            bound.send(server.local_addr()).unwrap();
            let _serving = serve(server);
            let _ = killed.await;
        });
    });
    let address = within(address).await.unwrap();
    let (link, _endpoint) = link(&authority, address);
    let mut connection = link.connection();
    let first = up(&mut connection).await;
    kill.send(()).unwrap();
    process.join().unwrap();
    assert_eq!(first.close_reason(), None, "a goodbye was sent");

    let again = within(rebind(&same, address)).await;
    let _serving = serve(again);
    // Long before the idle timeout, at the next sign of life.
    assert_eq!(within(first.closed()).await, ConnectionLost::Reset);
    let second =
        within(connection.wait_for(|c| c.as_ref().is_some_and(|c| c.close_reason().is_none())))
            .await;
    assert!(second.is_ok());
}

#[tokio::test]
async fn dropping_a_link_closes_its_connection() {
    let authority = Authority::create("blue").unwrap();
    let server = Endpoint::server(&node(&authority, 1), ANYWHERE, &brisk()).unwrap();
    let (link, _endpoint) = link(&authority, server.local_addr());
    let accepted = within(async { server.accept().await.unwrap().identify().await }).await;
    let mut connection = link.connection();
    up(&mut connection).await;
    drop(link);
    let lost = within(accepted.unwrap().closed()).await;
    let ConnectionLost::ClosedByPeer { code, .. } = lost else {
        panic!("{lost:?}");
    };
    assert_eq!(code, close::STOPPING);
}

//! Who is let in, and which nodes start at all: certificates, data folders, ports.

use plimsoll::client::Client;
use plimsoll::server::StartError;
use transport::pki::Authority;
use transport::{Alpn, Credentials, Endpoint, TransportOptions};

use crate::harness::{CLUSTER, Cluster};

fn credentials(authority: &Authority, name: &str) -> Credentials {
    let issued = authority.issue_client(name).unwrap();
    Credentials::from_pem(authority.cert_pem(), &issued.cert_pem, &issued.key_pem).unwrap()
}

async fn dial(cluster: &Cluster, credentials: &Credentials, alpn: Alpn) -> Result<(), String> {
    let endpoint = Endpoint::client(credentials, &TransportOptions::default()).unwrap();
    let dialed = endpoint.connect(cluster.address(1), 1, alpn).await;
    dialed.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn client_of_another_authority_or_cluster_is_refused_and_peers_must_be_nodes() {
    let cluster = Cluster::start(1);
    let ours = credentials(&cluster.authority, "ours");
    assert_eq!(dial(&cluster, &ours, Alpn::Client).await, Ok(()));
    let client_as_peer = dial(&cluster, &ours, Alpn::Peer).await.unwrap_err();
    assert!(client_as_peer.contains("peer"), "{client_as_peer}");
    let impostor = Authority::create(CLUSTER).unwrap();
    assert!(
        dial(&cluster, &credentials(&impostor, "theirs"), Alpn::Client)
            .await
            .is_err()
    );
    let elsewhere = Authority::create("elsewhere").unwrap();
    assert!(
        dial(&cluster, &credentials(&elsewhere, "theirs"), Alpn::Client)
            .await
            .is_err()
    );
    // The node still serves those it knows.
    assert_eq!(dial(&cluster, &ours, Alpn::Client).await, Ok(()));
}

#[tokio::test]
async fn client_without_usable_certificates_is_told_so() {
    let cluster = Cluster::prepare(1);
    let mut config = cluster.client_config().clone();
    config.cert = cluster.dir().join("missing.pem");
    let error = Client::connect(&config).await.unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
}

#[test]
fn node_with_the_certificate_of_another_node_does_not_start() {
    let mut cluster = Cluster::prepare(2);
    cluster.config_mut(1).tls = cluster.config(2).tls.clone();
    let error = cluster.try_start_node(1).unwrap_err();
    assert!(
        matches!(&error, StartError::Credentials(why) if why.contains("node 2")),
        "{error}"
    );
}

#[test]
fn data_folder_in_use_or_of_another_node_or_cluster_is_refused_and_unharmed() {
    let mut cluster = Cluster::prepare(2);
    cluster.start_node(1);
    cluster.config_mut(2).node.data_dir = cluster.config(1).node.data_dir.clone();
    let in_use = cluster.try_start_node(2).unwrap_err();
    assert!(matches!(in_use, StartError::DataDir { .. }), "{in_use}");
    cluster.stop_node(1);
    let foreign_node = cluster.try_start_node(2).unwrap_err();
    assert!(
        matches!(foreign_node, StartError::DataDir { .. }),
        "{foreign_node}"
    );
    let own_id = cluster.config(1).node.cluster_id.clone();
    cluster.config_mut(1).node.cluster_id = plimsoll::config::new_cluster_id();
    let foreign_cluster = cluster.try_start_node(1).unwrap_err();
    assert!(
        matches!(foreign_cluster, StartError::DataDir { .. }),
        "{foreign_cluster}"
    );
    cluster.config_mut(1).node.cluster_id = own_id;
    cluster.start_node(1);
}

#[test]
fn taken_ports_are_reported_with_their_address_and_nothing_is_left_locked() {
    let mut cluster = Cluster::prepare(1);
    let listen = cluster.address(1);
    let taken = std::net::UdpSocket::bind(listen).unwrap();
    let error = cluster.try_start_node(1).unwrap_err();
    assert!(
        matches!(error, StartError::Listen { address, .. } if address == listen),
        "{error}"
    );
    drop(taken);
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = admin.local_addr().unwrap();
    cluster.config_mut(1).node.admin = address;
    let error = cluster.try_start_node(1).unwrap_err();
    assert!(
        matches!(error, StartError::Admin { address: named, .. } if named == address),
        "{error}"
    );
    drop(admin);
    cluster.start_node(1);
    cluster.wait_ready();
}

//! Who is let in and who is not, over real UDP with real certificates.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use time::{Duration, OffsetDateTime};

use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, EndpointError};
use crate::error::{ConnectError, ConnectionLost, RefusedError, close};
use crate::identity::{Alpn, Identity};
use crate::options::{Side, TransportOptions};
use crate::pki::{Authority, leaf_params};
use crate::testing::{ANYWHERE, client, node, pair, patient, within};
use crate::tls;

type Outcome = (
    Result<Connection, ConnectError>,
    Result<Connection, RefusedError>,
);

/// `who` dials `server`, where it expects node 1; what either side makes of it.
async fn knock(server: &Endpoint, who: &Credentials, alpn: Alpn) -> Outcome {
    let dialing = Endpoint::client(who, &patient()).unwrap();
    within(async {
        tokio::join!(dialing.connect(server.local_addr(), 1, alpn), async {
            server.accept().await.unwrap().identify().await
        })
    })
    .await
}

fn serve(credentials: &Credentials) -> Endpoint {
    Endpoint::server(credentials, ANYWHERE, &patient()).unwrap()
}

/// An authority without constraints, as a company's own CA may be, that signs for any cluster.
struct LooseAuthority {
    cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl LooseAuthority {
    fn create() -> LooseAuthority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let cert_pem = params.self_signed(&key).unwrap().pem();
        LooseAuthority {
            cert_pem,
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, identity: &Identity, change: fn(&mut CertificateParams)) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf_params(identity, OffsetDateTime::now_utc()).unwrap();
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Credentials::unverified(&self.cert_pem, &cert.pem(), &key.serialize_pem())
    }

    fn node(&self, cluster: &str, node: u64) -> Credentials {
        self.issue(&Identity::node(cluster, node).unwrap(), |_| {})
    }
}

#[tokio::test]
async fn both_sides_learn_who_the_other_is() {
    let pair = within(pair(&patient())).await;
    let [one, two] = &pair.endpoints;
    assert_eq!(pair.dialing.identity(), one.identity());
    assert_eq!(pair.accepting.identity(), two.identity());
    assert_eq!(pair.dialing.alpn(), Alpn::Peer);
    assert_eq!(pair.accepting.alpn(), Alpn::Peer);
    assert_eq!(pair.accepting.remote_address(), two.local_addr());
}

#[tokio::test]
async fn a_client_is_let_in_as_a_client() {
    let authority = Authority::create("blue").unwrap();
    let server = serve(&node(&authority, 1));
    let (dialed, accepted) = knock(&server, &client(&authority, "cli"), Alpn::Client).await;
    assert_eq!(dialed.unwrap().identity().node_id(), Some(1));
    let accepted = accepted.unwrap();
    assert_eq!(
        accepted.identity(),
        &Identity::client("blue", "cli").unwrap()
    );
    assert_eq!(accepted.alpn(), Alpn::Client);
}

#[tokio::test]
async fn a_node_may_speak_as_a_client() {
    let authority = Authority::create("blue").unwrap();
    let server = serve(&node(&authority, 1));
    let (dialed, accepted) = knock(&server, &node(&authority, 2), Alpn::Client).await;
    assert!(dialed.is_ok());
    assert_eq!(accepted.unwrap().identity().node_id(), Some(2));
}

#[tokio::test]
async fn a_client_certificate_is_no_peer() {
    let authority = Authority::create("blue").unwrap();
    let server = serve(&node(&authority, 1));
    let (dialed, accepted) = knock(&server, &client(&authority, "cli"), Alpn::Peer).await;
    assert!(matches!(accepted, Err(RefusedError::ClientAsPeer { .. })));
    let Err(ConnectError::Refused { reason, .. }) = dialed else {
        panic!("{dialed:?}");
    };
    let ConnectionLost::ClosedByPeer { code, reason } = reason else {
        panic!("{reason:?}");
    };
    assert_eq!(code, close::CLIENT_AS_PEER);
    assert_eq!(reason, "client \"cli\" may not speak the peer protocol");
}

#[tokio::test]
async fn certificates_of_a_foreign_ca_are_refused_by_the_dialing_side() {
    let server = serve(&node(&Authority::create("blue").unwrap(), 1));
    let stranger = node(&Authority::create("blue").unwrap(), 2);
    let (dialed, accepted) = knock(&server, &stranger, Alpn::Peer).await;
    let complaint = dialed.unwrap_err().to_string();
    assert!(
        complaint.contains("not issued by the cluster's CA"),
        "{complaint}"
    );
    assert!(matches!(accepted, Err(RefusedError::Handshake { .. })));
}

#[tokio::test]
async fn certificates_of_a_foreign_ca_are_refused_by_the_accepting_side() {
    let blue = Authority::create("blue").unwrap();
    let issued = Authority::create("blue").unwrap().issue_node(2).unwrap();
    // It trusts our CA, and shows what another one issued.
    let stranger = Credentials::unverified(blue.cert_pem(), &issued.cert_pem, &issued.key_pem);
    let server = serve(&node(&blue, 1));
    let (dialed, accepted) = knock(&server, &stranger, Alpn::Peer).await;
    let complaint = accepted.unwrap_err().to_string();
    assert!(
        complaint.contains("not issued by the cluster's CA"),
        "{complaint}"
    );
    assert!(
        matches!(dialed, Err(ConnectError::Refused { .. })),
        "{dialed:?}"
    );
}

#[tokio::test]
async fn a_foreign_cluster_under_the_same_ca_is_refused() {
    let ca = LooseAuthority::create();
    // The dialing side expects node 1 of its own cluster; only one that shows the name it is asked for comes as far as being judged.
    let both = ca.issue(&Identity::node("red", 1).unwrap(), |_| {});
    let server = serve(&both);
    let (dialed, accepted) = knock(&server, &ca.node("blue", 2), Alpn::Peer).await;
    let complaint = dialed.unwrap_err().to_string();
    assert!(complaint.contains("node-1.blue.plimsoll"), "{complaint}");
    assert!(matches!(accepted, Err(RefusedError::Handshake { .. })));
}

#[tokio::test]
async fn a_foreign_cluster_that_dials_by_our_name_is_refused_and_told() {
    let ca = LooseAuthority::create();
    let server = serve(&ca.node("blue", 1));
    let refused = dial_raw(&server, &ca.node("red", 2), true).await;
    assert_eq!(
        refused.0,
        ConnectionLost::ClosedByPeer {
            code: close::FOREIGN_CLUSTER,
            reason: "the certificate is of cluster \"red\", this is cluster \"blue\"".to_owned(),
        }
    );
    assert!(matches!(refused.1, RefusedError::ForeignCluster { .. }));
}

#[tokio::test]
async fn who_shows_no_certificate_is_refused() {
    let authority = Authority::create("blue").unwrap();
    let server = serve(&node(&authority, 1));
    let refused = dial_raw(&server, &node(&authority, 2), false).await;
    let complaint = refused.1.to_string();
    assert!(
        complaint.contains("no certificate was shown"),
        "{complaint}"
    );
    let told = refused.0.to_string();
    assert!(told.contains("no certificate was shown"), "{told}");
}

/// Dials without the care of [`Endpoint::connect`]: by the server's own name, with or without a certificate. How it ended on either side.
async fn dial_raw(
    server: &Endpoint,
    who: &Credentials,
    show: bool,
) -> (ConnectionLost, RefusedError) {
    let builder = rustls::ClientConfig::builder_with_provider(tls::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(who.roots());
    let mut crypto = if show {
        builder
            .with_client_auth_cert(who.chain(), who.key())
            .unwrap()
    } else {
        builder.with_no_client_auth()
    };
    crypto.alpn_protocols = vec![Alpn::Peer.as_bytes().to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(crypto).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(patient().for_quinn(Side::Dialing, true)));
    let endpoint = quinn::Endpoint::client(ANYWHERE).unwrap();
    let name = server.identity().dns_name();
    let dial = async {
        let connecting = endpoint.connect_with(config, server.local_addr(), &name);
        match connecting.unwrap().await {
            Ok(connection) => connection.closed().await.into(),
            Err(error) => error.into(),
        }
    };
    let accept = async { server.accept().await.unwrap().identify().await };
    let (lost, refused) = within(async { tokio::join!(dial, accept) }).await;
    (lost, refused.unwrap_err())
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_either_side() {
    let ca = LooseAuthority::create();
    let expire = |params: &mut CertificateParams| {
        params.not_after = OffsetDateTime::now_utc() - Duration::minutes(1);
    };
    let expired = |node| ca.issue(&Identity::node("blue", node).unwrap(), expire);

    let server = serve(&ca.node("blue", 1));
    let (dialed, accepted) = knock(&server, &expired(2), Alpn::Peer).await;
    let complaint = accepted.unwrap_err().to_string();
    assert!(complaint.contains("an expired certificate"), "{complaint}");
    let told = dialed.unwrap_err().to_string();
    assert!(told.contains("an expired certificate"), "{told}");

    let server = serve(&expired(1));
    let (dialed, _) = knock(&server, &ca.node("blue", 2), Alpn::Peer).await;
    let complaint = dialed.unwrap_err().to_string();
    assert!(complaint.contains("an expired certificate"), "{complaint}");
}

#[tokio::test]
async fn another_node_at_the_address_is_not_taken_for_the_one_expected() {
    let authority = Authority::create("blue").unwrap();
    let server = serve(&node(&authority, 3));
    let (dialed, accepted) = knock(&server, &node(&authority, 2), Alpn::Peer).await;
    assert!(
        matches!(dialed, Err(ConnectError::NotThatNode { node: 1, .. })),
        "{dialed:?}"
    );
    assert!(accepted.is_err());
}

#[tokio::test]
async fn a_wildcard_certificate_is_not_taken_for_a_node() {
    let ca = LooseAuthority::create();
    let server = serve(&ca.issue(&Identity::node("blue", 3).unwrap(), |params| {
        let wildcard = "*.blue.plimsoll".try_into().unwrap();
        params.subject_alt_names.push(SanType::DnsName(wildcard));
    }));
    let (dialed, _) = knock(&server, &ca.node("blue", 2), Alpn::Peer).await;
    assert!(
        matches!(dialed, Err(ConnectError::NotThatNode { .. })),
        "{dialed:?}"
    );
}

#[tokio::test]
async fn nobody_at_the_address_is_no_answer() {
    let authority = Authority::create("blue").unwrap();
    let silent = std::net::UdpSocket::bind(ANYWHERE).unwrap();
    let options = TransportOptions {
        handshake_timeout: std::time::Duration::from_millis(200),
        ..TransportOptions::default()
    };
    let dialing = Endpoint::client(&node(&authority, 2), &options).unwrap();
    let dialed = within(dialing.connect(silent.local_addr().unwrap(), 1, Alpn::Peer)).await;
    assert!(
        matches!(dialed, Err(ConnectError::NoAnswer { node: 1, .. })),
        "{dialed:?}"
    );
}

#[tokio::test]
async fn one_who_falls_silent_during_the_handshake_is_given_up() {
    let authority = Authority::create("blue").unwrap();
    let options = TransportOptions {
        handshake_timeout: std::time::Duration::from_millis(200),
        ..patient()
    };
    let server = Endpoint::server(&node(&authority, 1), ANYWHERE, &options).unwrap();
    // Between the two stands a relay that lets the first datagram through and no other, in either direction.
    let relay = tokio::net::UdpSocket::bind(ANYWHERE).await.unwrap();
    let address = relay.local_addr().unwrap();
    let dialing = Endpoint::client(&node(&authority, 2), &patient()).unwrap();
    let knocking = tokio::spawn(async move { dialing.connect(address, 1, Alpn::Peer).await });
    let mut first = vec![0; 65_536];
    let (len, _) = within(relay.recv_from(&mut first)).await.unwrap();
    relay
        .send_to(&first[..len], server.local_addr())
        .await
        .unwrap();
    let incoming = within(server.accept()).await.unwrap();
    let refused = within(incoming.identify()).await.unwrap_err();
    assert_eq!(refused, RefusedError::TimedOut);
    knocking.abort();
}

#[tokio::test]
async fn connections_above_the_limit_are_turned_away_until_one_ends() {
    let authority = Authority::create("blue").unwrap();
    let options = TransportOptions {
        connections_max: 1,
        ..patient()
    };
    let server = Endpoint::server(&node(&authority, 1), ANYWHERE, &options).unwrap();
    let (first, first_in) = knock(&server, &node(&authority, 2), Alpn::Peer).await;
    let (first, first_in) = (first.unwrap(), first_in.unwrap());
    let dialing = Endpoint::client(&node(&authority, 3), &patient()).unwrap();
    let second = within(async {
        tokio::select! {
            second = dialing.connect(server.local_addr(), 1, Alpn::Peer) => second,
            _ = server.accept() => panic!("the second was admitted"),
        }
    })
    .await;
    let complaint = second.unwrap_err().to_string();
    assert!(complaint.contains("turned away"), "{complaint}");
    first.close(close::STOPPING, "done");
    within(first_in.closed()).await;
    // The place is free once QUIC has forgotten the connection, a few round trips after its end.
    within(async {
        while server.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let (again, again_in) = knock(&server, &node(&authority, 4), Alpn::Peer).await;
    assert!(again.is_ok() && again_in.is_ok());
}

#[tokio::test]
async fn handshakes_above_the_limit_are_turned_away_and_the_rest_prove_their_address() {
    let authority = Authority::create("blue").unwrap();
    let options = TransportOptions {
        handshakes_max: 2,
        ..patient()
    };
    let server = Endpoint::server(&node(&authority, 1), ANYWHERE, &options).unwrap();
    let address = server.local_addr();
    let dial = |n: u64| {
        let dialing = Endpoint::client(&node(&authority, n), &patient()).unwrap();
        async move { (dialing.connect(address, 1, Alpn::Peer).await, dialing) }
    };
    let first = tokio::spawn(dial(2));
    let first_in = within(server.accept()).await.unwrap();
    // One place is taken: the second comes back with its address proven, and takes the other.
    let second = tokio::spawn(dial(3));
    let second_in = within(server.accept()).await.unwrap();
    assert_eq!(server.open_connections(), 0);
    // No place is left for a third.
    let third = tokio::spawn(dial(4));
    let (third, _endpoint) = within(async {
        tokio::select! {
            third = third => third.unwrap(),
            _ = server.accept() => panic!("the third was admitted"),
        }
    })
    .await;
    assert!(
        matches!(third, Err(ConnectError::Refused { .. })),
        "{third:?}"
    );
    let (one, two) =
        within(async { tokio::join!(first_in.identify(), second_in.identify()) }).await;
    assert!(one.is_ok() && two.is_ok());
    assert!(within(first).await.unwrap().0.is_ok());
    assert!(within(second).await.unwrap().0.is_ok());
    // The places are free again.
    let (dialed, accepted) = knock(&server, &node(&authority, 5), Alpn::Peer).await;
    assert!(dialed.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_closed_endpoint_tells_the_other_side_why() {
    let pair = within(pair(&patient())).await;
    let [one, two] = pair.endpoints;
    within(one.close(close::STOPPING, "going home")).await;
    let reason = "going home".to_owned();
    let code = close::STOPPING;
    let lost = within(pair.dialing.closed()).await;
    assert_eq!(lost, ConnectionLost::ClosedByPeer { code, reason });
    assert!(one.accept().await.is_none());
    let again = one.connect(two.local_addr(), 2, Alpn::Peer).await;
    assert!(matches!(again, Err(ConnectError::Closed)));
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_made_says_why() {
    let authority = Authority::create("blue").unwrap();
    let one = node(&authority, 1);
    let taken = serve(&one);
    let again = Endpoint::server(&one, taken.local_addr(), &patient());
    let complaint = again.unwrap_err().to_string();
    assert!(
        complaint.contains(&taken.local_addr().to_string()),
        "{complaint}"
    );
    let unfit = Endpoint::server(&client(&authority, "cli"), ANYWHERE, &patient());
    assert!(matches!(unfit, Err(EndpointError::NotANode { .. })));
    let options = TransportOptions {
        mtu_max: 9_000,
        ..TransportOptions::default()
    };
    let unsound = Endpoint::client(&one, &options);
    assert!(matches!(unsound, Err(EndpointError::Options(_))));
}

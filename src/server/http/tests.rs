//! The three answers, over a real socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use super::*;
use crate::server::metrics::sample::NodeSample;

/// A node that lacks what it is told to.
struct Told(Mutex<Vec<String>>);

impl Probe for Told {
    fn missing(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn sample(&self, sample: &Sample<'_>) {
        sample.node(&NodeSample {
            disk_free_bytes: 12_345,
            ..NodeSample::default()
        });
    }

    fn lags(&self) -> Pin<Box<dyn Future<Output = Vec<PeerLag>> + Send + '_>> {
        let lag = PeerLag {
            group: 3,
            topic: "logs".to_owned(),
            partition: 1,
            peer: 2,
            entries: 7,
            bytes: 4096,
            catching_up: true,
        };
        Box::pin(async { vec![lag] })
    }
}

fn start(missing: &[&str]) -> (AdminServer, Arc<Told>) {
    let missing = missing.iter().map(|text| (*text).to_owned()).collect();
    let probe = Arc::new(Told(Mutex::new(missing)));
    let any = "127.0.0.1:0".parse().unwrap();
    let server = AdminServer::start(any, Metrics::new(), probe.clone()).unwrap();
    (server, probe)
}

/// Status line and body.
fn get(server: &AdminServer, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn livez_answers_even_when_the_node_is_not_ready() {
    let (server, _) = start(&["no leader"]);
    assert!(get(&server, "/livez").0.contains("200"));
}

#[test]
fn readyz_says_what_is_missing_until_nothing_is() {
    let (server, probe) = start(&["the controller group has no leader"]);
    let (status, body) = get(&server, "/readyz");
    assert!(status.contains("503"), "{status}");
    assert!(
        body.contains("- the controller group has no leader\n"),
        "{body}"
    );
    probe.0.lock().unwrap().clear();
    assert!(get(&server, "/readyz").0.contains("200"));
}

#[test]
fn metrics_are_sampled_at_the_scrape() {
    let (server, _) = start(&[]);
    let (status, body) = get(&server, "/metrics");
    assert!(status.contains("200"), "{status}");
    assert!(body.contains("plimsoll_disk_free_bytes 12345"), "{body}");
    let lag = "plimsoll_peer_lag_bytes{group=\"3\",topic=\"logs\",partition=\"1\",peer=\"2\"} 4096";
    assert!(body.contains(lag), "{body}");
}

#[test]
fn unknown_paths_are_not_found() {
    let (server, _) = start(&[]);
    assert!(get(&server, "/secrets").0.contains("404"));
}

#[test]
fn taken_port_is_refused() {
    let (server, probe) = start(&[]);
    let error = AdminServer::start(server.address(), Metrics::new(), probe).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
}

#[test]
fn port_is_free_again_after_the_server_is_dropped() {
    let (server, probe) = start(&[]);
    let address = server.address();
    drop(server);
    AdminServer::start(address, Metrics::new(), probe).unwrap();
}

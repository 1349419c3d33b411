//! Three nodes in this process, on ports and folders of their own, with real disks and real certificates.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use plimsoll::client::Client;
use plimsoll::config::{
    ClientConfig, Config, LimitsConfig, LogConfig, NodeAddress, NodeConfig, RaftConfig, TlsConfig,
    new_cluster_id,
};
use plimsoll::server::Node;
use tempfile::TempDir;
use transport::pki::{Authority, Issued};

const CLUSTER: &str = "test";
const READY_LIMIT: Duration = Duration::from_secs(60);

/// A running cluster; its folder goes when it is dropped.
pub(crate) struct Cluster {
    pub(crate) config: ClientConfig,
    configs: Vec<Config>,
    nodes: Vec<Option<Node>>,
    _folder: TempDir,
}

impl Cluster {
    /// Starts `nodes` nodes and waits until all are ready.
    pub(crate) fn start(nodes: u64) -> Cluster {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let authority = Authority::create(CLUSTER).unwrap();
        std::fs::write(dir.join("ca.pem"), authority.cert_pem()).unwrap();
        let cluster_id = new_cluster_id();
        let ports: Vec<(SocketAddr, SocketAddr)> = (0..nodes).map(|_| free_ports()).collect();
        let addresses: Vec<NodeAddress> = (1..=nodes)
            .zip(&ports)
            .map(|(id, (listen, _))| NodeAddress {
                id,
                address: listen.to_string(),
            })
            .collect();
        let configs: Vec<Config> = (1..=nodes)
            .zip(&ports)
            .map(|(id, (listen, admin))| Config {
                node: NodeConfig {
                    id,
                    cluster: CLUSTER.to_owned(),
                    cluster_id: cluster_id.clone(),
                    data_dir: dir.join(format!("node-{id}")),
                    listen: *listen,
                    admin: *admin,
                },
                tls: tls(
                    dir,
                    &format!("node-{id}"),
                    &authority.issue_node(id).unwrap(),
                ),
                nodes: addresses.clone(),
                raft: RaftConfig::default(),
                log: LogConfig::default(),
                limits: LimitsConfig::default(),
            })
            .collect();
        let client = tls(dir, "client", &authority.issue_client("tester").unwrap());
        let config = ClientConfig {
            cluster: CLUSTER.to_owned(),
            ca: client.ca,
            cert: client.cert,
            key: client.key,
            nodes: addresses,
        };
        let nodes = configs
            .iter()
            .map(|config| Some(Node::start(config.clone()).unwrap()))
            .collect();
        let cluster = Cluster {
            config,
            configs,
            nodes,
            _folder: folder,
        };
        for node in cluster.nodes.iter().flatten() {
            assert!(node.wait_ready(READY_LIMIT), "a node did not become ready");
        }
        cluster
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.config).await.unwrap()
    }

    /// Stops a node in good order and waits until it is gone, while the caller's tasks go on.
    pub(crate) async fn stop(mut self, node: u64) -> Cluster {
        let stopping = self.nodes[node as usize - 1].take().expect("it is running");
        let waited = tokio::task::spawn_blocking(move || {
            stopping.stop();
            stopping.wait().unwrap();
        });
        waited.await.unwrap();
        self
    }

    /// Starts a node that was stopped.
    pub(crate) fn restart(&mut self, node: u64) {
        let at = node as usize - 1;
        self.nodes[at] = Some(Node::start(self.configs[at].clone()).unwrap());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.iter().flatten() {
            node.stop();
        }
        for node in self.nodes.drain(..).flatten() {
            let _ = node.wait();
        }
    }
}

fn tls(dir: &Path, name: &str, issued: &Issued) -> TlsConfig {
    let (cert, key) = (
        dir.join(format!("{name}.pem")),
        dir.join(format!("{name}.key")),
    );
    std::fs::write(&cert, &issued.cert_pem).unwrap();
    std::fs::write(&key, &issued.key_pem).unwrap();
    TlsConfig {
        ca: dir.join("ca.pem"),
        cert,
        key,
    }
}

/// A UDP and a TCP address that nobody uses now.
fn free_ports() -> (SocketAddr, SocketAddr) {
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    (udp.local_addr().unwrap(), tcp.local_addr().unwrap())
}

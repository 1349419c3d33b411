//! A cluster of nodes in this process: certificates in a temporary folder, free ports, and the way to stop and start each node.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll::client::Client;
use plimsoll::config::{
    ClientConfig, Config, LimitsConfig, LogConfig, NetworkConfig, NodeAddress, NodeConfig,
    RaftConfig, TlsConfig, new_cluster_id,
};
use plimsoll::server::{Node, NodeFailure, StartError};
use tempfile::TempDir;
use transport::pki::{Authority, Issued};

pub(crate) const CLUSTER: &str = "test";
/// How long anything may take that takes milliseconds on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) authority: Authority,
    configs: Vec<Config>,
    nodes: Vec<Option<Node>>,
    client: ClientConfig,
    dir: TempDir,
}

impl Cluster {
    /// A running cluster of `nodes` nodes, all of them ready.
    pub(crate) fn start(nodes: u64) -> Cluster {
        Cluster::start_with(nodes, |_| {})
    }

    /// The same, each node's settings changed by `change` before.
    pub(crate) fn start_with(nodes: u64, change: impl Fn(&mut Config)) -> Cluster {
        let mut cluster = Cluster::prepare(nodes);
        cluster.configs.iter_mut().for_each(change);
        (1..=nodes).for_each(|node| cluster.start_node(node));
        cluster.wait_ready();
        cluster
    }

    /// Certificates and settings; nothing runs.
    pub(crate) fn prepare(nodes: u64) -> Cluster {
        show_log();
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(CLUSTER).unwrap();
        fs::write(dir.path().join("ca.pem"), authority.cert_pem()).unwrap();
        let tls = |name: &str, issued: &Issued| write_issued(dir.path(), name, issued);
        let addresses: Vec<NodeAddress> = free_ports(nodes)
            .into_iter()
            .zip(1..)
            .map(|(address, id)| NodeAddress {
                id,
                address: address.to_string(),
            })
            .collect();
        let cluster_id = new_cluster_id();
        let config = |id: u64| Config {
            node: NodeConfig {
                id,
                cluster: CLUSTER.to_owned(),
                cluster_id: cluster_id.clone(),
                data_dir: dir.path().join(format!("data/node-{id}")),
                listen: addresses[id as usize - 1].address.parse().unwrap(),
                admin: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                joins: false,
            },
            tls: tls(&format!("node-{id}"), &authority.issue_node(id).unwrap()),
            nodes: addresses.clone(),
            // Wide enough for three nodes and a test that share two busy cores.
            raft: RaftConfig {
                election_timeout_min_ms: 400,
                election_timeout_max_ms: 800,
                ..RaftConfig::default()
            },
            log: LogConfig {
                segment_bytes_first: 256 << 10,
                segment_bytes_max: 4 << 20,
                ..LogConfig::default()
            },
            limits: LimitsConfig {
                batch_bytes_max: 1 << 20,
                ..LimitsConfig::default()
            },
            network: NetworkConfig::default(),
        };
        let configs: Vec<Config> = (1..=nodes).map(config).collect();
        configs.iter().for_each(|config| config.validate().unwrap());
        let TlsConfig { ca, cert, key } = tls("client", &authority.issue_client("test").unwrap());
        let client = ClientConfig {
            cluster: CLUSTER.to_owned(),
            ca,
            cert,
            key,
            nodes: addresses,
            mtu_max: None,
        };
        let nodes = configs.iter().map(|_| None).collect();
        Cluster {
            authority,
            configs,
            nodes,
            client,
            dir,
        }
    }

    pub(crate) fn start_node(&mut self, node: u64) {
        self.try_start_node(node).unwrap();
    }

    pub(crate) fn try_start_node(&mut self, node: u64) -> Result<(), StartError> {
        let started = Node::start(self.config(node).clone())?;
        let old = self.nodes[node as usize - 1].replace(started);
        assert!(old.is_none(), "node {node} was running");
        Ok(())
    }

    /// Stops a node gracefully and waits until it has.
    pub(crate) fn stop_node(&mut self, node: u64) {
        let running = self.nodes[node as usize - 1].take().expect("it is running");
        running.stop();
        running.wait().unwrap();
    }

    /// The same, while the caller's tasks go on.
    pub(crate) async fn stop_meanwhile(mut self, node: u64) -> Cluster {
        let stopping = tokio::task::spawn_blocking(move || {
            self.stop_node(node);
            self
        });
        stopping.await.unwrap()
    }

    /// Certificate and settings of one more node, which joins; nothing runs. Gives its number and its address.
    pub(crate) fn prepare_another(&mut self) -> (u64, String) {
        let id = self.configs.len() as u64 + 1;
        let name = format!("node-{id}");
        let issued = self.authority.issue_node(id).unwrap();
        let mut config = self.configs[0].clone();
        config.node.id = id;
        config.node.joins = true;
        config.node.data_dir = self.dir.path().join(format!("data/{name}"));
        config.node.listen = free_ports(1)[0];
        config.tls = write_issued(self.dir.path(), &name, &issued);
        let address = config.node.listen.to_string();
        config.nodes.push(NodeAddress {
            id,
            address: address.clone(),
        });
        config.validate().unwrap();
        self.configs.push(config);
        self.nodes.push(None);
        (id, address)
    }

    /// Waits until a node that nobody stopped has ended, and says how.
    pub(crate) async fn ends_by_itself(&mut self, node: u64) -> Result<(), NodeFailure> {
        let running = self.nodes[node as usize - 1].take().expect("it is running");
        let running = Arc::new(running);
        let waited = Arc::clone(&running);
        let ended = tokio::task::spawn_blocking(move || waited.wait());
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(ended) => ended.unwrap(),
            Err(_) => {
                // Else the thread that waits for it would wait for ever.
                running.stop();
                panic!("node {node} does not end by itself");
            }
        }
    }

    pub(crate) fn wait_ready(&self) {
        for node in self.nodes.iter().flatten() {
            assert!(node.wait_ready(PATIENCE), "{node:?} does not become ready");
        }
    }

    pub(crate) fn config(&self, node: u64) -> &Config {
        &self.configs[node as usize - 1]
    }

    pub(crate) fn config_mut(&mut self, node: u64) -> &mut Config {
        &mut self.configs[node as usize - 1]
    }

    pub(crate) fn node(&self, node: u64) -> &Node {
        self.nodes[node as usize - 1]
            .as_ref()
            .expect("it is running")
    }

    pub(crate) fn address(&self, node: u64) -> SocketAddr {
        self.config(node).node.listen
    }

    pub(crate) fn group_dir(&self, node: u64, group: u64) -> PathBuf {
        self.config(node)
            .node
            .data_dir
            .join("groups")
            .join(group.to_string())
    }

    pub(crate) fn client_config(&self) -> &ClientConfig {
        &self.client
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.client).await.unwrap()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Cluster {
    /// All at once: one after the other, each would first hand its leaderships to the next.
    fn drop(&mut self) {
        self.nodes.iter().flatten().for_each(Node::stop);
        self.nodes.clear();
    }
}

/// What the nodes log is shown with a test that fails.
fn show_log() {
    let level = std::env::var("PLIMSOLL_LOG")
        .ok()
        .and_then(|level| level.parse().ok());
    let subscriber =
        tracing_subscriber::fmt().with_max_level(level.unwrap_or(tracing::Level::INFO));
    // Fails for all tests of the process but the first.
    let _ = subscriber.with_test_writer().try_init();
}

fn write_issued(dir: &Path, name: &str, issued: &Issued) -> TlsConfig {
    let path = |end: &str| dir.join(format!("{name}.{end}"));
    fs::write(path("pem"), &issued.cert_pem).unwrap();
    fs::write(path("key"), &issued.key_pem).unwrap();
    TlsConfig {
        ca: dir.join("ca.pem"),
        cert: path("pem"),
        key: path("key"),
    }
}

/// Addresses nobody listens on at the moment, all different.
pub(crate) fn free_ports(count: u64) -> Vec<SocketAddr> {
    let sockets: Vec<UdpSocket> = (0..count)
        .map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    sockets
        .iter()
        .map(|socket| socket.local_addr().unwrap())
        .collect()
}

//! A cluster of real processes: `plimsoll init`, then one `plimsoll serve` a node, started, paused, killed and started again.
//!
//! Owns folders, ports and processes, and the relays between them where asked for. Knows nothing of records. Processes still alive
//! when it is dropped are killed, by their own handles.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use plimsoll::config::{ClientConfig, Config, NodeAddress};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::relay::Relays;

/// How long a node may take to start and to find a leader, on a loaded machine. An upper guard, not a promise.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often a state that only another process can change is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Where the next cluster of this test process looks for free ports.
static NEXT_PORT_BASE: AtomicU16 = AtomicU16::new(0);

/// What a cluster is to be like.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    /// Number of nodes.
    pub(crate) nodes: u16,
    /// Seed of the relays, if everything shall go through relays.
    pub(crate) relays: Option<u64>,
    /// Settings of all nodes, as `--set` takes them.
    pub(crate) settings: Vec<String>,
    /// Commands that run a node instead of running it directly: what follows them is the node's own.
    pub(crate) within: BTreeMap<u64, Vec<String>>,
}

/// Three (or so) nodes, each a process of its own on the loopback interface.
pub(crate) struct Cluster {
    dir: TempDir,
    setup: Setup,
    nodes: Vec<Option<Child>>,
    paused: BTreeSet<u64>,
    port_base: u16,
    relays: Option<Relays>,
}

impl Cluster {
    /// Makes certificates and configurations with `plimsoll init`, and starts every node.
    pub(crate) async fn start(nodes: u16) -> Cluster {
        Cluster::start_as(Setup {
            nodes,
            ..Setup::default()
        })
        .await
    }

    /// Makes a cluster as asked for, and starts every node.
    pub(crate) async fn start_as(setup: Setup) -> Cluster {
        let mut cluster = Cluster::make(setup);
        for node in cluster.all() {
            cluster.serve(node);
        }
        cluster.wait_ready().await;
        cluster
    }

    /// Makes a cluster as asked for; no node runs yet.
    pub(crate) fn make(setup: Setup) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let nodes = setup.nodes;
        let port_base = free_port_base(nodes);
        let made = plimsoll()
            .args(["init", &dir.path().join("cluster").to_string_lossy()])
            .args(["--nodes", &nodes.to_string()])
            .args(["--host", "127.0.0.1"])
            .args(["--port-base", &port_base.to_string()])
            .output()
            .expect("plimsoll init runs");
        assert!(
            made.status.success(),
            "plimsoll init failed: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let mut cluster = Cluster {
            dir,
            nodes: (0..nodes).map(|_| None).collect(),
            paused: BTreeSet::new(),
            port_base,
            relays: None,
            setup,
        };
        if let Some(seed) = cluster.setup.relays {
            cluster.put_relays_in_front(seed);
        }
        cluster
    }

    /// Starts a relay for each node, and writes its address into all settings instead of the node's own.
    fn put_relays_in_front(&mut self, seed: u64) {
        let configs: Vec<Config> = self
            .all()
            .into_iter()
            .map(|node| self.config(node))
            .collect();
        let relays = Relays::start(
            configs.iter().map(|config| config.node.listen).collect(),
            seed,
        );
        let put = |nodes: &mut Vec<NodeAddress>| {
            for node in nodes {
                node.address = relays.address(node.id).to_string();
            }
        };
        let write = |path: PathBuf, text: String| {
            std::fs::write(path, text).expect("settings can be written");
        };
        for mut config in configs {
            put(&mut config.nodes);
            write(self.config_file(config.node.id), config.to_toml());
        }
        let mut client =
            ClientConfig::load(&self.client_file()).expect("the client.toml that init wrote");
        put(&mut client.nodes);
        write(self.client_file(), client.to_toml());
        self.relays = Some(relays);
    }

    /// The relays, in a cluster that has them.
    pub(crate) fn relays(&self) -> &Relays {
        self.relays.as_ref().expect("this cluster has relays")
    }

    /// Numbers of all nodes.
    pub(crate) fn all(&self) -> Vec<u64> {
        (1..=self.nodes.len() as u64).collect()
    }

    /// Folder made by `plimsoll init`.
    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// The client's settings.
    pub(crate) fn client_file(&self) -> PathBuf {
        self.home().join("client.toml")
    }

    /// Data folder of a node.
    pub(crate) fn data_dir(&self, node: u64) -> PathBuf {
        self.config(node).node.data_dir
    }

    fn config(&self, node: u64) -> Config {
        Config::load(&self.config_file(node), &[]).expect("the settings of a node can be read")
    }

    fn config_file(&self, node: u64) -> PathBuf {
        self.home().join(format!("node-{node}.toml"))
    }

    /// Starts one node, which must not be running. Its log goes to a file in the cluster's folder, appended.
    pub(crate) fn serve(&mut self, node: u64) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_file(node))
            .expect("a log file");
        let mut command = match self.setup.within.get(&node).map(Vec::as_slice) {
            Some([program, arguments @ ..]) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(env!("CARGO_BIN_EXE_plimsoll"));
                command.stdin(Stdio::null());
                command
            }
            _ => plimsoll(),
        };
        command.arg("serve").arg(self.config_file(node));
        for setting in &self.setup.settings {
            command.args(["--set", setting]);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("plimsoll serve starts");
        let slot = &mut self.nodes[node as usize - 1];
        assert!(slot.is_none(), "node {node} runs already");
        *slot = Some(child);
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&mut self, node: u64) {
        self.kill_all(&[node]);
    }

    /// SIGKILL to all of these as nearly at once as can be, and waits until they are gone.
    pub(crate) fn kill_all(&mut self, nodes: &[u64]) {
        let mut dying: Vec<Child> = nodes.iter().map(|&node| self.take(node)).collect();
        for child in &mut dying {
            child.kill().expect("SIGKILL can be sent to a child");
        }
        for child in &mut dying {
            child.wait().expect("a killed child can be reaped");
        }
    }

    /// SIGTERM; the exit status of the node's graceful stop.
    pub(crate) fn stop(&mut self, node: u64) -> std::process::ExitStatus {
        self.signal(node, Signal::TERM);
        let mut child = self.take(node);
        child.wait().expect("a stopped child can be reaped")
    }

    /// SIGSTOP: the node does nothing until it is resumed, and does not know.
    pub(crate) fn pause(&mut self, node: u64) {
        self.signal(node, Signal::STOP);
        self.paused.insert(node);
    }

    /// SIGCONT.
    pub(crate) fn resume(&mut self, node: u64) {
        self.signal(node, Signal::CONT);
        self.paused.remove(&node);
    }

    /// Process id of a node that runs.
    pub(crate) fn pid(&self, node: u64) -> Pid {
        let child = self.nodes[node as usize - 1].as_ref();
        Pid::from_child(child.expect("the node runs"))
    }

    fn signal(&self, node: u64, signal: Signal) {
        kill_process(self.pid(node), signal).expect("a child can be sent a signal");
    }

    fn take(&mut self, node: u64) -> Child {
        self.paused.remove(&node);
        let child = self.nodes[node as usize - 1].take();
        child.expect("the node runs")
    }

    /// Waits until a node that cannot go on has ended by itself; its exit status.
    pub(crate) async fn wait_for_end(&mut self, node: u64) -> std::process::ExitStatus {
        let until = Instant::now() + READY_WITHIN;
        let mut tick = tokio::time::interval(POLL);
        let mut child = self.take(node);
        loop {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return status;
            }
            if Instant::now() >= until {
                drop(child.kill());
                drop(child.wait());
                panic!("node {node} does not end:\n{}", self.log_of(node));
            }
            tick.tick().await;
        }
    }

    /// Whether the process of a node that was started still runs.
    pub(crate) fn is_alive(&mut self, node: u64) -> bool {
        let child = self.nodes[node as usize - 1]
            .as_mut()
            .expect("it was started");
        child.try_wait().expect("a child can be asked").is_none()
    }

    /// From the next start on, `node` is run by this command.
    pub(crate) fn run_within(&mut self, node: u64, command: Vec<String>) {
        self.setup.within.insert(node, command);
    }

    /// Numbers of the nodes that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        (1..=self.nodes.len() as u64)
            .filter(|&node| self.nodes[node as usize - 1].is_some())
            .collect()
    }

    /// Waits until every node that runs, and is not paused, says on `/readyz` that it serves.
    pub(crate) async fn wait_ready(&mut self) {
        let until = Instant::now() + READY_WITHIN;
        let mut tick = tokio::time::interval(POLL);
        for node in self.running() {
            while !self.paused.contains(&node) {
                let (status, body) = self.get(node, "/readyz").unwrap_or_default();
                if status == 200 {
                    break;
                }
                let child = self.nodes[node as usize - 1].as_mut().expect("it runs");
                if let Some(status) = child.try_wait().expect("a child can be asked") {
                    panic!("node {node} ended with {status}:\n{}", self.log_of(node));
                }
                assert!(
                    Instant::now() < until,
                    "node {node} is not ready: {status} {body}\n{}",
                    self.log_of(node)
                );
                tick.tick().await;
            }
        }
    }

    /// A GET on the admin port of a node: status and body; `None` when nobody answers.
    pub(crate) fn get(&self, node: u64, path: &str) -> Option<(u16, String)> {
        let port = self.port_base + 10 * (node as u16 - 1) + 1;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: node\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        let body = answer.split_once("\r\n\r\n")?.1.to_owned();
        Some((status, body))
    }

    /// The last lines a node wrote to its log, for a failing test's message.
    pub(crate) fn log_of(&self, node: u64) -> String {
        let text = self.whole_log_of(node);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// Everything a node wrote to its log, in all its lives.
    pub(crate) fn whole_log_of(&self, node: u64) -> String {
        std::fs::read_to_string(self.log_file(node)).unwrap_or_default()
    }

    fn log_file(&self, node: u64) -> PathBuf {
        self.dir.path().join(format!("node-{node}.log"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            drop(child.kill());
        }
        for child in self.nodes.iter_mut().flatten() {
            drop(child.wait());
        }
        if std::thread::panicking() {
            for node in 1..=self.nodes.len() as u64 {
                eprintln!("--- log of node {node}\n{}", self.log_of(node));
            }
        }
    }
}

/// The binary under test.
pub(crate) fn plimsoll() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_remove("PLIMSOLL_CLIENT").stdin(Stdio::null());
    command
}

/// Runs `plimsoll log verify` on a node's folder and returns what it printed; panics if it found anything wrong.
pub(crate) fn verify(data_dir: &Path) -> String {
    let done = plimsoll()
        .args(["log", "verify"])
        .arg(data_dir)
        .output()
        .expect("plimsoll log verify runs");
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        done.status.success(),
        "plimsoll log verify {}: {said}{}",
        data_dir.display(),
        String::from_utf8_lossy(&done.stderr)
    );
    said
}

/// A base whose ports, UDP and TCP, are free for that many nodes. Bases of concurrent tests differ.
fn free_port_base(nodes: u16) -> u16 {
    loop {
        let turn = NEXT_PORT_BASE.fetch_add(1, Ordering::Relaxed);
        let slot = (std::process::id() + 7 * u32::from(turn)) % 200;
        // Below the ports that the system gives out: those are for clients and relays, also while a killed node is away.
        let base = 10_000 + 100 * slot as u16;
        let free = (0..nodes).all(|node| {
            let port = base + 10 * node;
            UdpSocket::bind(("127.0.0.1", port)).is_ok()
                && TcpListener::bind(("127.0.0.1", port + 1)).is_ok()
        });
        if free {
            return base;
        }
    }
}

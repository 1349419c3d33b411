//! A cluster of real processes: `plimsoll init`, then one `plimsoll serve` a node, started, killed and started again.
//!
//! Owns folders, ports and processes. Knows nothing of records. Processes still alive when it is dropped are killed, by
//! their own handles.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a node may take to start and to find a leader, on a loaded machine. An upper guard, not a promise.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often a state that only another process can change is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// Where the next cluster of this test process looks for free ports.
static NEXT_PORT_BASE: AtomicU16 = AtomicU16::new(0);

/// Three (or so) nodes, each a process of its own on the loopback interface.
pub(crate) struct Cluster {
    dir: TempDir,
    nodes: Vec<Option<Child>>,
    port_base: u16,
}

impl Cluster {
    /// Makes certificates and configurations with `plimsoll init`, and starts every node.
    pub(crate) fn start(nodes: u16) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
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
            port_base,
        };
        for node in 1..=u64::from(nodes) {
            cluster.serve(node);
        }
        cluster.wait_ready();
        cluster
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
        let config = plimsoll::config::Config::load(&self.config_file(node), &[])
            .expect("the settings that init wrote can be read");
        config.node.data_dir
    }

    fn config_file(&self, node: u64) -> PathBuf {
        self.home().join(format!("node-{node}.toml"))
    }

    /// Starts one node, which must not be running. Its log goes to a file in the cluster's folder, appended.
    pub(crate) fn serve(&mut self, node: u64) {
        let slot = &mut self.nodes[node as usize - 1];
        assert!(slot.is_none(), "node {node} runs already");
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.path().join(format!("node-{node}.log")))
            .expect("a log file");
        let child = plimsoll()
            .arg("serve")
            .arg(self.dir.path().join(format!("cluster/node-{node}.toml")))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("plimsoll serve starts");
        *slot = Some(child);
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&mut self, node: u64) {
        let mut child = self.nodes[node as usize - 1]
            .take()
            .expect("the node to be killed runs");
        child.kill().expect("SIGKILL can be sent to a child");
        child.wait().expect("a killed child can be reaped");
    }

    /// SIGTERM; the exit status of the node's graceful stop.
    pub(crate) fn stop(&mut self, node: u64) -> std::process::ExitStatus {
        let mut child = self.nodes[node as usize - 1]
            .take()
            .expect("the node to be stopped runs");
        let id = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM)
            .expect("SIGTERM can be sent to a child");
        child.wait().expect("a stopped child can be reaped")
    }

    /// Numbers of the nodes that run.
    pub(crate) fn running(&self) -> Vec<u64> {
        (1..=self.nodes.len() as u64)
            .filter(|&node| self.nodes[node as usize - 1].is_some())
            .collect()
    }

    /// Waits until every running node says on `/readyz` that it serves.
    pub(crate) fn wait_ready(&mut self) {
        let until = Instant::now() + READY_WITHIN;
        for node in self.running() {
            loop {
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
                pause();
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
        let path = self.dir.path().join(format!("node-{node}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().flatten() {
            drop(child.kill());
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

/// Lets a moment pass before another process is looked at again.
pub(crate) fn pause() {
    std::thread::park_timeout(POLL);
}

/// A base whose ports, UDP and TCP, are free for that many nodes. Bases of concurrent tests differ.
fn free_port_base(nodes: u16) -> u16 {
    loop {
        let turn = NEXT_PORT_BASE.fetch_add(1, Ordering::Relaxed);
        let spread = (std::process::id() % 150) as u16;
        let base = 20_000 + (spread * 40 + turn * 6_100 + turn * 40) % 20_000;
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

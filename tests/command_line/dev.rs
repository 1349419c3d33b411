//! `plimsoll dev` as a child process on free ports, and client commands against it.

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// The binary under test, free of what the environment would have it do.
pub(crate) fn plimsoll() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plimsoll"));
    command.env_remove("PLIMSOLL_CLIENT").env_remove("RUST_LOG");
    command
}

/// A node in a process of its own; killed when dropped.
pub(crate) struct Served(pub(crate) Child);

impl Drop for Served {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running cluster; killed when dropped.
pub(crate) struct Dev {
    dir: tempfile::TempDir,
    process: Child,
}

impl Dev {
    /// Makes a cluster on ports that were free a moment ago, and waits for the greeting.
    pub(crate) fn start(nodes: u16) -> Dev {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("cluster");
        let mut made = plimsoll();
        made.arg("init")
            .arg(&home)
            .args(["--nodes", &nodes.to_string()]);
        let made = made
            .args(["--port-base", &free_port_base(nodes).to_string()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let process = spawn(&home);
        Dev { dir, process }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.dir.path().join("cluster")
    }

    /// Makes one more node and starts it; gives its number and its address.
    pub(crate) fn another_node(&self) -> (u64, String, Served) {
        let made = plimsoll()
            .args(["init", "--add-node", "-o", "json"])
            .arg(self.home())
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let told: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap();
        let mut serve = plimsoll();
        serve.arg("serve").arg(told["settings"].as_str().unwrap());
        let served = Served(serve.stderr(Stdio::null()).spawn().unwrap());
        let address = told["address"].as_str().unwrap().to_owned();
        (told["node"].as_u64().unwrap(), address, served)
    }

    /// A command that knows the cluster.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = plimsoll();
        command
            .args(arguments)
            .env("PLIMSOLL_CLIENT", self.home().join("client.toml"));
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        let command = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        let mut stdin = running.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that fails early reads none of it.
        let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = running.wait_with_output().unwrap();
        feeder.join().unwrap();
        output
    }

    /// Runs a command that must succeed, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str], input: &[u8]) -> String {
        let output = self.run(arguments, input);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks the cluster to stop, as a service manager would; it must end well.
    pub(crate) fn stop(&mut self) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.process.wait().unwrap();
        assert!(status.success(), "{status:?}");
    }

    /// Starts it again in the same folder.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(&self.home());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Both fail if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts `plimsoll dev` in a folder that has a cluster, and waits until it says that it runs.
fn spawn(home: &std::path::Path) -> Child {
    let mut command = plimsoll();
    command.args(["dev", "-o", "json", "--data"]).arg(home);
    let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut greeting = String::new();
    BufReader::new(process.stdout.take().unwrap())
        .read_line(&mut greeting)
        .unwrap();
    assert!(greeting.contains("\"client\""), "no greeting: {greeting:?}");
    process
}

/// A base from which the ports of so many nodes are free. Other tests look at the same time, hence the random beginning.
fn free_port_base(nodes: u16) -> u16 {
    let is_free = |port: u16| {
        UdpSocket::bind(("127.0.0.1", port)).is_ok()
            && std::net::TcpListener::bind(("127.0.0.1", port + 1)).is_ok()
    };
    let mut random = fastrand::Rng::new();
    std::iter::repeat_with(|| random.u16(10_000..30_000))
        .take(1000)
        .find(|base| (0..nodes).all(|node| is_free(base + 10 * node)))
        .expect("some ports are free")
}

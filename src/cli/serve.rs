//! `plimsoll serve`: one node, until it is told to stop.
//!
//! Owns the signals: the first SIGTERM or SIGINT stops gracefully, the second at once. Must not know what a node does
//! between start and stop. `dev` runs several nodes by the same hand.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use plimsoll::config::Config;
use plimsoll::server::{Node, NodeFailure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::filter::LevelFilter;

use super::output::Failure;

/// Run one node
#[derive(Args)]
pub(crate) struct Serve {
    /// Settings of the node, such as node-1.toml made by `plimsoll init`
    config: PathBuf,
    /// Override one setting; the environment does the same, as PLIMSOLL_RAFT_HEARTBEAT_MS=20
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl Serve {
    pub(crate) fn run(self) -> Result<(), Failure> {
        super::log_to_stderr(LevelFilter::INFO, LevelFilter::INFO);
        let config = Config::load(&self.config, &self.set)?;
        let node = config.node.clone();
        let running = Running::start(vec![config])?;
        tracing::info!(node = node.id, cluster = %node.cluster, listen = %node.listen, admin = %node.admin, "serving");
        running.until_stopped()
    }
}

/// Nodes that run in this process, each on threads of its own.
pub(crate) struct Running {
    nodes: Vec<Arc<Node>>,
}

impl Running {
    /// Starts all of them, or none.
    pub(crate) fn start(configs: Vec<Config>) -> Result<Self, Failure> {
        allow_open_files();
        let mut nodes = Vec::new();
        for config in configs {
            let id = config.node.id;
            let node = Node::start(config)
                .map_err(|error| Failure::Message(format!("node {id} did not start: {error}")))?;
            nodes.push(Arc::new(node));
        }
        Ok(Self { nodes })
    }

    pub(crate) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    /// Waits for a signal, or for the first node that fails; then stops what still runs and waits for that.
    pub(crate) fn until_stopped(self) -> Result<(), Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (ended, mut ends) = mpsc::unbounded_channel();
        for node in &self.nodes {
            let (node, ended) = (node.clone(), ended.clone());
            std::thread::spawn(move || {
                let _ = ended.send(node.wait());
            });
        }
        drop(ended);
        runtime.block_on(async {
            let mut signals = Signals::new()?;
            let mut failure = None;
            let mut stopping = false;
            loop {
                tokio::select! {
                    end = ends.recv() => match end {
                        Some(Ok(())) => {}
                        Some(Err(error)) => failure = failure.or(Some(error)),
                        None => break,
                    },
                    () = signals.next() => {
                        if stopping {
                            return Err(Failure::Message("stopped at once; what was acked is safe".to_owned()));
                        }
                        tracing::info!("stopping; a second signal stops at once");
                    }
                }
                stopping = true;
                self.nodes.iter().for_each(|node| node.stop());
            }
            failure.map_or(Ok(()), |failure: NodeFailure| Err(failure.into()))
        })
    }
}

/// Raises the limit of open files as far as this process may: every replica keeps two open, and the usual soft limit of 1024 is soon met.
fn allow_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = limit.current, "the limit of open files cannot be raised");
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let interrupt = signal(SignalKind::interrupt())?;
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self {
            interrupt,
            terminate,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

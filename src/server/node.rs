//! A node from start to stop: its threads, in the order they come up and go down.
//!
//! Owns the network thread, a runtime of one thread on which everything between sockets and replicas runs; the disk and prepare threads
//! belong to `replica` and `segment-store`, the admin thread to `http`. Must not know requests or frames.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::error::{NodeFailure, StartError};
use super::http::AdminServer;
use super::metrics::Metrics;
use super::network::{self, Network, Prepared};
use super::probe::{self, NodeProbe};
use super::shared::Shared;
use crate::config::Config;

/// Between two looks at whether the node is ready.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long the blocking tasks of a stopped node may take to end.
const TASKS_WITHIN: Duration = Duration::from_secs(1);

/// A running node. Dropping it stops it gracefully, and waits for that.
pub struct Node {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// How the network thread ended, once it has.
    ended: Arc<Ended>,
    thread: Mutex<Option<JoinHandle<()>>>,
    admin: AdminServer,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("id", &self.shared.config.node.id)
            .finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Ended {
    how: Mutex<Option<Result<(), NodeFailure>>>,
    told: Condvar,
}

impl Ended {
    fn tell(&self, how: Result<(), NodeFailure>) {
        self.how
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(how);
        self.told.notify_all();
    }

    /// Waits until it is told. Holds no lock afterwards: the thread tells once more as it goes.
    fn wait(&self) -> Result<(), NodeFailure> {
        let how = self.how.lock().unwrap_or_else(PoisonError::into_inner);
        let how = self.told.wait_while(how, |how| how.is_none());
        let how = how.unwrap_or_else(PoisonError::into_inner);
        how.clone().expect("waited for")
    }
}

/// Tells of the thread's end even when that is a panic.
struct TellAtEnd(Arc<Ended>);

impl Drop for TellAtEnd {
    fn drop(&mut self) {
        self.0.tell(Err(NodeFailure::Bug));
    }
}

impl Node {
    /// Locks the data directory, recovers the logs, binds the ports and joins the cluster. Returns when the node listens; it serves as
    /// soon as a majority of the cluster does the same (see `ready`).
    ///
    /// # Errors
    /// `StartError`, which says what to do; nothing is left running.
    pub fn start(config: Config) -> Result<Node, StartError> {
        let metrics = Metrics::new();
        let prepared = network::prepare(config, metrics.clone())?;
        let (fs, data_dir, admin) = (
            prepared.fs(),
            prepared.data_dir_path(),
            prepared.admin_address(),
        );
        let (stop, stopped) = watch::channel(false);
        let ended = Arc::new(Ended::default());
        let (thread, shared) = start_network(prepared, stopped, &ended)?;
        let probe = NodeProbe {
            shared: Arc::clone(&shared),
            fs,
            data_dir,
        };
        match AdminServer::start(admin, metrics, Arc::new(probe)) {
            Ok(admin) => Ok(Node {
                shared,
                stop,
                ended,
                thread: Mutex::new(Some(thread)),
                admin,
            }),
            Err(source) => {
                stop.send_replace(true);
                // It has logged what it had to say.
                let _ = thread.join();
                let address = admin;
                Err(StartError::Admin { address, source })
            }
        }
    }

    /// Whether the node takes part: the controller has a leader, and every group that belongs here is open and knows its leader.
    pub fn ready(&self) -> bool {
        probe::missing(&self.shared).is_empty()
    }

    /// Waits until `ready`, at most `limit`; says whether it is.
    pub fn wait_ready(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.ready() {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        true
    }

    /// The address of the admin port.
    pub fn admin_address(&self) -> std::net::SocketAddr {
        self.admin.address()
    }

    /// Asks for a graceful stop and returns at once: leaderships go to other nodes, logs are synced, connections closed. Asking twice is
    /// harmless.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    /// Blocks until the node has stopped, after `stop` or by a failure of its own.
    ///
    /// # Errors
    /// `NodeFailure` when nobody asked it to stop. The process should end with status 1.
    pub fn wait(&self) -> Result<(), NodeFailure> {
        let how = self.ended.wait();
        if let Some(thread) = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            let _ = thread.join();
        }
        how
    }
}

/// Starts the network thread, and waits until the node listens.
fn start_network(
    prepared: Prepared,
    stopped: watch::Receiver<bool>,
    ended: &Arc<Ended>,
) -> Result<(JoinHandle<()>, Arc<Shared>), StartError> {
    let (started, start) = mpsc::channel();
    let tell = TellAtEnd(Arc::clone(ended));
    let thread = std::thread::Builder::new()
        .name("network".to_owned())
        .spawn(move || {
            let tell = tell;
            let runtime = match tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
            {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = started.send(Err(StartError::Thread(error)));
                    return;
                }
            };
            let how = runtime.block_on(async {
                match Network::start(prepared).await {
                    Ok(network) => {
                        // Whoever starts a node waits for this.
                        let _ = started.send(Ok(network.shared()));
                        network.run(stopped).await
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                        Ok(())
                    }
                }
            });
            runtime.shutdown_timeout(TASKS_WITHIN);
            tell.0.tell(how);
        });
    let thread = thread.map_err(StartError::Thread)?;
    match start.recv() {
        Ok(Ok(shared)) => Ok((thread, shared)),
        Ok(Err(error)) => {
            // It ends by itself after that, and has nothing more to say.
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(StartError::Bug),
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
        if let Err(error) = self.wait() {
            tracing::error!(%error, "the node had failed before it was dropped");
        }
    }
}

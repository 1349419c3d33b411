//! What runs on the network thread: the endpoint, the replicas' loop, every handler; made in order and taken down in reverse.
//!
//! Must not know requests or frames.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use segment_store::fs::{Fs, RealFs};
use segment_store::{
    Bar, Boot, DataDir, DataDirError, LoadMemory, LogOptions, Memory, Preparer, PreparerOptions,
};
use tokio::sync::{Semaphore, mpsc, watch};
use transport::{Credentials, Endpoint, TransportOptions, close};

use super::error::{NodeFailure, StartError};
use super::metrics::Metrics;
use super::peer::{Expelled, Outgoing, Peers};
use super::producer_ids::ProducerIds;
use super::reconcile::Leftovers;
use super::repair::{self, Repairs, Scrubber};
use super::shared::{LOAD_BYTES_MAX, Shared};
use super::{accept, mover, produce, reconcile, transfer};
use crate::config::{self, Config, NodeConfig};
use crate::controller::{
    CONTROLLER_GROUP, CONTROLLER_VOTERS_MAX, ControllerMachine, ControllerView,
    PARTITIONS_PER_TOPIC_MAX,
};
use crate::raft;
use crate::replica::{
    self, Acks, Durability, GroupSpec, LoopConfig, MailboxLimits, OpenError, Pacer, Poisoned,
    ReplicaConfig,
};
use crate::wire::BatchCaps;

/// Snapshots come no more often than this, however little is retained.
const SNAPSHOT_BYTES_MIN: u64 = 1 << 20;
/// How long a graceful stop may take before it is cut short; nothing acked depends on its end.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// How long the connections' ends may take to reach the other sides.
const CLOSE_WITHIN: Duration = Duration::from_millis(300);
/// Bytes of commands to the controller that may wait, besides batches.
const COMMAND_BYTES: u64 = 1 << 20;
/// How long nothing must have happened in a group before its replicas rest.
const REST_AFTER_MS: u64 = 1_000;
/// Streams a peer may open besides one per group, and a client besides what its producers and consumers need.
const EXTRA_STREAMS: u32 = 64;
/// Streams a client may open: enough to produce to every partition of the widest topic and to read all of them.
const STREAMS_MAX_CLIENT: u32 = 2 * PARTITIONS_PER_TOPIC_MAX + EXTRA_STREAMS;

/// What is settled before any thread of the node runs.
pub(super) struct Prepared {
    config: Config,
    metrics: Metrics,
    credentials: Credentials,
    fs: Arc<dyn Fs>,
    data_dir: Arc<DataDir>,
    boot: Boot,
}

/// Reads the certificates and locks the data directory.
pub(super) fn prepare(config: Config, metrics: Metrics) -> Result<Prepared, StartError> {
    let tls = &config.tls;
    let credentials = Credentials::load(&tls.ca, &tls.cert, &tls.key)
        .map_err(|error| StartError::Credentials(error.to_string()))?;
    let (identity, node) = (credentials.identity(), &config.node);
    if identity.cluster() != node.cluster || identity.node_id() != Some(node.id) {
        return Err(StartError::Credentials(format!(
            "{} is the certificate of {identity}, the configuration is of node {} of cluster \"{}\"; set tls.cert and tls.key to that node's",
            tls.cert.display(),
            node.id,
            node.cluster,
        )));
    }
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let data_dir = DataDir::open(
        Arc::clone(&fs),
        &node.data_dir,
        config.cluster_id(),
        node.id,
    )
    .map_err(|error| unusable(&node.data_dir, &error))?;
    let boot = data_dir.memory().begin_boot(&config.founders());
    let boot = boot.map_err(|error| unusable(&node.data_dir, &error))?;
    Ok(Prepared {
        config,
        metrics,
        credentials,
        fs,
        data_dir: Arc::new(data_dir),
        boot,
    })
}

impl Prepared {
    pub(super) fn fs(&self) -> Arc<dyn Fs> {
        Arc::clone(&self.fs)
    }

    pub(super) fn data_dir_path(&self) -> PathBuf {
        self.config.node.data_dir.clone()
    }

    pub(super) fn admin_address(&self) -> SocketAddr {
        self.config.node.admin
    }
}

/// The running half of a node that lives on the network thread.
pub(super) struct Network {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    /// Tells of a broken disk; closed when the replicas' loop has ended.
    poisoned: mpsc::UnboundedReceiver<Poisoned>,
    /// Ends with the network.
    _scrubber: Scrubber,
    /// Tells that another node refuses this one.
    expelled: mpsc::UnboundedReceiver<Expelled>,
    memory: Memory,
    boot: Boot,
}

impl Network {
    /// Binds the port, starts the replicas, opens the controller's group, and begins to accept.
    pub(super) async fn start(prepared: Prepared) -> Result<Network, StartError> {
        let Prepared {
            config,
            metrics,
            credentials,
            fs,
            data_dir,
            boot,
        } = prepared;
        let endpoint = listen(&config, &credentials)?;
        let leftovers = Leftovers::find(&data_dir);
        let leftovers =
            leftovers.map_err(|fault| unusable(&config.node.data_dir, &fault.into()))?;
        let memory = data_dir.memory();
        let (peers, expelled) = peers(&config, &endpoint, &data_dir, &boot)?;
        let (fatal, poisoned) = mpsc::unbounded_channel();
        let (damage, damaged) = mpsc::unbounded_channel();
        let replicas = replica::spawn(
            loop_config(&config, &metrics, fs, data_dir, fatal, damage)?,
            Arc::new(Outgoing(Arc::clone(&peers))),
        )
        .map_err(StartError::Thread)?;
        peers.attach(replicas.clone());
        let view = ControllerView::default();
        let damaged_controller = match replicas.open(controller(&boot.founders, &view)).await {
            Ok(_) => None,
            Err(OpenError::Damaged { group, .. }) => Some(group),
            Err(error) => return Err(StartError::Controller(error.to_string())),
        };
        let produce_bytes = produce::budget(&config.limits);
        let shared = Arc::new(Shared {
            founders: boot.founders.clone(),
            config,
            replicas,
            view,
            peers,
            metrics,
            producer_ids: ProducerIds::default(),
            produce_bytes: Arc::new(Semaphore::new(produce_bytes)),
            load_memory: LoadMemory::new(LOAD_BYTES_MAX),
            clients: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            repairs: Repairs::new(),
            reconciled: reconcile::channel(),
        });
        repair::start(&shared, damaged_controller, damaged);
        let scrubber = Scrubber::start(&shared).map_err(StartError::Thread)?;
        tokio::spawn(accept::accept(Arc::clone(&shared), endpoint.clone()));
        tokio::spawn(reconcile::reconcile(Arc::clone(&shared), leftovers));
        tokio::spawn(transfer::spread(Arc::clone(&shared)));
        tokio::spawn(mover::run(Arc::clone(&shared)));
        let NodeConfig {
            id: node,
            cluster,
            listen,
            ..
        } = &shared.config.node;
        tracing::info!(node, cluster, %listen, "the node listens");
        Ok(Network {
            shared,
            endpoint,
            poisoned,
            _scrubber: scrubber,
            expelled,
            memory,
            boot,
        })
    }

    pub(super) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Runs until asked to stop, or until the machine breaks a promise.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), NodeFailure> {
        let node = self.shared.config.node.id;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            poisoned = self.poisoned.recv() => {
                tracing::error!(node, ?poisoned, "the replicas cannot go on; the node stops at once");
                return Err(poisoned.map_or(NodeFailure::Bug, |poisoned| NodeFailure::Fault(poisoned.to_string())));
            }
            Some(expelled) = self.expelled.recv() => return self.leave_for_good(expelled),
        }
        tracing::info!(node, "the node is stopping");
        if tokio::time::timeout(STOP_WITHIN, self.shared.replicas.shutdown())
            .await
            .is_err()
        {
            tracing::warn!(
                node,
                "the stop takes too long and is cut short; nothing acked is lost by that"
            );
        }
        // The others are told at once; whether they have heard it is worth a moment, not more: they may be dialing again already.
        let told = self.endpoint.close(close::STOPPING, "the node is stopping");
        let _ = tokio::time::timeout(CLOSE_WITHIN, told).await;
        tracing::info!(node, "the node has stopped");
        Ok(())
    }
}

/// The controller's group, which began with the first few of the founders.
pub(super) fn controller(founders: &[u64], view: &ControllerView) -> GroupSpec {
    let voters = founders.iter().copied().take(CONTROLLER_VOTERS_MAX);
    GroupSpec {
        group: CONTROLLER_GROUP,
        voters: voters.collect(),
        others: Vec::new(),
        moved: false,
        preferred: founders.first().copied(),
        state_machine: Some(Box::new(ControllerMachine::new(view.clone()))),
    }
}

impl Network {
    /// Another node has shown this one the door: it must not come back with this data directory.
    fn leave_for_good(&self, expelled: Expelled) -> Result<(), NodeFailure> {
        let node = self.shared.config.node.id;
        let bar = match &expelled {
            Expelled::Refused(_) => Bar::Refused,
            Expelled::Removed => Bar::Removed,
        };
        if let Err(error) = self.memory.bar(&self.boot, bar) {
            tracing::error!(node, %error, "the data directory cannot be marked as of no more use");
        }
        match expelled {
            Expelled::Refused(reason) => {
                tracing::error!(
                    node,
                    reason,
                    "the node stops at once and must not be started again"
                );
                Err(NodeFailure::Refused(reason))
            }
            Expelled::Removed => {
                tracing::warn!(
                    node,
                    "the node was removed from the cluster and stops; its data directory can be deleted"
                );
                Ok(())
            }
        }
    }
}

fn listen(config: &Config, credentials: &Credentials) -> Result<Endpoint, StartError> {
    let options = TransportOptions {
        connections_max: config.limits.connections_max as usize,
        streams_max_peer: config.limits.partitions_max + EXTRA_STREAMS,
        streams_max_client: STREAMS_MAX_CLIENT,
        ..TransportOptions::default()
    };
    let mtu_max = u16::try_from(config.network.mtu_max).unwrap_or(u16::MAX);
    let options = options.with_mtu_max(mtu_max);
    let address = config.node.listen;
    Endpoint::server(credentials, address, &options).map_err(|error| StartError::Listen {
        address,
        reason: error.to_string(),
    })
}

/// The other nodes, and the word of any of them that refuses this one.
fn peers(
    config: &Config,
    endpoint: &Endpoint,
    data_dir: &DataDir,
    boot: &Boot,
) -> Result<(Arc<Peers>, mpsc::UnboundedReceiver<Expelled>), StartError> {
    let own = Peers::greeting(
        config.cluster_id(),
        config.node.id,
        data_dir.replica(),
        boot,
    );
    let (expel, expelled) = mpsc::unbounded_channel();
    let peers = Peers::new(config, endpoint.clone(), own, data_dir.memory(), expel);
    let peers = peers.map_err(|error| unusable(&config.node.data_dir, &error))?;
    Ok((peers, expelled))
}

fn unusable(path: &Path, error: &DataDirError) -> StartError {
    StartError::DataDir {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

/// The settings of the replicas' loop. `fatal` is told when a disk breaks a promise, and closed when the loop ends.
fn loop_config(
    config: &Config,
    metrics: &Metrics,
    fs: Arc<dyn Fs>,
    data_dir: Arc<DataDir>,
    fatal: mpsc::UnboundedSender<Poisoned>,
    damage: mpsc::UnboundedSender<u64>,
) -> Result<LoopConfig, StartError> {
    let limits = &config.limits;
    let pool = Preparer::start(
        Arc::clone(&fs),
        &data_dir.pool_dir(),
        PreparerOptions::default(),
    );
    let preparer = pool.map_err(|error| StartError::DataDir {
        path: data_dir.pool_dir(),
        reason: format!("cannot prepare segment files: {error}"),
    })?;
    let batch_caps = BatchCaps {
        payload_bytes_max: limits.batch_bytes_max as usize,
        records_bytes_max: limits.batch_bytes_max as usize,
    };
    Ok(LoopConfig {
        node: config.node.id,
        cluster: config.cluster_id(),
        fs,
        data_dir,
        raft: raft::Config {
            election_timeout_min_ms: config.raft.election_timeout_min_ms,
            election_timeout_max_ms: config.raft.election_timeout_max_ms,
            heartbeat_ms: config.raft.heartbeat_ms,
            in_flight_bytes_max: config.raft.in_flight_bytes_max,
            catch_up_lag_bytes: config.raft.catch_up_lag_bytes,
            catch_up_in_flight_bytes_max: config.raft.catch_up_in_flight_bytes_max,
            rest_after_ms: Some(REST_AFTER_MS),
            ..raft::Config::new(config.node.id, fastrand::u64(..))
        },
        replica: ReplicaConfig {
            batch_caps,
            pacer: Pacer::new(config.raft.catch_up_bytes_per_s),
            ..retaining(config.log.retention_bytes)
        },
        mailbox: MailboxLimits {
            // What handlers admit, by their own budget, must fit; commands come on top.
            proposal_bytes_max: limits.produce_in_flight_bytes_max + COMMAND_BYTES,
            ..MailboxLimits::default()
        },
        log: LogOptions {
            segment_bytes_max: config.log.segment_bytes_max,
            segment_bytes_first: config.log.segment_bytes_first,
            payload_bytes_max: limits.batch_bytes_max as usize,
            ahead_bytes_max: ahead_bytes_max(config),
            past_cache_bytes_min: past_cache_bytes_min(config),
            ..LogOptions::default()
        },
        acks: acks(config),
        preparer: Some(preparer),
        meters: metrics.meters(),
        on_damage: Box::new(move |group| {
            // Fails only if the node is past caring.
            let _ = damage.send(group);
        }),
        on_fatal: Box::new(move |poisoned| {
            // Fails only if the node is past caring.
            let _ = fatal.send(poisoned);
        }),
    })
}

/// How far ahead blocks are written: it is syncs that gain by it, so not at all where nobody waits for them.
fn ahead_bytes_max(config: &Config) -> u64 {
    match config.log.durability {
        config::Durability::Fsync => LogOptions::default().ahead_bytes_max,
        config::Durability::PageCache => 0,
    }
}

/// From what length on a write may go past the page cache. Where acks do not wait for the device, writes that are soon done have no reason to;
/// long ones cost less that way.
fn past_cache_bytes_min(config: &Config) -> u64 {
    match config.log.durability {
        config::Durability::Fsync => LogOptions::default().past_cache_bytes_min,
        config::Durability::PageCache => 256 << 10,
    }
}

/// When acks of this node go out. Sooner than one expects of a log is worth a word.
fn acks(config: &Config) -> Acks {
    let durability = match config.log.durability {
        config::Durability::Fsync => Durability::Fsync,
        config::Durability::PageCache => {
            tracing::warn!(
                node = config.node.id,
                "log.durability is page-cache: this node acknowledges what is written and not yet synced; a power cut may take it"
            );
            Durability::PageCache
        }
    };
    Acks {
        durability,
        machine_start: machine_start(),
    }
}

/// The number of the machine's present start. Where the kernel tells none, each start of a node is taken for one of the machine.
fn machine_start() -> u128 {
    let told = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let told = told.ok().and_then(|id| {
        let digits = id.trim().replace('-', "");
        u128::from_str_radix(&digits, 16).ok()
    });
    told.unwrap_or_else(|| fastrand::u128(..))
}

/// Replicas that keep `bytes` of a partition at least (0: everything), and take snapshots often enough for that.
fn retaining(bytes: u64) -> ReplicaConfig {
    let defaults = ReplicaConfig::new(CONTROLLER_GROUP);
    if bytes == 0 {
        return defaults;
    }
    let every = (bytes / 2).clamp(SNAPSHOT_BYTES_MIN, defaults.snapshot_every_bytes);
    ReplicaConfig {
        retention_bytes: Some(bytes),
        snapshot_every_bytes: every,
        ..defaults
    }
}

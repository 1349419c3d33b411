//! Damaged groups of this node: closed, repaired from the other nodes, opened again; and the search for damage that nobody has met yet.
//!
//! What to ask whom is decided in `replica`; here it is asked. Must not know frames. On the repair and scrub walks.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use segment_store::Scrub;
use tokio::sync::{Notify, Semaphore, mpsc};

use super::network;
use super::shared::Shared;
use crate::controller::CONTROLLER_GROUP;
use crate::replica::{OpenError, Removal, RepairAnswer, RepairHandle, RepairStep, Wanted};

/// Groups that ask at a time: each holds one answer in memory.
const ASKING_MAX: usize = 4;
/// Longest pause between two looks at a repair, so that a stop of the node is noticed.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Read at a time by the scrub: acks wait for the disk meanwhile.
const SCRUB_STEP_BYTES: usize = 256 << 10;
/// Pause between two passes, and between two looks for something to read.
const SCRUB_PAUSE: Duration = Duration::from_secs(10);

/// What the parts of a node that meet damage share with the one that deals with it.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Poked when a group may be opened again.
    pub(super) reopen: Notify,
    asking: Semaphore,
    /// Groups that a task drives.
    driven: Mutex<BTreeSet<u64>>,
}

impl Repairs {
    pub(super) fn new() -> Repairs {
        Repairs {
            reopen: Notify::new(),
            asking: Semaphore::new(ASKING_MAX),
            driven: Mutex::default(),
        }
    }

    fn begin(&self, group: u64) -> bool {
        let mut driven = self.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.insert(group)
    }

    fn end(&self, group: u64) {
        let mut driven = self.driven.lock().unwrap_or_else(PoisonError::into_inner);
        driven.remove(&group);
    }
}

/// Starts to wait for groups whose log turns out damaged, with the first one if there is one already.
pub(super) fn start(
    shared: &Arc<Shared>,
    first: Option<u64>,
    damaged: mpsc::UnboundedReceiver<u64>,
) {
    if let Some(group) = first {
        begin(shared, group);
    }
    tokio::spawn(watch(Arc::clone(shared), damaged));
}

/// Closes every group whose log turns out damaged while it runs, and has it repaired.
async fn watch(shared: Arc<Shared>, mut damaged: mpsc::UnboundedReceiver<u64>) {
    while let Some(group) = damaged.recv().await {
        if shared.is_stopping() || shared.replicas.get(group).is_none() {
            // Met by several at once: it is closed already.
            continue;
        }
        tracing::error!(
            group,
            "the log of a group is damaged; the replica is closed until it is repaired"
        );
        shared.metrics.damage_found();
        shared.replicas.distrust(group);
        shared.peers.close_group(group);
        if let Err(error) = shared.replicas.close(group, Removal::Nothing).await {
            tracing::error!(group, %error, "a damaged group cannot be closed");
            continue;
        }
        open_again(&shared, group).await;
    }
}

/// Opens a group, or has it done by whoever opens such groups.
async fn open_again(shared: &Arc<Shared>, group: u64) {
    if group != CONTROLLER_GROUP {
        shared.repairs.reopen.notify_one();
        return;
    }
    let spec = network::controller(&shared.founders, &shared.view);
    match shared.replicas.open(spec).await {
        Ok(_) | Err(OpenError::ShuttingDown) => {}
        Err(OpenError::Damaged { .. }) => begin(shared, group),
        Err(error) => {
            tracing::error!(group, %error, "the controller's group cannot be opened again; stop this node, and follow what the message says");
        }
    }
}

/// Repairs a group that opening found damaged, on a task of its own.
pub(super) fn begin(shared: &Arc<Shared>, group: u64) {
    if !shared.repairs.begin(group) {
        return;
    }
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let whole = drive(&shared, group).await;
        shared.repairs.end(group);
        if whole {
            shared.replicas.end_repair(group);
            shared.metrics.repaired();
            tracing::info!(group, "a damaged log is whole again; the group is opened");
            // Boxed: opening may begin another repair.
            Box::pin(open_again(&shared, group)).await;
        }
    });
}

/// Asks for what is missing until nothing is. False if the node stops, the group is gone or the disk fails.
async fn drive(shared: &Arc<Shared>, group: u64) -> bool {
    let started = Instant::now();
    let now = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    while !shared.is_stopping() {
        let Some(repair) = shared.replicas.repair(group) else {
            return false;
        };
        let (peers, at) = (shared.peers.others(), now());
        let looked = Arc::clone(&repair);
        let step = tokio::task::spawn_blocking(move || looked.next(at, &peers)).await;
        let outcome = match step {
            Ok(Ok(RepairStep::Whole)) => return true,
            Ok(Ok(RepairStep::Wait { until })) => {
                let pause = Duration::from_millis(until.saturating_sub(now()).max(1));
                tokio::time::sleep(pause.min(LOOK_EVERY)).await;
                Ok(())
            }
            Ok(Ok(RepairStep::Ask { peer, first, last })) => {
                let wanted = Wanted { group, first, last };
                ask(shared, repair, now(), peer, wanted).await
            }
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            tracing::error!(group, error, "the repair of a log cannot go on");
            return false;
        }
    }
    false
}

async fn ask(
    shared: &Arc<Shared>,
    repair: Arc<RepairHandle>,
    now: u64,
    peer: u64,
    wanted: Wanted,
) -> Result<(), String> {
    let Ok(_permit) = shared.repairs.asking.acquire().await else {
        return Ok(());
    };
    let answer = shared.peers.frames_of(peer, wanted).await;
    let bytes = match &answer {
        RepairAnswer::Frames(frames) | RepairAnswer::Committed(frames) => frames.len() as u64,
        RepairAnswer::Silence => 0,
    };
    let taken = tokio::task::spawn_blocking(move || {
        let before = repair.status().repaired_entries;
        let answered = repair.answered(now, peer, wanted.last, answer);
        answered.map(|()| repair.status().repaired_entries - before)
    });
    match taken.await {
        Ok(Ok(0)) => Ok(()),
        Ok(Ok(entries)) => {
            shared.metrics.repaired_entries(entries, bytes);
            Ok(())
        }
        Ok(Err(fault)) => Err(fault.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The thread that looks for rot. Once this is dropped it has ended: whoever starts the node again finds its folder free.
#[derive(Debug)]
pub(super) struct Scrubber {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts the thread.
    pub(super) fn start(shared: &Arc<Shared>) -> std::io::Result<Scrubber> {
        let ended = Arc::new(AtomicBool::new(false));
        let search = Search {
            shared: Arc::clone(shared),
            ended: Arc::clone(&ended),
        };
        let thread = std::thread::Builder::new().name("scrub".to_owned());
        let thread = Some(thread.spawn(move || search.run())?);
        Ok(Scrubber { ended, thread })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the search for damage panicked");
            }
        }
    }
}

/// What the thread works with.
struct Search {
    shared: Arc<Shared>,
    ended: Arc<AtomicBool>,
}

impl Search {
    /// Reads the logs of all groups, again and again, no faster than configured; ends when the node stops.
    fn run(&self) {
        let bytes_per_s = self.shared.config.log.scrub_bytes_per_s;
        if bytes_per_s == 0 {
            return;
        }
        while !self.has_ended() {
            let mut complete = true;
            for group in self.shared.replicas.groups() {
                complete &= self.read_group(group, bytes_per_s);
            }
            if complete && !self.has_ended() {
                let now = SystemTime::now().duration_since(UNIX_EPOCH);
                let now = now.map_or(0, |now| now.as_secs());
                self.shared.metrics.scrub_pass(now);
            }
            self.rest(SCRUB_PAUSE);
        }
    }

    /// One pass over a group. False if it was not finished.
    fn read_group(&self, group: u64, bytes_per_s: u64) -> bool {
        let replicas = &self.shared.replicas;
        let Some(open) = replicas.get(group) else {
            return true;
        };
        let mut scrub = Scrub::new(open.reader().clone());
        let step_bytes = usize::try_from(bytes_per_s)
            .unwrap_or(usize::MAX)
            .min(SCRUB_STEP_BYTES);
        // What it holds of a log that is deleted keeps the log's room from being given back.
        while !self.has_ended() && replicas.get(group).is_some() {
            let scrubbed = match scrub.step(step_bytes, Some(&self.shared.load_memory)) {
                Ok(scrubbed) => scrubbed,
                Err(error) => {
                    // A group that was closed meanwhile has no say any more.
                    if error.is_damage() && replicas.get(group).is_some() {
                        tracing::error!(group, %error, "the search for damage found some");
                        replicas.report_damage(group);
                    }
                    return false;
                }
            };
            self.shared.metrics.scrubbed(scrubbed.bytes);
            if scrubbed.done {
                return true;
            }
            let nanos = u128::from(scrubbed.bytes) * 1_000_000_000 / u128::from(bytes_per_s);
            let pause = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
            self.rest(pause);
        }
        false
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed) || self.shared.is_stopping()
    }

    /// Sleeps, but not longer than the node runs.
    fn rest(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.has_ended() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }
}

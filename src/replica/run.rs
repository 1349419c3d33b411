//! The loop: the only one on a node, for all its groups. Owns the replicas, their time, and the way of
//! every effect to the disk, the peers, the readers and the callers.
//!
//! A turn drains the mailbox, handles everything, then hands over what came of it: one batch to the disk
//! thread for all groups, then the messages. It must not decide anything about the log. A group that
//! has nothing to do costs an entry in a heap.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use segment_store::fs::Fs;
use segment_store::{DataDir, LogOptions, Preparer};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::beats::Beats;
use super::disk::{Acks, Disk, Durability};
use super::effects::{Input, Lane, ReplicaConfig};
use super::error::Poisoned;
use super::group::{Registry, Replicas};
use super::jobs::{DiskJob, DiskReport};
use super::mailbox::{Mail, Mailbox, MailboxLimits, Request};
use super::meters::Meters;
use super::open::{OpenedGroup, Opener};
use super::replica::Replica;
use super::running::{Caller, Running, Turn};
use super::stopping::Stopping;
use crate::raft::{self, Millis, NodeId, Role};
use crate::wire::{ApiError, Content, Envelope};

/// Mails handled in one turn at most, so that ticks are never far away.
const MAILS_PER_TURN: usize = 4096;

/// Sends messages to peers. Called by the loop alone.
pub trait Outbound: Send + Sync {
    /// Queues `envelope` for `to`. Never blocks; may drop it, and then [`Replicas::peer_unreachable`] is
    /// to be called.
    fn send(&self, to: NodeId, envelope: Envelope, lane: Lane);
}

/// What the loop of a node is made of.
pub struct LoopConfig {
    /// This node.
    pub node: NodeId,
    /// The cluster's UUID.
    pub cluster: [u8; 16],
    /// Where everything is kept.
    pub fs: Arc<dyn Fs>,
    /// The node's folder, locked.
    pub data_dir: Arc<DataDir>,
    /// Settings of the core; `node`, `seed` and `first_timeout_ms` are set per group.
    pub raft: raft::Config,
    /// Settings of the replicas; `group` is set per group.
    pub replica: ReplicaConfig,
    /// Bounds of the mailbox.
    pub mailbox: MailboxLimits,
    /// Settings of the logs.
    pub log: LogOptions,
    /// When acks of this node go out.
    pub acks: Acks,
    /// Makes segments ready; without one they are made when needed.
    pub preparer: Option<Preparer>,
    /// Measurements.
    pub meters: Meters,
    /// Called when the disk broke a promise; the process is to exit.
    pub on_fatal: Box<dyn Fn(Poisoned) + Send>,
    /// Called with a group whose log turned out damaged; it is to be closed, distrusted and opened again.
    pub on_damage: Box<dyn Fn(u64) + Send>,
}

/// Starts the loop as a task of the current tokio runtime, and the disk thread.
///
/// # Errors
/// If the thread cannot be started.
///
/// # Panics
/// Outside a tokio runtime.
pub fn spawn(config: LoopConfig, outbound: Arc<dyn Outbound>) -> io::Result<Replicas> {
    let (mailbox, mails) = Mailbox::new(config.mailbox);
    let reports = mailbox.clone();
    let report = move |done| {
        // After the loop has ended nobody needs the report.
        reports.post(Mail::Disk(done));
    };
    let disk = Disk::start(&config.fs, &config.meters, config.acks.durability, report)?;
    let opener = Opener::new(&config);
    let node_loop = NodeLoop {
        mailbox: mailbox.clone(),
        outbound,
        disk,
        running: HashMap::new(),
        timers: BinaryHeap::new(),
        dirty: Vec::new(),
        // Another one for each start.
        beats: Beats::new(&config.raft, fastrand::u64(..)),
        started: Instant::now(),
        stopping: None,
        config,
    };
    tokio::spawn(node_loop.run(mails));
    let registry = Arc::new(Registry::default());
    Ok(Replicas::new(mailbox, registry, Arc::new(opener)))
}

pub(super) struct NodeLoop {
    pub(super) config: LoopConfig,
    mailbox: Mailbox,
    outbound: Arc<dyn Outbound>,
    pub(super) disk: Disk,
    pub(super) running: HashMap<u64, Running>,
    /// (when, group), earliest first. An entry may be out of date; `Running::scheduled` knows.
    timers: BinaryHeap<Reverse<(Millis, u64)>>,
    /// Groups that took an input in this turn.
    dirty: Vec<u64>,
    /// What stands for the heartbeats of groups that rest.
    pub(super) beats: Beats,
    /// Origin of the cores' time.
    started: Instant,
    pub(super) stopping: Option<Stopping>,
}

impl NodeLoop {
    async fn run(mut self, mut mails: mpsc::UnboundedReceiver<Mail>) {
        let mut batch = Vec::new();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                biased;
                // The mailbox never closes: the loop holds a sender of its own.
                _ = mails.recv_many(&mut batch, MAILS_PER_TURN) => {}
                () = sleep_until(deadline) => {}
            }
            let mut turn = Turn::default();
            for mail in batch.drain(..) {
                self.handle(mail, &mut turn);
            }
            self.watch(&mut turn);
            self.tick();
            self.hand_over(turn);
            if self.has_stopped() {
                break;
            }
        }
        self.close().await;
    }

    pub(super) fn now(&self) -> Millis {
        u64::try_from(self.started.elapsed().as_millis()).expect("a process does not run that long")
    }

    /// When the earliest timer is due.
    fn next_deadline(&self) -> Option<Instant> {
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let timer = timer.into_iter().chain([self.beats.next_deadline()]).min();
        let timer = timer.filter(|at| *at < Millis::MAX);
        let timer = timer.map(|at| self.started + Duration::from_millis(at));
        let stop = self.stopping.as_ref().map(|stopping| stopping.deadline);
        timer.into_iter().chain(stop).min()
    }

    fn handle(&mut self, mail: Mail, turn: &mut Turn) {
        match mail {
            Mail::Request {
                group,
                request,
                reply,
                permit,
                arrived,
            } => {
                let caller = Caller {
                    reply,
                    arrived,
                    proposal: permit.is_some(),
                    _permit: permit,
                };
                self.on_request(group, request, caller);
            }
            Mail::Peer {
                from,
                envelope,
                permit,
            } => self.on_envelope(from, envelope, permit),
            Mail::PeerUnreachable(peer) => {
                let groups: Vec<u64> = self.running.keys().copied().collect();
                for group in groups {
                    self.input(group, Input::PeerUnreachable(peer));
                }
            }
            Mail::Status { group, reply } => {
                if let Some(running) = self.running.get(&group) {
                    // Who asked may have given up waiting.
                    let _ = reply.send(running.replica.status());
                }
            }
            Mail::Open(opened) => self.on_open(*opened, turn),
            Mail::Close { group, done } => self.on_close(group, done, turn),
            Mail::Disk(report) => self.on_report(report),
            Mail::Warmed { group, peer, first } => self.input(group, Input::Warmed { peer, first }),
            Mail::Damaged { group } => turn.damaged.push(group),
            Mail::Shutdown { done } => self.on_shutdown(done),
        }
    }

    /// Gives `input` to a group, if it runs here.
    pub(super) fn input(&mut self, group: u64, input: Input) {
        let now = self.now();
        if let Some(running) = self.running.get_mut(&group) {
            running.replica.vouch(now, |node| self.beats.heard_at(node));
            running.replica.handle(now, input);
            if !std::mem::replace(&mut running.dirty, true) {
                self.dirty.push(group);
            }
        }
    }

    fn on_request(&mut self, group: u64, request: Request, caller: Caller) {
        let refusal = match self.running.get(&group) {
            _ if self.stopping.is_some() => Some(ApiError::ShuttingDown),
            None => Some(ApiError::UnknownGroup),
            Some(_) => None,
        };
        if let Some(error) = refusal {
            // Who asked may have given up waiting.
            let _ = caller.reply.send(Err(error));
            return;
        }
        let running = self.running.get_mut(&group).expect("looked up above");
        let token = running.next_token;
        running.next_token += 1;
        if caller.proposal {
            self.config.meters.proposals_pending.increment(1);
        }
        running.callers.insert(token, caller);
        let input = match request {
            Request::Produce { run, head, forward } => Input::Produce {
                token,
                run,
                head,
                forward,
            },
            Request::Command { payload } => Input::Command { token, payload },
            Request::ReadIndex => Input::ReadIndex { token },
            Request::Transfer { to } => Input::Transfer { token, to },
            Request::ChangeMembership { target } => Input::ChangeMembership { token, target },
        };
        self.input(group, input);
    }

    fn on_envelope(
        &mut self,
        from: NodeId,
        mut envelope: Envelope,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        if !self.is_for_a_group(from, &mut envelope) {
            return;
        }
        let group = envelope.group;
        let Some(running) = self.running.get(&group) else {
            tracing::debug!(group, from, "a message for a group that is not open here");
            return;
        };
        let before = running.replica.disk_number();
        let input = Input::Peer {
            from,
            content: envelope.content,
            frames: envelope.frames,
        };
        self.input(group, input);
        let running = self.running.get_mut(&group).expect("it was there before");
        if let Some(permit) = permit {
            let last = running.replica.disk_number();
            if running.replica.has_unwritten() {
                // Frames that were kept go to the disk at the end of the turn, under the next number.
                running.permits.push_back((last + 1, permit));
            } else if last > before {
                running.permits.push_back((last, permit));
            }
        }
    }

    fn on_open(&mut self, opened: OpenedGroup, turn: &mut Turn) {
        let group = opened.group;
        let now = self.now();
        let mut core = raft::Config {
            node: self.config.node,
            // Different for each node, group and start.
            seed: fastrand::u64(..) ^ (self.config.node << 48) ^ group,
            ..self.config.raft.clone()
        };
        if opened.preferred && opened.restart.restored.last_index == 0 {
            core.first_timeout_ms = Some(core.heartbeat_ms);
        }
        let config = ReplicaConfig {
            group,
            ..self.config.replica.clone()
        };
        let reader = opened.files.log.reader();
        let replica = Replica::new(
            config,
            core,
            opened.restart,
            opened.machine,
            reader.clone(),
            now,
        );
        turn.jobs.push(DiskJob::Open {
            group,
            files: Box::new(opened.files),
        });
        let running = Running {
            replica,
            reader,
            watermark: opened.watermark,
            scheduled: Millis::MAX,
            dirty: true,
            fatal_told: false,
            next_token: 0,
            callers: HashMap::new(),
            permits: VecDeque::new(),
            queued: VecDeque::new(),
        };
        let before = self.running.insert(group, running);
        assert!(before.is_none(), "group {group} was opened twice");
        self.dirty.push(group);
    }

    fn on_close(&mut self, group: u64, done: oneshot::Sender<()>, turn: &mut Turn) {
        let Some(mut running) = self.running.remove(&group) else {
            // Nothing to wait for; dropping the sender says so.
            return;
        };
        if running.replica.rests() && running.replica.raft().role() == Role::Leader {
            self.beats.begin_life();
        }
        running.fail_callers(&ApiError::UnknownGroup, &self.config.meters);
        running.watermark.close();
        self.dirty.retain(|other| *other != group);
        turn.jobs.push(DiskJob::Close { group, done });
    }

    fn on_report(&mut self, report: DiskReport) {
        match report {
            DiskReport::Done { group, through } => {
                if let Some(running) = self.running.get_mut(&group) {
                    running.forget_queued(through, &self.config.meters);
                }
                self.input(group, Input::DiskDone { through });
            }
            DiskReport::BallotDurable { group, ballot } => {
                self.input(group, Input::BallotDurable(ballot));
            }
            DiskReport::Full { group, full } => {
                self.config
                    .meters
                    .disk_full
                    .set(if full { 1.0 } else { 0.0 });
                self.input(group, Input::DiskFull(full));
            }
            DiskReport::Fault { group, reason } => self.input(group, Input::Poison { reason }),
        }
    }

    /// Lets time pass for the groups whose deadline has come.
    fn tick(&mut self) {
        let now = self.now();
        while let Some(Reverse((at, group))) = self.timers.peek().copied() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(running) = self.running.get_mut(&group) else {
                continue;
            };
            if running.scheduled != at {
                continue;
            }
            running.scheduled = Millis::MAX;
            if running.replica.next_deadline() <= now {
                self.input(group, Input::Tick);
            } else if !std::mem::replace(&mut running.dirty, true) {
                // It has moved; the end of the turn schedules it again.
                self.dirty.push(group);
            }
        }
    }

    /// The end of a turn: everything that came of it leaves. The disk begins first, unless the writing is done here and at once: then
    /// the peers had better have theirs before.
    fn hand_over(&mut self, mut turn: Turn) {
        loop {
            self.gather(&mut turn);
            for group in turn.damaged.drain(..) {
                (self.config.on_damage)(group);
            }
            if self.config.acks.durability == Durability::PageCache {
                self.send(&mut turn);
            }
            let done = self.disk.submit(std::mem::take(&mut turn.jobs));
            self.send(&mut turn);
            if done.is_empty() {
                return;
            }
            for report in done {
                self.on_report(report);
            }
        }
    }

    fn send(&mut self, turn: &mut Turn) {
        let now = self.now();
        for (to, envelope, lane) in turn.sends.drain(..) {
            if !matches!(envelope.content, Content::Beat { .. }) {
                self.beats.told(now, to);
            }
            self.outbound.send(to, envelope, lane);
        }
    }

    /// Takes the effects of every group that took an input.
    fn gather(&mut self, turn: &mut Turn) {
        let now = self.now();
        for group in std::mem::take(&mut self.dirty) {
            let Some(running) = self.running.get_mut(&group) else {
                continue;
            };
            running.dirty = false;
            let effects = running.replica.take_effects(now);
            running.carry_out(group, effects, turn, &self.mailbox, &self.config.meters);
            let deadline = running.replica.next_deadline();
            if deadline < running.scheduled {
                running.scheduled = deadline;
                self.timers.push(Reverse((deadline, group)));
            }
            if let Some(reason) = running.replica.poisoned()
                && !std::mem::replace(&mut running.fatal_told, true)
            {
                let reason = reason.to_owned();
                (self.config.on_fatal)(Poisoned { group, reason });
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

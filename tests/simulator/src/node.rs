//! A node of the simulated cluster: a disk that outlives processes, and the process that runs on it, if one does.
//!
//! Owns the order of a turn, which is that of the shipped loop: it drains the mailbox, handles everything, then hands over what came
//! of it, the disk's part first. Must not know when turns happen, nor what goes wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use plimsoll::raft::invariants::View;
use plimsoll::raft::{Index, Millis, NodeId, Target};
use plimsoll::replica::{Answer, DiskReport, Input};
use plimsoll::wire::{ApiError, Envelope};
use segment_store::fs::{Fs, SimFs};
use segment_store::{DataDir, Preparer, PreparerOptions};

use crate::checks::Checks;
use crate::network::Packet;
use crate::process::Process;
use crate::swarm::Swarm;
use crate::world::Micros;

pub(crate) const CLUSTER: [u8; 16] = [9; 16];
pub(crate) const DATA: &str = "/data";

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The page cache survives.
    Kill,
    /// It does not.
    PowerCut,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) client: usize,
    pub(crate) request: u64,
}

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Produce { batch: Bytes, forward: bool },
    ReadIndex,
    Command(Vec<u8>),
    Transfer(NodeId),
    Change(Target),
}

/// An answer as a client gets it.
pub(crate) type Outcome = Result<Answer, ApiError>;

/// Something in a node's mailbox.
#[derive(Debug)]
pub(crate) enum Mail {
    Packet(Packet),
    Request {
        group: u64,
        caller: Option<Caller>,
        ask: Ask,
    },
    Unreachable(NodeId),
    Warmed {
        group: u64,
        peer: NodeId,
        first: Index,
    },
    Disk(Vec<DiskReport>),
}

/// What a turn hands over.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(crate) sends: Vec<(NodeId, Envelope)>,
    pub(crate) answers: Vec<(Caller, Outcome)>,
    pub(crate) warm: Vec<(u64, NodeId, Index)>,
    /// Answers to requests for a transfer.
    pub(crate) transferred: u64,
    /// Answers to requests for a change of membership.
    pub(crate) changed: u64,
    /// States taken from a leader.
    pub(crate) installs: u64,
    /// Messages to peers that were far behind.
    pub(crate) bulk_sends: u64,
    /// Whether a replica rests at the end of the turn.
    pub(crate) resting: bool,
    /// Replicas that beats, or their absence, have woken.
    pub(crate) woken: u64,
    /// Groups in which something that was read was damaged.
    pub(crate) damaged: Vec<u64>,
    pub(crate) poisoned: bool,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) fs: SimFs,
    /// Rises with each start and each death.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    pub(crate) paused_until: Micros,
    /// Thousandths: how fast its clock runs.
    pub(crate) clock_rate: u64,
    /// The death that waits for an operation of the disk, and the number of that operation.
    pub(crate) cut: Option<(Death, u64)>,
    /// Whether the disk's room is limited now.
    pub(crate) limited: bool,
    /// Up to this operation, a sync may fail as asked for.
    pub(crate) failing_until: u64,
    /// The operation at which what is being opened began.
    pub(crate) failing_from: u64,
    pub(crate) slow_until: Micros,
    /// Until then, everything takes it a hundred times as long.
    pub(crate) crawls_until: Micros,
    /// The power goes soon after the next start.
    pub(crate) cut_after_start: bool,
    /// Groups whose log is read byte by byte before it is opened again.
    pub(crate) distrusted: BTreeSet<u64>,
}

impl Node {
    pub(crate) fn new(id: NodeId, disk_seed: u64, clock_rate: u64) -> Node {
        let fs = SimFs::new(disk_seed);
        // The directory that an operator gives a node is there before the node is.
        fs.create_dir(DATA.as_ref()).expect("the disk is empty");
        fs.sync_dir("/".as_ref()).expect("the disk is well");
        Node {
            id,
            fs,
            life: 0,
            process: None,
            paused_until: 0,
            clock_rate,
            cut: None,
            limited: false,
            failing_until: 0,
            failing_from: 0,
            slow_until: 0,
            crawls_until: 0,
            cut_after_start: false,
            distrusted: BTreeSet::new(),
        }
    }

    /// What the node's clock says.
    pub(crate) fn local(&self, now: Micros) -> Millis {
        now * self.clock_rate / 1_000_000
    }

    /// When the node's clock will say `deadline`.
    pub(crate) fn global(&self, deadline: Millis) -> Micros {
        match deadline.checked_mul(1_000_000) {
            Some(scaled) => scaled.div_ceil(self.clock_rate),
            None => Micros::MAX,
        }
    }

    /// The death that the disk has met, if it has.
    pub(crate) fn met_cut(&self) -> Option<Death> {
        let (death, at) = self.cut?;
        (self.fs.operations() >= at).then_some(death)
    }

    /// Lets the process die after `operations` more operations of its disk.
    pub(crate) fn arm(&mut self, death: Death, operations: u64) {
        let at = self.fs.operations() + operations;
        self.fs.cut_after(at);
        self.cut = Some((death, at));
    }

    /// Ends the process, now.
    pub(crate) fn die(&mut self, death: Death) {
        self.process = None;
        self.life += 1;
        self.cut = None;
        self.failing_until = 0;
        match death {
            Death::Kill => self.fs.end_process(),
            Death::PowerCut => self.fs.power_cycle(),
        }
    }

    /// Starts a process from what is on the disk.
    pub(crate) fn start(
        &mut self,
        swarm: &Swarm,
        groups: &[u64],
        seed: u64,
        now: Micros,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let process = self.open(swarm, groups, seed, now)?;
        if self.met_cut().is_some() {
            return Err("the power went".to_owned());
        }
        for (&group, running) in &process.groups {
            checks.started(self.id, group, View::of(running.replica.raft()));
        }
        self.life += 1;
        self.distrusted.clear();
        self.process = Some(process);
        Ok(())
    }

    /// What the shipped program does to open a data directory and the groups in it.
    fn open(
        &self,
        swarm: &Swarm,
        groups: &[u64],
        seed: u64,
        now: Micros,
    ) -> Result<Process, String> {
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let data_dir = DataDir::open(Arc::clone(&fs), Path::new(DATA), CLUSTER, self.id);
        let data_dir = data_dir.map_err(|error| error.to_string())?;
        let mut preparer = None;
        if swarm.preparer {
            let options = PreparerOptions {
                files_max: 3,
                ..PreparerOptions::default()
            };
            let made = Preparer::inline(Arc::clone(&fs), &data_dir.pool_dir(), options);
            preparer = Some(made.map_err(|error| error.to_string())?);
        }
        let parts = (data_dir, preparer);
        let core = swarm.core_config(self.id, seed);
        let mut process = Process::new(&fs, parts, self.distrusted.clone(), &core);
        for &group in groups {
            process.open_group(self.id, &fs, swarm, group, self.local(now))?;
        }
        Ok(process)
    }

    /// Opens a group that was created while the process runs.
    pub(crate) fn open_group(
        &mut self,
        swarm: &Swarm,
        group: u64,
        now: Micros,
        checks: &mut Checks,
    ) -> Result<(), String> {
        let (id, local) = (self.id, self.local(now));
        self.failing_from = self.fs.operations();
        let fs: Arc<dyn Fs> = Arc::new(self.fs.clone());
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        process.open_group(id, &fs, swarm, group, local)?;
        if self.met_cut().is_some() {
            return Err("the power went".to_owned());
        }
        let opened = self.process.as_ref();
        if let Some(opened) = opened.and_then(|process| process.groups.get(&group)) {
            checks.started(id, group, View::of(opened.replica.raft()));
        }
        Ok(())
    }

    /// How many times as long everything takes it.
    pub(crate) fn slower(&self, now: Micros) -> u64 {
        if self.crawls_until > now { 100 } else { 1 }
    }

    /// One turn of the loop.
    pub(crate) fn turn(&mut self, now: Micros, swarm: &Swarm, checks: &mut Checks) -> Turn {
        let (id, local) = (self.id, self.local(now));
        let mut turn = Turn::default();
        let Some(process) = &mut self.process else {
            return turn;
        };
        process.mailbox_bytes = 0;
        for mail in std::mem::take(&mut process.mailbox) {
            process.handle(id, local, mail, checks);
        }
        turn.answers.append(&mut process.refused);
        process.watch(id, local, &mut turn, checks);
        turn.woken = std::mem::take(&mut process.woken);
        let groups: Vec<u64> = process.groups.keys().copied().collect();
        for &group in &groups {
            if process.groups[&group].replica.next_deadline() <= local {
                process.input(id, local, group, Input::Tick, checks);
            }
        }
        for &group in &groups {
            process.hand_over(id, local, group, &mut turn, checks);
        }
        turn.resting = groups
            .iter()
            .any(|group| process.groups[group].replica.rests());
        process.check_memory(id, swarm);
        turn
    }

    /// When the node's next timer is due.
    pub(crate) fn next_deadline(&self) -> Micros {
        let groups = self
            .process
            .iter()
            .flat_map(|process| process.groups.values());
        let next = groups.map(|group| group.replica.next_deadline());
        let beats = self
            .process
            .iter()
            .map(|process| process.beats.next_deadline());
        let next = next.chain(beats).min();
        next.map_or(Micros::MAX, |at| self.global(at))
    }
}

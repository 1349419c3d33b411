//! A node of the simulated cluster: a disk that outlives processes, and the process that runs on it, if one does.
//!
//! Owns what the loop and the disk thread do in the shipped program: a turn drains the mailbox, handles everything, then
//! hands over what came of it, the disk's part first. Must not know when turns happen, nor what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use plimsoll::controller::{CONTROLLER_GROUP, ControllerMachine, ControllerView};
use plimsoll::raft::invariants::View;
use plimsoll::raft::{self, Index, Millis, NodeId, Role, Target};
use plimsoll::replica::{
    Answer, DiskJob, DiskReport, DiskWorker, Effect, Input, Meters, OpenError, Published,
    Repairing, Replica, ReplicaConfig, Restart, StateMachine, open_damaged, open_files,
};
use plimsoll::wire::{ApiError, Envelope, check_batch};
use segment_store::fs::{Fs, SimFs};
use segment_store::{DataDir, LogIdentity, LogReader, Preparer, PreparerOptions, UnstampedFrame};

use crate::checks::{Checks, check_durable};
use crate::network::Packet;
use crate::repair::Damaged;
use crate::swarm::{PAYLOAD_MAX, Swarm, caps};
use crate::world::Micros;

const CLUSTER: [u8; 16] = [9; 16];
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

/// The process of a node.
pub(crate) struct Process {
    pub(crate) groups: BTreeMap<u64, Group>,
    /// Groups that are being repaired.
    pub(crate) damaged: BTreeMap<u64, Damaged>,
    /// Groups whose own files sufficed to repair them.
    pub(crate) mended: Vec<u64>,
    /// Groups to be read byte by byte before they are opened.
    distrusted: BTreeSet<u64>,
    pub(crate) worker: DiskWorker,
    /// Work that the disk has not begun.
    pub(crate) jobs: Vec<DiskJob>,
    pub(crate) disk_busy: bool,
    pub(crate) retry_due: bool,
    mailbox: Vec<Mail>,
    /// Bytes of peers' frames in `mailbox`.
    pub(crate) mailbox_bytes: u64,
    /// When the next turn is.
    pub(crate) wake_at: Micros,
    callers: BTreeMap<(u64, u64), Option<Caller>>,
    /// Requests for groups that are not here.
    refused: Vec<(Caller, Outcome)>,
    next_token: u64,
    data_dir: DataDir,
    preparer: Option<Preparer>,
    seed: u64,
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Process").finish_non_exhaustive()
    }
}

/// A replica of a running process.
pub(crate) struct Group {
    pub(crate) replica: Replica,
    pub(crate) reader: LogReader,
    pub(crate) published: Published,
    pub(crate) view: Option<ControllerView>,
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
        let worker = DiskWorker::new(Arc::clone(&fs), Meters::default());
        let mut process = Process {
            groups: BTreeMap::new(),
            damaged: BTreeMap::new(),
            mended: Vec::new(),
            distrusted: self.distrusted.clone(),
            worker,
            jobs: Vec::new(),
            disk_busy: false,
            retry_due: false,
            mailbox: Vec::new(),
            mailbox_bytes: 0,
            wake_at: Micros::MAX,
            callers: BTreeMap::new(),
            refused: Vec::new(),
            next_token: 1,
            data_dir,
            preparer,
            seed,
        };
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
        let groups: Vec<u64> = process.groups.keys().copied().collect();
        for &group in &groups {
            if process.groups[&group].replica.next_deadline() <= local {
                process.input(id, local, group, Input::Tick, checks);
            }
        }
        for &group in &groups {
            process.hand_over(id, local, group, &mut turn, checks);
        }
        process.check_memory(id, swarm);
        turn
    }

    /// When the node's next timer is due.
    pub(crate) fn next_deadline(&self) -> Micros {
        let groups = self
            .process
            .iter()
            .flat_map(|process| process.groups.values());
        let next = groups.map(|group| group.replica.next_deadline()).min();
        next.map_or(Micros::MAX, |at| self.global(at))
    }
}

impl Group {
    fn new(
        config: ReplicaConfig,
        core: raft::Config,
        restart: Restart,
        reader: LogReader,
        now: Millis,
    ) -> Result<Group, String> {
        let view = (config.group == CONTROLLER_GROUP).then(ControllerView::default);
        let mut machine = view.clone().map(ControllerMachine::new);
        if let (Some(machine), Some(state)) = (&mut machine, restart.machine_state()) {
            machine.restore(state)?;
        }
        let machine = machine.map(|machine| Box::new(machine) as Box<dyn StateMachine>);
        Ok(Group {
            replica: Replica::new(config, core, restart, machine, reader.clone(), now),
            reader,
            published: Published::default(),
            view,
        })
    }
}

impl Process {
    /// Opens a group's files and starts its replica.
    fn open_group(
        &mut self,
        id: NodeId,
        fs: &Arc<dyn Fs>,
        swarm: &Swarm,
        group: u64,
        now: Millis,
    ) -> Result<(), String> {
        let dir = self.data_dir.ensure_group(group);
        let dir = dir.map_err(|error| error.to_string())?;
        let identity = LogIdentity {
            cluster: CLUSTER,
            group,
        };
        let voters = swarm.voters();
        let open = || {
            open_files(
                fs,
                &dir,
                identity,
                &swarm.log,
                self.preparer.clone(),
                &voters,
            )
        };
        let mut opened = match self.distrusted.remove(&group) {
            true => None,
            false => Some(open()),
        };
        if matches!(opened, None | Some(Err(OpenError::Damaged { .. }))) {
            let repair = open_damaged(fs, &dir, identity, &swarm.log);
            if let Some(repair) = repair.map_err(|error| error.to_string())? {
                let repairing = Repairing::new(group, repair);
                self.damaged.insert(group, Damaged::new(repairing));
                return Ok(());
            }
            self.mended.push(group);
            opened = None;
        }
        let opened = opened.unwrap_or_else(open);
        let (files, restart) = opened.map_err(|error| error.to_string())?;
        let core = swarm.core_config(id, self.seed ^ group);
        let config = swarm.replica_config(group);
        let running = Group::new(config, core, restart, files.log.reader(), now)?;
        self.groups.insert(group, running);
        let files = Box::new(files);
        self.worker.turn(vec![DiskJob::Open { group, files }]);
        Ok(())
    }

    pub(crate) fn leads(&self, group: u64) -> bool {
        let group = self.groups.get(&group);
        group.is_some_and(|group| group.replica.raft().role() == Role::Leader)
    }

    pub(crate) fn post(&mut self, mail: Mail) {
        if let Mail::Packet(packet) = &mail {
            self.mailbox_bytes += packet.frame_bytes();
        }
        self.mailbox.push(mail);
    }

    fn handle(&mut self, id: NodeId, now: Millis, mail: Mail, checks: &mut Checks) {
        match mail {
            Mail::Packet(packet) => {
                let from = packet.from;
                for envelope in packet.decode() {
                    let input = Input::Peer {
                        from,
                        content: envelope.content,
                        frames: envelope.frames,
                    };
                    self.input(id, now, envelope.group, input, checks);
                }
            }
            Mail::Request { group, caller, ask } => {
                if !self.groups.contains_key(&group) {
                    self.refused
                        .extend(caller.map(|caller| (caller, Err(ApiError::UnknownGroup))));
                    return;
                }
                let token = self.next_token;
                self.next_token += 1;
                self.callers.insert((group, token), caller);
                self.input(id, now, group, request(group, token, ask), checks);
            }
            Mail::Unreachable(peer) => {
                let groups: Vec<u64> = self.groups.keys().copied().collect();
                for group in groups {
                    self.input(id, now, group, Input::PeerUnreachable(peer), checks);
                }
            }
            Mail::Warmed { group, peer, first } => {
                self.input(id, now, group, Input::Warmed { peer, first }, checks);
            }
            Mail::Disk(reports) => {
                for report in reports {
                    let (group, input) = match report {
                        DiskReport::Done { group, through } => (group, Input::DiskDone { through }),
                        DiskReport::BallotDurable { group, ballot } => {
                            (group, Input::BallotDurable(ballot))
                        }
                        DiskReport::Full { group, full } => (group, Input::DiskFull(full)),
                        DiskReport::Fault { group, reason } => (group, Input::Poison { reason }),
                    };
                    self.input(id, now, group, input, checks);
                }
            }
        }
    }

    fn input(&mut self, id: NodeId, now: Millis, group: u64, input: Input, checks: &mut Checks) {
        // A message for a group that was created and is not open here yet.
        let Some(running) = self.groups.get_mut(&group) else {
            return;
        };
        let durable_before = running.replica.raft().durable_index();
        running.replica.handle(now, input);
        let view = View::of(running.replica.raft());
        if view.durable_index > durable_before {
            let log = self.worker.log(group).expect("an open group has files");
            check_durable(&view, log.durable_index(), &running.reader);
        }
        checks.stepped(id, group, view);
    }

    fn hand_over(
        &mut self,
        id: NodeId,
        now: Millis,
        group: u64,
        turn: &mut Turn,
        checks: &mut Checks,
    ) {
        let running = self.groups.get_mut(&group).expect("the group is open");
        let effects = running.replica.take_effects(now);
        checks.stepped(id, group, View::of(running.replica.raft()));
        let mut ballot = None;
        let mut ops = Vec::new();
        for effect in effects {
            match effect {
                Effect::Disk { number, op } => ops.push((number, op)),
                Effect::SaveBallot(newer) => ballot = Some(newer),
                Effect::Send { to, envelope, .. } => {
                    checks.sent(id, group, to, &envelope.content);
                    turn.sends.push((to, envelope));
                }
                Effect::Warm {
                    peer,
                    first,
                    bytes_max,
                } => {
                    running
                        .reader
                        .populate(first, bytes_max)
                        .expect("the disk reads well");
                    turn.warm.push((group, peer, first));
                }
                Effect::Publish(published) => {
                    let before = &running.published;
                    if !checks.published(id, group, before, &published, &running.reader) {
                        turn.damaged.push(group);
                    }
                    running.published = published;
                }
                Effect::Damaged => turn.damaged.push(group),
                Effect::Reply { token, result } => {
                    let caller = self.callers.remove(&(group, token));
                    let caller = caller.expect("a request is answered once");
                    turn.transferred += u64::from(result == Ok(Answer::Transferred));
                    turn.changed += u64::from(matches!(result, Ok(Answer::Changed { .. })));
                    if let Some(caller) = caller {
                        turn.answers.push((caller, result));
                    }
                }
            }
        }
        turn.poisoned |= running.replica.poisoned().is_some();
        if ballot.is_some() || !ops.is_empty() {
            self.jobs.push(DiskJob::Write { group, ballot, ops });
        }
    }
}

fn request(group: u64, token: u64, ask: Ask) -> Input {
    match ask {
        Ask::Produce { batch, forward } => {
            let frame = UnstampedFrame::parse(BytesMut::from(&batch[..]), PAYLOAD_MAX);
            let frame = frame.expect("the client builds whole frames");
            let head = check_batch(frame.header(), frame.payload(), group, &caps());
            Input::Produce {
                token,
                head: head.expect("the client builds whole batches"),
                frame,
                forward,
            }
        }
        Ask::ReadIndex => Input::ReadIndex { token },
        Ask::Command(payload) => Input::Command { token, payload },
        Ask::Transfer(to) => Input::Transfer { token, to },
        Ask::Change(target) => Input::ChangeMembership { token, target },
    }
}

//! The process of a node: its replicas, its disk thread, its mailbox, and what it still owes to whom.
//!
//! Owns how one input reaches a replica and how what comes of it leaves. Must not know when its turns are, nor how it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::BytesMut;
use plimsoll::controller::{CONTROLLER_GROUP, ControllerMachine, ControllerView};
use plimsoll::raft::invariants::View;
use plimsoll::raft::{self, Ballot, Millis, NodeId, Role};
use plimsoll::replica::{
    Acks, Answer, Arrived, Beats, DiskJob, DiskOp, DiskReport, DiskWorker, Durability, Effect,
    Input, Lane, Meters, OpenError, Published, Repairing, Replica, ReplicaConfig, Restart,
    StateMachine, open_damaged, open_files,
};
use plimsoll::wire::{ApiError, check_batches};
use segment_store::fs::Fs;
use segment_store::{DataDir, LogIdentity, LogReader, Preparer, UnstampedRun};

use crate::checks::{Checks, check_durable};
use crate::node::{Ask, CLUSTER, Caller, Mail, Outcome, Turn};
use crate::repair::Damaged;
use crate::swarm::{PAYLOAD_MAX, Swarm, caps};
use crate::world::Micros;

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
    pub(crate) mailbox: Vec<Mail>,
    /// Bytes of peers' frames in `mailbox`.
    pub(crate) mailbox_bytes: u64,
    /// When the next turn is.
    pub(crate) wake_at: Micros,
    /// What stands for the heartbeats of groups that rest.
    pub(crate) beats: Beats,
    /// Replicas that beats, or their absence, have woken in this turn.
    pub(crate) woken: u64,
    callers: BTreeMap<(u64, u64), Option<Caller>>,
    /// Requests for groups that are not here.
    pub(crate) refused: Vec<(Caller, Outcome)>,
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
    /// Its ballot as it was read at the start.
    pub(crate) first_ballot: Ballot,
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
        let replica = Replica::new(config, core, restart, machine, reader.clone(), now);
        Ok(Group {
            first_ballot: replica.raft().ballot(),
            replica,
            reader,
            published: Published::default(),
            view,
        })
    }
}

impl Process {
    /// A process with no group open yet.
    pub(crate) fn new(
        fs: &Arc<dyn Fs>,
        parts: (DataDir, Option<Preparer>),
        distrusted: BTreeSet<u64>,
        core: &raft::Config,
    ) -> Process {
        let (data_dir, preparer) = parts;
        let seed = core.seed;
        Process {
            worker: DiskWorker::new(Arc::clone(fs), Meters::default(), Durability::Fsync),
            groups: BTreeMap::new(),
            damaged: BTreeMap::new(),
            mended: Vec::new(),
            distrusted,
            jobs: Vec::new(),
            disk_busy: false,
            retry_due: false,
            mailbox: Vec::new(),
            mailbox_bytes: 0,
            wake_at: Micros::MAX,
            beats: Beats::new(core, seed),
            woken: 0,
            callers: BTreeMap::new(),
            refused: Vec::new(),
            next_token: 1,
            data_dir,
            preparer,
            seed,
        }
    }

    /// Opens a group's files and starts its replica.
    pub(crate) fn open_group(
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
                Acks::default(),
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

    pub(crate) fn handle(&mut self, id: NodeId, now: Millis, mail: Mail, checks: &mut Checks) {
        match mail {
            Mail::Packet(packet) => {
                let from = packet.from;
                for mut envelope in packet.decode() {
                    match self.beats.receive(now, from, &mut envelope.content) {
                        Arrived::Message => {}
                        Arrived::Beat => continue,
                        Arrived::BeatOfAnother => {
                            self.wake_those_resting_on(id, now, from, checks);
                            continue;
                        }
                    }
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

    /// The beats' part of a turn, after what has arrived was handled.
    pub(crate) fn watch(&mut self, id: NodeId, now: Millis, turn: &mut Turn, checks: &mut Checks) {
        if self.beats.next_deadline() > now {
            return;
        }
        let ticked = self.beats.tick(now);
        turn.sends.extend(ticked.beats);
        for node in ticked.silent {
            self.wake_those_resting_on(id, now, node, checks);
        }
    }

    fn wake_those_resting_on(
        &mut self,
        id: NodeId,
        now: Millis,
        node: NodeId,
        checks: &mut Checks,
    ) {
        let resting = self.groups.iter();
        let resting = resting.filter(|(_, group)| group.replica.rests_on(node));
        let resting: Vec<u64> = resting.map(|(group, _)| *group).collect();
        self.woken += resting.len() as u64;
        for group in resting {
            self.input(id, now, group, Input::Wake, checks);
        }
    }

    pub(crate) fn input(
        &mut self,
        id: NodeId,
        now: Millis,
        group: u64,
        input: Input,
        checks: &mut Checks,
    ) {
        // A message for a group that was created and is not open here yet.
        let Some(running) = self.groups.get_mut(&group) else {
            return;
        };
        let durable_before = running.replica.raft().durable_index();
        running.replica.vouch(now, |node| self.beats.heard_at(node));
        running.replica.handle(now, input);
        let view = View::of(running.replica.raft());
        if view.durable_index > durable_before {
            let durable = self.worker.durable_index(group);
            let durable = durable.expect("an open group has files");
            let spoilt = checks.is_spoilt(id, group, view.durable_index);
            check_durable(&view, durable, &running.reader, spoilt);
        }
        checks.stepped(id, group, view);
    }

    pub(crate) fn hand_over(
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
                Effect::Disk { number, op } => {
                    turn.installs += u64::from(matches!(op, DiskOp::Install { .. }));
                    ops.push((number, op));
                }
                Effect::SaveBallot(newer) => ballot = Some(newer),
                Effect::Send { to, envelope, lane } => {
                    turn.bulk_sends += u64::from(lane == Lane::Bulk);
                    checks.sent(id, group, to, &envelope.content);
                    self.beats.told(now, to);
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
            let run = UnstampedRun::parse(BytesMut::from(&batch[..]), PAYLOAD_MAX);
            let run = run.expect("the client builds whole frames");
            let head = check_batches(&run, group, &caps());
            Input::Produce {
                token,
                head: head.expect("the client builds whole batches"),
                run,
                forward,
            }
        }
        Ask::ReadIndex => Input::ReadIndex { token },
        Ask::Command(payload) => Input::Command { token, payload },
        Ask::Transfer(to) => Input::Transfer { token, to },
        Ask::Change(target) => Input::ChangeMembership { token, target },
    }
}

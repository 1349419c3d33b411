//! A node of ours as the shell around a core: its log, a disk that takes its time (or none), and the wire of the other Raft.

use plimsoll::raft::invariants::{self, View};
use plimsoll::raft::{
    AppendPlan, Ballot, ChangeError, Config, Effect, Index, LogId, Membership, Millis, NodeId,
    OwnEntry, Raft, Role, Target,
};
use raft_rs::eraftpb::Message as Wire;

use crate::disk::{Disk, DiskOp, Done, Entry, Log, Payload};
use crate::translate::{Rounds, from_wire, to_wire};

/// Size of an entry as far as windows are concerned; a window holds ten.
const ENTRY_BYTES: u64 = 100;

pub(crate) struct Ours {
    config: Config,
    core: Raft,
    pub(crate) log: Log,
    pub(crate) disk: Disk,
    /// The disk is done at once, before anything is sent.
    immediate: bool,
    rounds: Rounds,
    out: Vec<Wire>,
    /// Answers to reads: (token, index).
    pub(crate) reads: Vec<(u64, Index)>,
    pub(crate) truncations: u64,
}

impl Ours {
    /// A node that has never run, of voters 1 to `voters`, with `first` as its log.
    pub(crate) fn new(
        node: NodeId,
        voters: u64,
        first: &[Entry],
        immediate: bool,
        seed: u64,
    ) -> Ours {
        let created_with = Membership::of_voters(1..=voters);
        Ours::with_log(node, &created_with, first, immediate, seed)
    }

    /// A node that has never run, of a group that was created with that membership.
    pub(crate) fn with_log(
        node: NodeId,
        created_with: &Membership,
        first: &[Entry],
        immediate: bool,
        seed: u64,
    ) -> Ours {
        let mut log = Log::new(created_with.clone());
        log.append(1, first);
        let ballot = Ballot {
            term: first.last().map_or(0, |entry| entry.term),
            vote: None,
        };
        let config = Config {
            in_flight_bytes_max: 10 * ENTRY_BYTES,
            ..Config::new(node, seed)
        };
        Ours {
            core: Raft::new(config.clone(), log.restored(ballot), 0),
            disk: Disk::new(ballot, log.clone()),
            config,
            log,
            immediate,
            rounds: Rounds::default(),
            out: Vec::new(),
            reads: Vec::new(),
            truncations: 0,
        }
    }

    /// Crashes and starts again from what is durable, of which `commit_index` is known to be committed.
    pub(crate) fn restart(&mut self, now: Millis, commit_index: Index) -> Vec<Wire> {
        self.disk.crash();
        self.log = self.disk.log.clone();
        self.config.seed = self.config.seed.wrapping_mul(31).wrapping_add(7);
        let mut restored = self.log.restored(self.disk.ballot);
        restored.commit_index = commit_index;
        self.core = Raft::new(self.config.clone(), restored, now);
        self.rounds = Rounds::default();
        self.act(|_| {}, &[])
    }

    pub(crate) fn step(&mut self, now: Millis, wire: &Wire) -> Vec<Wire> {
        let Some((message, entries)) = from_wire(wire, &mut self.rounds) else {
            return Vec::new();
        };
        let numbered: Vec<(Index, Entry)> = (wire.index + 1..).zip(entries).collect();
        self.act(|core| core.step(now, wire.from, message), &numbered)
    }

    pub(crate) fn tick(&mut self, now: Millis) -> Vec<Wire> {
        self.act(|core| core.tick(now), &[])
    }

    pub(crate) fn step_down(&mut self, now: Millis) -> Vec<Wire> {
        self.act(|core| core.step_down(now), &[])
    }

    pub(crate) fn read(&mut self, now: Millis, token: u64) -> Vec<Wire> {
        self.act(|core| core.read_index(now, token), &[])
    }

    pub(crate) fn transfer(&mut self, now: Millis, to: NodeId) -> Vec<Wire> {
        self.act(|core| _ = core.transfer_leader(now, to), &[])
    }

    /// Proposes an entry if it leads. Returns whether it took it.
    pub(crate) fn propose(&mut self, payload: Payload) -> (bool, Vec<Wire>) {
        let Ok(id) = self.core.propose(1) else {
            return (false, Vec::new());
        };
        self.write(id, payload);
        (true, self.act(|_| {}, &[]))
    }

    /// Proposes a change of membership.
    pub(crate) fn change(
        &mut self,
        now: Millis,
        target: Target,
    ) -> (Result<LogId, ChangeError>, Vec<Wire>) {
        let mut result = Err(ChangeError::Nothing);
        let said = self.act(|core| result = core.propose_membership(now, target), &[]);
        (result, said)
    }

    /// The disk does a step, or reports one.
    pub(crate) fn work_disk(&mut self, now: Millis, report: bool) -> Vec<Wire> {
        if !report {
            self.disk.work();
            return Vec::new();
        }
        let Some(done) = self.disk.report() else {
            return Vec::new();
        };
        self.act(|core| tell(core, now, &done), &[])
    }

    fn act(&mut self, input: impl FnOnce(&mut Raft), entries: &[(Index, Entry)]) -> Vec<Wire> {
        self.input(input, entries);
        if self.immediate {
            // The time of a completion does not matter: it never moves back.
            loop {
                while self.disk.work() {}
                let Some(done) = self.disk.report() else {
                    break;
                };
                self.input(|core| tell(core, 0, &done), &[]);
            }
        }
        self.pump();
        std::mem::take(&mut self.out)
    }

    fn input(&mut self, input: impl FnOnce(&mut Raft), entries: &[(Index, Entry)]) {
        let before = View::of(&self.core);
        input(&mut self.core);
        invariants::check(&before, &View::of(&self.core));
        for effect in self.core.take_effects() {
            self.carry_out(effect, entries);
        }
    }

    fn carry_out(&mut self, effect: Effect, entries: &[(Index, Entry)]) {
        match effect {
            Effect::SaveBallot(ballot) => self.disk.submit(DiskOp::Ballot(ballot)),
            Effect::Truncate { after } => {
                self.truncations += 1;
                self.log.truncate_after(after);
                self.disk.submit(DiskOp::Truncate { after });
            }
            Effect::AppendRemote { first, last } => {
                let kept = entries.iter().filter(|(at, _)| (first..=last).contains(at));
                let kept: Vec<Entry> = kept.map(|(_, entry)| entry.clone()).collect();
                assert_eq!(kept.len() as u64, last - first + 1, "they came along");
                self.append(first, kept);
            }
            Effect::AppendOwn { id, entry } => {
                let payload = match entry {
                    OwnEntry::Noop => Payload::Noop,
                    OwnEntry::Membership(membership) => Payload::Membership(membership),
                };
                self.write(id, payload);
            }
            Effect::Send { to, message } => {
                let wire = to_wire(self.config.node, to, &message, &[], &self.rounds);
                self.out.extend(wire);
            }
            Effect::ReadReady { token, index } => self.reads.push((token, index)),
            _ => {}
        }
    }

    fn write(&mut self, id: LogId, payload: Payload) {
        let term = id.term;
        self.append(id.index, vec![Entry { term, payload }]);
    }

    fn append(&mut self, first: Index, entries: Vec<Entry>) {
        self.log.append(first, &entries);
        self.disk.submit(DiskOp::Write {
            first,
            entries,
            truncations: self.core.truncations(),
        });
    }

    /// Sends all that the windows allow.
    fn pump(&mut self) {
        if self.core.role() != Role::Leader {
            return;
        }
        for peer in self.core.membership().1.members() {
            while let Some(AppendPlan {
                first,
                last,
                bytes_max,
            }) = self.core.next_append(peer)
            {
                let last = last.min(first + (bytes_max / ENTRY_BYTES).max(1) - 1);
                let entries = self.log.slice(first, last);
                let bytes = entries.len() as u64 * ENTRY_BYTES;
                let message = self.core.sent(0, peer, last, bytes);
                let wire = to_wire(self.config.node, peer, &message, &entries, &self.rounds);
                self.out.extend(wire);
            }
        }
    }

    pub(crate) fn shortest_timeout(&self) -> Millis {
        self.config.election_timeout_min_ms
    }

    pub(crate) fn core(&self) -> &Raft {
        &self.core
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.log.slice(1, self.log.last_index())
    }
}

fn tell(core: &mut Raft, now: Millis, done: &Done) {
    match *done {
        Done::Install => unreachable!("no log is trimmed here, so nobody is offered a snapshot"),
        Done::Ballot(ballot) => core.ballot_durable(ballot),
        Done::Write { id, truncations } => core.durable(now, id, truncations),
    }
}

//! A node of the other Raft: the crate's `RawNode` on its own in-memory storage, saved before anything is sent.
//!
//! Owns the loop that the crate asks its users to write, and the election timer, which the crate would draw from the thread's own
//! randomness: here the seed decides when a node campaigns.

use fastrand::Rng;
use plimsoll::raft::{Index, Millis, NodeId, Term};
use raft_rs::eraftpb::{HardState, Message as Wire, MessageType};
use raft_rs::storage::MemStorage;
use raft_rs::{Config, GetEntriesContext, RawNode, StateRole, Storage};
use slog::Logger;

use crate::disk::Entry;
use crate::translate::{our_entry, their_entry};

/// One tick of the crate's logical clock.
pub(crate) const TICK_MS: Millis = 10;
/// Ticks for which a follower that hears its leader refuses votes: 150 ms, as `raft::Config` has it.
const ELECTION_TICKS: usize = 15;
/// Ticks between heartbeats: 50 ms.
const HEARTBEAT_TICKS: usize = 5;
/// So late does the crate campaign by itself: never.
const NEVER: usize = 1 << 40;

pub(crate) struct Theirs {
    pub(crate) raw: RawNode<MemStorage>,
    node: NodeId,
    rng: Rng,
    /// Ticks without a leader after which it campaigns; `NEVER` if only the test says when.
    patience: usize,
    timed: bool,
    entries_per_message: u64,
    /// Answers to reads: (token, index).
    pub(crate) reads: Vec<(u64, Index)>,
}

impl Theirs {
    /// A node that has never run, with `first` as its log. `timed`: it campaigns by itself.
    pub(crate) fn new(
        node: NodeId,
        voters: u64,
        first: &[Entry],
        timed: bool,
        seed: u64,
    ) -> Theirs {
        let storage = MemStorage::new_with_conf_state(((1..=voters).collect::<Vec<_>>(), vec![]));
        let entries: Vec<_> = (1..)
            .zip(first)
            .map(|(index, entry)| their_entry(index, entry))
            .collect();
        storage.wl().append(&entries).unwrap();
        let term = first.last().map_or(0, |entry| entry.term);
        storage.wl().set_hardstate(HardState {
            term,
            ..HardState::default()
        });
        let mut rng = Rng::with_seed(seed);
        // One entry a message, or as many as there are.
        let entries_per_message = if rng.bool() { 0 } else { 1 << 20 };
        let raw = raw(node, storage, entries_per_message);
        let mut theirs = Theirs {
            raw,
            node,
            rng,
            patience: NEVER,
            timed,
            entries_per_message,
            reads: Vec::new(),
        };
        theirs.draw_patience();
        theirs
    }

    /// Crashes and starts again from what is stored. `forget_commit`: the commit index is learnt anew.
    pub(crate) fn restart(&mut self, forget_commit: bool) {
        let storage = self.raw.store().clone();
        if forget_commit {
            storage.wl().mut_hard_state().commit = 0;
        }
        self.raw = raw(self.node, storage, self.entries_per_message);
        self.draw_patience();
    }

    fn draw_patience(&mut self) {
        if self.timed {
            self.patience = self.rng.usize(ELECTION_TICKS..2 * ELECTION_TICKS);
        }
    }

    /// One tick of time.
    pub(crate) fn tick(&mut self) -> Vec<Wire> {
        self.raw.tick();
        if self.raw.raft.state != StateRole::Leader
            && self.raw.raft.election_elapsed >= self.patience
        {
            self.raw.raft.election_elapsed = 0;
            self.draw_patience();
            self.raw.campaign().unwrap();
        }
        self.settle()
    }

    pub(crate) fn campaign(&mut self) -> Vec<Wire> {
        self.raw.campaign().unwrap();
        self.settle()
    }

    pub(crate) fn step(&mut self, mut wire: Wire) -> Vec<Wire> {
        if matches!(
            wire.get_msg_type(),
            MessageType::MsgReadIndex | MessageType::MsgPropose
        ) {
            // The crate takes these for local ones, which bear no term.
            wire.term = 0;
        }
        // A message that it does not want is an error, and no more than that.
        let _ = self.raw.step(wire);
        self.settle()
    }

    /// Proposes an entry if it leads. Returns whether it took it.
    pub(crate) fn propose(&mut self, data: Vec<u8>) -> (bool, Vec<Wire>) {
        let taken = self.is_leader() && self.raw.propose(Vec::new(), data).is_ok();
        (taken, self.settle())
    }

    pub(crate) fn read(&mut self, token: u64) -> Vec<Wire> {
        self.raw.read_index(token.to_be_bytes().to_vec());
        self.settle()
    }

    pub(crate) fn transfer(&mut self, to: NodeId) -> Vec<Wire> {
        self.raw.transfer_leader(to);
        self.settle()
    }

    pub(crate) fn become_follower(&mut self) -> Vec<Wire> {
        let term = self.term();
        self.raw.raft.become_follower(term, 0);
        self.settle()
    }

    /// Saves what is to be saved, then returns what is to be sent, until nothing is left to do.
    fn settle(&mut self) -> Vec<Wire> {
        let mut out = Vec::new();
        while self.raw.has_ready() {
            let mut ready = self.raw.ready();
            out.extend(ready.take_messages());
            for read in ready.take_read_states() {
                let token = read.request_ctx.as_slice().try_into().unwrap();
                self.reads.push((u64::from_be_bytes(token), read.index));
            }
            let storage = self.raw.store().clone();
            if let Some(state) = ready.hs() {
                storage.wl().set_hardstate(state.clone());
            }
            storage.wl().append(ready.entries()).unwrap();
            out.extend(ready.take_persisted_messages());
            let mut light = self.raw.advance(ready);
            if let Some(commit) = light.commit_index() {
                storage.wl().mut_hard_state().commit = commit;
            }
            out.extend(light.take_messages());
            self.raw.advance_apply();
        }
        let term = self.term();
        for wire in &mut out {
            match wire.get_msg_type() {
                MessageType::MsgAppendResponse if !wire.reject => {
                    wire.log_term = self.raw.raft.raft_log.term(wire.index).unwrap();
                }
                MessageType::MsgReadIndex => wire.term = term,
                // An extension of the crate's that ours lacks: news of the commit index on votes.
                MessageType::MsgRequestVote
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVote
                | MessageType::MsgRequestPreVoteResponse => {
                    (wire.commit, wire.commit_term) = (0, 0);
                }
                _ => {}
            }
        }
        out
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    pub(crate) fn term(&self) -> Term {
        self.raw.raft.term
    }

    pub(crate) fn commit_index(&self) -> Index {
        self.raw.raft.raft_log.committed
    }

    pub(crate) fn log(&self) -> Vec<Entry> {
        let last = self.raw.store().last_index().unwrap();
        let all = GetEntriesContext::empty(false);
        let entries = self.raw.store().entries(1, last + 1, None, all).unwrap();
        entries.iter().map(our_entry).collect()
    }
}

fn raw(node: NodeId, storage: MemStorage, size_per_message: u64) -> RawNode<MemStorage> {
    let config = Config {
        id: node,
        election_tick: ELECTION_TICKS,
        heartbeat_tick: HEARTBEAT_TICKS,
        min_election_tick: NEVER,
        max_election_tick: NEVER + 1,
        max_size_per_msg: size_per_message,
        max_inflight_msgs: 16,
        check_quorum: true,
        pre_vote: true,
        ..Config::default()
    };
    let silent = Logger::root(slog::Discard, slog::o!());
    RawNode::new(&config, storage, &silent).unwrap()
}

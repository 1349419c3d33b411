//! A cluster of cores on a network and on disks that obey the test.
//!
//! Plays the shell of each core: carries out effects, moves entries beside the messages, reports what the disk has done.
//! After every single input `raft::invariants::check` runs, and every effect is judged by `History`: a scenario that
//! passes has broken no promise on its way.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll::raft::invariants::{self, View};
use plimsoll::raft::{
    AppendPlan, Ballot, ChangeError, Config, Effect, Index, InstallPlan, LogId, Membership,
    Message, Millis, NodeId, Offer, OwnEntry, Raft, Role, Target, Term,
};

use crate::disk::{Disk, DiskOp, Done, Entry, Log, Payload};
use crate::history::History;

/// Size of every entry, in bytes, as far as windows are concerned.
pub(crate) const ENTRY_BYTES: u64 = 100;

/// Size of every state, and of the pieces it is sent in.
const STATE_BYTES: u64 = 250;
const PIECE_BYTES: u64 = 100;

/// A message under way, with the entries of an `Append`.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
    pub(crate) message: Message,
    pub(crate) entries: Vec<Entry>,
}

/// One node: its core while it runs, its log as written, its disk.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) config: Config,
    pub(crate) core: Option<Raft>,
    /// The log as the core knows it, durable or not.
    pub(crate) log: Log,
    pub(crate) disk: Disk,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) now: Millis,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) network: Vec<Packet>,
    /// Links that lose everything, as (from, to).
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    pub(crate) history: History,
    next_payload: u64,
    next_read: u64,
}

impl Cluster {
    /// A fresh group of voters 1 to `voters`.
    pub(crate) fn new(voters: u64) -> Cluster {
        let membership = Membership::of_voters(1..=voters);
        Cluster::with_logs(&membership, (1..=voters).map(|node| (node, &[][..])), 0)
    }

    /// A group whose nodes start with logs of the given terms. Entries of equal index and term are equal; entry 1 is the
    /// membership. Each node's ballot has the term `term`, or that of its last entry if that is higher, and no vote.
    pub(crate) fn with_logs<'a>(
        membership: &Membership,
        logs: impl IntoIterator<Item = (NodeId, &'a [Term])>,
        term: Term,
    ) -> Cluster {
        let mut cluster = Cluster {
            now: 1_000,
            nodes: BTreeMap::new(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            history: History::default(),
            next_payload: 1_000_000,
            next_read: 0,
        };
        for (node, terms) in logs {
            let mut log = Log::new(membership.clone());
            for (index, &term) in (1..).zip(terms) {
                let payload = if index == 1 {
                    Payload::Membership(membership.clone())
                } else {
                    Payload::Data(term * 1000 + index)
                };
                log.append(index, &[Entry { term, payload }]);
            }
            let term = term.max(terms.last().copied().unwrap_or(0));
            let disk = Disk::new(Ballot { term, vote: None }, log.clone());
            let config = Config::new(node, node);
            cluster.nodes.insert(
                node,
                Node {
                    config,
                    core: None,
                    log,
                    disk,
                },
            );
            cluster.start(node);
        }
        cluster
    }

    /// A node outside the group, empty, which knows that the group was created with voters 1 to `voters`.
    pub(crate) fn add(&mut self, node: NodeId, voters: u64) {
        let log = Log::new(Membership::of_voters(1..=voters));
        let host = Node {
            config: Config::new(node, node),
            core: None,
            log: log.clone(),
            disk: Disk::new(Ballot::default(), log),
        };
        assert!(self.nodes.insert(node, host).is_none(), "a new node");
        self.start(node);
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, node: NodeId) {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        assert!(host.core.is_none(), "node {node} runs already");
        host.config.seed = host.config.seed.wrapping_mul(31).wrapping_add(7);
        host.log = host.disk.log.clone();
        let mut restored = host.log.restored(host.disk.ballot);
        restored.suspect_tail = host.disk.suspect;
        restored.forgotten_term = host.disk.forgotten;
        host.core = Some(Raft::new(host.config.clone(), restored, self.now));
        self.act(node, &[], |_| {});
    }

    /// Kills a node: what its disk had not done is lost.
    pub(crate) fn crash(&mut self, node: NodeId) {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        host.core = None;
        host.disk.crash();
        self.history.forget_reads(node);
    }

    pub(crate) fn is_up(&self, node: NodeId) -> bool {
        self.nodes[&node].core.is_some()
    }

    pub(crate) fn core(&self, node: NodeId) -> &Raft {
        self.nodes[&node].core.as_ref().expect("the node is up")
    }

    pub(crate) fn terms(&self, node: NodeId) -> Vec<Term> {
        self.nodes[&node].log.terms()
    }

    pub(crate) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    /// The leader of the highest term that has one.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let leaders = self
            .nodes
            .iter()
            .filter_map(|(&node, host)| Some((node, host.core.as_ref()?)));
        let leaders = leaders.filter(|(_, core)| core.role() == Role::Leader);
        leaders
            .max_by_key(|(_, core)| core.term())
            .map(|(node, _)| node)
    }

    // ---- inputs ----

    /// Gives one input to a core, checks what it did, and carries out the effects. `entries` came with the input.
    pub(crate) fn act<T>(
        &mut self,
        node: NodeId,
        entries: &[(Index, Entry)],
        input: impl FnOnce(&mut Raft) -> T,
    ) -> T {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        let core = host.core.as_mut().expect("the node is up");
        let before = View::of(core);
        let result = input(core);
        let after = View::of(core);
        invariants::check(&before, &after);
        let effects = core.take_effects();
        if after.role == Role::Leader && after.commit_index > before.commit_index {
            self.check_quorum(node, after.commit_index, &before.membership.1);
            self.check_quorum(node, after.commit_index, &after.membership.1);
        }
        for effect in effects {
            self.carry_out(node, entries, effect);
        }
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        host.disk.suspect &= after.tail_suspect;
        result
    }

    fn carry_out(&mut self, node: NodeId, entries: &[(Index, Entry)], effect: Effect) {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        let truncations = host.core.as_ref().expect("the node is up").truncations();
        match effect {
            Effect::SaveBallot(ballot) => host.disk.submit(DiskOp::Ballot(ballot)),
            Effect::Truncate { after } => {
                host.log.truncate_after(after);
                host.disk.submit(DiskOp::Truncate { after });
            }
            Effect::AppendRemote { first, last } => {
                let kept = entries
                    .iter()
                    .filter(|(index, _)| (first..=last).contains(index));
                let kept: Vec<Entry> = kept.map(|(_, entry)| entry.clone()).collect();
                assert_eq!(
                    kept.len() as u64,
                    last - first + 1,
                    "the entries to keep came with the append"
                );
                host.log.append(first, &kept);
                host.disk.submit(DiskOp::Write {
                    first,
                    entries: kept,
                    truncations,
                });
            }
            Effect::KeepPiece { .. } => {}
            Effect::Install(offer) => {
                let (base, state) = (offer.base, offer.snapshot.index);
                host.log = Log::begin_anew(base, offer.membership.clone(), state);
                host.disk.submit(DiskOp::Install(offer));
            }
            Effect::AppendOwn { id, entry } => {
                let payload = match entry {
                    OwnEntry::Noop => Payload::Noop,
                    OwnEntry::Membership(membership) => Payload::Membership(membership),
                };
                self.write(
                    node,
                    id,
                    vec![Entry {
                        term: id.term,
                        payload,
                    }],
                );
            }
            Effect::Send { to, message } => {
                self.history.check_send(node, to, &message, &host.disk);
                self.network.push(Packet {
                    from: node,
                    to,
                    message,
                    entries: Vec::new(),
                });
            }
            Effect::Commit { index } => {
                self.history.check_commit(node, index, &host.log);
            }
            Effect::Role { role, term, .. } => {
                if role == Role::Leader {
                    self.history.check_leader(node, term, &host.log);
                }
            }
            Effect::ReadReady { token, index } => self.history.check_read(token, index),
            Effect::ReadFailed { token } => self.history.read_failed(token),
        }
    }

    /// P4: what a leader commits is durable on a majority of `membership` (of both sets, if joint), by the disks themselves.
    fn check_quorum(&self, leader: NodeId, index: Index, membership: &Membership) {
        let id = LogId {
            term: self.nodes[&leader]
                .log
                .term_at(index)
                .expect("committed entries are here"),
            index,
        };
        for voters in [&membership.voters, &membership.voters_outgoing] {
            let holders = voters
                .iter()
                .filter(|voter| self.nodes[voter].disk.kept(id))
                .count();
            assert!(
                voters.is_empty() || holders > voters.len() / 2,
                "{id:?} is committed, durable on {holders} (P4)"
            );
        }
    }

    /// The shell of a leader writes entries of its own.
    fn write(&mut self, node: NodeId, first: LogId, entries: Vec<Entry>) {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        let truncations = host.core.as_ref().expect("the node is up").truncations();
        host.log.append(first.index, &entries);
        host.disk.submit(DiskOp::Write {
            first: first.index,
            entries,
            truncations,
        });
    }

    /// Proposes `count` entries at `node`. Returns whether it took them.
    pub(crate) fn propose(&mut self, node: NodeId, count: u64) -> bool {
        let Ok(first) = self.act(node, &[], |core| core.propose(count)) else {
            return false;
        };
        let payloads = (self.next_payload..)
            .take(count as usize)
            .map(Payload::Data);
        let entries = payloads
            .map(|payload| Entry {
                term: first.term,
                payload,
            })
            .collect();
        self.next_payload += count;
        self.write(node, first, entries);
        true
    }

    /// Asks `node` to make the group what `voters` and `learners` say.
    pub(crate) fn change(
        &mut self,
        node: NodeId,
        voters: &[NodeId],
        learners: &[NodeId],
    ) -> Result<LogId, ChangeError> {
        let (now, target) = (
            self.now,
            Target {
                voters: voters.to_vec(),
                learners: learners.to_vec(),
            },
        );
        self.act(node, &[], |core| core.propose_membership(now, target))
    }

    /// Starts a linearizable read and returns its token; `history` judges and keeps the answer.
    pub(crate) fn read(&mut self, node: NodeId) -> u64 {
        let (now, token) = (self.now, self.next_read);
        self.next_read += 1;
        self.history.read_begins(node, token);
        self.act(node, &[], |core| core.read_index(now, token));
        token
    }

    pub(crate) fn tick(&mut self, node: NodeId) {
        let now = self.now;
        self.act(node, &[], |core| core.tick(now));
    }

    /// Lets the core of `node` send all that its windows allow.
    pub(crate) fn pump(&mut self, node: NodeId) {
        for peer in self.ids() {
            while let Some(plan) = self.core(node).next_install(peer) {
                self.send_state(node, peer, plan);
            }
            while let Some(AppendPlan {
                first,
                last,
                bytes_max,
            }) = self.core(node).next_append(peer)
            {
                let fitting = (bytes_max / ENTRY_BYTES).max(1);
                let last = last.min(first + fitting - 1);
                self.send_append(node, peer, last);
            }
        }
    }

    /// Offers `peer` the state as of what `node` has committed and durable, or sends the next piece of it.
    fn send_state(&mut self, node: NodeId, peer: NodeId, plan: InstallPlan) {
        let now = self.now;
        let offset = match plan {
            InstallPlan::Offer => {
                let offer = self.offer(node);
                return self.act(node, &[], |core| core.offer_install(peer, offer));
            }
            InstallPlan::Piece { offset } => offset,
        };
        let len = STATE_BYTES.min(offset + PIECE_BYTES) - offset;
        let message = self.act(node, &[], |core| core.install_sent(now, peer, len));
        self.network.push(Packet {
            from: node,
            to: peer,
            message,
            entries: Vec::new(),
        });
    }

    fn offer(&self, node: NodeId) -> Offer {
        let (core, log) = (self.core(node), &self.nodes[&node].log);
        let index = core.commit_index().min(core.durable_index());
        let term = log.term_at(index).expect("it is kept");
        let mut memberships = log.memberships().into_iter();
        let membership = memberships.rfind(|(at, _)| *at <= index);
        Offer {
            base: log.prev,
            snapshot: LogId { term, index },
            membership: membership.expect("one is in force at any time"),
            bytes: STATE_BYTES,
            digest: 0,
        }
    }

    /// Sends the entries from the plan for `peer` up to `last` as one append.
    pub(crate) fn send_append(&mut self, node: NodeId, peer: NodeId, last: Index) {
        let now = self.now;
        let plan = self
            .core(node)
            .next_append(peer)
            .expect("there is room to send");
        let entries = self.nodes[&node].log.slice(plan.first, last);
        let bytes = entries.len() as u64 * ENTRY_BYTES;
        let message = self.act(node, &[], |core| core.sent(now, peer, last, bytes));
        self.network.push(Packet {
            from: node,
            to: peer,
            message,
            entries,
        });
    }

    /// Delivers a packet, unless its link is cut or its receiver down.
    pub(crate) fn deliver(&mut self, packet: Packet) {
        let Packet {
            from,
            to,
            message,
            entries,
        } = packet;
        if self.cut.contains(&(from, to))
            || self.nodes.get(&to).is_none_or(|host| host.core.is_none())
        {
            return;
        }
        let first = if let Message::Append(append) = &message {
            append.prev.index + 1
        } else {
            0
        };
        let numbered: Vec<(Index, Entry)> = (first..).zip(entries).collect();
        let now = self.now;
        self.act(to, &numbered, |core| core.step(now, from, message));
    }

    /// Hands the next report of the disk to the core. Returns whether there was one.
    pub(crate) fn report(&mut self, node: NodeId) -> bool {
        let now = self.now;
        let Some(done) = self
            .nodes
            .get_mut(&node)
            .expect("a node of the cluster")
            .disk
            .report()
        else {
            return false;
        };
        match done {
            Done::Install => self.act(node, &[], |core| core.install_durable(now)),
            Done::Ballot(ballot) => self.act(node, &[], |core| core.ballot_durable(ballot)),
            Done::Write { id, truncations } => {
                self.act(node, &[], |core| core.durable(now, id, truncations));
            }
        }
        true
    }

    /// Removes the log of `node` up to and including `index`, which it has committed.
    pub(crate) fn trim(&mut self, node: NodeId, index: Index) {
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        let prev = LogId {
            term: host.log.term_at(index).expect("a kept entry"),
            index,
        };
        host.log.trim_to(prev);
        host.disk.log.trim_to(prev);
        self.act(node, &[], |core| core.set_trimmed(prev));
    }
}

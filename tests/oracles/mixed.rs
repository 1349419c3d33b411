//! Clusters of our cores and nodes of the other Raft, mixed, under loss, repetition, reordering, crashes and cut links.
//!
//! Each side has to elect and follow the other: at most one leader a term, leaders that have all that is committed, the same
//! committed entry at the same index everywhere, linearizable reads from both; after the faults end, one leader and equal logs. A
//! failure prints its seed.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use plimsoll::raft::{Index, Membership, Millis, NodeId, Role, Term};
use raft_rs::eraftpb::Message as Wire;

use crate::disk::{Entry, Payload};
use crate::ours::Ours;
use crate::theirs::{TICK_MS, Theirs};
use crate::translate::payload_bytes;

const SEEDS: u64 = 400;
const STEPS: usize = 2_500;

enum Node {
    Ours(Box<Ours>),
    Theirs(Box<Theirs>),
}

impl Node {
    fn is_leader(&self) -> bool {
        match self {
            Node::Ours(ours) => ours.core().role() == Role::Leader,
            Node::Theirs(theirs) => theirs.is_leader(),
        }
    }

    fn term(&self) -> Term {
        match self {
            Node::Ours(ours) => ours.core().term(),
            Node::Theirs(theirs) => theirs.term(),
        }
    }

    fn commit_index(&self) -> Index {
        match self {
            Node::Ours(ours) => ours.core().commit_index(),
            Node::Theirs(theirs) => theirs.commit_index(),
        }
    }

    fn log(&self) -> Vec<Entry> {
        match self {
            Node::Ours(ours) => ours.entries(),
            Node::Theirs(theirs) => theirs.log(),
        }
    }

    fn take_reads(&mut self) -> Vec<(u64, Index)> {
        match self {
            Node::Ours(ours) => std::mem::take(&mut ours.reads),
            Node::Theirs(theirs) => std::mem::take(&mut theirs.reads),
        }
    }
}

/// What happened in one run, or in all.
#[derive(Debug, Default)]
struct Sums {
    /// Terms led by one of ours, and by one of theirs.
    led: [u64; 2],
    /// Entries proposed to ours and to theirs that were committed.
    committed: u64,
    reads: u64,
    crashes: u64,
    lost: u64,
    repeated: u64,
    truncations: u64,
}

struct Cluster {
    now: Millis,
    rng: Rng,
    nodes: BTreeMap<NodeId, Node>,
    network: Vec<Wire>,
    cut: BTreeSet<(NodeId, NodeId)>,
    leaders: BTreeMap<Term, NodeId>,
    committed: Vec<Entry>,
    /// What was committed when each read began, by token.
    reads_begun: BTreeMap<u64, Index>,
    next: u64,
    sums: Sums,
}

impl Cluster {
    fn new(seed: u64) -> Cluster {
        let mut rng = Rng::with_seed(seed);
        let voters = *rng.choice(&[2, 3, 3, 3, 4, 5]).unwrap();
        // At least one of each.
        let ours = rng.u64(1..voters);
        let mut sides: Vec<bool> = (0..voters).map(|at| at < ours).collect();
        rng.shuffle(&mut sides);
        let first = [Entry {
            term: 1,
            payload: Payload::Membership(Membership::of_voters(1..=voters)),
        }];
        let node = |(id, ours): (NodeId, bool)| {
            let seed = seed.wrapping_mul(100) + id;
            let node = if ours {
                Node::Ours(Box::new(Ours::new(id, voters, &first, false, seed)))
            } else {
                Node::Theirs(Box::new(Theirs::new(id, voters, &first, true, seed)))
            };
            (id, node)
        };
        Cluster {
            now: 0,
            nodes: (1..).zip(sides).map(node).collect(),
            rng,
            network: Vec::new(),
            cut: BTreeSet::new(),
            leaders: BTreeMap::new(),
            committed: Vec::new(),
            reads_begun: BTreeMap::new(),
            next: 0,
            sums: Sums::default(),
        }
    }

    fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Gives `node` an input, queues what it says, and checks what it is then.
    fn act(&mut self, node: NodeId, input: impl FnOnce(&mut Node) -> Vec<Wire>) {
        let host = self.nodes.get_mut(&node).unwrap();
        let said = input(host);
        self.network.extend(said);
        let reads = self.nodes.get_mut(&node).unwrap().take_reads();
        self.check(node);
        for (token, index) in reads {
            // A question that the network repeats may be answered twice.
            assert!(
                index >= self.reads_begun[&token],
                "node {node}: a read misses entries"
            );
            self.sums.reads += 1;
        }
    }

    /// P1, P2, P3.
    fn check(&mut self, node: NodeId) {
        let host = &self.nodes[&node];
        let (term, commit) = (host.term(), host.commit_index() as usize);
        let is_new = host.is_leader() && !self.leaders.contains_key(&term);
        if commit <= self.committed.len() && !is_new && !host.is_leader() {
            return;
        }
        let log = host.log();
        for (at, entry) in log.iter().enumerate().take(commit) {
            match self.committed.get(at) {
                Some(known) => assert_eq!(entry, known, "node {node}: entry {} (P2)", at + 1),
                None => self.committed.push(entry.clone()),
            }
        }
        if host.is_leader() {
            let leader = *self.leaders.entry(term).or_insert(node);
            assert_eq!(leader, node, "two leaders in term {term} (P1)");
        }
        if is_new {
            self.sums.led[usize::from(matches!(host, Node::Theirs(_)))] += 1;
            assert!(
                log.starts_with(&self.committed),
                "leader {node} of term {term} lacks what is committed (P3)"
            );
        }
    }

    fn propose(&mut self, node: NodeId) {
        let payload = Payload::Data(self.next());
        self.act(node, |host| match host {
            Node::Ours(ours) => ours.propose(payload).1,
            Node::Theirs(theirs) => theirs.propose(payload_bytes(&payload)).1,
        });
    }

    fn read(&mut self, node: NodeId) {
        let (now, token) = (self.now, self.next());
        self.reads_begun.insert(token, self.committed.len() as u64);
        self.act(node, |host| match host {
            Node::Ours(ours) => ours.read(now, token),
            Node::Theirs(theirs) => theirs.read(token),
        });
    }

    fn transfer(&mut self, node: NodeId, to: NodeId) {
        let now = self.now;
        self.act(node, |host| match host {
            _ if !host.is_leader() => Vec::new(),
            Node::Ours(ours) => ours.transfer(now, to),
            Node::Theirs(theirs) => theirs.transfer(to),
        });
    }

    fn crash(&mut self, node: NodeId) {
        self.sums.crashes += 1;
        let now = self.now;
        self.act(node, |host| match host {
            Node::Ours(ours) => ours.restart(now, 0),
            Node::Theirs(theirs) => {
                theirs.restart(false);
                Vec::new()
            }
        });
    }

    /// Time passes for everybody, or for nearly everybody.
    fn tick(&mut self, lazily: bool) {
        self.now += TICK_MS;
        let now = self.now;
        for node in self.ids() {
            if lazily && self.rng.u8(0..8) == 0 {
                continue;
            }
            self.act(node, |host| match host {
                Node::Ours(ours) => ours.tick(now),
                Node::Theirs(theirs) => theirs.tick(),
            });
        }
    }

    fn work_disk(&mut self, node: NodeId, report: bool) {
        let now = self.now;
        self.act(node, |host| match host {
            Node::Ours(ours) => ours.work_disk(now, report),
            Node::Theirs(_) => Vec::new(),
        });
    }

    fn deliver(&mut self, wire: Wire) {
        if self.cut.contains(&(wire.from, wire.to)) {
            return;
        }
        let now = self.now;
        self.act(wire.to, |host| match host {
            Node::Ours(ours) => ours.step(now, &wire),
            Node::Theirs(theirs) => theirs.step(wire),
        });
    }

    /// Delivers, loses or repeats one of the oldest messages.
    fn deliver_any(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let reach = self.network.len().min(6);
        let at = self.rng.usize(0..reach);
        match self.rng.u8(0..20) {
            0 => {
                self.network.remove(at);
                self.sums.lost += 1;
            }
            1 => {
                let wire = self.network[at].clone();
                self.sums.repeated += 1;
                self.deliver(wire);
            }
            _ => {
                let wire = self.network.remove(at);
                self.deliver(wire);
            }
        }
    }

    fn disturb(&mut self) {
        let node = self.rng.u64(1..=self.nodes.len() as u64);
        let other = self.rng.u64(1..=self.nodes.len() as u64);
        match self.rng.u32(0..1000) {
            0..560 => self.deliver_any(),
            560..660 => self.work_disk(node, false),
            660..760 => self.work_disk(node, true),
            760..860 => self.tick(true),
            860..950 => self.propose(node),
            950..980 => self.read(node),
            980..983 => self.transfer(node, other),
            983..986 => self.crash(node),
            986..989 => _ = self.cut.insert((node, other)),
            989..995 => {
                for peer in self.ids() {
                    self.cut.extend([(node, peer), (peer, node)]);
                }
            }
            _ => self.cut.clear(),
        }
    }

    /// Delivers everything and works off the disks until nothing moves.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            for node in self.ids() {
                for _ in 0..8 {
                    self.work_disk(node, false);
                    self.work_disk(node, true);
                }
            }
            let wires = std::mem::take(&mut self.network);
            if wires.is_empty() {
                return;
            }
            wires.into_iter().for_each(|wire| self.deliver(wire));
        }
        panic!("the cluster does not settle");
    }

    /// P10: the faults end, and the cluster serves again.
    fn recover(&mut self) {
        self.cut.clear();
        for _ in 0..300 {
            self.tick(false);
            self.settle();
        }
        let highest = self.nodes.iter().filter(|(_, host)| host.is_leader());
        let leader = highest
            .max_by_key(|(_, host)| host.term())
            .map(|(id, _)| *id);
        let leader = leader.expect("somebody leads after three seconds");
        let before = self.committed.len();
        self.propose(leader);
        for _ in 0..50 {
            self.tick(false);
            self.settle();
        }
        assert!(self.committed.len() > before, "proposals are committed");
        for (node, host) in &self.nodes {
            assert_eq!(host.log(), self.committed, "the log of node {node}");
            assert_eq!(
                host.commit_index(),
                self.committed.len() as u64,
                "node {node}"
            );
        }
    }
}

fn run_seed(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed);
    for _ in 0..STEPS {
        cluster.disturb();
    }
    cluster.recover();
    cluster.sums.committed = cluster.committed.len() as u64;
    for host in cluster.nodes.values() {
        if let Node::Ours(ours) = host {
            cluster.sums.truncations += ours.truncations;
        }
    }
    cluster
}

#[test]
fn cluster_of_both_kinds_elects_replicates_and_commits_under_faults() {
    let mut all = Sums::default();
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| run_seed(seed).sums).unwrap_or_else(|panic| {
            eprintln!("seed {seed} fails");
            std::panic::resume_unwind(panic);
        });
        all.led[0] += run.led[0];
        all.led[1] += run.led[1];
        all.committed += run.committed;
        all.reads += run.reads;
        all.crashes += run.crashes;
        all.lost += run.lost;
        all.repeated += run.repeated;
        all.truncations += run.truncations;
    }
    println!("{SEEDS} seeds: {all:?}");
    let [ours, theirs] = all.led;
    assert!(ours >= SEEDS && theirs >= SEEDS, "elections in every run");
    let share = ours * 100 / (ours + theirs);
    assert!(
        (25..=75).contains(&share),
        "ours lead in {share}% of the terms"
    );
    assert!(all.committed > 10 * SEEDS && all.reads > SEEDS && all.crashes > SEEDS);
    assert!(all.truncations > 0, "some follower had to give way");
}

#[test]
fn same_seed_gives_same_mixed_history() {
    let [a, b] = [run_seed(3), run_seed(3)].map(|run| (run.committed, run.leaders));
    assert_eq!(a, b);
}

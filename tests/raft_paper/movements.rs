//! Whole movements of a cluster: what many inputs together amount to, so that scenarios read like sentences.

use plimsoll::raft::{Ballot, Membership, NodeId, Raft, Role};

use crate::cluster::Cluster;
use crate::disk::{Disk, Log};

impl Cluster {
    /// Works off all disks that are not stalled, without any message.
    pub(crate) fn work_disks(&mut self) {
        for node in self.ids() {
            let host = self.nodes.get_mut(&node).expect("a node of the cluster");
            if host.disk.stalled || host.core.is_none() {
                continue;
            }
            // A report may give the disk more to do.
            while self
                .nodes
                .get_mut(&node)
                .is_some_and(|host| host.disk.work())
                || self.report(node)
            {}
        }
    }

    /// Delivers everything and works off all disks, again and again, until nothing moves. Time stands still.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.work_disks();
            for node in self
                .ids()
                .into_iter()
                .filter(|&node| self.is_up(node))
                .collect::<Vec<_>>()
            {
                self.pump(node);
            }
            let packets = std::mem::take(&mut self.network);
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                self.deliver(packet);
            }
        }
        panic!("the cluster does not settle");
    }

    /// Lets `ms` pass, with everything delivered at once.
    pub(crate) fn run(&mut self, ms: u64) {
        let end = self.now + ms;
        self.settle();
        loop {
            let due = self
                .nodes
                .values()
                .filter_map(|host| host.core.as_ref())
                .map(Raft::next_deadline)
                .min();
            let Some(due) = due.filter(|&due| due <= end) else {
                break;
            };
            self.now = due.max(self.now + 1);
            for node in self.ids() {
                if self.is_up(node) && self.core(node).next_deadline() <= self.now {
                    self.tick(node);
                }
            }
            self.settle();
        }
        self.now = self.now.max(end);
    }

    /// Lets `node` campaign while nobody else's time passes, and settles.
    pub(crate) fn campaign(&mut self, node: NodeId) {
        self.now += self.nodes[&node].config.election_timeout_max_ms + 1;
        self.tick(node);
        self.settle();
    }

    /// Makes `node` the leader.
    pub(crate) fn elect(&mut self, node: NodeId) {
        self.campaign(node);
        assert_eq!(self.core(node).role(), Role::Leader, "node {node} wins");
    }

    /// Kills `node`, and its last `count` entries are lost; when it starts again, it knows that there may have been some.
    pub(crate) fn lose_tail(&mut self, node: NodeId, count: u64) {
        if self.is_up(node) {
            self.crash(node);
        }
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        host.disk.lose_tail(count);
    }

    /// The replica of `node` leaves with all its files, and a new one, empty, comes in its place; the group was created with
    /// voters 1 to `voters`.
    pub(crate) fn come_back_empty(&mut self, node: NodeId, voters: u64) {
        if self.is_up(node) {
            self.crash(node);
        }
        let host = self.nodes.get_mut(&node).expect("a node of the cluster");
        let term = host.disk.ballot.term.max(host.disk.forgotten.unwrap_or(0));
        let ballot = Ballot {
            term: term + 1,
            vote: None,
        };
        host.disk = Disk::new(ballot, Log::new(Membership::of_voters(1..=voters)));
        host.disk.forgotten = Some(term);
        self.start(node);
    }

    /// Cuts `node` off, both ways.
    pub(crate) fn isolate(&mut self, node: NodeId) {
        for other in self.ids() {
            self.cut.insert((node, other));
            self.cut.insert((other, node));
        }
    }

    /// All links work again.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }
}

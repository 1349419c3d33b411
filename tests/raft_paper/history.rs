//! What the cluster has promised so far, and the checks that no single core can make. (P1 to P6, P8.)

use std::collections::BTreeMap;

use plimsoll::raft::{AppendOutcome, Index, Message, NodeId, Term};

use crate::disk::{Disk, Entry, Log};

/// A read under way: which node asked, and what was committed anywhere when it did.
#[derive(Debug)]
struct OpenRead {
    node: NodeId,
    committed: Index,
}

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Who led which term.
    leaders: BTreeMap<Term, NodeId>,
    /// Every entry that any node has called committed.
    committed: BTreeMap<Index, Entry>,
    /// Latest vote of each node that left it: (node, term) to candidate.
    votes: BTreeMap<(NodeId, Term), NodeId>,
    open_reads: BTreeMap<u64, OpenRead>,
    /// Index that each finished read was answered with; `None` if it failed.
    pub(crate) reads: BTreeMap<u64, Option<Index>>,
}

impl History {
    /// Last index that any node has called committed.
    pub(crate) fn committed_index(&self) -> Index {
        self.committed
            .last_key_value()
            .map_or(0, |(&index, _)| index)
    }

    /// P1, and P3: who leads a term leads it alone, and has everything that was ever committed.
    pub(crate) fn check_leader(&mut self, node: NodeId, term: Term, log: &Log) {
        let leader = *self.leaders.entry(term).or_insert(node);
        assert_eq!(leader, node, "term {term} has two leaders (P1)");
        for (&index, entry) in self.committed.range(log.prev.index + 1..) {
            assert_eq!(
                log.get(index),
                Some(entry),
                "leader {node} of term {term} lacks committed entry {index} (P3)"
            );
        }
    }

    /// P2, P5: what is committed is the same everywhere, for ever.
    pub(crate) fn check_commit(&mut self, node: NodeId, index: Index, log: &Log) {
        for index in log.prev.index + 1..=index {
            let entry = log.get(index).expect("a node commits what it has");
            let known = self.committed.entry(index).or_insert_with(|| entry.clone());
            assert_eq!(
                known, entry,
                "node {node} commits another entry {index} than others did (P2)"
            );
        }
    }

    /// P1, P6: what a message asserts is on the disk of its sender when it leaves.
    pub(crate) fn check_send(&mut self, from: NodeId, to: NodeId, message: &Message, disk: &Disk) {
        let asks_only = matches!(
            message,
            Message::PreVote { .. } | Message::PreVoteReply { .. }
        );
        assert!(
            asks_only || disk.ballot.term >= message.term(),
            "node {from} speaks of a term it has not saved (P6)"
        );
        match *message {
            Message::VoteReply {
                term,
                granted: true,
                ..
            } => self.check_vote(from, to, term, disk),
            Message::Vote { term, .. } => self.check_vote(from, from, term, disk),
            Message::AppendReply {
                outcome: AppendOutcome::Accepted { matched, .. },
                ..
            } => {
                assert!(
                    disk.keeps(matched),
                    "node {from} acknowledges {matched:?}, which is not durable (P6)"
                );
            }
            _ => {}
        }
    }

    fn check_vote(&mut self, voter: NodeId, candidate: NodeId, term: Term, disk: &Disk) {
        assert_eq!(
            (disk.ballot.term, disk.ballot.vote),
            (term, Some(candidate)),
            "a vote is durable first (P6)"
        );
        let vote = *self.votes.entry((voter, term)).or_insert(candidate);
        assert_eq!(
            vote, candidate,
            "node {voter} votes twice in term {term} (P1)"
        );
    }

    pub(crate) fn read_begins(&mut self, node: NodeId, token: u64) {
        let committed = self.committed_index();
        self.open_reads.insert(token, OpenRead { node, committed });
    }

    /// A read sees at least what was committed anywhere when it began.
    pub(crate) fn check_read(&mut self, token: u64, index: Index) {
        let read = self
            .open_reads
            .remove(&token)
            .expect("a read is answered once");
        assert!(
            index >= read.committed,
            "read {token} would miss entries {}..={}",
            index + 1,
            read.committed
        );
        self.reads.insert(token, Some(index));
    }

    pub(crate) fn read_failed(&mut self, token: u64) {
        self.open_reads
            .remove(&token)
            .expect("a read is answered once");
        self.reads.insert(token, None);
    }

    /// `node` crashed: nobody waits for its reads any more.
    pub(crate) fn forget_reads(&mut self, node: NodeId) {
        self.open_reads.retain(|_, read| read.node != node);
    }
}

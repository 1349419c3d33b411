//! Linearizable reads without a log entry (ReadIndex; thesis, 6.4), at the leader and at followers.
//!
//! Owns the proof that the commit index a read is given was the newest when the read began: the leader notes its commit
//! index, then has a heartbeat round, begun after that, answered by a quorum. No clock is trusted. It must not know what
//! is read. On the walk fetch.

use std::collections::VecDeque;

use super::core::Raft;
use super::mutation;
use super::quorum;
use super::{Effect, Index, Message, Millis, NodeId};

/// Reads that wait here, at most; more are refused.
const READS_MAX: usize = 16 * 1024;

/// Who asked.
#[derive(Clone, Copy, Debug)]
enum Origin {
    /// The shell, with its token.
    Shell(u64),
    /// A follower, with its token.
    Peer(NodeId, u64),
}

/// A leader's read: the answer will be `index`, if round `round` is confirmed.
#[derive(Debug)]
struct Unconfirmed {
    origin: Origin,
    index: Index,
    round: u64,
}

/// A follower's read: the leader has been asked.
#[derive(Debug)]
struct Asked {
    /// Our number of the question. Unlike the shell's tokens, never the same twice, restarts included.
    request: u64,
    token: u64,
    deadline: Millis,
}

/// A follower's read that knows its index, and waits to learn that so much is committed.
#[derive(Debug)]
struct Confirmed {
    token: u64,
    index: Index,
    deadline: Millis,
}

/// All reads that wait.
#[derive(Debug)]
pub(super) struct Reads {
    /// At a leader that has not committed anything of its term: it cannot know yet what is committed.
    early: Vec<Origin>,
    /// At a leader. Rounds ascend.
    unconfirmed: VecDeque<Unconfirmed>,
    /// At a follower, in the order asked.
    asked: VecDeque<Asked>,
    /// At a follower.
    confirmed: Vec<Confirmed>,
    next_request: u64,
}

impl Reads {
    /// `first_request` must be random, so that a late reply to an earlier life of this node finds no question.
    pub(super) fn new(first_request: u64) -> Reads {
        Reads {
            early: Vec::new(),
            unconfirmed: VecDeque::new(),
            asked: VecDeque::new(),
            confirmed: Vec::new(),
            next_request: match mutation::is("numbers of requests start over") {
                true => 1,
                false => first_request,
            },
        }
    }

    fn len(&self) -> usize {
        self.early.len() + self.unconfirmed.len() + self.asked.len() + self.confirmed.len()
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn is_full(&self) -> bool {
        self.len() >= READS_MAX
    }

    pub(super) fn next_deadline(&self) -> Millis {
        let asked = self.asked.front().map(|read| read.deadline);
        let confirmed = self.confirmed.iter().map(|read| read.deadline).min();
        asked
            .into_iter()
            .chain(confirmed)
            .min()
            .unwrap_or(Millis::MAX)
    }
}

impl Raft {
    /// Asks for the index a linearizable read must wait for. Answered by `ReadReady` or `ReadFailed` with `token`.
    pub fn read_index(&mut self, now: Millis, token: u64) {
        self.wake(now);
        if self.leading().is_some() {
            self.lead_read(Origin::Shell(token));
        } else if let Some(leader) = self.leader
            && !self.reads.is_full()
        {
            let request = self.reads.next_request;
            self.reads.next_request = request.wrapping_add(1);
            let deadline = self.now + self.config.election_timeout_max_ms;
            self.reads.asked.push_back(Asked {
                request,
                token,
                deadline,
            });
            let term = self.term();
            self.send(
                leader,
                Message::ReadIndex {
                    term,
                    token: request,
                },
            );
        } else {
            self.effects.push(Effect::ReadFailed { token });
        }
    }

    pub(super) fn on_read_index(&mut self, from: NodeId, token: u64) {
        if self.leading().is_some() {
            self.lead_read(Origin::Peer(from, token));
        } else {
            self.answer_read(Origin::Peer(from, token), None);
        }
    }

    /// A read at the leader.
    fn lead_read(&mut self, origin: Origin) {
        let Some(leading) = self.leading() else {
            return;
        };
        let settled = self.commit_index >= leading.first_of_term
            || mutation::is("reads before the term's first commit");
        let round = leading.round;
        if self.reads.is_full() {
            self.answer_read(origin, None);
        } else if mutation::is("reads without a round") {
            self.answer_read(origin, Some(self.commit_index));
        } else if !settled {
            self.reads.early.push(origin);
        } else {
            // Only a round begun after this moment proves anything about it.
            self.reads.unconfirmed.push_back(Unconfirmed {
                origin,
                index: self.commit_index,
                round: round + 1,
            });
            self.confirm_reads();
        }
    }

    /// The first entry of the term is committed: now the leader knows what is.
    pub(super) fn admit_early_reads(&mut self) {
        for origin in std::mem::take(&mut self.reads.early) {
            self.lead_read(origin);
        }
    }

    /// Answers the reads whose round a quorum has answered. If others still wait and no round is under way, begins
    /// one: reads that come while a round runs share the next.
    pub(super) fn confirm_reads(&mut self) {
        loop {
            let Some(leading) = self.leading() else {
                return;
            };
            let (node, begun) = (self.config.node, leading.round);
            let confirmed = quorum::reached(self.members.current().1, |voter| {
                if voter == node {
                    begun
                } else {
                    leading.peers.get(&voter).map_or(0, |peer| peer.round_acked)
                }
            });
            while let Some(read) = self
                .reads
                .unconfirmed
                .pop_front_if(|read| read.round <= confirmed)
            {
                self.answer_read(read.origin, Some(read.index));
            }
            if self.reads.unconfirmed.is_empty() || confirmed < begun {
                return;
            }
            self.begin_round();
        }
    }

    fn answer_read(&mut self, origin: Origin, index: Option<Index>) {
        match (origin, index) {
            (Origin::Shell(token), Some(index)) => {
                self.effects.push(Effect::ReadReady { token, index });
            }
            (Origin::Shell(token), None) => self.effects.push(Effect::ReadFailed { token }),
            (Origin::Peer(peer, token), index) => {
                let term = self.term();
                self.send(peer, Message::ReadIndexReply { term, token, index });
            }
        }
    }

    pub(super) fn on_read_index_reply(&mut self, from: NodeId, request: u64, index: Option<Index>) {
        if self.leader != Some(from) {
            return;
        }
        let Some(position) = self
            .reads
            .asked
            .iter()
            .position(|read| read.request == request)
        else {
            return;
        };
        let Asked {
            token, deadline, ..
        } = self.reads.asked.remove(position).expect("just found");
        match index {
            Some(index) => {
                self.reads.confirmed.push(Confirmed {
                    token,
                    index,
                    deadline,
                });
                self.release_confirmed_reads();
            }
            None => self.effects.push(Effect::ReadFailed { token }),
        }
    }

    /// The commit index rose, or a read learnt its index.
    pub(super) fn release_confirmed_reads(&mut self) {
        let commit_index = self.commit_index;
        for read in self
            .reads
            .confirmed
            .extract_if(.., |read| read.index <= commit_index)
        {
            self.effects.push(Effect::ReadReady {
                token: read.token,
                index: read.index,
            });
        }
    }

    /// The term or its leader is gone: nobody will confirm what is open. Reads that know their index stay.
    pub(super) fn abandon_reads(&mut self) {
        let early = std::mem::take(&mut self.reads.early);
        let unconfirmed = std::mem::take(&mut self.reads.unconfirmed);
        for origin in unconfirmed.into_iter().map(|read| read.origin).chain(early) {
            self.answer_read(origin, None);
        }
        for read in std::mem::take(&mut self.reads.asked) {
            self.effects.push(Effect::ReadFailed { token: read.token });
        }
    }

    pub(super) fn expire_reads(&mut self) {
        let now = self.now;
        while let Some(read) = self.reads.asked.pop_front_if(|read| now >= read.deadline) {
            self.effects.push(Effect::ReadFailed { token: read.token });
        }
        for read in self
            .reads
            .confirmed
            .extract_if(.., |read| now >= read.deadline)
        {
            self.effects.push(Effect::ReadFailed { token: read.token });
        }
    }
}

//! One core, asked one thing at a time; the test plays everybody else.

use plimsoll::raft::invariants::{self, View};
use plimsoll::raft::{
    Append, AppendOutcome, Config, Effect, Index, LogId, Membership, Message, Millis, NodeId, Raft,
    Restored, Role, Run, Term,
};

/// Shorthand for a log identity, in the paper's order.
pub(crate) fn id(term: Term, index: Index) -> LogId {
    LogId { term, index }
}

/// An unconditional answer to a candidate.
pub(crate) fn vote_reply(term: Term, granted: bool) -> Message {
    Message::VoteReply {
        term,
        granted,
        conditional: false,
    }
}

/// The runs of entries with `terms`, the first at `first`.
pub(crate) fn runs(first: Index, terms: &[Term]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, &term) in (first..).zip(terms) {
        if runs.last().is_none_or(|run| run.term != term) {
            runs.push(Run { first: index, term });
        }
    }
    runs
}

/// An append of entries with `terms` after `prev`.
pub(crate) fn append(term: Term, prev: LogId, terms: &[Term], commit: Index) -> Message {
    let last_index = prev.index + terms.len() as Index;
    Message::Append(Append {
        term,
        prev,
        runs: runs(prev.index + 1, terms),
        last_index,
        memberships: Vec::new(),
        commit,
    })
}

/// A core whose ballot is saved at once, and whose log is fsynced when the test says so.
#[derive(Debug)]
pub(crate) struct Solo {
    pub(crate) core: Raft,
    pub(crate) now: Millis,
    /// Effects not looked at yet, ballots left out.
    pub(crate) effects: Vec<Effect>,
}

impl Solo {
    /// Node 1 of voters 1 to `voters`, in term `term`, with a durable log of `terms`.
    pub(crate) fn new(voters: u64, terms: &[Term], term: Term) -> Solo {
        let mut restored = Restored::empty(Membership::of_voters(1..=voters));
        restored.ballot.term = term;
        restored.runs = runs(1, terms);
        restored.last_index = terms.len() as Index;
        Solo::restored(restored)
    }

    /// Node 1 of three, empty, which had a replica up to `term` that left.
    pub(crate) fn forgotten(term: Term) -> Solo {
        let mut restored = Restored::empty(Membership::of_voters(1..=3));
        restored.ballot.term = term + 1;
        restored.forgotten_term = Some(term);
        Solo::restored(restored)
    }

    pub(crate) fn restored(restored: Restored) -> Solo {
        let now = 1_000;
        Solo {
            core: Raft::new(Config::new(1, 11), restored, now),
            now,
            effects: Vec::new(),
        }
    }

    /// Gives one input, checks the invariants, saves ballots, and collects the other effects.
    pub(crate) fn act<T>(&mut self, input: impl FnOnce(&mut Raft, Millis) -> T) -> T {
        let before = View::of(&self.core);
        let result = input(&mut self.core, self.now);
        invariants::check(&before, &View::of(&self.core));
        loop {
            let effects = self.core.take_effects();
            if effects.is_empty() {
                return result;
            }
            for effect in effects {
                if let Effect::SaveBallot(ballot) = effect {
                    self.core.ballot_durable(ballot);
                } else {
                    self.effects.push(effect);
                }
            }
        }
    }

    pub(crate) fn step(&mut self, from: NodeId, message: Message) {
        self.act(|core, now| core.step(now, from, message));
    }

    /// The disk has caught up with the log.
    pub(crate) fn sync(&mut self) {
        let index = self.core.last_index();
        self.sync_to(index);
    }

    pub(crate) fn sync_to(&mut self, index: Index) {
        let id = id(self.core.term_at(index).unwrap(), index);
        self.act(|core, now| core.durable(now, id, core.truncations()));
    }

    /// `ms` pass.
    pub(crate) fn wait(&mut self, ms: u64) {
        self.now += ms;
        self.act(|core, now| core.tick(now));
    }

    /// Times out, and becomes a candidate by the pre-votes of everybody else.
    pub(crate) fn campaign(&mut self) {
        self.wait(301);
        let term = self.core.term() + 1;
        for voter in self.others() {
            self.step(
                voter,
                Message::PreVoteReply {
                    term,
                    granted: true,
                    conditional: false,
                },
            );
        }
        assert_eq!(self.core.term(), term);
    }

    /// Wins an election.
    pub(crate) fn lead(&mut self) {
        self.campaign();
        let term = self.core.term();
        for voter in self.others() {
            self.step(
                voter,
                Message::VoteReply {
                    term,
                    granted: true,
                    conditional: false,
                },
            );
        }
        assert_eq!(self.core.role(), Role::Leader);
    }

    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.core
            .membership()
            .1
            .members()
            .into_iter()
            .filter(|&node| node != 1)
            .collect()
    }

    /// `peer` acknowledges our log up to `index`.
    pub(crate) fn acknowledge(&mut self, peer: NodeId, index: Index) {
        let matched = id(self.core.term_at(index).unwrap(), index);
        let outcome = AppendOutcome::Accepted { matched, commit: 0 };
        let term = self.core.term();
        self.step(peer, Message::AppendReply { term, outcome });
    }

    /// Takes the effects so far.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Takes the effects so far, and returns the messages among them.
    pub(crate) fn take_sent(&mut self) -> Vec<(NodeId, Message)> {
        let sent = self.take().into_iter().filter_map(|effect| match effect {
            Effect::Send { to, message } => Some((to, message)),
            _ => None,
        });
        sent.collect()
    }
}

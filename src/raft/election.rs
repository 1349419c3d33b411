//! Elections (section 5.2, the restriction of 5.4.1) with PreVote and the refusal of votes under a live leader (thesis, 9.6).
//!
//! Owns who campaigns when, who gets a vote, and how votes are counted. It must not know how a leader leads. The one vote
//! of a term is durable before anybody hears of it, the candidate itself included: its own vote counts only then, too.

use std::collections::BTreeMap;

use super::core::{Part, Raft};
use super::mutation;
use super::quorum::{self, Tally};
use super::{Ballot, LogId, Membership, Message, NodeId, Role, Term};

/// The answers to a candidate's or pre-candidate's question, by voter.
pub(super) type Votes = BTreeMap<NodeId, Answer>;

/// An answer to a candidate or pre-candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Refused,
    /// Of a voter with a suspect tail: it cannot tell whether the candidate has all that it once acknowledged.
    Conditional,
    Granted,
}

impl Answer {
    pub(super) fn of(granted: bool, conditional: bool) -> Answer {
        match (granted, conditional) {
            (false, _) => Answer::Refused,
            (true, true) => Answer::Conditional,
            (true, false) => Answer::Granted,
        }
    }
}

impl Raft {
    /// No leader was heard for an election timeout, or no election was won in one.
    pub(super) fn on_election_timeout(&mut self) {
        self.note_fruitless();
        self.restart_election_timer();
        self.become_follower();
        if self.is_pending() || self.has_no_say() {
            return;
        }
        if !self.may_campaign() && !mutation::is("a learner campaigns") {
            // A learner, or a node whose membership has not reached it yet, waits for a leader to come.
            return;
        }
        if mutation::is("a node that returns campaigns at once") {
            return self.campaign(false);
        }
        self.part = Part::PreCandidate(Votes::from([(self.config.node, self.own_answer())]));
        let (term, last) = (self.term() + 1, self.log.last_id());
        self.ask_voters(&Message::PreVote { term, last });
        self.count_votes();
    }

    /// Campaigns in a term of its own. `transfer`: at the leader's request, so its being alive is no objection.
    pub(super) fn campaign(&mut self, transfer: bool) {
        self.restart_election_timer();
        self.become_follower();
        self.set_ballot(Ballot {
            term: self.term() + 1,
            vote: Some(self.config.node),
        });
        self.part = Part::Candidate(Votes::new());
        let (term, last) = (self.term(), self.log.last_id());
        self.ask_voters(&Message::Vote {
            term,
            last,
            transfer,
        });
    }

    /// Whether this node is a voter, or will stay one if what is not known to be committed never is (thesis, 4.2.2): it may
    /// be the only one that holds its own removal, and then nobody else can be elected.
    fn may_campaign(&self) -> bool {
        let node = self.config.node;
        let mut possible = self.members.possible(self.commit_index).iter();
        possible.any(|(_, membership)| membership.is_voter(node))
    }

    fn restart_election_timer(&mut self) {
        self.draw_election_timeout();
        self.election_deadline = self.now + self.election_timeout_ms;
    }

    fn ask_voters(&mut self, question: &Message) {
        let node = self.config.node;
        let membership = self.members.current().1;
        let mut voters = membership.members();
        voters.retain(|&member| member != node && membership.is_voter(member));
        for voter in voters {
            self.send(voter, question.clone());
        }
    }

    /// Whether a leader is alive as far as this node can tell: then votes are refused, and terms that others want to
    /// begin by an election are not entered.
    pub(super) fn hears_leader(&self) -> bool {
        match &self.part {
            // CheckQuorum sees to it that a leader without a quorum is none.
            Part::Leader(_) => true,
            Part::Follower(following) => following.leader_heard_at.is_some_and(|heard| {
                self.now < heard.saturating_add(self.config.election_timeout_min_ms)
            }),
            Part::PreCandidate(_) | Part::Candidate(_) => false,
        }
    }

    /// Would this node vote for `from`? Answering changes neither term, nor vote, nor timer.
    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term, last: LogId) {
        let granted = term > self.term()
            && !self.hears_leader()
            && self.is_current(last)
            && self.favours(from, last);
        if granted && mutation::is("a pre-vote restarts the timer") {
            self.restart_election_timer();
        }
        // A refusal bears our own term: a candidate that lags behind learns it and asks again in a later one.
        let term = if granted { term } else { self.term() };
        let conditional = granted && self.tail_suspect();
        self.send(
            from,
            Message::PreVoteReply {
                term,
                granted,
                conditional,
            },
        );
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: NodeId, term: Term, answer: Answer) {
        let expected = if answer != Answer::Refused {
            self.term() + 1
        } else {
            self.term()
        };
        if matches!(self.part, Part::Candidate(_)) && mutation::is("late pre-votes campaign again")
        {
            return self.campaign(false);
        }
        if let Part::PreCandidate(votes) = &mut self.part
            && term == expected
        {
            votes.insert(from, answer);
            self.count_votes();
        }
    }

    /// Whether a log that ends with `last` is at least as up-to-date as ours (section 5.4.1).
    fn is_current(&self, last: LogId) -> bool {
        if self.has_no_say() {
            // What was here once may have been better.
            return false;
        }
        match mutation::is("logs compared by index alone") {
            true => last.index >= self.log.last_index(),
            false => last >= self.log.last_id(),
        }
    }

    /// A candidate of our term asks for our vote. One vote a term, to a log at least as up-to-date as ours.
    pub(super) fn on_vote(&mut self, from: NodeId, last: LogId) {
        let ballot = self.ballot();
        let free = (ballot.vote.is_none() && self.leader.is_none())
            || mutation::is("a second vote in one term");
        let current = self.is_current(last);
        let granted = (free && current) || ballot.vote == Some(from);
        if granted && free {
            // Whoever has just helped another to win has no business of its own in this term.
            self.become_follower();
            self.set_ballot(Ballot {
                term: ballot.term,
                vote: Some(from),
            });
            self.restart_election_timer();
        }
        self.send(
            from,
            Message::VoteReply {
                term: ballot.term,
                granted,
                conditional: granted && self.tail_suspect(),
            },
        );
    }

    pub(super) fn on_vote_reply(&mut self, from: NodeId, answer: Answer) {
        if let Part::Candidate(votes) = &mut self.part {
            let answer = match mutation::is("a refusal counts as a vote") {
                true => Answer::Granted,
                false => answer,
            };
            votes.insert(from, answer);
            self.count_votes();
        }
    }

    /// Our ballot is durable: if it holds a vote for ourselves in a running election, that vote counts from now on.
    pub(super) fn count_own_vote(&mut self) {
        let (node, answer) = (self.config.node, self.own_answer());
        if let Part::Candidate(votes) = &mut self.part {
            votes.insert(node, answer);
            self.count_votes();
        }
    }

    /// Acts on the votes so far, if they decide anything.
    fn count_votes(&mut self) {
        let (Part::PreCandidate(votes) | Part::Candidate(votes)) = &self.part else {
            return;
        };
        let counted = match mutation::is("a candidate counts by what is committed") {
            true => self.members.at(self.commit_index),
            false => self.members.current().1,
        };
        let mut tally = stands(counted, votes);
        if mutation::is("votes of nodes outside count")
            && votes
                .values()
                .filter(|answer| **answer == Answer::Granted)
                .count()
                > self.members.current().1.voters.len() / 2
        {
            tally = Tally::Won;
        }
        match (tally, self.role()) {
            (Tally::Won, Role::PreCandidate) => self.campaign(false),
            // Others may have answered before our own disk did.
            (Tally::Won, _) if self.ballot_saved() => self.become_leader(),
            (Tally::Lost, _) => self.become_follower(),
            _ => {}
        }
    }
}

/// How the vote stands: won by a quorum of unconditional votes, or by all voters with conditional ones among them.
fn stands(membership: &Membership, votes: &Votes) -> Tally {
    let answer_of = |voter: NodeId| match votes.get(&voter) {
        Some(Answer::Conditional) if mutation::is("conditional votes count like others") => {
            Some(Answer::Granted)
        }
        answer => answer.copied(),
    };
    let said_no = |voter: &NodeId| answer_of(*voter) == Some(Answer::Refused);
    let said_yes = |voter: &NodeId| answer_of(*voter).is_some() && !said_no(voter);
    let mut voters = membership.voters.iter().chain(&membership.voters_outgoing);
    if voters.clone().all(said_yes) {
        return Tally::Won;
    }
    // A condition that cannot be met any more makes a conditional vote none.
    let refused = voters.any(said_no);
    quorum::tally(membership, |voter| match answer_of(voter)? {
        Answer::Granted => Some(true),
        Answer::Conditional if !refused => None,
        Answer::Conditional | Answer::Refused => Some(false),
    })
}

//! What must be true of a core at any time, and of any two of its states with inputs between them.
//!
//! Owns the statements, as code that panics with the one that is broken. Tests and the simulator call it after every
//! step; the shipped node does not. It sees one replica only: what must hold across replicas (one leader a term,
//! identical committed logs) is for those who see them all. Properties are numbered as in the list of promises.

use super::core::{Part, Raft};
use super::log;
use super::progress::PeerView;
use super::quorum;
use super::{Ballot, Index, LogId, Membership, NodeId, ProgressState, Role, Run, Term};

/// All that a core decides by, copied out at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub node: NodeId,
    /// Its role.
    pub role: Role,
    /// Its ballot.
    pub ballot: Ballot,
    /// Whether that ballot is fsynced.
    pub ballot_saved: bool,
    /// The leader it knows.
    pub leader: Option<NodeId>,
    /// The entry before its kept log.
    pub prev: LogId,
    /// Terms of its kept log.
    pub runs: Vec<Run>,
    /// Last index of its log; inclusive.
    pub last_index: Index,
    /// Last index fsynced; inclusive.
    pub durable_index: Index,
    /// Last index committed; inclusive.
    pub commit_index: Index,
    /// Truncations so far.
    pub truncations: u64,
    /// Whether a state taken from a leader is not durable yet.
    pub installing: bool,
    /// Whether that is so, or the log has not reached the last entry that such a state contains.
    pub pending: bool,
    /// Membership in force, and the index of its entry.
    pub membership: (Index, Membership),
    /// The membership in force at the commit index, and those after it.
    pub possible_memberships: Vec<(Index, Membership)>,
    /// Whether its votes are conditional.
    pub tail_suspect: bool,
    /// A leader's peers.
    pub peers: Vec<(NodeId, PeerView)>,
    /// A leader's first index of its term.
    pub first_of_term: Option<Index>,
    /// Whether it is quiet until something happens.
    pub rests: bool,
}

impl View {
    /// Copies out the state of `raft`.
    pub fn of(raft: &Raft) -> View {
        let (index, membership) = raft.members.current();
        let leading = match &raft.part {
            Part::Leader(leading) => Some(leading),
            _ => None,
        };
        View {
            node: raft.node(),
            role: raft.role(),
            ballot: raft.ballot(),
            ballot_saved: raft.ballot_saved(),
            leader: raft.leader(),
            prev: raft.log.prev(),
            runs: raft.log.runs().to_vec(),
            last_index: raft.last_index(),
            durable_index: raft.durable_index(),
            commit_index: raft.commit_index(),
            truncations: raft.truncations(),
            installing: raft.installing > 0,
            pending: raft.is_pending(),
            membership: (index, membership.clone()),
            possible_memberships: raft.members.possible(raft.commit_index()).to_vec(),
            tail_suspect: raft.tail_suspect(),
            peers: leading.map_or_else(Vec::new, |leading| {
                leading
                    .peers
                    .iter()
                    .map(|(&peer, progress)| (peer, progress.view()))
                    .collect()
            }),
            first_of_term: leading.map(|leading| leading.first_of_term),
            rests: raft.rests(),
        }
    }

    /// Term of the entry at `index`, if the log knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.prev.index {
            return Some(self.prev.term);
        }
        let known = index > self.prev.index && index <= self.last_index;
        known.then(|| self.runs[self.runs.partition_point(|run| run.first <= index) - 1].term)
    }

    /// Runs of the log up to `index`, without those before `from`: comparable between states trimmed differently.
    fn runs_between(&self, from: Index, index: Index) -> Vec<Run> {
        let end_of = |position: usize| {
            self.runs
                .get(position + 1)
                .map_or(self.last_index, |next| next.first - 1)
        };
        let clip = |(position, run): (usize, &Run)| {
            let first = run.first.max(from);
            (first <= end_of(position).min(index)).then_some(Run {
                first,
                term: run.term,
            })
        };
        self.runs.iter().enumerate().filter_map(clip).collect()
    }
}

/// Panics with the first statement that does not hold of `after`, or of the way from `before` to it.
pub fn check(before: &View, after: &View) {
    check_log(after);
    check_rest(after);
    match after.role {
        Role::Leader => check_leader(after),
        Role::Candidate => {
            assert_eq!(
                after.ballot.vote,
                Some(after.node),
                "a candidate has voted for itself"
            );
            assert_eq!(
                after.leader, None,
                "a candidate knows no leader of its term"
            );
        }
        Role::PreCandidate => assert_eq!(
            after.leader, None,
            "who knows a leader does not ask for votes"
        ),
        Role::Follower => assert_ne!(
            after.leader,
            Some(after.node),
            "a follower does not follow itself"
        ),
    }
    check_ballot_transition(before, after);
    check_log_transition(before, after);
    if before.role == Role::Leader
        && after.role == Role::Leader
        && before.ballot.term == after.ballot.term
    {
        check_leader_transition(before, after);
    }
    if after.role == Role::Leader && after.commit_index > before.commit_index {
        // By the membership it was committed under, and by the one that commit may have brought into force.
        check_commit(after, &after.membership.1, after.commit_index);
        if before.role == Role::Leader {
            check_commit_before(before, after);
        }
    }
}

/// The quorum of the membership that was in force when the input came. Whoever that input removed has been forgotten.
fn check_commit_before(before: &View, after: &View) {
    let (index, membership) = &before.membership;
    let gone =
        |node: &NodeId| *node != after.node && !after.peers.iter().any(|(peer, _)| peer == node);
    // Once it is committed itself, the one that follows may decide alone, in the same step.
    let decided = match *index == after.membership.0 {
        true => after.commit_index,
        false => after.commit_index.min(*index),
    };
    if *index == after.membership.0 || !membership.members().iter().any(gone) {
        check_commit(after, membership, decided);
    }
}

fn check_log(view: &View) {
    assert!(
        log::well_formed(view.prev, &view.runs, view.last_index),
        "term runs describe the kept log: {view:?}"
    );
    assert!(
        view.prev.index <= view.commit_index,
        "only committed entries are trimmed (P5)"
    );
    assert!(
        view.commit_index <= view.last_index,
        "what is committed is in the log (P5)"
    );
    assert!(
        view.durable_index <= view.last_index,
        "what is durable is in the log"
    );
    assert!(
        view.durable_index >= view.prev.index || view.installing,
        "what was trimmed had been durable"
    );
    let last_term = view.runs.last().map_or(view.prev.term, |run| run.term);
    assert!(
        last_term <= view.ballot.term,
        "no entry is of a later term than the node"
    );
    let (index, membership) = &view.membership;
    assert!(
        *index <= view.last_index,
        "the membership in force is in the log"
    );
    assert!(
        membership.is_well_formed(),
        "members are sorted, free of repeats, and some of them vote: {membership:?}"
    );
    assert!(
        !view.pending || view.role == Role::Follower,
        "who has a state ahead of its log neither campaigns nor leads"
    );
    if matches!(view.role, Role::PreCandidate | Role::Candidate) {
        let mut possible = view.possible_memberships.iter();
        assert!(
            possible.any(|(_, membership)| membership.is_voter(view.node)),
            "only a voter campaigns, or who stays one if its removal is not committed"
        );
    }
}

fn check_leader(view: &View) {
    assert_eq!(view.leader, Some(view.node), "a leader knows who leads");
    assert_eq!(
        view.ballot.vote,
        Some(view.node),
        "a leader has voted for itself (P1)"
    );
    assert!(
        view.ballot_saved,
        "a leader's vote for itself is durable (P1, P6)"
    );
    let first_of_term = view.first_of_term.expect("a leader has opened its term");
    if first_of_term > view.prev.index {
        let term = view.term_at(first_of_term);
        assert_eq!(
            term,
            Some(view.ballot.term),
            "a leader's term begins with an entry of its own"
        );
    }
    for (peer, progress) in &view.peers {
        assert!(
            progress.match_index <= view.last_index,
            "no peer has more of our log than we (peer {peer})"
        );
        assert!(
            progress.next_index > progress.match_index,
            "what is acknowledged is not sent again (peer {peer})"
        );
        assert!(
            progress.next_index <= view.last_index + 1,
            "what does not exist is not sent (peer {peer})"
        );
        if !matches!(
            progress.state,
            ProgressState::Pipeline | ProgressState::CatchUp
        ) {
            assert_eq!(
                progress.in_flight_bytes, 0,
                "only where entries are streamed are any in flight (peer {peer})"
            );
        }
    }
    let mut others = view.membership.1.members();
    others.retain(|member| *member != view.node);
    assert!(
        view.peers.iter().map(|(peer, _)| peer).eq(&others),
        "a leader sends to the members in force, and to nobody else"
    );
}

/// Who rests has nothing left to do, and a leader that rests nobody left to tell.
fn check_rest(view: &View) {
    if !view.rests {
        return;
    }
    let last = view.last_index;
    assert!(
        view.leader.is_some() && matches!(view.role, Role::Leader | Role::Follower),
        "who rests knows on whom"
    );
    assert!(
        view.commit_index == last && view.durable_index == last && !view.pending,
        "who rests has all it has committed and durable"
    );
    if view.role == Role::Leader {
        check_commit(view, &view.membership.1, last);
    }
}

/// What a leader has just committed, up to `index`, is durable on a quorum: of `membership`, as far as it can know.
fn check_commit(view: &View, membership: &Membership, index: Index) {
    let reached = quorum::reached(membership, |voter| {
        let peer = view.peers.iter().find(|(peer, _)| *peer == voter);
        if voter == view.node {
            view.durable_index
        } else {
            peer.map_or(0, |(_, progress)| progress.match_index)
        }
    });
    assert!(
        reached >= index,
        "what a leader commits is durable on a quorum of {membership:?} (P4)"
    );
}

fn check_ballot_transition(before: &View, after: &View) {
    assert!(
        after.ballot.term >= before.ballot.term,
        "terms never go back (P5)"
    );
    if after.ballot.term == before.ballot.term {
        assert!(
            before.ballot.vote.is_none() || after.ballot.vote == before.ballot.vote,
            "a vote is given once a term (P1): {:?} became {:?}",
            before.ballot,
            after.ballot
        );
        if let (Some(before), Some(after)) = (before.leader, after.leader) {
            assert_eq!(before, after, "a term has one leader (P1)");
        }
    }
}

fn check_log_transition(before: &View, after: &View) {
    assert!(
        after.commit_index >= before.commit_index,
        "the commit index never goes back (P5)"
    );
    assert!(
        after.prev.index >= before.prev.index,
        "what is trimmed stays so"
    );
    assert!(
        after.truncations >= before.truncations,
        "truncations are counted"
    );
    assert!(
        before.tail_suspect || !after.tail_suspect,
        "a tail becomes suspect by a loss, not while it runs"
    );
    assert!(
        before.tail_suspect == after.tail_suspect
            || after.term_at(after.durable_index) > before.term_at(before.durable_index),
        "a suspect tail is trusted again once an entry of a later term is durable"
    );
    let begun_anew = before.term_at(after.prev.index) != Some(after.prev.term);
    if begun_anew {
        assert!(
            after.prev.index > before.commit_index,
            "a log begins anew only after all that is committed in it (P5)"
        );
        assert!(
            after.installing && after.truncations > before.truncations,
            "a log that begins anew is not durable yet, and what was written before no longer counts"
        );
    }
    let from = after.prev.index + 1;
    assert_eq!(
        before.runs_between(from, before.commit_index),
        after.runs_between(from, before.commit_index),
        "committed entries never change (P5)"
    );
    if before.truncations == after.truncations {
        assert!(
            after.last_index >= before.last_index,
            "a log only shrinks by a counted truncation"
        );
        assert!(
            after.durable_index >= before.durable_index,
            "what is durable stays so unless truncated"
        );
        assert_eq!(
            before.runs_between(from, before.last_index),
            after.runs_between(from, before.last_index),
            "entries only change by a counted truncation"
        );
    }
}

fn check_leader_transition(before: &View, after: &View) {
    assert_eq!(
        before.truncations, after.truncations,
        "a leader never removes entries (5.3, Leader Append-Only)"
    );
    for (peer, was) in &before.peers {
        if let Some((_, is)) = after.peers.iter().find(|(other, _)| other == peer) {
            assert!(
                is.match_index >= was.match_index,
                "what a peer acknowledged stays so (peer {peer})"
            );
        }
    }
    if after.commit_index > before.commit_index {
        assert_eq!(
            after.term_at(after.commit_index),
            Some(after.ballot.term),
            "a leader commits by counting only entries of its own term (5.4.2)"
        );
    }
}

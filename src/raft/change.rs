//! Changing who belongs to the group, by joint consensus (section 6).
//!
//! Owns when a change may begin, how the leader carries it through, and what becomes of a leader that is no member any
//! more. It must not know why members change, or who decides it. Entries of a change travel on the walk append.

use std::borrow::Cow;

use super::core::Raft;
use super::leader::Leading;
use super::membership::{ChangeError, MEMBERS_MAX, Target, VOTERS_MAX};
use super::mutation;
use super::progress::Progress;
use super::transfer::Transfer;
use super::{Index, LogId, Membership, Millis, NodeId, OwnEntry, ProgressState};

/// What was committed some time ago: a learner that has it keeps up with the group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// When `index` was taken.
    taken_at: Millis,
    /// The commit index then.
    index: Index,
    /// The commit index when the one before was taken: an election timeout ago, at least.
    before: Index,
}

impl Pace {
    pub(super) fn new(now: Millis, commit_index: Index) -> Pace {
        Pace {
            taken_at: now,
            index: commit_index,
            before: commit_index,
        }
    }
}

impl Raft {
    /// Appends the entry that begins a change to `target`, and returns its identity; it is in force at once.
    ///
    /// A change of voters is joint: once that first entry is committed, whoever leads then appends the one that concludes
    /// it. A change of learners alone is one entry.
    pub fn propose_membership(
        &mut self,
        now: Millis,
        mut target: Target,
    ) -> Result<LogId, ChangeError> {
        self.wake(now);
        let Some(leading) = self.leading() else {
            return Err(ChangeError::NotLeader {
                leader: self.leader,
            });
        };
        target.voters.sort_unstable();
        target.learners.sort_unstable();
        let (index, current) = self.members.current();
        check_target(&target, current)?;
        let settled = self.commit_index >= leading.first_of_term
            || mutation::is("membership changes before the term's first commit");
        if !settled || leading.transfer.is_some() {
            return Err(ChangeError::Unsettled);
        }
        if current.joint() || index > self.commit_index {
            return Err(ChangeError::InProgress { index });
        }
        if current.voters == target.voters && current.learners == target.learners {
            return Err(ChangeError::Nothing);
        }
        let lags = |voter: &&NodeId| !current.is_voter(**voter) && !self.is_caught_up(**voter);
        if let Some(&voter) = target.voters.iter().find(lags) {
            return Err(ChangeError::NotCaughtUp(voter));
        }
        let mut next = Membership {
            voters: target.voters,
            voters_outgoing: Vec::new(),
            learners: target.learners,
        };
        if next.voters != current.voters
            && !mutation::is("voters change without a joint membership")
        {
            next.voters_outgoing.clone_from(&current.voters);
        }
        self.append_own(OwnEntry::Membership(next));
        Ok(self.log.last_id())
    }

    /// Whether `peer` is a learner that could vote without holding the group up: it is there, entries are streamed to it,
    /// and it has durably what was committed an election timeout ago.
    pub fn is_caught_up(&self, peer: NodeId) -> bool {
        let Some(leading) = self.leading() else {
            return false;
        };
        let alive_for = self.config.election_timeout_max_ms;
        self.members.current().1.is_learner(peer)
            && leading.peers.get(&peer).is_some_and(|progress| {
                progress.state() == ProgressState::Pipeline
                    && progress.match_index >= leading.pace.before.max(leading.first_of_term)
                    && self.now < progress.heard_at.saturating_add(alive_for)
            })
    }

    /// Time goes by at a leader: what was committed when, for [`Raft::is_caught_up`].
    pub(super) fn note_pace(&mut self) {
        let (now, commit_index) = (self.now, self.commit_index);
        let interval = self.config.election_timeout_max_ms;
        if let Some(Leading { pace, .. }) = self.leading_mut()
            && now >= pace.taken_at.saturating_add(interval)
        {
            *pace = Pace {
                taken_at: now,
                index: commit_index,
                before: pace.index,
            };
        }
    }

    /// More is committed: carries a change on, if there is one. A joint membership that is committed is left, whoever
    /// began it; one that is committed without this leader among its voters needs another leader.
    pub(super) fn carry_change_on(&mut self) {
        if self.leading().is_none() || !self.membership_is_committed() {
            return;
        }
        let (index, membership) = self.members.current();
        let lost = self.log.term_at(index) != Some(self.term())
            && mutation::is("a joint membership of an earlier term is never left");
        if membership.joint() && !lost {
            let next = Membership {
                voters: membership.voters.clone(),
                voters_outgoing: Vec::new(),
                learners: membership.learners.clone(),
            };
            self.append_own(OwnEntry::Membership(next));
        } else if !membership.is_voter(self.config.node) {
            self.hand_over();
        }
    }

    /// The membership by which a leader counts what is durable: the one in force.
    pub(super) fn counted_membership(&self) -> Cow<'_, Membership> {
        let (node, mut counted) = (self.config.node, self.members.current().1);
        if mutation::is("a membership counts once it is committed") {
            counted = self.members.at(self.commit_index);
        }
        if mutation::is("a leader outside the voters is counted") && !counted.voters.contains(&node)
        {
            let mut counted = counted.clone();
            counted.voters.pop();
            counted.voters.push(node);
            return Cow::Owned(counted);
        }
        Cow::Borrowed(counted)
    }

    fn membership_is_committed(&self) -> bool {
        self.members.current().0 <= self.commit_index
    }

    /// Whether a committed membership says that this node shall not lead.
    pub(super) fn is_voted_out(&self) -> bool {
        let (_, membership) = self.members.current();
        self.membership_is_committed()
            && !membership.joint()
            && !membership.is_voter(self.config.node)
    }

    /// Hands leadership to the voter that has most of the log. If that fails, [`Raft::tick`] ends it all the same.
    fn hand_over(&mut self) {
        let deadline = self.now + self.config.election_timeout_max_ms;
        let voters = self.members.current().1.voters.clone();
        let Some(leading) = self.leading_mut() else {
            return;
        };
        let best = voters
            .into_iter()
            .filter_map(|voter| leading.peers.get(&voter).map(|peer| (peer, voter)))
            .max_by_key(|(peer, _)| (peer.match_index, peer.heard_at))
            .map(|(_, voter)| voter);
        // A transfer that is under way goes to a voter that stays: no other is taken as its target.
        if let (Some(to), None) = (best, &leading.transfer) {
            leading.transfer = Some(Transfer::new(to, deadline));
            self.hurry_transfer(to);
        }
    }

    /// The membership in force is another: whoever is new is asked where its log ends, whoever is gone is forgotten.
    pub(super) fn keep_peers_of_membership(&mut self) {
        let (now, node, last_index) = (self.now, self.config.node, self.log.last_index());
        let members = self.members.current().1.members();
        let Some(leading) = self.leading_mut() else {
            return;
        };
        leading.peers.retain(|peer, _| members.contains(peer));
        let is_new = |member: &NodeId| *member != node && !leading.peers.contains_key(member);
        let new: Vec<NodeId> = members.into_iter().filter(is_new).collect();
        for &peer in &new {
            leading.peers.insert(peer, Progress::new(last_index, now));
        }
        for peer in new {
            self.send_probe(peer);
        }
    }
}

/// Whether `target` (sorted) makes sense at all, coming from `current`.
fn check_target(target: &Target, current: &Membership) -> Result<(), ChangeError> {
    let (voters, learners) = (&target.voters, &target.learners);
    if voters.is_empty() {
        return Err(ChangeError::NoVoters);
    }
    if voters[0] == 0 || learners.first() == Some(&0) {
        return Err(ChangeError::NotANode(0));
    }
    let twice = |list: &[NodeId]| {
        let pair = list.windows(2).find(|pair| pair[0] == pair[1]);
        pair.map(|pair| pair[0])
    };
    let in_both = || learners.iter().find(|node| voters.contains(node)).copied();
    if let Some(node) = twice(voters).or_else(|| twice(learners)).or_else(in_both) {
        return Err(ChangeError::Duplicate(node));
    }
    // Both sets of voters stand in the joint membership.
    let members = voters.len() + current.voters.len() + learners.len();
    if voters.len() > VOTERS_MAX || members > MEMBERS_MAX {
        return Err(ChangeError::TooMany);
    }
    Ok(())
}

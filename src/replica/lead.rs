//! Who leads: what a change of role or leader means for those who wait, and handing leadership over.
//!
//! It must not know how leaders are chosen. A ticket of a fallen leader is answered with a retriable
//! error, never with success: the entry may be committed yet, or cut, and a retry finds out.

use super::effects::Answer;
use super::replica::{Change, Replica, Transfer};
use crate::raft::{
    ChangeError, Membership, Millis, NodeId, NotLeader, Role, Target, Term, TransferError, mutation,
};
use crate::wire::ApiError;

impl Replica {
    pub(super) fn on_role(&mut self, role: Role, term: Term, leader: Option<NodeId>) {
        tracing::debug!(
            group = self.config.group,
            ?role,
            term,
            leader,
            "another role, term or leader"
        );
        let leads = (role == Role::Leader).then_some(term);
        if self.leading.is_some() && leads != self.leading {
            // The entries may still be committed by another leader, or cut: not for us to say.
            while !mutation::is("tickets outlive their leader")
                && let Some(ticket) = self.pending.cut(0)
            {
                self.answer(ticket.origin, Err(not_leader(leader)));
            }
        }
        self.installs.stop_sending();
        if leads.is_none() {
            // The next leader carries on what was begun; whether it was, the caller finds out there.
            while let Some(change) = self.changes.take_if(|_| true) {
                self.reply(change.token, Err(not_leader(leader)));
            }
        }
        self.leading = leads;
        self.warming.clear();
        if let Some(leader) = leader {
            while let Some(done) = self.transfers.take_if(|transfer| transfer.to == leader) {
                self.reply(done.token, Ok(Answer::Transferred));
            }
        }
        while let Some(lost) = self.forwards.take_if(|other| Some(other.to) != leader) {
            self.forward_bytes -= lost.bytes;
            self.reply(lost.token, Err(ApiError::Unavailable));
        }
    }

    pub(super) fn on_transfer(&mut self, now: Millis, token: u64, to: NodeId) {
        match self.raft.transfer_leader(now, to) {
            Ok(()) => {
                self.transfers.insert(now, Transfer { token, to });
            }
            Err(TransferError::ToSelf) => self.reply(token, Ok(Answer::Transferred)),
            Err(TransferError::NotLeader { leader }) => {
                self.reply(token, Err(not_leader(leader)));
            }
            Err(error @ TransferError::NotAVoter(_)) => {
                let reason = error.to_string();
                self.reply(token, Err(ApiError::InvalidRequest { reason }));
            }
            Err(TransferError::InProgress(target)) if target == to => {
                self.transfers.insert(now, Transfer { token, to });
            }
            Err(TransferError::InProgress(_)) => self.reply(token, Err(ApiError::Overloaded)),
        }
    }

    pub(super) fn on_change(&mut self, now: Millis, token: u64, mut target: Target) {
        target.voters.sort_unstable();
        target.learners.sort_unstable();
        let refusal = match self.raft.propose_membership(now, target.clone()) {
            Ok(_) => {
                self.changes.insert(now, Change { token, target });
                return;
            }
            Err(refusal) => refusal,
        };
        let (index, membership) = self.raft.membership();
        match refusal {
            // The same request again: it is as the caller wants it, or on the way there.
            ChangeError::Nothing => self.reply(token, Ok(Answer::Changed { index })),
            ChangeError::InProgress { .. } if leads_to(membership, &target) => {
                self.changes.insert(now, Change { token, target });
            }
            other => self.reply(token, Err(other.into())),
        }
    }

    /// More is committed: perhaps the last entry of a change.
    pub(super) fn answer_changes(&mut self) {
        let (index, membership) = self.raft.membership();
        if membership.joint() || index > self.raft.commit_index() {
            return;
        }
        let membership = membership.clone();
        while let Some(change) = self.changes.take_if(|_| true) {
            let result = match leads_to(&membership, &change.target) {
                true => Ok(Answer::Changed { index }),
                false => Err(ApiError::Unavailable),
            };
            self.reply(change.token, result);
        }
    }
}

/// Whether `membership` is, or ends as, what `target` (sorted) says.
fn leads_to(membership: &Membership, target: &Target) -> bool {
    membership.voters == target.voters && membership.learners == target.learners
}

/// The answer of a replica that does not lead. The address is filled in by who knows it.
pub(super) fn not_leader(leader: Option<NodeId>) -> ApiError {
    ApiError::NotLeader {
        leader: leader.map(|node| (node, String::new())),
    }
}

impl From<NotLeader> for ApiError {
    fn from(error: NotLeader) -> ApiError {
        not_leader(error.leader)
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> ApiError {
        let reason = error.to_string();
        match error {
            ChangeError::NotLeader { leader } => not_leader(leader),
            ChangeError::Unsettled
            | ChangeError::InProgress { .. }
            | ChangeError::NotCaughtUp(_) => ApiError::NotYet { reason },
            ChangeError::NoVoters
            | ChangeError::Duplicate(_)
            | ChangeError::NotANode(_)
            | ChangeError::Nothing
            | ChangeError::TooMany => ApiError::InvalidRequest { reason },
        }
    }
}

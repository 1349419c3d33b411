//! Leadership transfer (thesis, 3.10): bring the target up to date, then ask it to campaign at once.
//!
//! Owns the hand-over and its failure: after an election timeout without a new leader, the old one goes on. While it
//! runs, proposals are refused, so that the target can catch up. It must not know why leadership moves.

use super::core::{Part, Raft};
use super::mutation;
use super::{Message, Millis, NodeId, TransferError};

/// A hand-over under way.
#[derive(Debug)]
pub(super) struct Transfer {
    /// Who shall lead.
    pub(super) to: NodeId,
    /// When to give it up.
    pub(super) deadline: Millis,
    /// The target has been asked to campaign. Once: a repeat could reach it late and depose its successor.
    asked: bool,
}

impl Transfer {
    pub(super) fn new(to: NodeId, deadline: Millis) -> Transfer {
        Transfer {
            to,
            deadline,
            asked: false,
        }
    }
}

impl Raft {
    /// Starts handing leadership to `to`. Proposals are refused until it succeeds, or fails after an election timeout.
    pub fn transfer_leader(&mut self, now: Millis, to: NodeId) -> Result<(), TransferError> {
        self.wake(now);
        let deadline = self.now + self.config.election_timeout_max_ms;
        let (own, leader) = (self.config.node, self.leader);
        // During a joint change a voter on its way out would only have to hand over again.
        let is_voter = self.members.current().1.voters.contains(&to);
        let Some(leading) = self.leading_mut() else {
            return Err(TransferError::NotLeader { leader });
        };
        if to == own {
            return Err(TransferError::ToSelf);
        }
        if !is_voter {
            return Err(TransferError::NotAVoter(to));
        }
        if let Some(transfer) = &leading.transfer {
            return Err(TransferError::InProgress(transfer.to));
        }
        leading.transfer = Some(Transfer::new(to, deadline));
        self.hurry_transfer(to);
        Ok(())
    }

    /// The target of the transfer under way, if any.
    pub fn transfer_target(&self) -> Option<NodeId> {
        self.leading()?
            .transfer
            .as_ref()
            .map(|transfer| transfer.to)
    }

    /// `peer` may have caught up: if it is the target, asks it to campaign.
    pub(super) fn hurry_transfer(&mut self, peer: NodeId) {
        let (last_index, term) = (self.log.last_index(), self.term());
        let Some(leading) = self.leading_mut() else {
            return;
        };
        let caught_up = leading
            .peers
            .get(&peer)
            .is_some_and(|progress| progress.match_index == last_index);
        if let Some(transfer) = &mut leading.transfer
            && transfer.to == peer
            && caught_up
            && !transfer.asked
        {
            transfer.asked = true;
            self.send(peer, Message::TimeoutNow { term });
            if self.is_voted_out() {
                // The next leader says nothing to who is no member, so this is the moment to stop.
                self.become_follower();
            }
        }
    }

    /// Gives a transfer up whose time is over. Returns whether there was one.
    pub(super) fn expire_transfer(&mut self) -> bool {
        let now = self.now;
        self.leading_mut().is_some_and(|leading| {
            let expired = |transfer: &mut Transfer| now >= transfer.deadline;
            leading.transfer.take_if(expired).is_some()
        })
    }

    /// The leader of our term wants us to take over.
    pub(super) fn on_timeout_now(&mut self, from: NodeId) {
        let follows = matches!(self.part, Part::Follower(_)) && self.leader == Some(from)
            || mutation::is("stale requests to campaign are obeyed");
        if follows
            && !self.is_pending()
            && !self.has_no_say()
            && self.members.current().1.is_voter(self.config.node)
        {
            self.campaign(true);
        }
    }
}

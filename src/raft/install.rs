//! A follower that is given a state in place of entries that nobody sends it any more (section 7, figure 13).
//!
//! Owns when a state is taken, what of the log goes with it, and that nothing is acknowledged before it is durable. It must not
//! know what the state contains: the shell keeps its bytes, and checks them before the core sees the last piece. The leader's side
//! is in `catch_up`. On the walk append.
//!
//! The state may be as of a later entry than the one the log begins anew after: the log then has to reach that entry first, and
//! the replica does not campaign until it has.

use super::core::{Part, Raft};
use super::mutation;
use super::{Effect, Index, Install, LogId, Membership, Message, Millis, NodeId};

/// Bytes of a state, at most.
pub const INSTALL_BYTES_MAX: u64 = 64 << 20;

/// What a leader gives to a peer that lacks entries trimmed at the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The entry before the leader's kept log: the peer's log is to begin anew after it.
    pub base: LogId,
    /// The last entry whose effect the state contains: committed, and at or after `base`.
    pub snapshot: LogId,
    /// The membership as of `snapshot`, and the index of its entry.
    pub membership: (Index, Membership),
    /// Length of the state.
    pub bytes: u64,
    /// Checksum of the state's bytes: two states of the same entry may differ in bytes.
    pub digest: u32,
}

impl Offer {
    /// Whether the numbers agree with each other. They may come from a faulty peer.
    pub(super) fn is_well_formed(&self) -> bool {
        let (base, snapshot) = (self.base, self.snapshot);
        base.index > 0
            && base.term > 0
            && snapshot.index >= base.index
            && snapshot.term >= base.term
            && (snapshot.index > base.index || snapshot == base)
            && self.membership.0 <= snapshot.index
            && self.membership.1.is_well_formed()
            && (1..=INSTALL_BYTES_MAX).contains(&self.bytes)
    }

    /// Later states overtake earlier ones.
    fn age(&self) -> (Index, Index) {
        (self.snapshot.index, self.base.index)
    }
}

impl Install {
    /// Whether the numbers agree with each other. They may come from a faulty peer.
    pub(super) fn is_well_formed(&self) -> bool {
        let end = self.offset.checked_add(self.len);
        self.offer.is_well_formed()
            && self.offer.snapshot.term <= self.term
            && self.len > 0
            && end.is_some_and(|end| end <= self.offer.bytes)
    }
}

/// A state that is being received.
#[derive(Debug)]
pub(super) struct Receiving {
    offer: Offer,
    /// Bytes received in order.
    received: u64,
}

impl Raft {
    /// InstallSnapshot of our term (figure 13), a piece of it.
    pub(super) fn on_install(&mut self, from: NodeId, install: Install) {
        self.follow(from);
        let Install {
            offer, offset, len, ..
        } = install;
        if self.holds(offer.base) && !mutation::is("a state takes what follows it along") {
            return self.acknowledge_base(from, offer.base);
        }
        assert!(
            offer.base.index > self.commit_index,
            "leader {from} of term {} offers a state that contradicts the committed entry {}",
            install.term,
            offer.base.index
        );
        let following = self.following();
        let known = following.receiving.take_if(|known| known.offer == offer);
        let mut received = known.map_or(0, |known| known.received);
        if let Some(other) = &following.receiving
            && other.offer.age() > offer.age()
        {
            // Overtaken: the leader has offered a later one since.
            return;
        }
        following.receiving = None;
        if offset == received {
            received += len;
            self.effects.push(Effect::KeepPiece { offset });
        }
        let at = (offer.base, offer.snapshot);
        if received == offer.bytes || mutation::is("a piece is taken for the whole") {
            self.begin_anew(offer);
        } else {
            self.following().receiving = Some(Receiving { offer, received });
        }
        let term = self.term();
        let reply = Message::InstallReply { term, at, received };
        self.send(from, reply);
    }

    /// Whether the log here has the entry, or had it and it was trimmed: then it was committed, here as everywhere.
    fn holds(&self, id: LogId) -> bool {
        let conflicts = self.log.id_at(id.index) != Some(id);
        let stays = mutation::is("a log that conflicts with a state stays");
        id.index < self.log.prev().index
            || !conflicts
            || (stays && id.index <= self.log.last_index())
    }

    /// The leader offers a state that is not needed (any more): the log is its own up to `base`.
    fn acknowledge_base(&mut self, leader: NodeId, base: LogId) {
        let following = self.following();
        following.receiving = None;
        following.verified_index = following.verified_index.max(base.index);
        // The leader has trimmed it, so it is committed.
        self.commit_to(base.index);
        self.acknowledge(leader, base.index);
    }

    /// All of a state is here. The log begins anew after its base, which covers all that is committed here; what was in the
    /// log besides was never committed. The disk follows.
    fn begin_anew(&mut self, offer: Offer) {
        let (base, pending) = (offer.base, offer.snapshot.index);
        let (index, membership) = offer.membership.clone();
        self.log.begin_anew(base);
        self.members.begin_anew(index.min(base.index), membership);
        // Nothing that is in the log now is known to be durable.
        self.durable_index = 0;
        self.installing += 1;
        self.truncations += 1;
        self.pending_index = pending;
        let following = self.following();
        following.verified_index = base.index;
        following.ack_owed = true;
        self.effects.push(Effect::Install(offer));
        self.commit_to(base.index);
    }

    /// The oldest state of an [`Effect::Install`] that was not told yet is saved, and the log begins anew, both fsynced.
    pub fn install_durable(&mut self, now: Millis) {
        self.advance(now);
        self.installing = self
            .installing
            .checked_sub(1)
            .expect("the shell tells of each install once");
        if self.installing > 0 {
            return;
        }
        self.durable_index = self.durable_index.max(self.log.prev().index);
        self.trust_tail_again();
        self.trust_tail_again();
        if matches!(self.part, Part::Follower(_)) {
            self.acknowledge_durable();
        }
        self.publish();
    }

    /// The shell refused the last piece: the state is not what its checksum says. It is received from the beginning.
    pub fn install_refused(&mut self) {
        if let Part::Follower(following) = &mut self.part {
            following.receiving = None;
        }
    }

    /// Whether a state is being received, of which the shell keeps the pieces.
    pub fn is_receiving(&self) -> bool {
        matches!(&self.part, Part::Follower(following) if following.receiving.is_some())
    }

    /// Whether an installed state is not durable yet, or contains entries that the log has not reached: such a replica knows
    /// too little to lead, and its log is too short to win.
    pub fn is_pending(&self) -> bool {
        self.installing > 0 || self.log.last_index() < self.pending_index
    }
}

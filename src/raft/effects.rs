//! What the core asks of the shell around it.
//!
//! Plain data. Effects are carried out in the order they are taken; disk effects of one group in that order too. What is
//! absent: waiting. Whatever must wait for the disk waits inside the core. On the walks produce and append.

use super::install::Offer;
use super::{Ballot, Index, LogId, Membership, Message, NodeId, Role, Term};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Save the ballot with fsync, then call [`super::Raft::ballot_durable`] with it.
    SaveBallot(Ballot),
    /// Remove all entries after `after` from the log: they conflict with the leader's. What was written before and
    /// completes later is told apart by [`super::Raft::truncations`].
    Truncate {
        /// The last entry that stays; inclusive.
        after: Index,
    },
    /// Of the frames that came with the `Append` being stepped, write exactly these; the others are here already.
    /// Call [`super::Raft::durable`] once fsynced.
    AppendRemote {
        /// First index to write.
        first: Index,
        /// Last index to write; inclusive.
        last: Index,
    },
    /// Build the frame of an entry of the core's own and write it, like a proposal.
    AppendOwn {
        /// Its identity.
        id: LogId,
        /// Its content.
        entry: OwnEntry,
    },
    /// The piece that came with the `Install` being stepped goes on at `offset` of what has been received; at 0, a new
    /// state begins and what came before is dropped.
    KeepPiece {
        /// Bytes received before it.
        offset: u64,
    },
    /// All of what `offer` names is here: save it, let the log begin anew after `offer.base`, in this order, and call
    /// [`super::Raft::install_durable`] once both are fsynced.
    Install(Offer),
    /// Send `message` now; whatever it asserts is durable.
    Send {
        /// Destination.
        to: NodeId,
        /// The message. An `Append` among the effects is always empty and needs no frames.
        message: Message,
    },
    /// Entries up to `index` are committed and may be shown to readers. They are durable on a quorum; on this very node
    /// they may not be yet, so after a crash this node may have to be sent the last of them again before it shows them.
    Commit {
        /// The new commit index; inclusive, always rising.
        index: Index,
    },
    /// Role, term or leader changed.
    Role {
        /// The role now.
        role: Role,
        /// The term now.
        term: Term,
        /// The leader of `term`, if known.
        leader: Option<NodeId>,
    },
    /// A read may be served: everything up to `index` is committed here (but perhaps not yet applied by the shell).
    ReadReady {
        /// The token given to [`super::Raft::read_index`].
        token: u64,
        /// What the read must see at least.
        index: Index,
    },
    /// A read cannot be confirmed now; it may be tried again.
    ReadFailed {
        /// The token given to [`super::Raft::read_index`].
        token: u64,
    },
}

/// An entry that the core itself puts into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnEntry {
    /// The empty entry that opens a leader's term (section 8 of the paper: it learns what is committed by it).
    Noop,
    /// The members of the group from this entry on.
    Membership(Membership),
}

/// What a peer that must be given a state needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallPlan {
    /// A state to be given: call [`super::Raft::offer_install`].
    Offer,
    /// The piece that begins here: send it as [`super::Raft::install_sent`] says.
    Piece {
        /// Position in the state's bytes.
        offset: u64,
    },
}

/// What may be sent to a peer next: whole frames from `first`, at least one, at most up to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendPlan {
    /// Index of the first frame to send.
    pub first: Index,
    /// Index of the last frame that may be sent; inclusive.
    pub last: Index,
    /// Room in the peer's window. Frames after the first one must fit.
    pub bytes_max: u64,
}

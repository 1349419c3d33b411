//! What cores say to each other. The network may lose, repeat, delay and reorder all of it.
//!
//! Plain data: no encoding here, and no payloads. An [`Append`] names entries by index and term; their frames travel
//! beside it and never enter the core. On the walks produce, append and read.

use super::install::Offer;
use super::{Index, LogId, Membership, NodeId, Run, Term};

/// A message from one core of a group to another. The sender's identity is checked outside and given to `step`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// "Could I win an election in `term`?" Changes no state at the receiver. (Ongaro's thesis, 9.6)
    PreVote {
        /// The term the sender would campaign in: its own plus one.
        term: Term,
        /// The sender's last entry.
        last: LogId,
    },
    /// Answer to `PreVote`.
    PreVoteReply {
        /// If granted the term that was asked about, else the term of the answering node.
        term: Term,
        /// Whether the receiver would vote for the sender.
        granted: bool,
        /// If so: whether that counts only if no voter refuses; see [`super::Restored::suspect_tail`].
        conditional: bool,
    },
    /// RequestVote of figure 2.
    Vote {
        /// The candidate's term.
        term: Term,
        /// The candidate's last entry.
        last: LogId,
        /// The leader itself asked the candidate to campaign: a live leader is no reason to refuse. (thesis, 3.10)
        transfer: bool,
    },
    /// Answer to `Vote`.
    VoteReply {
        /// Term of the answering node.
        term: Term,
        /// Whether its vote in `term` went to the receiver; if so, the vote is durable.
        granted: bool,
        /// If so: whether that counts only if no voter refuses; see [`super::Restored::suspect_tail`].
        conditional: bool,
    },
    /// AppendEntries of figure 2, without the payloads.
    Append(Append),
    /// Answer to `Append`.
    AppendReply {
        /// Term of the answering node.
        term: Term,
        /// What became of it.
        outcome: AppendOutcome,
    },
    /// InstallSnapshot of figure 13 (section 7), a piece of it: what stands for entries that the leader no longer keeps.
    /// Once all of it is durable, the receiver says so by an `AppendReply`.
    Install(Install),
    /// Answer to `Install`.
    InstallReply {
        /// Term of the answering node.
        term: Term,
        /// `base` and `snapshot` of the offer.
        at: (LogId, LogId),
        /// Bytes received in order so far: the next piece begins there.
        received: u64,
    },
    /// Sign of life of a leader, apart from bulk data.
    Heartbeat {
        /// The leader's term.
        term: Term,
        /// min(leader's commit index, what this follower acknowledged): the follower has it durably.
        commit: Index,
        /// Number of the round within the term. A confirmed round proves that the leader still led when it began.
        round: u64,
    },
    /// Answer to the first heartbeat of a round; repeats of the same round are not answered.
    HeartbeatReply {
        /// Term of the answering node.
        term: Term,
        /// The round answered.
        round: u64,
    },
    /// A heartbeat that also asks the follower to rest: the leader sent everything, had it acknowledged, and committed it.
    Rest {
        /// The leader's term.
        term: Term,
        /// The leader's commit index, and the end of its log.
        commit: Index,
        /// Number of the round, as of a `Heartbeat`.
        round: u64,
    },
    /// Answer to `Rest`: the follower has all of it, committed, and rests. One that does not sends a `HeartbeatReply`.
    RestReply {
        /// Term of the answering node.
        term: Term,
        /// The round answered.
        round: u64,
    },
    /// A follower's question: up to where must I have applied to serve a linearizable read? (thesis, 6.4)
    ReadIndex {
        /// Term of the asking node.
        term: Term,
        /// Returned in the reply.
        token: u64,
    },
    /// Answer to `ReadIndex`.
    ReadIndexReply {
        /// Term of the answering node.
        term: Term,
        /// Token of the question.
        token: u64,
        /// The index to wait for; `None` if the receiver cannot tell (it does not lead, or lost its quorum).
        index: Option<Index>,
    },
    /// The leader asks the receiver to campaign at once. (thesis, 3.10)
    TimeoutNow {
        /// The leader's term.
        term: Term,
    },
}

impl Message {
    /// The term the message bears.
    pub fn term(&self) -> Term {
        match *self {
            Message::PreVote { term, .. }
            | Message::PreVoteReply { term, .. }
            | Message::Vote { term, .. }
            | Message::VoteReply { term, .. }
            | Message::AppendReply { term, .. }
            | Message::InstallReply { term, .. }
            | Message::Heartbeat { term, .. }
            | Message::HeartbeatReply { term, .. }
            | Message::Rest { term, .. }
            | Message::RestReply { term, .. }
            | Message::ReadIndex { term, .. }
            | Message::ReadIndexReply { term, .. }
            | Message::TimeoutNow { term } => term,
            Message::Append(ref append) => append.term,
            Message::Install(ref install) => install.term,
        }
    }
}

impl Message {
    /// Whether the numbers agree with each other, and no index reaches `index_max`. They may come from a faulty peer.
    pub(super) fn is_well_formed(&self, index_max: Index) -> bool {
        match self {
            Message::Append(append) => append.last_index < index_max && append.is_well_formed(),
            Message::Install(install) => {
                install.offer.snapshot.index < index_max && install.is_well_formed()
            }
            _ => true,
        }
    }
}

/// Entries `prev.index + 1 ..= last_index` of the leader's log, named by their terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The entry before the first one sent: the receiver must hold it.
    pub prev: LogId,
    /// Terms of the entries: ascending, the first at `prev.index + 1`. Empty exactly if no entry is sent.
    pub runs: Vec<Run>,
    /// Index of the last entry sent; `prev.index` in an empty append, which only probes.
    pub last_index: Index,
    /// The memberships among the entries sent, by index, ascending.
    pub memberships: Vec<(Index, Membership)>,
    /// The leader's commit index; it may lie beyond `last_index`.
    pub commit: Index,
}

/// A piece of what an [`Offer`] names; the bytes travel beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// The leader's term.
    pub term: Term,
    /// What it is a piece of.
    pub offer: Offer,
    /// Where in the state's bytes the piece begins.
    pub offset: u64,
    /// Length of the piece, at least 1.
    pub len: u64,
}

/// What a follower did with an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// The follower's log is the leader's up to `matched`, and fsynced that far. Several appends may share one reply.
    Accepted {
        /// The last entry that is both known to match and durable. By (index, term): an index alone could be mistaken
        /// for an entry that has been replaced since.
        matched: LogId,
        /// The follower's commit index.
        commit: Index,
    },
    /// The follower does not hold `prev`.
    Rejected {
        /// `prev.index` of the append that was rejected.
        prev_index: Index,
        /// The follower's term at min(`prev_index`, `last_index`), and the first index of that term in its log.
        hint: LogId,
        /// The follower's last index.
        last_index: Index,
    },
}

/// A message and its destination. Only used inside the core, for messages that wait for the ballot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) to: NodeId,
    pub(super) message: Message,
}

//! The words of the core: numbers, identities and settings that messages, effects and state share.
//!
//! Plain data. It must not know how any of it is decided, sent or stored. On every walk.

use super::Membership;

/// A node's number, unique in the cluster, from 1. 0 is never a node.
pub type NodeId = u64;

/// A term of Raft (section 5.1): one leader at most. 0 is before the first election.
pub type Term = u64;

/// Number of an entry in its group's log, from 1. 0 is before the first entry.
pub type Index = u64;

/// Milliseconds of a monotonic clock; the origin is arbitrary. Handed in with each input, never read from a clock here.
pub type Millis = u64;

/// Identity of an entry: two logs that hold the same `LogId` are identical up to it (Log Matching, section 5.3).
///
/// Ordered by term, then index: the "more up-to-date" order of section 5.4.1. `{0, 0}` is before the first entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// Term in which the entry was appended by a leader.
    pub term: Term,
    /// Its index.
    pub index: Index,
}

impl LogId {
    /// The position before the first entry of a log.
    pub const ZERO: LogId = LogId { term: 0, index: 0 };
}

/// What a node must never forget across a crash: its term, and whom it voted for in that term.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ballot {
    /// The latest term this node has seen.
    pub term: Term,
    /// Who got this node's one vote in `term`; `None` if nobody did.
    pub vote: Option<NodeId>,
}

/// Consecutive entries of one term: from `first` until the next run, or until the end of the log or message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Index of the run's first entry.
    pub first: Index,
    /// Term of all entries of the run.
    pub term: Term,
}

/// Settings of one replica's core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub node: NodeId,
    /// Shortest election timeout, and the time during which a voter that has heard its leader refuses votes. Default 150.
    pub election_timeout_min_ms: u64,
    /// Longest election timeout. A leader that has heard no quorum for as long steps down. Default 300.
    pub election_timeout_max_ms: u64,
    /// Interval of heartbeats; well below `election_timeout_min_ms`. Default 50.
    pub heartbeat_ms: u64,
    /// Bytes of appends sent to one peer and not yet acknowledged, at most (one frame may pass it). Default 8 MiB.
    pub in_flight_bytes_max: u64,
    /// A peer whose log lacks more bytes than this is fed from the log, apart from what is new, until it lacks less than
    /// half of it. Default 64 MiB.
    pub catch_up_lag_bytes: u64,
    /// Bytes in flight to such a peer, at most (one frame may pass it). Default 4 MiB.
    pub catch_up_in_flight_bytes_max: u64,
    /// A leader to whom nothing has happened for so long asks its followers to rest, and rests itself; `None`: never. Whoever
    /// sets it watches the nodes and calls [`super::Raft::vouch`] and [`super::Raft::wake`]. Default `None`.
    pub rest_after_ms: Option<u64>,
    /// First election timeout after start, in place of a random one: a short one lets the preferred leader of a
    /// young group win without a contest. Only a hint: no rule of safety depends on it.
    pub first_timeout_ms: Option<u64>,
    /// Seed of the election timeouts and of request tokens. Must differ between nodes and between starts of a node.
    pub seed: u64,
}

impl Config {
    /// The default settings for `node`.
    pub fn new(node: NodeId, seed: u64) -> Config {
        Config {
            node,
            election_timeout_min_ms: 150,
            election_timeout_max_ms: 300,
            heartbeat_ms: 50,
            in_flight_bytes_max: 8 << 20,
            catch_up_lag_bytes: 64 << 20,
            catch_up_in_flight_bytes_max: 4 << 20,
            rest_after_ms: None,
            first_timeout_ms: None,
            seed,
        }
    }
}

/// What a replica finds on its disk when it starts. Everything in it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The saved ballot.
    pub ballot: Ballot,
    /// The entry before the first one kept: [`LogId::ZERO`] for a log that was never trimmed.
    pub prev: LogId,
    /// Term runs of the kept entries, ascending, the first at `prev.index + 1`; empty if none is kept.
    pub runs: Vec<Run>,
    /// Index of the last entry; `prev.index` if none is kept.
    pub last_index: Index,
    /// Memberships by the index of their entry, ascending, never empty. The first is the base: the one the group was
    /// created with (index 0), or the one in force at `prev`. The others are entries of the kept log.
    pub memberships: Vec<(Index, Membership)>,
    /// An index known to be committed, such as the one of a snapshot; at least `prev.index`, at most `last_index`.
    pub commit_index: Index,
    /// Entries after `last_index` may have been here, and acknowledged, and cannot be read any more. Then this replica must
    /// not help a shorter log to win: until it holds an entry of a later term than `ballot.term` durably, its votes count
    /// only where every voter agrees. It must stay true across restarts until [`super::Raft::tail_suspect`] says otherwise.
    pub suspect_tail: bool,
    /// A replica of this group was here before, up to this term, and nothing is left of what it voted and acknowledged; the
    /// ballot's term is later. Until an entry of a later term is durable here, this one neither votes nor campaigns: not even
    /// by the old memberships that it meets on the way.
    pub forgotten_term: Option<Term>,
    /// Last entry of an installed state that the log may not have reached yet: until it has, this replica does not
    /// campaign. 0 if there is none.
    pub pending_index: Index,
}

impl Restored {
    /// A replica that has never run, in a group created with `membership`.
    pub fn empty(membership: Membership) -> Restored {
        Restored {
            ballot: Ballot::default(),
            prev: LogId::ZERO,
            runs: Vec::new(),
            last_index: 0,
            memberships: vec![(0, membership)],
            commit_index: 0,
            suspect_tail: false,
            forgotten_term: None,
            pending_index: 0,
        }
    }
}

/// The part a node plays in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, known or not.
    Follower,
    /// Asks whether it could win an election; its term has not changed.
    PreCandidate,
    /// Asks for votes in its term.
    Candidate,
    /// Leads its term.
    Leader,
}

/// How a leader sends entries to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgressState {
    /// The end of the common log is being found, or found again: one empty append in flight, no entries.
    Probe,
    /// Entries are streamed without waiting for acknowledgements, bounded in bytes.
    Pipeline,
    /// The peer is far behind: entries are streamed from the log on disk, in a window of their own, and yield to all else.
    CatchUp,
    /// The peer lacks entries that are trimmed here: it is given a state that stands for them.
    Install,
}

/// Refusal of a request that only a leader can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica is not the leader, or is handing leadership over; ask {leader:?}")]
pub struct NotLeader {
    /// Whom to ask instead, if known.
    pub leader: Option<NodeId>,
}

/// Why leadership cannot be transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// Only a leader can hand leadership over.
    #[error("this replica is not the leader; ask {leader:?}")]
    NotLeader {
        /// Whom to ask instead, if known.
        leader: Option<NodeId>,
    },
    /// The target is this very node.
    #[error("this replica leads already")]
    ToSelf,
    /// The target has no vote in this group.
    #[error("node {0} is not a voter of this group")]
    NotAVoter(NodeId),
    /// Another transfer is under way.
    #[error("leadership is being handed to node {0}; wait until that ends")]
    InProgress(NodeId),
}

//! The raft core's messages as they are sent: the same fields, archived.
//!
//! Owns the numbering of the variants on the wire, which golden bytes pin; the core's own types may be rearranged without
//! changing a byte here. Knows nothing of envelopes or frames.

use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;
use super::error::ApiError;
use super::head::at_most;
use super::peer::{Content, ForwardAck, PeerCaps};
use crate::raft::{Append, AppendOutcome, LogId, Membership, Message, Run};

/// [`Content`], flat.
#[derive(Archive, Serialize, Deserialize)]
pub(super) enum ContentMirror {
    PreVote {
        term: u64,
        last: LogIdMirror,
    },
    PreVoteReply {
        term: u64,
        granted: bool,
        conditional: bool,
    },
    Vote {
        term: u64,
        last: LogIdMirror,
        transfer: bool,
    },
    VoteReply {
        term: u64,
        granted: bool,
        conditional: bool,
    },
    Append(AppendMirror),
    AppendAccepted {
        term: u64,
        matched: LogIdMirror,
        commit: u64,
    },
    AppendRejected {
        term: u64,
        prev_index: u64,
        hint: LogIdMirror,
        last_index: u64,
    },
    Heartbeat {
        term: u64,
        commit: u64,
        round: u64,
    },
    HeartbeatReply {
        term: u64,
        round: u64,
    },
    ReadIndex {
        term: u64,
        token: u64,
    },
    ReadIndexReply {
        term: u64,
        token: u64,
        index: Option<u64>,
    },
    TimeoutNow {
        term: u64,
    },
    Forward {
        token: u64,
    },
    Forwarded {
        token: u64,
        ack: ForwardAck,
    },
    ForwardFailed {
        token: u64,
        error: ApiError,
    },
}

/// [`LogId`].
#[derive(Clone, Copy, Archive, Serialize, Deserialize)]
pub(super) struct LogIdMirror {
    term: u64,
    index: u64,
}

/// [`Append`].
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct AppendMirror {
    term: u64,
    prev: LogIdMirror,
    runs: Vec<RunMirror>,
    last_index: u64,
    memberships: Vec<MembershipMirror>,
    commit: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct RunMirror {
    first: u64,
    term: u64,
}

#[derive(Archive, Serialize, Deserialize)]
struct MembershipMirror {
    index: u64,
    voters: Vec<u64>,
    voters_outgoing: Vec<u64>,
    learners: Vec<u64>,
}

impl ArchivedAppendMirror {
    /// Measures the lists of an append.
    pub(super) fn check(&self, caps: &PeerCaps) -> Result<(), WireError> {
        at_most("list of term runs", self.runs.len(), caps.term_runs_max)?;
        at_most(
            "list of memberships",
            self.memberships.len(),
            caps.members_max,
        )?;
        self.memberships.iter().try_for_each(|membership| {
            let members = membership.voters.len()
                + membership.voters_outgoing.len()
                + membership.learners.len();
            at_most("membership", members, caps.members_max)
        })
    }
}

impl From<LogId> for LogIdMirror {
    fn from(LogId { term, index }: LogId) -> Self {
        Self { term, index }
    }
}

impl From<LogIdMirror> for LogId {
    fn from(LogIdMirror { term, index }: LogIdMirror) -> Self {
        Self { term, index }
    }
}

impl From<&Append> for AppendMirror {
    fn from(append: &Append) -> Self {
        let membership = |(index, m): &(u64, Membership)| MembershipMirror {
            index: *index,
            voters: m.voters.clone(),
            voters_outgoing: m.voters_outgoing.clone(),
            learners: m.learners.clone(),
        };
        Self {
            term: append.term,
            prev: append.prev.into(),
            runs: append
                .runs
                .iter()
                .map(|run| RunMirror {
                    first: run.first,
                    term: run.term,
                })
                .collect(),
            last_index: append.last_index,
            memberships: append.memberships.iter().map(membership).collect(),
            commit: append.commit,
        }
    }
}

impl From<AppendMirror> for Append {
    fn from(append: AppendMirror) -> Self {
        let membership = |m: MembershipMirror| {
            (
                m.index,
                Membership {
                    voters: m.voters,
                    voters_outgoing: m.voters_outgoing,
                    learners: m.learners,
                },
            )
        };
        Self {
            term: append.term,
            prev: append.prev.into(),
            runs: append
                .runs
                .into_iter()
                .map(|run| Run {
                    first: run.first,
                    term: run.term,
                })
                .collect(),
            last_index: append.last_index,
            memberships: append.memberships.into_iter().map(membership).collect(),
            commit: append.commit,
        }
    }
}

impl From<&Content> for ContentMirror {
    fn from(content: &Content) -> Self {
        match content {
            Content::Raft(message) => Self::from(message),
            Content::Forward { token } => Self::Forward { token: *token },
            Content::ForwardReply {
                token,
                result: Ok(ack),
            } => Self::Forwarded {
                token: *token,
                ack: ack.clone(),
            },
            Content::ForwardReply {
                token,
                result: Err(error),
            } => Self::ForwardFailed {
                token: *token,
                error: error.clone(),
            },
        }
    }
}

impl From<&Message> for ContentMirror {
    fn from(message: &Message) -> Self {
        match *message {
            Message::PreVote { term, last } => Self::PreVote {
                term,
                last: last.into(),
            },
            Message::PreVoteReply {
                term,
                granted,
                conditional,
            } => Self::PreVoteReply {
                term,
                granted,
                conditional,
            },
            Message::Vote {
                term,
                last,
                transfer,
            } => Self::Vote {
                term,
                last: last.into(),
                transfer,
            },
            Message::VoteReply {
                term,
                granted,
                conditional,
            } => Self::VoteReply {
                term,
                granted,
                conditional,
            },
            Message::Append(ref append) => Self::Append(append.into()),
            Message::AppendReply {
                term,
                outcome: AppendOutcome::Accepted { matched, commit },
            } => Self::AppendAccepted {
                term,
                matched: matched.into(),
                commit,
            },
            Message::AppendReply {
                term,
                outcome:
                    AppendOutcome::Rejected {
                        prev_index,
                        hint,
                        last_index,
                    },
            } => Self::AppendRejected {
                term,
                prev_index,
                hint: hint.into(),
                last_index,
            },
            Message::Heartbeat {
                term,
                commit,
                round,
            } => Self::Heartbeat {
                term,
                commit,
                round,
            },
            Message::HeartbeatReply { term, round } => Self::HeartbeatReply { term, round },
            Message::ReadIndex { term, token } => Self::ReadIndex { term, token },
            Message::ReadIndexReply { term, token, index } => {
                Self::ReadIndexReply { term, token, index }
            }
            Message::TimeoutNow { term } => Self::TimeoutNow { term },
        }
    }
}

impl From<ContentMirror> for Content {
    fn from(content: ContentMirror) -> Self {
        let message = match content {
            ContentMirror::Forward { token } => return Self::Forward { token },
            ContentMirror::Forwarded { token, ack } => {
                let result = Ok(ack);
                return Self::ForwardReply { token, result };
            }
            ContentMirror::ForwardFailed { token, error } => {
                let result = Err(error);
                return Self::ForwardReply { token, result };
            }
            ContentMirror::PreVote { term, last } => Message::PreVote {
                term,
                last: last.into(),
            },
            ContentMirror::PreVoteReply {
                term,
                granted,
                conditional,
            } => Message::PreVoteReply {
                term,
                granted,
                conditional,
            },
            ContentMirror::Vote {
                term,
                last,
                transfer,
            } => Message::Vote {
                term,
                last: last.into(),
                transfer,
            },
            ContentMirror::VoteReply {
                term,
                granted,
                conditional,
            } => Message::VoteReply {
                term,
                granted,
                conditional,
            },
            ContentMirror::Append(append) => Message::Append(append.into()),
            ContentMirror::AppendAccepted {
                term,
                matched,
                commit,
            } => {
                let matched = matched.into();
                let outcome = AppendOutcome::Accepted { matched, commit };
                Message::AppendReply { term, outcome }
            }
            ContentMirror::AppendRejected {
                term,
                prev_index,
                hint,
                last_index,
            } => Message::AppendReply {
                term,
                outcome: rejected(prev_index, hint, last_index),
            },
            ContentMirror::Heartbeat {
                term,
                commit,
                round,
            } => Message::Heartbeat {
                term,
                commit,
                round,
            },
            ContentMirror::HeartbeatReply { term, round } => {
                Message::HeartbeatReply { term, round }
            }
            ContentMirror::ReadIndex { term, token } => Message::ReadIndex { term, token },
            ContentMirror::ReadIndexReply { term, token, index } => {
                Message::ReadIndexReply { term, token, index }
            }
            ContentMirror::TimeoutNow { term } => Message::TimeoutNow { term },
        };
        Self::Raft(message)
    }
}

fn rejected(prev_index: u64, hint: LogIdMirror, last_index: u64) -> AppendOutcome {
    AppendOutcome::Rejected {
        prev_index,
        hint: hint.into(),
        last_index,
    }
}

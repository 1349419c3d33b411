//! The raft core's messages as they are sent: the same fields, archived.
//!
//! Owns the numbering of the variants on the wire, which golden bytes pin; the core's own types may be rearranged without
//! changing a byte here. Knows nothing of envelopes or frames.

mod election;
mod rest;

use rkyv::{Archive, Deserialize, Serialize};

use super::WireError;
use super::error::ApiError;
use super::head::at_most;
use super::peer::{Content, ForwardAck, PeerCaps};
use crate::raft::{Append, AppendOutcome, Index, Install, LogId, Membership, Message, Offer, Run};

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
    Install(Box<InstallMirror>),
    InstallReply {
        term: u64,
        base: LogIdMirror,
        snapshot: LogIdMirror,
        received: u64,
    },
    Rest {
        term: u64,
        commit: u64,
        round: u64,
    },
    RestReply {
        term: u64,
        round: u64,
    },
    Beat {
        life: u64,
    },
}

/// [`Install`].
#[derive(Archive, Serialize, Deserialize)]
pub(super) struct InstallMirror {
    term: u64,
    base: LogIdMirror,
    snapshot: LogIdMirror,
    membership: MembershipMirror,
    bytes: u64,
    digest: u32,
    offset: u64,
    len: u64,
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
        self.memberships
            .iter()
            .try_for_each(|membership| membership.check(caps))
    }
}

impl ArchivedInstallMirror {
    /// Measures the membership of an install.
    pub(super) fn check(&self, caps: &PeerCaps) -> Result<(), WireError> {
        self.membership.check(caps)
    }
}

impl ArchivedMembershipMirror {
    fn check(&self, caps: &PeerCaps) -> Result<(), WireError> {
        let members = self.voters.len() + self.voters_outgoing.len() + self.learners.len();
        at_most("membership", members, caps.members_max)
    }
}

impl From<&(Index, Membership)> for MembershipMirror {
    fn from((index, membership): &(Index, Membership)) -> Self {
        Self {
            index: *index,
            voters: membership.voters.clone(),
            voters_outgoing: membership.voters_outgoing.clone(),
            learners: membership.learners.clone(),
        }
    }
}

impl From<MembershipMirror> for (Index, Membership) {
    fn from(mirror: MembershipMirror) -> Self {
        let membership = Membership {
            voters: mirror.voters,
            voters_outgoing: mirror.voters_outgoing,
            learners: mirror.learners,
        };
        (mirror.index, membership)
    }
}

impl From<&Install> for InstallMirror {
    fn from(install: &Install) -> Self {
        let offer = &install.offer;
        Self {
            term: install.term,
            base: offer.base.into(),
            snapshot: offer.snapshot.into(),
            membership: (&offer.membership).into(),
            bytes: offer.bytes,
            digest: offer.digest,
            offset: install.offset,
            len: install.len,
        }
    }
}

impl From<InstallMirror> for Install {
    fn from(install: InstallMirror) -> Self {
        Self {
            term: install.term,
            offer: Offer {
                base: install.base.into(),
                snapshot: install.snapshot.into(),
                membership: install.membership.into(),
                bytes: install.bytes,
                digest: install.digest,
            },
            offset: install.offset,
            len: install.len,
        }
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
            memberships: append.memberships.iter().map(Into::into).collect(),
            commit: append.commit,
        }
    }
}

impl From<AppendMirror> for Append {
    fn from(append: AppendMirror) -> Self {
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
            memberships: append.memberships.into_iter().map(Into::into).collect(),
            commit: append.commit,
        }
    }
}

impl From<&Content> for ContentMirror {
    fn from(content: &Content) -> Self {
        match content {
            Content::Raft(message) => Self::from(message),
            Content::Forward { token } => Self::Forward { token: *token },
            Content::Beat { life } => Self::Beat { life: *life },
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
            Message::PreVote { .. }
            | Message::PreVoteReply { .. }
            | Message::Vote { .. }
            | Message::VoteReply { .. } => election::mirror_of(message),
            Message::Append(ref append) => Self::Append(append.into()),
            Message::Install(ref install) => Self::Install(Box::new(install.into())),
            Message::InstallReply {
                term,
                at: (base, snapshot),
                received,
            } => Self::InstallReply {
                term,
                base: base.into(),
                snapshot: snapshot.into(),
                received,
            },
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
            Message::Rest { .. } | Message::RestReply { .. } => rest::mirror_of(message),
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
            ContentMirror::Beat { life } => return Self::Beat { life },
            rest @ (ContentMirror::Rest { .. } | ContentMirror::RestReply { .. }) => {
                rest::message_of(&rest)
            }
            ContentMirror::Forwarded { token, ack } => {
                let result = Ok(ack);
                return Self::ForwardReply { token, result };
            }
            ContentMirror::ForwardFailed { token, error } => {
                let result = Err(error);
                return Self::ForwardReply { token, result };
            }
            vote @ (ContentMirror::PreVote { .. }
            | ContentMirror::PreVoteReply { .. }
            | ContentMirror::Vote { .. }
            | ContentMirror::VoteReply { .. }) => election::message_of(&vote),
            ContentMirror::Append(append) => Message::Append(append.into()),
            ContentMirror::Install(install) => Message::Install((*install).into()),
            ContentMirror::InstallReply {
                term,
                base,
                snapshot,
                received,
            } => install_reply(term, base, snapshot, received),
            ContentMirror::AppendAccepted {
                term,
                matched,
                commit,
            } => accepted(term, matched, commit),
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

fn accepted(term: u64, matched: LogIdMirror, commit: u64) -> Message {
    let matched = matched.into();
    let outcome = AppendOutcome::Accepted { matched, commit };
    Message::AppendReply { term, outcome }
}

fn install_reply(term: u64, base: LogIdMirror, snapshot: LogIdMirror, received: u64) -> Message {
    Message::InstallReply {
        term,
        at: (base.into(), snapshot.into()),
        received,
    }
}

fn rejected(prev_index: u64, hint: LogIdMirror, last_index: u64) -> AppendOutcome {
    AppendOutcome::Rejected {
        prev_index,
        hint: hint.into(),
        last_index,
    }
}

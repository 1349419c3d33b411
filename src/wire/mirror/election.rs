//! The messages of elections, there and back. Owns those four pairs of variants; it must not know any other.

use super::ContentMirror;
use crate::raft::Message;

pub(super) fn mirror_of(message: &Message) -> ContentMirror {
    match *message {
        Message::PreVote { term, last } => ContentMirror::PreVote {
            term,
            last: last.into(),
        },
        Message::PreVoteReply {
            term,
            granted,
            conditional,
        } => ContentMirror::PreVoteReply {
            term,
            granted,
            conditional,
        },
        Message::Vote {
            term,
            last,
            transfer,
        } => ContentMirror::Vote {
            term,
            last: last.into(),
            transfer,
        },
        Message::VoteReply {
            term,
            granted,
            conditional,
        } => ContentMirror::VoteReply {
            term,
            granted,
            conditional,
        },
        _ => unreachable!("only called for these"),
    }
}

pub(super) fn message_of(content: &ContentMirror) -> Message {
    match *content {
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
        _ => unreachable!("only called for these"),
    }
}

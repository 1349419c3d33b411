//! The messages that let a group rest, there and back. Owns those two variants; it must not know any other.

use super::ContentMirror;
use crate::raft::Message;

pub(super) fn mirror_of(message: &Message) -> ContentMirror {
    match *message {
        Message::Rest {
            term,
            commit,
            round,
        } => ContentMirror::Rest {
            term,
            commit,
            round,
        },
        Message::RestReply { term, round } => ContentMirror::RestReply { term, round },
        _ => unreachable!("only called for these"),
    }
}

pub(super) fn message_of(content: &ContentMirror) -> Message {
    match *content {
        ContentMirror::Rest {
            term,
            commit,
            round,
        } => Message::Rest {
            term,
            commit,
            round,
        },
        ContentMirror::RestReply { term, round } => Message::RestReply { term, round },
        _ => unreachable!("only called for these"),
    }
}

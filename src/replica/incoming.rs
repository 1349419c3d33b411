//! The border of the append walk: frames that arrive beside an Append, before the core sees any of it.
//!
//! Owns the checks: every frame whole and unspoilt, and all of them together exactly the entries that
//! the message names, chained to each other and to what is here. It must not know what becomes of them.
//! A message that fails is dropped whole; nothing was changed.

use bytes::Bytes;
use segment_store::{Frame, FrameError, kind};

use super::snapshot::MembershipRow;
use super::tail::Tail;
use crate::raft::{Append, Index, Membership, Term};
use crate::wire::peek_head;

/// Why the frames of an Append were refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("a frame is damaged: {0}")]
    Frame(#[from] FrameError),
    #[error("the message names {named} entries and carries {carried}")]
    Count { named: u64, carried: u64 },
    #[error("frame {index} is of group {found}")]
    Group { index: Index, found: u64 },
    #[error("frame {found} stands where {expected} belongs")]
    Index { found: Index, expected: Index },
    #[error("frame {index} is of term {found}, the message says {expected:?}")]
    Term {
        index: Index,
        found: Term,
        expected: Option<Term>,
    },
    #[error("frame {index} does not chain to the one before")]
    Chain { index: Index },
    #[error("frame {index} does not start where the one before ends")]
    Offset { index: Index },
    #[error("frame {index} has the same index and term as ours, and is another frame")]
    Differs { index: Index },
    #[error("frame {index} holds no valid batch head")]
    Head { index: Index },
    #[error("the membership of frame {index} is not what the message says, or cannot be read")]
    Membership { index: Index },
}

/// Splits and checks the frames that came with `append`.
pub(crate) fn check(
    append: &Append,
    runs_of_frames: Vec<Bytes>,
    group: u64,
    tail: &Tail,
    payload_bytes_max: usize,
) -> Result<Vec<Frame>, Refusal> {
    let named = append.last_index.saturating_sub(append.prev.index);
    let mut frames = Vec::with_capacity(usize::try_from(named).unwrap_or(0).min(1024));
    for mut run in runs_of_frames {
        while !run.is_empty() {
            let frame = Frame::split_from(&mut run, payload_bytes_max, true)?;
            check_next(append, frames.last(), &frame, group)?;
            frames.push(frame);
        }
    }
    let carried = frames.len() as u64;
    if carried != named {
        return Err(Refusal::Count { named, carried });
    }
    check_joint(append, &frames, tail)?;
    Ok(frames)
}

/// Checks a frame against the message and the frame before it in the message.
fn check_next(
    append: &Append,
    before: Option<&Frame>,
    frame: &Frame,
    group: u64,
) -> Result<(), Refusal> {
    let header = frame.header();
    let index = header.index;
    let expected = before.map_or(append.prev.index, |before| before.header().index) + 1;
    if index != expected {
        return Err(Refusal::Index {
            found: index,
            expected,
        });
    }
    if header.group != group {
        return Err(Refusal::Group {
            index,
            found: header.group,
        });
    }
    let expected = append
        .runs
        .iter()
        .rev()
        .find(|run| run.first <= index)
        .map(|run| run.term);
    if expected != Some(header.term) {
        return Err(Refusal::Term {
            index,
            found: header.term,
            expected,
        });
    }
    if let Some(before) = before {
        if header.prev_header_crc != before.header_crc() {
            return Err(Refusal::Chain { index });
        }
        if header.base_offset != before.header().next_offset() {
            return Err(Refusal::Offset { index });
        }
    }
    if header.kind == kind::RECORDS && peek_head(&frame.payload()).is_err() {
        return Err(Refusal::Head { index });
    }
    let mut named = append.memberships.iter();
    let named = named
        .find(|(at, _)| *at == index)
        .map(|(_, membership)| membership);
    let carried = match header.kind {
        kind::MEMBERSHIP => match MembershipRow::decode(&frame.payload()) {
            Ok(row) => Some(row),
            Err(_) => return Err(Refusal::Membership { index }),
        },
        _ => None,
    };
    // The sender need not know any more that an old entry was a membership; what it does name must be so.
    if named.is_some() && named != carried.map(|row| row.to_membership()).as_ref() {
        return Err(Refusal::Membership { index });
    }
    Ok(())
}

/// The memberships among checked frames, by index: what the core is told, whether the message named them or not.
pub(crate) fn memberships(frames: &[Frame]) -> Vec<(Index, Membership)> {
    let carriers = frames
        .iter()
        .filter(|frame| frame.header().kind == kind::MEMBERSHIP);
    carriers
        .map(|frame| {
            let row = MembershipRow::decode(&frame.payload());
            let row = row.expect("checked at the border");
            (frame.header().index, row.to_membership())
        })
        .collect()
}

/// Checks the frames against what is here. Of the entries that both have, the last one decides: equal
/// there means equal before, by the chain.
fn check_joint(append: &Append, frames: &[Frame], tail: &Tail) -> Result<(), Refusal> {
    let both = frames.iter().rev().find(|frame| {
        let header = frame.header();
        tail.term_at(header.index) == Some(header.term)
    });
    if let Some(frame) = both {
        let index = frame.header().index;
        let ours = tail.get(index).map(|entry| entry.header_crc);
        if ours != Some(frame.header_crc()) {
            return Err(Refusal::Differs { index });
        }
        return Ok(());
    }
    let Some(first) = frames.first() else {
        return Ok(());
    };
    let Some(ours) = tail.get(append.prev.index) else {
        // Settled long ago, or not here at all: the core judges `prev`, and keeps nothing it has.
        return Ok(());
    };
    if ours.id != append.prev {
        return Ok(());
    }
    let index = first.header().index;
    if first.header().prev_header_crc != ours.header_crc {
        return Err(Refusal::Chain { index });
    }
    if first.header().base_offset != ours.next_offset {
        return Err(Refusal::Offset { index });
    }
    Ok(())
}

//! The append walk in the shell: what peers say, checked at the border, and the frames the core keeps.
//!
//! Owns the joint between messages and frames: a message whose frames are not exactly what it names is
//! dropped before the core sees it. It must not know the rules by which the core decides.

use bytes::Bytes;
use segment_store::{Frame, kind};

use super::incoming;
use super::producers::Stamp;
use super::replica::Replica;
use super::snapshot::MembershipRow;
use crate::raft::{Index, Message, Millis, NodeId};
use crate::wire::{Content, peek_head};

impl Replica {
    pub(super) fn on_peer(
        &mut self,
        now: Millis,
        from: NodeId,
        content: Content,
        frames: Vec<Bytes>,
    ) {
        match content {
            Content::Raft(message) => self.on_message(now, from, message, frames),
            Content::Forward { token } => self.on_forward(now, from, token, frames),
            Content::ForwardReply { token, result } => self.on_forward_reply(from, token, result),
            // Of nodes, not of groups: it is heard before it gets here.
            Content::Beat { .. } => {}
        }
    }

    fn on_message(
        &mut self,
        now: Millis,
        from: NodeId,
        mut message: Message,
        mut frames: Vec<Bytes>,
    ) {
        let mut arrived = Vec::new();
        if let Message::Append(append) = &mut message {
            let payload_bytes_max = self.config.batch_caps.payload_bytes_max;
            let group = self.config.group;
            let frames = std::mem::take(&mut frames);
            match incoming::check(append, frames, group, &self.tail, payload_bytes_max) {
                Ok(frames) => {
                    append.memberships = incoming::memberships(&frames);
                    arrived = frames;
                }
                Err(refusal) => {
                    tracing::warn!(group, from, %refusal, "an append was refused");
                    return;
                }
            }
        }
        let mut pieces = Vec::new();
        if let Message::Install(install) = &message {
            if !self.admit_piece(from, install, &frames) {
                return;
            }
            pieces = frames;
        }
        self.raft.step(now, from, message);
        self.absorb_with(arrived, &pieces);
    }

    /// Appends those of the `arrived` frames that the core keeps: `first` to `last`.
    pub(super) fn append_arrived(&mut self, arrived: Vec<Frame>, first: Index, last: Index) {
        for frame in arrived {
            let header = frame.header();
            let (index, base_offset) = (header.index, header.base_offset);
            if index < first || index > last {
                continue;
            }
            // What the state contains already takes no effect a second time.
            let counts = !self.installs.contain(index);
            if counts && header.kind == kind::RECORDS {
                let head = peek_head(&frame.payload()).expect("checked at the border");
                if let Some(stamp) = Stamp::of(&head, header.record_count) {
                    self.producers.appended(index, base_offset, &stamp);
                }
            }
            if counts && header.kind == kind::MEMBERSHIP {
                let membership = MembershipRow::decode(&frame.payload());
                let membership = membership.expect("checked at the border").to_membership();
                self.memberships.push_back((index, membership));
            }
            self.append(frame);
        }
        assert_eq!(
            self.tail.last().id.index,
            last,
            "the core was promised frames"
        );
    }
}

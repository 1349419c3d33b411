//! What the nodes of the scripted cluster hold: owns the reading of their logs, and the comparison between them.

use plimsoll::raft::{Index, NodeId};
use segment_store::Frame;

use crate::cluster::{Cluster, PAYLOAD_MAX};

impl Cluster {
    /// The frames of a node's log up to `last`, as they lie on its disk.
    pub(crate) fn frames(&mut self, id: NodeId, last: Index) -> Vec<Frame> {
        let reader = self.node(id).reader.clone();
        let mut frames = Vec::new();
        let mut next = reader.first_index();
        while next <= last {
            let mut run = reader.read(next, last, 1 << 20).unwrap();
            assert!(!run.bytes.is_empty(), "node {id} lacks entry {next}");
            while !run.bytes.is_empty() {
                let frame = Frame::split_from(&mut run.bytes, PAYLOAD_MAX, true).unwrap();
                next = frame.header().index + 1;
                frames.push(frame);
            }
        }
        frames
    }

    /// Checks that all live nodes hold the same bytes up to the commit index each of them knows (P2).
    pub(crate) fn check_identical(&mut self) {
        for id in self.live() {
            let first = self.node(id).reader.first_index();
            let upto = self.node(id).published.applied_index;
            let own = self.frames(id, upto);
            for other in self.live() {
                let upto = upto.min(self.node(other).published.applied_index);
                let theirs = self.frames(other, upto);
                let theirs = theirs.iter().filter(|frame| frame.header().index >= first);
                for (own, theirs) in own.iter().zip(theirs) {
                    if own.header().index == theirs.header().index {
                        assert_eq!(own.bytes(), theirs.bytes(), "node {id} against {other}");
                    }
                }
            }
        }
    }
}

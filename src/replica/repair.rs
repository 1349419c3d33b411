//! A group whose log is damaged: owns whom to ask next for what is missing, and when nobody is left to ask.
//!
//! No core runs for the group meanwhile: it neither votes nor leads nor acks. Synchronous: time and answers come from outside, the disk
//! through the log's own files. It must not know how a question reaches a peer. Any copy will do, for the log itself says which frames
//! are missing; so a replica that is damaged elsewhere answers as well as a leader.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use segment_store::{Fault, Missing, Repair, RepairError};

use crate::raft::{Index, Millis, NodeId};

/// Most bytes asked for at a time; a single frame may be larger.
pub const REPAIR_BYTES: usize = 1 << 20;
/// When a peer that did not answer is asked again.
const SILENT_RETRY_MS: Millis = 1_000;
/// When the disk is tried again that had no room.
const NO_SPACE_RETRY_MS: Millis = 1_000;
/// When everybody is asked again who had nothing.
const HALTED_RETRY_MS: Millis = 10_000;

/// What is to be done next about a damaged group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepairStep {
    /// Ask `peer` for frames that end with `last` and do not begin before `first`.
    Ask {
        /// The peer.
        peer: NodeId,
        /// First entry missing.
        first: Index,
        /// Last entry missing: the frames must end with it.
        last: Index,
    },
    /// Nothing before this time.
    Wait {
        /// When.
        until: Millis,
    },
    /// The log is whole: the group can be opened.
    Whole,
}

/// What a peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairAnswer {
    /// Frames that end with the last one asked for. Empty: it does not have that one.
    Frames(Bytes),
    /// The same, and the peer knows that they are committed.
    Committed(Bytes),
    /// It did not answer.
    Silence,
}

/// What is known of a repair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairStatus {
    /// The group.
    pub group: u64,
    /// Entries still missing.
    pub missing_entries: u64,
    /// First of them; 0 if there is none.
    pub first_missing: Index,
    /// Entries taken from others so far.
    pub repaired_entries: u64,
    /// Bytes of those.
    pub repaired_bytes: u64,
    /// All others were asked, and nobody has some entry that is missing.
    pub halted: bool,
    /// Index of the last entry that the log held.
    pub last_index: Index,
}

/// A group being repaired.
#[derive(Debug)]
pub struct Repairing {
    group: u64,
    repair: Repair,
    /// Who said that it lacks an entry, by the entry.
    lacking: BTreeMap<Index, BTreeSet<NodeId>>,
    /// When peers that did not answer may be asked again.
    silent: BTreeMap<NodeId, Millis>,
    /// Nothing is done before.
    not_before: Millis,
    /// Peers take turns.
    asked: usize,
    /// Frames were taken since peers said what they lack: what did not fit before may fit now.
    progressed: bool,
    status: RepairStatus,
}

impl Repairing {
    /// The repair of `group`, of whose log `repair` says what is missing.
    pub fn new(group: u64, repair: Repair) -> Repairing {
        let mut repairing = Repairing {
            group,
            lacking: BTreeMap::new(),
            silent: BTreeMap::new(),
            not_before: 0,
            asked: 0,
            progressed: false,
            status: RepairStatus {
                group,
                last_index: repair.last_index(),
                ..RepairStatus::default()
            },
            repair,
        };
        repairing.count_missing();
        repairing
    }

    /// What is to be done now; `peers` are all other nodes that may have a replica.
    ///
    /// # Errors
    /// The disk failed; the repair cannot go on.
    pub fn next(&mut self, now: Millis, peers: &[NodeId]) -> Result<RepairStep, Fault> {
        if now < self.not_before {
            return Ok(RepairStep::Wait {
                until: self.not_before,
            });
        }
        let holes: Vec<Missing> = self.repair.missing().collect();
        if holes.is_empty() {
            return self.finish(now);
        }
        for hole in &holes {
            if let Some(peer) = self.whom_to_ask(now, hole, peers) {
                return Ok(RepairStep::Ask {
                    peer,
                    first: hole.first,
                    last: hole.last,
                });
            }
        }
        let lacked_by_all = |hole: &Missing| {
            let lacking = self.lacking.get(&hole.last);
            peers
                .iter()
                .all(|peer| lacking.is_some_and(|lacking| lacking.contains(peer)))
        };
        let lacked = holes.iter().find(|hole| lacked_by_all(hole));
        if lacked.is_some() && std::mem::take(&mut self.progressed) {
            self.lacking.clear();
            self.not_before = now + 1;
        } else if let Some(hole) = lacked {
            if !std::mem::replace(&mut self.status.halted, true) {
                tracing::error!(
                    group = self.group,
                    first = hole.first,
                    last = hole.last,
                    ?peers,
                    "HALTED: no replica has these entries, which were promised here. Nothing is cut off and this replica stays closed; \
                     start every node that ever held the group, or bring a damaged disk's copy of these files back: the group goes on by itself"
                );
            }
            self.lacking.clear();
            self.not_before = now + HALTED_RETRY_MS;
        } else {
            let soonest = self.silent.values().copied().min();
            self.not_before = soonest.unwrap_or(0).max(now + 1);
        }
        Ok(RepairStep::Wait {
            until: self.not_before,
        })
    }

    /// What `peer` said to the question that ended with `last`.
    ///
    /// # Errors
    /// The disk failed; the repair cannot go on.
    pub fn answered(
        &mut self,
        now: Millis,
        peer: NodeId,
        last: Index,
        answer: RepairAnswer,
    ) -> Result<(), Fault> {
        let (frames, committed) = match answer {
            RepairAnswer::Silence => {
                self.silent.insert(peer, now + SILENT_RETRY_MS);
                return Ok(());
            }
            RepairAnswer::Frames(frames) => (frames, false),
            RepairAnswer::Committed(frames) => (frames, true),
        };
        self.silent.remove(&peer);
        if frames.is_empty() {
            self.lacking.entry(last).or_default().insert(peer);
            return Ok(());
        }
        if committed && self.repair.is_superseded_by(last, frames.clone()) {
            tracing::warn!(
                group = self.group,
                peer,
                last,
                "what is damaged here was never committed, and others have gone on otherwise; it is given up"
            );
            self.repair.give_up(last);
            self.count_missing();
            return Ok(());
        }
        let bytes = frames.len() as u64;
        match self.repair.accept(&frames) {
            Ok(entries) => {
                self.progressed = true;
                self.status.repaired_entries += entries;
                self.status.repaired_bytes += bytes;
                self.count_missing();
            }
            Err(error @ (RepairError::Unproven(_) | RepairError::Incomplete)) => {
                tracing::warn!(group = self.group, peer, last, %error, "a peer's frames are of no use for the repair");
                self.lacking.entry(last).or_default().insert(peer);
            }
            Err(RepairError::NoSpace) => self.wait_for_room(now),
            Err(RepairError::Fault(fault)) => return Err(fault),
        }
        Ok(())
    }

    /// Whole frames that end with the one at `last`, for a peer that lacks them; empty if they are not here.
    ///
    /// # Errors
    /// The disk could not be read.
    pub fn read_before(&self, first: Index, last: Index, bytes_max: usize) -> Result<Bytes, Fault> {
        self.repair.read_before(first, last, bytes_max)
    }

    /// How far it is.
    pub fn status(&self) -> RepairStatus {
        self.status
    }

    fn finish(&mut self, now: Millis) -> Result<RepairStep, Fault> {
        match self.repair.finish() {
            Ok(()) => Ok(RepairStep::Whole),
            Err(RepairError::Fault(fault)) => Err(fault),
            Err(RepairError::NoSpace | RepairError::Incomplete | RepairError::Unproven(_)) => {
                self.wait_for_room(now);
                Ok(RepairStep::Wait {
                    until: self.not_before,
                })
            }
        }
    }

    fn wait_for_room(&mut self, now: Millis) {
        tracing::warn!(group = self.group, "no space left to repair a log");
        self.not_before = now + NO_SPACE_RETRY_MS;
    }

    fn whom_to_ask(&mut self, now: Millis, hole: &Missing, peers: &[NodeId]) -> Option<NodeId> {
        let lacking = self.lacking.get(&hole.last);
        let may = |peer: &NodeId| {
            !lacking.is_some_and(|lacking| lacking.contains(peer))
                && self.silent.get(peer).is_none_or(|until| *until <= now)
        };
        let candidates: Vec<NodeId> = peers.iter().copied().filter(may).collect();
        let count = candidates.len().max(1);
        let chosen = candidates.get(self.asked % count).copied()?;
        self.asked = self.asked.wrapping_add(1);
        Some(chosen)
    }

    fn count_missing(&mut self) {
        let missing = || self.repair.missing();
        self.status.missing_entries = missing().map(|hole| hole.last + 1 - hole.first).sum();
        self.status.first_missing = missing().next().map_or(0, |hole| hole.first);
        self.status.halted = false;
    }
}

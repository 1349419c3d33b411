//! The groups of a node that are being repaired: owns who works on which, and what others may ask of them meanwhile.
//!
//! It must not know how peers are asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use segment_store::Fault;

use super::repair::{RepairAnswer, RepairStatus, RepairStep, Repairing};
use crate::raft::{Index, Millis, NodeId};

/// Damaged groups of this node.
#[derive(Debug, Default)]
pub(crate) struct Repairs {
    groups: Mutex<BTreeMap<u64, Arc<RepairHandle>>>,
    /// Groups whose log is to be read byte by byte before it is opened again.
    distrusted: Mutex<BTreeSet<u64>>,
}

/// A group being repaired. What may take long is behind one lock, what is asked often behind another.
#[derive(Debug)]
pub struct RepairHandle {
    repairing: Mutex<Repairing>,
    status: Mutex<RepairStatus>,
}

impl Repairs {
    pub(crate) fn begin(&self, repairing: Repairing) {
        let status = repairing.status();
        let handle = Arc::new(RepairHandle {
            status: Mutex::new(status),
            repairing: Mutex::new(repairing),
        });
        lock(&self.groups).insert(status.group, handle);
    }

    pub(crate) fn get(&self, group: u64) -> Option<Arc<RepairHandle>> {
        lock(&self.groups).get(&group).cloned()
    }

    pub(crate) fn end(&self, group: u64) {
        lock(&self.groups).remove(&group);
    }

    pub(crate) fn statuses(&self) -> Vec<RepairStatus> {
        let groups = lock(&self.groups);
        groups.values().map(|handle| handle.status()).collect()
    }

    pub(crate) fn distrust(&self, group: u64) {
        lock(&self.distrusted).insert(group);
    }

    /// Whether the log is to be looked at closely; asked once.
    pub(crate) fn take_distrust(&self, group: u64) -> bool {
        lock(&self.distrusted).remove(&group)
    }
}

impl RepairHandle {
    /// [`Repairing::next`]; blocks.
    ///
    /// # Errors
    /// The disk failed.
    pub fn next(&self, now: Millis, peers: &[NodeId]) -> Result<RepairStep, Fault> {
        self.with(|repairing| repairing.next(now, peers))
    }

    /// [`Repairing::answered`]; blocks.
    ///
    /// # Errors
    /// The disk failed.
    pub fn answered(
        &self,
        now: Millis,
        peer: NodeId,
        last: Index,
        answer: RepairAnswer,
    ) -> Result<(), Fault> {
        self.with(|repairing| repairing.answered(now, peer, last, answer))
    }

    /// [`Repairing::read_before`]; blocks.
    ///
    /// # Errors
    /// The disk could not be read.
    pub fn read_before(&self, first: Index, last: Index, bytes_max: usize) -> Result<Bytes, Fault> {
        lock(&self.repairing).read_before(first, last, bytes_max)
    }

    /// How far it is; does not block.
    pub fn status(&self) -> RepairStatus {
        *lock(&self.status)
    }

    fn with<T>(&self, act: impl FnOnce(&mut Repairing) -> T) -> T {
        let mut repairing = lock(&self.repairing);
        let done = act(&mut repairing);
        *lock(&self.status) = repairing.status();
        done
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

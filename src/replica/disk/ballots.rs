//! Votes on their way to the disk: when a node is lost, a third of all groups elect at once. Owns how many ballots are saved together.
//!
//! On the election walk: nothing that depends on a ballot leaves before it is reported here. All that are queued are written before the first
//! is synced, and their syncs go side by side, so that a burst of elections takes a fraction of the time that one after another would. Must
//! not know who votes, nor how a ballot lies in its file.

use segment_store::ballot;

use super::worker::DiskWorker;
use crate::replica::jobs::DiskReport;

/// Ballots saved together, at most: the first is told when the last is durable.
const TOGETHER_MAX: usize = 128;

impl DiskWorker {
    /// Saves the ballots that are queued, or the first of very many, and says so. False if there is none.
    pub(super) fn save_ballots(&mut self, report: &mut dyn FnMut(DiskReport)) -> bool {
        let mut some = Vec::new();
        while some.len() < TOGETHER_MAX
            && let Some(queued) = self.ballots.pop_first()
        {
            some.push(queued);
        }
        if some.is_empty() {
            return false;
        }
        let mut held = self.hold(some);
        held.retain(|(_, disk)| !disk.is_poisoned());
        let saves = held.iter_mut();
        let saves = saves.map(|(ballot, disk)| disk.save_ballot(*ballot));
        let saved = ballot::save_all(self.fs.as_ref(), saves.collect());
        for ((ballot, mut disk), saved) in held.into_iter().zip(saved) {
            disk.ballot_saved(ballot, saved, report);
        }
        true
    }
}

//! What the page cache keeps of a log: owns which pages it is told to let go, and when, and whether a log counts as consumed.
//!
//! Beside the write walk. A copy that nobody reads need not hold memory: a new page for every page written costs more than the write itself, and what
//! it pushes out is what somebody does read. Only pages that are on the disk go, far enough behind the end that no reader takes them
//! for being in memory; those that a reader has touched stay, since they are mapped. Must not know: who reads, who leads.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Log;
use crate::fs::FsFile;
use crate::reader::HOT_BYTES;

/// Let go at a time: one call for many writes.
const STEP_BYTES: u64 = 4 << 20;
/// A log that no consumer has read while so many bytes were written has none.
const CONSUMED_WITHIN_BYTES: u64 = 1 << 30;

/// What was written since the log was first asked to let go, and is in memory still.
#[derive(Debug, Default)]
pub(super) struct Cached {
    /// Oldest first.
    files: VecDeque<Written>,
}

#[derive(Debug)]
struct Written {
    file: Arc<dyn FsFile>,
    /// In memory from here (inclusive) ...
    from: u64,
    /// ... to here (exclusive).
    to: u64,
}

impl Cached {
    /// Notes that `file` is durable up to `to`. What it held when it was first noted stays in memory.
    pub(super) fn note(&mut self, file: &Arc<dyn FsFile>, to: u64) {
        match self.files.back_mut() {
            Some(last) if Arc::ptr_eq(&last.file, file) => last.to = to,
            Some(last) => {
                last.to = last.file.len();
                let file = Arc::clone(file);
                self.files.push_back(Written { file, from: 0, to });
            }
            None => {
                let file = Arc::clone(file);
                self.files.push_back(Written { file, from: to, to });
            }
        }
    }

    /// Lets go of all but the newest `kept` bytes.
    fn let_go(&mut self, kept: u64) {
        let held: u64 = self.files.iter().map(|file| file.to - file.from).sum();
        let mut surplus = held.saturating_sub(kept);
        if surplus < STEP_BYTES {
            return;
        }
        while surplus > 0
            && let Some(oldest) = self.files.front_mut()
        {
            let until = oldest.to.min(oldest.from + surplus);
            oldest.file.let_go(oldest.from..until);
            surplus -= until - oldest.from;
            oldest.from = until;
            if until == oldest.to && self.files.len() > 1 {
                self.files.pop_front();
            }
        }
    }
}

impl Log {
    /// Lets the page cache go of what is durable and was appended since [`Log::keep_cached`], but for the last `kept` bytes (32 MiB at least)
    /// and what readers hold. Advice: nothing that is read changes, a late reader waits for the disk.
    pub fn let_go_cached(&mut self, kept: u64) {
        if !self.tail.dirty {
            self.note_cached(self.tail.contents.end_position);
        }
        self.cached.let_go(kept.max(HOT_BYTES));
    }

    /// The tail is durable up to `position`.
    pub(super) fn note_cached(&mut self, position: u64) {
        self.cached.note(&self.tail.file, position);
    }

    /// Whether a consumer has read since the last gigabyte was written.
    pub fn is_consumed(&self) -> bool {
        self.shared.is_consumed_within(CONSUMED_WITHIN_BYTES)
    }

    /// What is in memory now stays there, whatever is let go later.
    pub fn keep_cached(&mut self) {
        self.cached = Cached::default();
    }
}

#[cfg(test)]
#[path = "cached_tests.rs"]
mod tests;

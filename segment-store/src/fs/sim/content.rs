//! One simulated file: what is seen, what is on the platter, and all that may be there after a crash.
//!
//! Owns the sector model of the simulated disk. Must not know names, directories, or which operation is being counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, IoSlice};
use std::ops::Range;

use crate::fs::SECTOR_BYTES;

/// States of one sector kept besides the durable and the visible one; older ones in between are forgotten.
const STATES_BETWEEN_MAX: usize = 6;

type Sector = Box<[u8]>;

/// Content of a file, visible and durable.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// What a read sees: the page cache.
    visible: Vec<u8>,
    /// Sectors written since the last sync: the durable state first, then what was visible before each later write. Any
    /// of these, or the visible state, may be on the platter.
    pending: BTreeMap<usize, Vec<Sector>>,
    /// Sectors that a failed sync marked clean: the platter holds this, the cache something newer, and no later sync
    /// writes it.
    lost: BTreeMap<usize, Sector>,
    /// Whether the file's length was ever synced.
    len_durable: bool,
    unreadable: BTreeSet<usize>,
}

impl Content {
    /// A new file of zeros, nothing of it durable yet.
    pub(super) fn zeros(len: usize) -> Content {
        Content {
            visible: vec![0; len],
            ..Content::default()
        }
    }

    /// A file that is durable as it is.
    pub(super) fn durable(bytes: Vec<u8>) -> Content {
        Content {
            visible: bytes,
            len_durable: true,
            ..Content::default()
        }
    }

    pub(super) fn len(&self) -> usize {
        self.visible.len()
    }

    pub(super) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.visible[range]
    }

    /// The next sectors from `position` on that are not all zeros, or cannot be read.
    pub(super) fn data_from(&self, position: usize) -> Range<usize> {
        let len = self.len();
        let is_data = |sector: &usize| {
            let range = sector * SECTOR_BYTES..len.min((sector + 1) * SECTOR_BYTES);
            self.unreadable.contains(sector) || self.visible[range].iter().any(|byte| *byte != 0)
        };
        let sectors = len.div_ceil(SECTOR_BYTES);
        let start = (position / SECTOR_BYTES..sectors).find(is_data);
        let Some(start) = start else {
            return len..len;
        };
        let end = (start..sectors).find(|sector| !is_data(sector));
        let end = end.map_or(len, |end| end * SECTOR_BYTES);
        (start * SECTOR_BYTES).max(position)..end
    }

    /// An error if any sector of `range` is unreadable.
    pub(super) fn check_readable(&self, range: Range<usize>) -> io::Result<()> {
        match self.unreadable.range(sectors_of(range)).next() {
            Some(_) => Err(rustix::io::Errno::IO.into()),
            None => Ok(()),
        }
    }

    /// Writes at most `bytes_max` bytes of the buffers, which fit into the file; all of it pending.
    pub(super) fn write(&mut self, buffers: &[IoSlice<'_>], position: usize, bytes_max: usize) {
        let total: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        let end = position + total.min(bytes_max);
        for sector in sectors_of(position..end) {
            let before = self.sector(sector).into();
            let states = self.pending.entry(sector).or_insert_with(|| {
                // A page that a failed sync left clean becomes dirty again; the platter still holds what it held.
                self.lost.remove(&sector).into_iter().collect()
            });
            states.push(before);
            if states.len() > 1 + STATES_BETWEEN_MAX {
                states.remove(1);
            }
            self.unreadable.remove(&sector);
        }
        let mut at = position;
        for buffer in buffers {
            let piece = buffer.len().min(end - at);
            self.visible[at..at + piece].copy_from_slice(&buffer[..piece]);
            at += piece;
        }
    }

    /// Makes all pending sectors durable.
    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.len_durable = true;
    }

    /// A sync that reports an error: the pending sectors never reach the platter, and no later sync tries again.
    pub(super) fn fail_sync(&mut self) {
        for (sector, mut states) in std::mem::take(&mut self.pending) {
            self.lost.insert(sector, states.swap_remove(0));
        }
    }

    /// Bytes at rest change, in every state the sector may be in.
    pub(super) fn flip_bit(&mut self, position: usize, bit: u8) {
        let mask = 1 << bit;
        self.visible[position] ^= mask;
        let (sector, within) = (position / SECTOR_BYTES, position % SECTOR_BYTES);
        let pending = self.pending.get_mut(&sector).into_iter().flatten();
        for state in pending.chain(self.lost.get_mut(&sector)) {
            state[within] ^= mask;
        }
    }

    /// Bytes meant for elsewhere land here, in every state the sectors may be in.
    pub(super) fn overwrite(&mut self, position: usize, bytes: &[u8]) {
        let end = (position + bytes.len()).min(self.visible.len());
        for (at, &byte) in (position..end).zip(bytes) {
            self.visible[at] = byte;
            let (sector, within) = (at / SECTOR_BYTES, at % SECTOR_BYTES);
            let pending = self.pending.get_mut(&sector).into_iter().flatten();
            for state in pending.chain(self.lost.get_mut(&sector)) {
                state[within] = byte;
            }
        }
    }

    pub(super) fn make_unreadable(&mut self, position: usize) {
        self.unreadable.insert(position / SECTOR_BYTES);
    }

    /// The power goes: of each pending sector one of its states survives, at most one sector is torn or spoilt, and what
    /// survives is all there is from now on.
    pub(super) fn crash(&mut self, rng: &mut fastrand::Rng) {
        let pending = std::mem::take(&mut self.pending);
        // Extremes matter as much as mixtures: nothing written back, or everything.
        let keep_percent = [0, 100, 50, rng.u32(0..=100)][rng.usize(0..4)];
        let torn = match rng.bool() && !pending.is_empty() {
            true => pending.keys().nth(rng.usize(0..pending.len())).copied(),
            false => None,
        };
        for (sector, states) in pending {
            let survived = if torn == Some(sector) {
                tear(&states, self.sector(sector), rng)
            } else if rng.u32(0..100) < keep_percent {
                continue;
            } else if states.len() > 1 && rng.u32(0..4) == 0 {
                states[rng.usize(1..states.len())].clone()
            } else {
                states[0].clone()
            };
            self.set_sector(sector, &survived);
        }
        for (sector, state) in std::mem::take(&mut self.lost) {
            self.set_sector(sector, &state);
        }
        if !self.len_durable {
            let len = [0, self.len(), rng.usize(0..=self.len())][rng.usize(0..3)];
            self.visible.truncate(len);
            self.len_durable = true;
        }
    }

    fn sector(&self, sector: usize) -> &[u8] {
        let start = sector * SECTOR_BYTES;
        &self.visible[start..(start + SECTOR_BYTES).min(self.visible.len())]
    }

    fn set_sector(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR_BYTES;
        self.visible[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

/// A sector cut while it was written: new up to a point and old after it, or the reverse, or garbage. Bytes that no pending
/// write changed keep their value (powersafe overwrite).
fn tear(states: &[Sector], newest: &[u8], rng: &mut fastrand::Rng) -> Sector {
    let oldest = &states[0];
    let mut torn = oldest.clone();
    let cut = rng.usize(0..=torn.len());
    let how = rng.u32(0..3);
    for (at, byte) in torn.iter_mut().enumerate() {
        let changed =
            newest[at] != oldest[at] || states.iter().any(|state| state[at] != oldest[at]);
        if !changed {
            continue;
        }
        match how {
            0 if at < cut => *byte = newest[at],
            1 if at >= cut => *byte = newest[at],
            2 => *byte = rng.u8(..),
            _ => {}
        }
    }
    torn
}

fn sectors_of(range: Range<usize>) -> Range<usize> {
    range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES)
}

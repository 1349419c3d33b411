//! Which runs of whole frames a damaged file holds. Owns the search behind a hole.
//!
//! On the repair walk. Must not know: which of the runs count.

use std::io;

use super::{Run, Sheet};
use crate::format::FrameHeader;
use crate::scan::Scan;

/// Distance of the places in a run of frames that a reader may start from.
const STEP_BYTES: u64 = 64 << 10;
/// Runs of frames behind one hole that are told apart; more damage than that in one file, and the rest of it counts as missing.
const RUNS_MAX: usize = 4096;

impl Sheet {
    /// Runs of whole frames from `position` on, with indexes after `after` and up to `last`, in the order of both position and index.
    pub(super) fn runs(
        &self,
        mut position: u64,
        after: u64,
        last: u64,
        last_crc: Option<u32>,
    ) -> io::Result<Vec<Run>> {
        let mut scan = self.scan();
        let mut runs: Vec<Run> = Vec::new();
        // What a damaged payload holds is not looked at, as long as its header tells how long it is.
        let mut expected = (after + 1, None);
        let end = self.header.file_len.min(self.file.real_len());
        while runs.len() < RUNS_MAX && position < end {
            let floor = runs.last().map_or(after, |run| run.last);
            if let Some(run) = self.run_at(&mut scan, position, floor, last)? {
                position = run.end;
                expected = (run.last + 1, Some(run.last_crc));
                let complete = run.last == last && last_crc.is_none_or(|crc| crc == run.last_crc);
                runs.push(run);
                if complete {
                    break;
                }
                continue;
            }
            match scan.header_at(position)? {
                Some((header, crc)) if self.follows(&header, expected) => {
                    position += header.frame_len() as u64;
                    expected = (header.index + 1, Some(crc));
                }
                _ => position += 64,
            }
        }
        Ok(runs)
    }

    fn follows(&self, header: &FrameHeader, expected: (u64, Option<u32>)) -> bool {
        header.group == self.header.identity.group
            && header.index == expected.0
            && expected.1.is_none_or(|crc| header.prev_header_crc == crc)
    }

    /// The run that begins at `position`, if a frame does that has an index after `floor`.
    fn run_at(
        &self,
        scan: &mut Scan,
        position: u64,
        floor: u64,
        last: u64,
    ) -> io::Result<Option<Run>> {
        let mut run: Option<Run> = None;
        let mut at = position;
        while let Some((header, crc)) = scan.frame_at(at)? {
            let fits = header.group == self.header.identity.group
                && header.index <= last
                && self.admits(header.index, crc)
                && match &run {
                    None => header.index > floor,
                    Some(run) => {
                        header.index == run.last + 1
                            && header.prev_header_crc == run.last_crc
                            && header.base_offset == run.next_offset
                            && header.term >= run.last_term
                    }
                };
            if !fits {
                break;
            }
            let run = run.get_or_insert_with(|| Run {
                first: header.index,
                last: header.index,
                position,
                end: position,
                link: header.prev_header_crc,
                last_crc: crc,
                last_term: header.term,
                next_offset: header.base_offset,
                steps: vec![(header.index, at)],
            });
            if run
                .steps
                .last()
                .is_none_or(|&(_, step)| at - step >= STEP_BYTES)
            {
                run.steps.push((header.index, at));
            }
            at += header.frame_len() as u64;
            run.last = header.index;
            run.end = at;
            run.last_crc = crc;
            run.last_term = header.term;
            run.next_offset = header.next_offset();
        }
        Ok(run)
    }
}

//! What of a cold log is read before it is wanted: owns the stretches that are on their way to a consumer, and the reading of the next one.
//!
//! On the fetch walk. One stretch is sent while the next ones are read on threads that may block: one from the disk while the one before is checked. So a
//! fetch holds three of them at most, and what its connection has not acknowledged. Must not know offsets, sockets, commits.

use std::collections::VecDeque;
use std::time::Instant;

use segment_store::{FrameRun, LoadMemory, LogReader, ReadError};
use tokio::task::JoinHandle;

use crate::wire::ApiError;

/// Stretches that are read at a time.
const LOADING_MAX: usize = 2;
/// Below so many bytes a second it is worth keeping in memory what was read, for whoever comes next.
const SLOW_BYTES_PER_S: f64 = 200e6;
/// A disk is slow when so many stretches in a row were.
const SLOW_IN_ROW: u32 = 4;
/// Less than this tells nothing about the disk.
const TELLING_BYTES: usize = 1 << 20;

/// The stretches of one fetch.
pub(super) struct Ahead {
    memory: LoadMemory,
    runs: VecDeque<FrameRun>,
    /// Read the stretches that begin with these indexes, one behind the other.
    loading: VecDeque<(u64, JoinHandle<Stretch>)>,
    slow_in_row: u32,
}

/// A stretch that was read.
struct Stretch {
    runs: Result<Vec<FrameRun>, ReadError>,
    is_slow: Option<bool>,
}

impl Ahead {
    pub(super) fn new(memory: LoadMemory) -> Ahead {
        Ahead {
            memory,
            runs: VecDeque::new(),
            loading: VecDeque::new(),
            slow_in_row: 0,
        }
    }

    /// The run of frames that begins with `from` and ends at or before `last`, from the disk or from where it was read to before; `None` if what
    /// lies there is in memory as far as is known, to be had from `reader` at once.
    pub(super) async fn next(
        &mut self,
        reader: &LogReader,
        from: u64,
        last: u64,
        run_bytes_max: usize,
    ) -> Result<Option<Result<FrameRun, ReadError>>, ApiError> {
        if self.runs.front().is_none_or(|run| run.first_index != from) {
            self.runs.clear();
            if !reader.is_cold(from, run_bytes_max) {
                self.loading.clear();
                return Ok(None);
            }
            if self.loading.front().is_none_or(|(first, _)| *first != from) {
                self.loading.clear();
            }
            let loading = match self.loading.pop_front() {
                Some((_, loading)) => loading,
                None => self.begin(reader, from, last, run_bytes_max),
            };
            let stretch = loading.await.map_err(|_| ApiError::Internal)?;
            self.slow_in_row = match stretch.is_slow {
                Some(true) => self.slow_in_row + 1,
                Some(false) => 0,
                None => self.slow_in_row,
            };
            match stretch.runs {
                Ok(runs) => self.runs = runs.into(),
                Err(error) => return Ok(Some(Err(error))),
            }
            self.begin_next(reader, last, run_bytes_max);
        }
        Ok(self.runs.pop_front().map(Ok))
    }

    /// Has the stretches behind the newest one read.
    fn begin_next(&mut self, reader: &LogReader, last: u64, run_bytes_max: usize) {
        let mut next = match self.loading.back() {
            Some((first, _)) => reader.stretch_end(*first),
            None => self.runs.back().map(|run| run.last_index + 1),
        };
        while self.loading.len() < LOADING_MAX
            && let Some(first) = next.filter(|first| *first <= last)
            && reader.is_cold(first, run_bytes_max)
        {
            let loading = self.begin(reader, first, last, run_bytes_max);
            self.loading.push_back((first, loading));
            next = reader.stretch_end(first);
        }
    }

    fn begin(
        &self,
        reader: &LogReader,
        from: u64,
        last: u64,
        run_bytes_max: usize,
    ) -> JoinHandle<Stretch> {
        let reader = reader.clone();
        let memory = (self.slow_in_row < SLOW_IN_ROW).then(|| self.memory.clone());
        tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let runs = reader.load(from, last, run_bytes_max, memory.as_ref());
            let bytes = runs.iter().flatten().map(|run| run.bytes.len()).sum();
            let is_slow = is_slow(bytes, begun.elapsed().as_secs_f64());
            Stretch { runs, is_slow }
        })
    }
}

/// Whether a disk that gave so much in this time is slow; `None` if that does not tell.
fn is_slow(bytes: usize, seconds: f64) -> Option<bool> {
    (bytes >= TELLING_BYTES).then_some((bytes as f64) < SLOW_BYTES_PER_S * seconds)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use segment_store::fs::{Fs, SimFs, ensure_dir};
    use segment_store::{Frame, FrameHeader, Log, LogIdentity, LogOptions, kind};

    use super::*;

    const FRAMES: u64 = 2_000;

    /// A log of 16 MiB in several segments, of which nothing was written since it was opened.
    fn reopened() -> Log {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(7));
        let dir = Path::new("log");
        ensure_dir(fs.as_ref(), dir).unwrap();
        let open = || {
            let identity = LogIdentity {
                cluster: [1; 16],
                group: 7,
            };
            let options = LogOptions {
                segment_bytes_max: 9 << 20,
                ..LogOptions::default()
            };
            Log::open(Arc::clone(&fs), dir, identity, options, None)
                .unwrap()
                .0
        };
        let mut log = open();
        for index in 1..=FRAMES {
            let header = FrameHeader {
                kind: kind::RECORDS,
                codec: 0,
                flags: 0,
                index,
                term: 1,
                base_offset: index - 1,
                max_timestamp: 0,
                payload_len: 0,
                payload_crc: 0,
                prev_header_crc: log.last_header_crc(),
                record_count: 1,
                group: 7,
            };
            log.append(&[Frame::build(header, &[index as u8; 8_000])])
                .unwrap();
        }
        log.close().unwrap();
        open()
    }

    #[tokio::test]
    async fn a_cold_log_comes_whole_and_in_order_and_no_further_than_allowed() {
        let log = reopened();
        let reader = log.reader();
        let mut ahead = Ahead::new(LoadMemory::new(64 << 20));
        // A reader that jumps, and an end that moves, as commits do.
        for (from, last) in [(1, 700), (701, 1_000), (500, FRAMES), (1, FRAMES)] {
            let mut next = from;
            while next <= last {
                let run = ahead.next(&reader, next, last, 100_000).await.unwrap();
                let run = match run {
                    Some(run) => run.unwrap(),
                    None => reader.read(next, last, 100_000).unwrap(),
                };
                assert_eq!(run.first_index, next);
                assert!(run.last_index <= last);
                let same = reader.read(next, run.last_index, usize::MAX).unwrap();
                assert!(same.bytes.starts_with(&run.bytes));
                assert!(run.bytes.len() <= 100_000 && run.next_offset == run.last_index);
                assert!(ahead.loading.len() <= LOADING_MAX);
                next = run.last_index + 1;
            }
        }
    }

    #[test]
    fn a_disk_is_slow_by_what_it_gives_in_a_second_and_little_tells_nothing() {
        assert_eq!(is_slow(4 << 20, 0.002), Some(false));
        assert_eq!(is_slow(4 << 20, 0.1), Some(true));
        assert_eq!(is_slow(TELLING_BYTES - 1, 10.0), None);
    }
}

//! What of a cold log is read before it is wanted: owns the stretches that are on their way to a consumer, and the threads that read the next ones.
//!
//! On the fetch walk. One stretch is sent while others are read on threads that may block. Each reads and checks one stretch after the other as long as there
//! is room, so that the disk does not wait for the network, nor for the check, during which it reads for another thread. So a fetch holds
//! [`STRETCHES_MAX`] of them at most, the one that is sent, and what its connection has not acknowledged. Must not know offsets, sockets, commits.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use segment_store::{FrameRun, LoadMemory, LogReader, ReadError};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;

use crate::wire::ApiError;

/// Stretches that are being read or checked, or wait to be sent.
const STRETCHES_MAX: usize = 4;
/// Threads that read for one fetch: while one checks its stretch, the disk reads that of the other.
const READERS: usize = 2;
/// Below so many bytes a second it is worth keeping in memory what was read, for whoever comes next.
const SLOW_BYTES_PER_S: f64 = 200e6;
/// A disk is slow when so many stretches in a row were.
const SLOW_IN_ROW: u32 = 4;
/// Less than this tells nothing about the disk.
const TELLING_BYTES: usize = 1 << 20;

/// A stretch that was checked, or why it cannot be sent.
type Runs = Result<Vec<FrameRun>, ReadError>;

/// The stretches of one fetch. Dropped, what is read ahead is given up.
pub(super) struct Ahead {
    /// What is left of the stretch that is sent.
    runs: VecDeque<FrameRun>,
    queue: Arc<Queue>,
}

/// The stretches behind that one, shared with the threads that read them.
struct Queue {
    reader: LogReader,
    memory: LoadMemory,
    run_bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their first index, one behind the other.
    stretches: VecDeque<(u64, oneshot::Receiver<Runs>)>,
    /// Where the one behind them begins, where that is known without reading.
    next: Option<u64>,
    /// The last index that may be read.
    last: u64,
    /// Threads that read.
    readers: usize,
    slow_in_row: u32,
}

/// A stretch to be read.
struct Job {
    first: u64,
    last: u64,
    memory: Option<LoadMemory>,
    done: oneshot::Sender<Runs>,
}

impl Ahead {
    /// Reads for one fetch, whose runs have `run_bytes_max` bytes or are a single frame.
    pub(super) fn new(reader: LogReader, memory: LoadMemory, run_bytes_max: usize) -> Ahead {
        Ahead {
            runs: VecDeque::new(),
            queue: Arc::new(Queue {
                reader,
                memory,
                run_bytes_max,
                state: Mutex::default(),
            }),
        }
    }

    /// The run of frames that begins with `from` and ends at or before `last`, from the disk or from where it was read to before; `None` if what
    /// lies there is in memory as far as is known, to be had from the log's reader at once.
    pub(super) async fn next(
        &mut self,
        from: u64,
        last: u64,
    ) -> Result<Option<Result<FrameRun, ReadError>>, ApiError> {
        if self.runs.front().is_none_or(|run| run.first_index != from) {
            self.runs.clear();
            let Some(stretch) = self.queue.take(from, last) else {
                return Ok(None);
            };
            match stretch.await.map_err(|_| ApiError::Internal)? {
                Ok(runs) => self.runs = runs.into(),
                Err(error) => return Ok(Some(Err(error))),
            }
        }
        Ok(self.runs.pop_front().map(Ok))
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.queue.lock().give_up();
    }
}

impl Queue {
    /// The stretch that begins with `from`, and has those behind it read as far as `last`; `None` if it is in memory.
    fn take(self: &Arc<Self>, from: u64, last: u64) -> Option<oneshot::Receiver<Runs>> {
        let mut state = self.lock();
        state.last = last;
        if state
            .stretches
            .front()
            .is_none_or(|(first, _)| *first != from)
        {
            state.give_up();
            state.next = Some(from);
            self.begin(&mut state);
        }
        let (_, stretch) = state.stretches.pop_front()?;
        // Those that read stop when there is no room.
        if state.readers < READERS {
            self.begin(&mut state);
        }
        Some(stretch)
    }

    /// Has a thread read on, if there is something to read.
    fn begin(self: &Arc<Self>, state: &mut State) {
        if let Some(job) = self.next_job(state) {
            state.readers += 1;
            let queue = Arc::clone(self);
            spawn_blocking(move || queue.read_on(job));
        }
    }

    /// Reads until there is no room or nothing to read; blocks.
    fn read_on(&self, mut job: Job) {
        loop {
            let begun = Instant::now();
            let memory = job.memory.as_ref();
            let runs = self
                .reader
                .load(job.first, job.last, self.run_bytes_max, memory);
            let bytes = runs.iter().flatten().map(|run| run.bytes.len()).sum();
            let slow = is_slow(bytes, begun.elapsed().as_secs_f64());
            // If the fetch is over, nobody needs to know.
            let _ = job.done.send(runs);
            let mut state = self.lock();
            state.slow_in_row = match slow {
                Some(true) => state.slow_in_row + 1,
                Some(false) => 0,
                None => state.slow_in_row,
            };
            // There is one too many for a moment when a fetch has jumped.
            let next = match state.readers > READERS {
                true => None,
                false => self.next_job(&mut state),
            };
            match next {
                Some(next) => job = next,
                None => {
                    state.readers -= 1;
                    return;
                }
            }
        }
    }

    /// The next stretch to be read, which has its place in the row from now on.
    fn next_job(&self, state: &mut State) -> Option<Job> {
        let first = state.next.filter(|first| *first <= state.last)?;
        if state.stretches.len() == STRETCHES_MAX || !self.reader.is_cold(first, self.run_bytes_max)
        {
            return None;
        }
        state.next = self.reader.stretch_end(first);
        let (done, stretch) = oneshot::channel();
        state.stretches.push_back((first, stretch));
        Some(Job {
            first,
            last: state.last,
            memory: (state.slow_in_row < SLOW_IN_ROW).then(|| self.memory.clone()),
            done,
        })
    }

    /// A panic of whoever held it leaves a row of stretches that is checked against what is wanted.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_up(&mut self) {
        self.stretches.clear();
        self.next = None;
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
        let memory = LoadMemory::new(64 << 20);
        let mut ahead = Ahead::new(reader.clone(), memory, 100_000);
        // A reader that jumps, and an end that moves, as commits do.
        for (from, last) in [(1, 700), (701, 1_000), (500, FRAMES), (1, FRAMES)] {
            let mut next = from;
            while next <= last {
                let run = ahead.next(next, last).await.unwrap();
                let run = match run {
                    Some(run) => run.unwrap(),
                    None => reader.read(next, last, 100_000).unwrap(),
                };
                assert_eq!(run.first_index, next);
                assert!(run.last_index <= last);
                let same = reader.read(next, run.last_index, usize::MAX).unwrap();
                assert!(same.bytes.starts_with(&run.bytes));
                assert!(run.bytes.len() <= 100_000 && run.next_offset == run.last_index);
                assert!(ahead.queue.lock().stretches.len() <= STRETCHES_MAX);
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

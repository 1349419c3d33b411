//! The disk of one process: for each stream a thread that writes batches into a file, one `fdatasync` for all that came meanwhile.
//!
//! Owns the files. Each is a ring: it was written beforehand and is written over from its start, so that making files costs nothing while something is
//! measured; or, where fresh files are asked for, room is reserved for one after another as a log does it. Must not know where batches come from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use segment_store::fs::{Fs, FsFile, RealFs};

/// As long as a full segment of the log, or shorter where many streams would take long to write beforehand.
const FILE_BYTES_MAX: u64 = 128 << 20;
const FILE_BYTES_MIN: u64 = 8 << 20;
const FILES_BYTES: u64 = 512 << 20;

/// A batch to be written.
pub(crate) struct Job {
    pub(crate) sequence: u64,
    pub(crate) body: Bytes,
}

/// Makes the file of each stream, and starts a thread for it, so that their syncs go side by side. `report` is told of each stream's last
/// durable batch; of the last written one if nothing is to be synced.
pub(crate) fn start(
    folder: &Path,
    streams: usize,
    sync: bool,
    fresh: bool,
    report: impl Fn(usize, u64) + Clone + Send + 'static,
) -> Vec<mpsc::Sender<Job>> {
    let len = (FILES_BYTES / streams as u64).clamp(FILE_BYTES_MIN, FILE_BYTES_MAX);
    let starts = (0..streams).map(|stream| {
        let mut ring = Ring::new(folder, stream, len, fresh);
        let report = report.clone();
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            while let Ok(first) = queue.recv() {
                let mut written = 0;
                let rest = std::iter::from_fn(|| queue.try_recv().ok());
                for job in std::iter::once(first).chain(rest) {
                    ring.write(&job.body);
                    written = job.sequence;
                }
                if sync {
                    ring.file.sync_data().expect("the disk syncs");
                }
                report(stream, written);
            }
        });
        jobs
    });
    starts.collect()
}

struct Ring {
    path: PathBuf,
    file: Arc<dyn FsFile>,
    len: u64,
    position: u64,
    fresh: bool,
    /// Of this file, where there is one after another.
    number: u64,
}

impl Ring {
    fn new(folder: &Path, stream: usize, len: u64, fresh: bool) -> Ring {
        let path = folder.join(format!("ring-{stream}"));
        let file = RealFs.create(&path, len).expect("there is room");
        if !fresh {
            let zeros = vec![0; 1 << 20];
            for position in (0..len).step_by(zeros.len()) {
                file.write_all_at(&zeros, position).expect("there is room");
            }
        }
        file.sync_data().expect("the disk syncs");
        Ring {
            path,
            file,
            len,
            position: 0,
            fresh,
            number: 0,
        }
    }

    fn write(&mut self, body: &Bytes) {
        let len = body.len() as u64;
        if self.position + len > self.len {
            self.begin_again();
        }
        self.file
            .write_all_at(body, self.position)
            .expect("the disk writes");
        // Frames start at multiples of 64.
        self.position = (self.position + len).next_multiple_of(64);
    }

    fn begin_again(&mut self) {
        self.position = 0;
        if self.fresh {
            // What is in it still counts: it is acked when this turn's batches are.
            self.file.sync_data().expect("the disk syncs");
            self.number += 1;
            let path = self.path.with_extension(self.number.to_string());
            self.file = RealFs.create(&path, self.len).expect("there is room");
        }
    }
}

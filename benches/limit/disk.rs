//! The disk of one process: for each stream a thread that writes batches into a prewritten file, one `fdatasync` for all that came meanwhile.
//!
//! Owns the files. Each is a ring: it is written over from its start, so that making files costs nothing while something is measured. Must not know where batches come from.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use segment_store::fs::{Fs, FsFile, RealFs};

/// As long as a full segment of the log.
const FILE_BYTES: u64 = 128 << 20;

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
    report: impl Fn(usize, u64) + Clone + Send + 'static,
) -> Vec<mpsc::Sender<Job>> {
    let starts = (0..streams).map(|stream| {
        let mut ring = Ring::new(folder, stream);
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
    file: Arc<dyn FsFile>,
    position: u64,
}

impl Ring {
    fn new(folder: &Path, stream: usize) -> Ring {
        let path = folder.join(format!("ring-{stream}"));
        let file = RealFs.create(&path, FILE_BYTES).expect("there is room");
        let zeros = vec![0; 1 << 20];
        for position in (0..FILE_BYTES).step_by(zeros.len()) {
            file.write_all_at(&zeros, position).expect("there is room");
        }
        file.sync_data().expect("the disk syncs");
        Ring { file, position: 0 }
    }

    fn write(&mut self, body: &Bytes) {
        let len = body.len() as u64;
        if self.position + len > FILE_BYTES {
            self.position = 0;
        }
        self.file
            .write_all_at(body, self.position)
            .expect("the disk writes");
        // Frames start at multiples of 64.
        self.position = (self.position + len).next_multiple_of(64);
    }
}

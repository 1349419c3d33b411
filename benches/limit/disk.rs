//! The disk of one process: a thread that writes batches into prewritten files, one `fdatasync` for all that came meanwhile.
//!
//! Owns the files. Each is a ring: it is written over from its start, so that making files costs nothing here. Must not know where batches come from.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use bytes::Bytes;
use segment_store::fs::{Fs, FsFile, RealFs};

/// As long as a full segment of the log.
const FILE_BYTES: u64 = 128 << 20;

/// A batch to be written to the file of `stream`.
pub(crate) struct Job {
    pub(crate) stream: usize,
    pub(crate) sequence: u64,
    pub(crate) body: Bytes,
}

/// Starts the thread. `report` is told of each stream's last durable batch; of the last written one if nothing is to be synced.
pub(crate) fn start(
    folder: &Path,
    sync: bool,
    report: impl Fn(usize, u64) + Send + 'static,
) -> mpsc::Sender<Job> {
    let folder = folder.to_owned();
    let (jobs, queue) = mpsc::channel::<Job>();
    std::thread::spawn(move || {
        let mut rings = Vec::new();
        while let Ok(first) = queue.recv() {
            let mut durable: Vec<Option<u64>> = vec![None; rings.len()];
            let rest = std::iter::from_fn(|| queue.try_recv().ok());
            for job in std::iter::once(first).chain(rest) {
                while rings.len() <= job.stream {
                    rings.push(Ring::new(&folder, rings.len()));
                    durable.push(None);
                }
                rings[job.stream].write(&job.body);
                durable[job.stream] = Some(job.sequence);
            }
            for (stream, sequence) in durable.into_iter().enumerate() {
                if let Some(sequence) = sequence {
                    if sync {
                        rings[stream].file.sync_data().expect("the disk syncs");
                    }
                    report(stream, sequence);
                }
            }
        }
    });
    jobs
}

struct Ring {
    file: Arc<dyn FsFile>,
    position: u64,
}

impl Ring {
    fn new(folder: &Path, stream: usize) -> Ring {
        let path = folder.join(format!("ring-{stream}"));
        let file = RealFs.create(&path, FILE_BYTES).expect("there is room");
        file.prewrite().expect("there is room");
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

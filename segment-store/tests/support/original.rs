//! A log in several files, made once and put on as many disks as a test likes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{Frame, LogReader};

use super::{Chain, bytes_of, open};

pub(crate) const DIR: &str = "/log";

/// A log as it was written: its files, and its frames.
pub(crate) struct Original {
    pub(crate) files: Vec<(PathBuf, Vec<u8>)>,
    pub(crate) frames: Vec<Bytes>,
    pub(crate) reader: LogReader,
}

fn disk(seed: u64) -> (SimFs, Arc<dyn Fs>) {
    let sim = SimFs::new(seed);
    ensure_dir(&sim, Path::new(DIR)).unwrap();
    let fs: Arc<dyn Fs> = Arc::new(sim.clone());
    (sim, fs)
}

impl Original {
    /// Three segments of synced frames in several terms, closed in good order.
    pub(crate) fn make() -> Original {
        let mut chain = Chain::start();
        let mut frames: Vec<Frame> = Vec::new();
        for n in 0..30_u64 {
            chain.term = 1 + n / 7;
            frames.push(match n % 6 {
                2 => chain.noop(),
                4 => chain.membership(),
                _ => chain.batch(700 + n as usize * 40, n as u8),
            });
        }
        let original = Original::of(&frames);
        assert_eq!(original.files.len(), 3);
        original
    }

    /// The log of these frames.
    pub(crate) fn of(frames: &[Frame]) -> Original {
        let (sim, fs) = disk(1);
        let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
        for group in frames.chunks(5) {
            log.append(group).unwrap();
            log.sync().unwrap();
        }
        let reader = log.reader();
        log.close().unwrap();
        Original {
            files: read_files(&sim),
            frames: bytes_of(frames),
            reader,
        }
    }

    pub(crate) fn planted(&self, seed: u64) -> (SimFs, Arc<dyn Fs>) {
        let (sim, fs) = disk(seed);
        for (path, bytes) in &self.files {
            sim.plant(path, bytes.clone());
        }
        (sim, fs)
    }

    pub(crate) fn spoilt(
        &self,
        file: usize,
        spoil: impl FnOnce(&mut Vec<u8>),
    ) -> (SimFs, Arc<dyn Fs>) {
        let (sim, fs) = self.planted(1);
        let (path, bytes) = &self.files[file];
        let mut bytes = bytes.clone();
        spoil(&mut bytes);
        sim.plant(path, bytes);
        (sim, fs)
    }
}

pub(crate) fn read_files(sim: &SimFs) -> Vec<(PathBuf, Vec<u8>)> {
    let names = sim.list(Path::new(DIR)).unwrap();
    let names = names.into_iter().filter(|name| name.ends_with(".segment"));
    let read = |name: String| {
        let path = Path::new(DIR).join(name);
        let file = sim.open_read(&path).unwrap();
        let mut bytes = vec![0; file.len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        (path, bytes)
    };
    names.map(read).collect()
}

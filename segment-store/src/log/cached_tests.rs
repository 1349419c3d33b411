//! Which pages are let go, by a file that only remembers what it was told.

use std::io::{self, IoSlice};
use std::ops::Range;
use std::sync::Mutex;

use super::*;
use crate::fs::MapRead;

/// A file that only remembers what it was told to let go.
#[derive(Debug, Default)]
struct Told {
    len: u64,
    ranges: Mutex<Vec<Range<u64>>>,
}

impl FsFile for Told {
    fn write_vectored_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn read_exact_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn map(&self) -> io::Result<Arc<dyn MapRead>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn let_go(&self, range: Range<u64>) {
        self.ranges.lock().unwrap().push(range);
    }
}

fn told(len: u64) -> (Arc<Told>, Arc<dyn FsFile>) {
    let told = Arc::new(Told {
        len,
        ..Told::default()
    });
    (Arc::clone(&told), told)
}

fn note(cached: &mut Cached, file: &Arc<dyn FsFile>, to: u64) {
    cached.note(file, to);
    cached.let_go(HOT_BYTES);
}

#[test]
fn the_newest_bytes_stay_and_so_does_what_was_there_before() {
    let (told, file) = told(1 << 30);
    let mut cached = Cached::default();
    note(&mut cached, &file, 100 << 20);
    note(&mut cached, &file, (100 << 20) + HOT_BYTES);
    note(&mut cached, &file, (100 << 20) + HOT_BYTES + STEP_BYTES - 1);
    assert!(told.ranges.lock().unwrap().is_empty());
    note(&mut cached, &file, (100 << 20) + HOT_BYTES + STEP_BYTES);
    note(&mut cached, &file, (100 << 20) + HOT_BYTES + 3 * STEP_BYTES);
    let first = 100 << 20..(100 << 20) + STEP_BYTES;
    let second = first.end..first.end + 2 * STEP_BYTES;
    assert_eq!(*told.ranges.lock().unwrap(), [first, second]);
}

#[test]
fn a_segment_that_was_left_goes_whole_once_it_is_far_behind() {
    let (old, first) = told(64 << 20);
    let (new, second) = told(1 << 30);
    let mut cached = Cached::default();
    note(&mut cached, &first, 0);
    note(&mut cached, &first, 60 << 20);
    note(&mut cached, &second, HOT_BYTES + (8 << 20));
    let went: u64 = old
        .ranges
        .lock()
        .unwrap()
        .iter()
        .map(|r| r.end - r.start)
        .sum();
    assert_eq!(went, 64 << 20, "to its end, behind the last frame too");
    let kept: Range<u64> = 0..8 << 20;
    assert_eq!(
        new.ranges.lock().unwrap().as_slice(),
        std::slice::from_ref(&kept)
    );
    assert_eq!(cached.files.len(), 1);
}

#[test]
fn a_log_counts_as_consumed_until_a_gigabyte_was_written_after_the_last_read() {
    let fs: Arc<dyn crate::fs::Fs> = Arc::new(crate::fs::SimFs::new(7));
    let dir = std::path::Path::new("log");
    crate::fs::ensure_dir(fs.as_ref(), dir).unwrap();
    let identity = crate::LogIdentity {
        cluster: [1; 16],
        group: 7,
    };
    let opened = Log::open(fs, dir, identity, crate::LogOptions::default(), None);
    let (log, _) = opened.unwrap();
    assert!(!log.is_consumed());
    log.reader().note_consumer();
    assert!(log.is_consumed());
    let end = &log.tail.contents;
    log.shared.publish(end, CONSUMED_WITHIN_BYTES - 1);
    assert!(log.is_consumed());
    log.shared.publish(end, 1);
    assert!(!log.is_consumed());
    log.reader().note_consumer();
    assert!(log.is_consumed());
}

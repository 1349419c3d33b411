//! Ends of logs that may have lost what was promised, and the search for rot in the rest.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::Fs;
use segment_store::{AppendError, Frame, ReadError, Scrub, TailVerdict};
use support::original::{DIR, Original};
use support::{Chain, open, read_all};

#[test]
fn a_suspected_end_stays_suspected_over_restarts_until_it_is_trusted() {
    let original = Original::make();
    let (sim, fs) = original.planted(1);
    fs.remove(&original.files[2].0).unwrap();
    let (log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(recovered.suspect_tail);
    drop(log);
    sim.power_cycle();
    let (mut log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert!(recovered.suspect_tail);
    // Going on elsewhere says nothing of what was lost.
    let mut chain = Chain::after(&log);
    let frames: Vec<Frame> = (0..20).map(|n| chain.batch(3_000, n)).collect();
    log.append(&frames).unwrap();
    log.sync().unwrap();
    log.truncate_after(recovered.last_index + 3).unwrap();
    drop(log);
    sim.power_cycle();
    let (mut log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(recovered.suspect_tail);
    log.trust_tail().unwrap();
    drop(log);
    sim.power_cycle();
    let (_, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(!recovered.suspect_tail);
}

#[test]
fn a_torn_tail_on_a_full_disk_opens_for_reading_and_goes_on_once_there_is_room() {
    let original = Original::make();
    let (sim, fs) = original.planted(1);
    // The mark of the last sync, half written, says nothing; half a write over both marks does.
    let (path, bytes) = &original.files[2];
    let renewed = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 64 * 64;
    let mut torn = bytes.clone();
    torn[renewed + 9] ^= 1;
    sim.plant(path, torn);
    let (_, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.tail, TailVerdict::Clean);
    assert!(!recovered.suspect_tail);
    let end = renewed - 64;
    let mut torn = bytes.clone();
    torn[end..end + 300].fill(0xab);
    sim.plant(path, torn);
    sim.set_capacity(Some(1));
    let (mut log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(matches!(recovered.tail, TailVerdict::Torn { .. }));
    assert!(recovered.suspect_tail);
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames);
    let frame = Chain::after(&log).noop();
    let full = log.append(std::slice::from_ref(&frame));
    assert!(matches!(full, Err(AppendError::NoSpace)));
    log.sync().unwrap();
    log.close().unwrap();
    let (mut log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(recovered.suspect_tail, "{recovered:?}");
    sim.set_capacity(None);
    log.append(std::slice::from_ref(&frame)).unwrap();
    log.sync().unwrap();
    drop(log);
    sim.power_cycle();
    let (log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(recovered.last_index, 31);
    assert!(recovered.suspect_tail);
    assert_eq!(log.reader().last_index(), 31);
}

#[test]
fn a_scrub_reads_everything_and_finds_any_flip_in_a_frame_or_a_sealed_header_page() {
    let original = Original::make();
    let pass = |fs: &Arc<dyn Fs>| {
        let (log, _) = open(fs, Path::new(DIR)).unwrap();
        let mut scrub = Scrub::new(log.reader());
        let mut total = 0;
        loop {
            let scrubbed = scrub.step(1_500, None)?;
            total += scrubbed.bytes;
            if scrubbed.done {
                return Ok::<u64, ReadError>(total);
            }
        }
    };
    let frames: usize = original.frames.iter().map(Bytes::len).sum();
    let (_, fs) = original.planted(1);
    assert_eq!(pass(&fs).unwrap(), frames as u64 + 2 * 4096);
    for position in (4096..9_000).step_by(37) {
        let (sim, fs) = original.planted(1);
        sim.flip_bit(&original.files[0].0, position, 2);
        assert!(pass(&fs).unwrap_err().is_damage(), "{position}");
    }
    let (sim, fs) = original.planted(1);
    sim.make_unreadable(&original.files[1].0, 4096);
    assert!(pass(&fs).unwrap_err().is_damage());
}

//! Damaged logs made whole from another copy: whatever byte flips, whatever is cut off or gone, and whenever the power goes meanwhile.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::Fs;
use segment_store::{
    Frame, Log, LogBase, LogReader, OpenError, Recovered, Repair, RepairError, TailVerdict, verify,
};
use support::original::{DIR, Original, read_files};
use support::{Chain, identity, open, read_all, small};

fn examine(fs: &Arc<dyn Fs>) -> Result<Repair, OpenError> {
    let base = LogBase::default();
    Repair::examine(Arc::clone(fs), Path::new(DIR), identity(), small(), &base)
}

/// Takes all that is missing from `from`, in small pieces.
fn fill(repair: &mut Repair, from: &LogReader) -> Result<(), RepairError> {
    while let Some(missing) = { repair.missing().last() } {
        let frames = from
            .read_before(missing.first, missing.last, 2_000)
            .unwrap();
        assert!(!frames.is_empty(), "the other copy has {missing:?}");
        repair.accept(&frames)?;
    }
    Ok(())
}

/// Opens the log, repaired if it has to be; what `thorough` says is damaged although it opens is found, too.
fn mend(fs: &Arc<dyn Fs>, from: &LogReader, context: &str) -> (Log, Recovered, bool) {
    let mut repair = examine(fs).unwrap_or_else(|error| panic!("{context}: {error}"));
    let sound = repair.is_sound();
    if !sound {
        fill(&mut repair, from).unwrap_or_else(|error| panic!("{context}: {error}"));
        repair
            .finish()
            .unwrap_or_else(|error| panic!("{context}: {error}"));
    }
    drop(repair);
    let (log, recovered) =
        open(fs, Path::new(DIR)).unwrap_or_else(|error| panic!("{context}: {error}"));
    (log, recovered, sound)
}

#[test]
fn a_flip_of_any_byte_is_repaired_from_a_good_copy_and_the_log_is_identical() {
    let original = Original::make();
    for file in 0..original.files.len() {
        for position in 0..original.files[file].1.len() {
            let (sim, fs) = original.spoilt(file, |bytes| bytes[position] ^= 1 << (position % 8));
            let context = format!("file {file} byte {position}");
            let opened = open(&fs, Path::new(DIR)).map(drop);
            if let Err(error) = opened {
                assert!(error.is_damage(), "{context}: {error}");
            }
            let (log, recovered, _) = mend(&fs, &original.reader, &context);
            assert_eq!(
                read_all(&log.reader()).unwrap(),
                original.frames,
                "{context}"
            );
            assert_eq!(recovered.last_index, 30, "{context}");
            drop(log);
            let report = verify(&sim, Path::new(DIR)).unwrap();
            assert!(report.is_sound(), "{context}: {:?}", report.problems);
            sim.power_cycle();
            let (log, _) = open(&fs, Path::new(DIR)).unwrap();
            assert_eq!(
                read_all(&log.reader()).unwrap(),
                original.frames,
                "{context}"
            );
        }
    }
}

#[test]
fn a_repaired_file_is_byte_for_byte_what_it_was_and_the_damaged_one_is_kept() {
    let original = Original::make();
    for position in [20, 4096 + 3, 4096 + 2_000] {
        let (sim, fs) = original.spoilt(0, |bytes| bytes[position] ^= 4);
        let (_, _, sound) = mend(&fs, &original.reader, "sealed");
        assert!(!sound);
        let header_page = 4096;
        let footer = original.files[0].1.len() - 2_048;
        let repaired = &read_files(&sim)[0].1;
        assert_eq!(repaired[..512], original.files[0].1[..512]);
        let last_frame = repaired[header_page..footer]
            .iter()
            .rposition(|&byte| byte != 0);
        let end = header_page + last_frame.unwrap().min(9_000);
        assert_eq!(
            repaired[header_page..end],
            original.files[0].1[header_page..end]
        );
        let aside = sim.list(&Path::new(DIR).join("damaged")).unwrap();
        assert_eq!(aside, ["000001-00000000000000000001.segment"]);
    }
}

#[test]
fn a_repaired_log_still_knows_what_was_trimmed() {
    let original = Original::make();
    let (sim, fs) = original.planted(1);
    let (mut log, _) = open(&fs, Path::new(DIR)).unwrap();
    let first = log.trim_before(30).unwrap();
    let base = log.reader().base();
    log.close().unwrap();
    let kept = read_files(&sim);
    assert_eq!((kept.len(), base.index), (1, first - 1));
    let (old, bytes) = &original.files[0];
    // In the header page, and in a frame.
    for position in [20, 4_100] {
        let mut spoilt = kept[0].1.clone();
        spoilt[position] ^= 1;
        sim.plant(&kept[0].0, spoilt);
        sim.plant(old, bytes.clone());
        open(&fs, Path::new(DIR)).unwrap_err();
        let examined = Repair::examine(Arc::clone(&fs), Path::new(DIR), identity(), small(), &base);
        let mut repair = examined.unwrap();
        assert!(!repair.is_sound());
        assert_eq!(
            repair.first_index(),
            first,
            "of what was trimmed, nothing is missed"
        );
        fill(&mut repair, &original.reader).unwrap();
        repair.finish().unwrap();
        drop(repair);
        sim.plant(old, bytes.clone());
        let (log, _) = open(&fs, Path::new(DIR)).unwrap();
        assert_eq!(log.first_index(), first);
        let found = read_all(&log.reader()).unwrap();
        assert_eq!(found, original.frames[first as usize - 1..]);
    }
}

#[test]
fn unreadable_sectors_are_repaired_wherever_they_are() {
    let original = Original::make();
    for file in 0..original.files.len() {
        for sector in 0..original.files[file].1.len() / 4096 {
            let (sim, fs) = original.planted(1);
            sim.make_unreadable(&original.files[file].0, sector as u64 * 4096);
            let context = format!("file {file} sector {sector}");
            let (log, recovered, _) = mend(&fs, &original.reader, &context);
            let last = recovered.last_index as usize;
            // Only where nothing tells how far the log went it may end early, and then it says so.
            assert!(
                last == 30 || recovered.suspect_tail,
                "{context}: {recovered:?}"
            );
            assert_eq!(
                read_all(&log.reader()).unwrap(),
                original.frames[..last],
                "{context}"
            );
        }
    }
}

#[test]
fn a_file_cut_at_any_length_is_repaired_or_its_end_suspected() {
    let original = Original::make();
    for file in 0..original.files.len() {
        let len = original.files[file].1.len();
        for cut in (0..len).step_by(509).chain([4095, 4096, 4097, len - 1]) {
            let (_, fs) = original.spoilt(file, |bytes| bytes.truncate(cut));
            let context = format!("file {file} cut to {cut}");
            let (log, recovered, sound) = mend(&fs, &original.reader, &context);
            assert!(!sound, "{context}");
            let last = recovered.last_index as usize;
            assert!(
                last == 30 || recovered.suspect_tail,
                "{context}: {recovered:?}"
            );
            assert!(last == 30 || file == 2, "{context}: {recovered:?}");
            assert_eq!(
                read_all(&log.reader()).unwrap(),
                original.frames[..last],
                "{context}"
            );
        }
    }
}

#[test]
fn a_missing_file_is_fetched_as_a_whole_and_the_last_one_suspected() {
    let original = Original::make();
    let (_, fs) = original.planted(1);
    fs.remove(&original.files[1].0).unwrap();
    let (log, recovered, _) = mend(&fs, &original.reader, "middle");
    assert!(!recovered.suspect_tail);
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames);
    let (_, fs) = original.planted(1);
    fs.remove(&original.files[2].0).unwrap();
    let (log, recovered, sound) = mend(&fs, &original.reader, "last");
    assert!(sound && recovered.suspect_tail);
    assert_eq!(recovered.tail, TailVerdict::Lost);
    let last = recovered.last_index as usize;
    assert!(last > 10);
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames[..last]);
}

#[test]
fn a_missing_first_file_is_fetched_from_where_the_log_has_to_begin() {
    let original = Original::make();
    let spoil = || {
        let (_, fs) = original.planted(1);
        fs.remove(&original.files[0].0).unwrap();
        fs
    };
    let (log, recovered, sound) = mend(&spoil(), &original.reader, "first");
    assert!(!sound && !recovered.suspect_tail);
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames);
    // With an account of the entries up to the sixth, only those after it have to be there.
    let (base, fs, dir) = (base_at(&original, 6), spoil(), Path::new(DIR));
    let mut repair = Repair::examine(Arc::clone(&fs), dir, identity(), small(), &base).unwrap();
    fill(&mut repair, &original.reader).unwrap();
    repair.finish().unwrap();
    let (log, recovered) = open(&fs, dir).unwrap();
    assert_eq!((recovered.first_index, recovered.prev_term), (7, base.term));
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames[6..]);
}

/// The account of all entries up to `index` that an owner of the log may have.
fn base_at(original: &Original, index: usize) -> LogBase {
    let last = &original.frames[index - 1];
    let (header, header_crc) = segment_store::FrameHeader::decode(last).unwrap();
    LogBase {
        index: header.index,
        term: header.term,
        header_crc,
        next_offset: header.next_offset(),
    }
}

#[test]
fn what_lost_files_held_is_taken_into_the_last_one_that_is_left_however_full_that_is() {
    let mut chain = Chain::start();
    // Steps so small that one of them leaves room for the frames alone.
    let frames: Vec<Frame> = (0..240).map(|_| chain.noop()).collect();
    let original = Original::of(&frames);
    for index in 50..=frames.len() {
        let (_, fs) = original.planted(1);
        for (path, _) in &original.files[1..] {
            fs.remove(path).unwrap();
        }
        let base = base_at(&original, index);
        let dir = Path::new(DIR);
        let mut repair = Repair::examine(Arc::clone(&fs), dir, identity(), small(), &base).unwrap();
        fill(&mut repair, &original.reader).unwrap();
        let finished = repair.finish();
        finished.unwrap_or_else(|error| panic!("up to entry {index}: {error}"));
        let (log, recovered) = open(&fs, dir).unwrap();
        assert!(recovered.suspect_tail, "up to entry {index}");
        let last = recovered.last_index as usize;
        assert!(last >= index, "up to entry {index}: {last}");
        assert_eq!(
            read_all(&log.reader()).unwrap(),
            original.frames[..last],
            "up to entry {index}"
        );
    }
}

#[test]
fn the_beginning_of_another_file_behind_a_header_that_rotted_cuts_nothing_off() {
    let original = Original::make();
    let earlier = original.files[1].1[4096..8192].to_vec();
    let (_, fs) = original.spoilt(2, |bytes| {
        bytes[226] ^= 1;
        bytes[4096..8192].copy_from_slice(&earlier);
    });
    let (log, recovered, _) = mend(&fs, &original.reader, "landed");
    assert!(recovered.suspect_tail && recovered.last_index > 20);
    assert_eq!(
        read_all(&log.reader()).unwrap(),
        original.frames[..recovered.last_index as usize]
    );
}

#[test]
fn a_log_of_which_nothing_is_left_begins_again_and_is_suspected() {
    let original = Original::make();
    for unlink in [false, true] {
        let (sim, fs) = original.planted(1);
        for (path, bytes) in &original.files {
            match unlink {
                true => fs.remove(path).unwrap(),
                false => sim.plant(path, vec![0xee; bytes.len()]),
            }
        }
        let (_, recovered, sound) = mend(&fs, &original.reader, "all");
        assert!(!sound);
        assert!(recovered.suspect_tail);
        assert_eq!((recovered.first_index, recovered.last_index), (1, 0));
    }
}

#[test]
fn frames_of_another_history_are_not_taken() {
    let original = Original::make();
    let (_, fs) = original.spoilt(0, |bytes| bytes[4096 + 1_000] ^= 1);
    let mut repair = examine(&fs).unwrap();
    let missing: Vec<_> = repair.missing().collect();
    assert_eq!(missing.len(), 1);
    let true_one = original
        .reader
        .read_before(missing[0].first, missing[0].last, 1 << 20)
        .unwrap();
    let (header, _) = segment_store::FrameHeader::decode(&true_one).unwrap();
    let liar = |change: &dyn Fn(&mut segment_store::FrameHeader)| {
        let mut header = header;
        change(&mut header);
        Frame::build(header, &true_one[64..64 + header.payload_len as usize])
            .bytes()
            .clone()
    };
    for wrong in [
        liar(&|header| header.term += 1),
        liar(&|header| header.index += 1),
        liar(&|header| header.group += 1),
        liar(&|header| header.max_timestamp += 1),
        true_one.slice(..true_one.len() - 64),
        Bytes::from_static(&[0; 128]),
        Bytes::new(),
    ] {
        assert!(matches!(
            repair.accept(&wrong),
            Err(RepairError::Unproven(_))
        ));
    }
    assert!(matches!(repair.finish(), Err(RepairError::Incomplete)));
    assert_eq!(repair.accept(&true_one).unwrap(), 1);
    repair.finish().unwrap();
}

#[test]
fn a_whole_frame_of_another_history_before_a_hole_is_found_out_and_fetched_with_it() {
    let original = Original::make();
    for index in 1..30 {
        let frame = &original.frames[index - 1];
        let next = &original.frames[index];
        let holds = |bytes: &[u8], frame: &[u8]| {
            let mut windows = bytes[4096..].chunks(64);
            let at = windows.position(|chunk| *chunk == frame[..64]);
            at.map(|at| 4096 + at * 64)
        };
        let mut files = original.files.iter();
        let Some((file, at, behind)) = files.find_map(|(path, bytes)| {
            let at = holds(bytes, frame)?;
            let file = original.files.iter().position(|(of, _)| of == path)?;
            Some((file, at, holds(bytes, next)?))
        }) else {
            // The hole is to lie in the same file.
            continue;
        };
        let (header, _) = segment_store::FrameHeader::decode(frame).unwrap();
        let payload = &frame[64..64 + header.payload_len as usize];
        for chains in [true, false] {
            let mut stale = header;
            stale.max_timestamp += 1;
            stale.prev_header_crc ^= u32::from(!chains);
            let stale = Frame::build(stale, payload).bytes().clone();
            let (sim, fs) = original.spoilt(file, |bytes| {
                bytes[at..at + stale.len()].copy_from_slice(&stale);
                bytes[behind + 3] ^= 1;
            });
            let context = format!("entry {index}, chained {chains}");
            let (log, recovered, sound) = mend(&fs, &original.reader, &context);
            assert!(!sound, "{context}");
            let found = read_all(&log.reader()).unwrap();
            assert_eq!(found, original.frames, "{context}");
            assert_eq!(recovered.last_index, 30, "{context}");
            drop(log);
            let report = verify(&sim, Path::new(DIR)).unwrap();
            assert!(report.is_sound(), "{context}: {:?}", report.problems);
        }
    }
}

#[test]
fn what_others_have_superseded_is_given_up_with_all_behind_it_and_the_end_is_suspected() {
    let original = Original::make();
    let (sim, fs) = original.spoilt(0, |bytes| bytes[4096 + 1_000] ^= 1);
    let mut repair = examine(&fs).unwrap();
    let missing = repair.missing().next().unwrap();
    let ours = original
        .reader
        .read_before(missing.first, missing.last, 1 << 20)
        .unwrap();
    let (mut header, _) = segment_store::FrameHeader::decode(&ours).unwrap();
    header.term += 1;
    let theirs = Frame::build(header, b"").bytes().clone();
    assert!(!repair.is_superseded_by(missing.last, ours));
    assert!(!repair.is_superseded_by(missing.last + 1, theirs.clone()));
    assert!(repair.is_superseded_by(missing.last, theirs));
    repair.give_up(missing.last);
    assert_eq!(repair.missing().count(), 0);
    repair.finish().unwrap();
    let (log, recovered) = open(&fs, Path::new(DIR)).unwrap();
    assert!(recovered.suspect_tail);
    assert_eq!(recovered.last_index, missing.first - 1);
    let kept = recovered.last_index as usize;
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames[..kept]);
    let aside = sim.list(&Path::new(DIR).join("damaged")).unwrap();
    assert_eq!(aside.len(), original.files.len());
}

#[test]
fn a_damaged_log_gives_what_it_still_has_to_others_that_are_damaged_elsewhere() {
    let original = Original::make();
    let (_, one) = original.spoilt(0, |bytes| bytes[4096 + 1_000] ^= 1);
    let (_, two) = original.spoilt(1, |bytes| bytes[4096 + 1_000] ^= 1);
    let (mut first, mut second) = (examine(&one).unwrap(), examine(&two).unwrap());
    let hole = |repair: &Repair| {
        let missing: Vec<_> = repair.missing().collect();
        assert_eq!(missing.len(), 1);
        missing[0]
    };
    let (in_first, in_second) = (hole(&first), hole(&second));
    let nothing = first.read_before(in_first.first, in_first.last, 1 << 20);
    assert!(nothing.unwrap().is_empty());
    let for_first = second.read_before(in_first.first, in_first.last, 1 << 20);
    first.accept(&for_first.unwrap()).unwrap();
    let for_second = first.read_before(in_second.first, in_second.last, 1 << 20);
    second.accept(&for_second.unwrap()).unwrap();
    for (fs, mut repair) in [(one, first), (two, second)] {
        repair.finish().unwrap();
        let (log, _) = open(&fs, Path::new(DIR)).unwrap();
        assert_eq!(read_all(&log.reader()).unwrap(), original.frames);
    }
}

#[test]
fn a_power_cut_at_any_operation_of_a_repair_leaves_a_log_that_can_be_repaired() {
    let original = Original::make();
    let spoilt = |seed: u64| {
        let (sim, fs) = original.planted(seed);
        sim.flip_bit(&original.files[0].0, 4096 + 1_000, 0);
        sim.flip_bit(&original.files[1].0, 30, 0);
        sim.flip_bit(&original.files[2].0, 4096 + 200, 0);
        (sim, fs)
    };
    let (sim, fs) = spoilt(0);
    let before = sim.operations();
    let (_, _, sound) = mend(&fs, &original.reader, "uncut");
    assert!(!sound);
    let operations = sim.operations() - before;
    for cut in 0..=operations {
        for seed in 0..4 {
            let (sim, fs) = spoilt(seed * 1_000 + cut);
            sim.cut_after(sim.operations() + cut);
            let attempt = examine(&fs).ok().and_then(|mut repair| {
                fill(&mut repair, &original.reader).ok()?;
                repair.finish().ok()
            });
            let _ = attempt.map(|()| open(&fs, Path::new(DIR)).map(drop));
            sim.power_cycle();
            let context = format!("cut {cut} of {operations}, seed {seed}");
            if let Err(error) = open(&fs, Path::new(DIR)) {
                assert!(error.is_damage(), "{context}: {error}");
            }
            let (log, recovered, _) = mend(&fs, &original.reader, &context);
            assert!(!recovered.suspect_tail, "{context}: {recovered:?}");
            assert_eq!(
                read_all(&log.reader()).unwrap(),
                original.frames,
                "{context}"
            );
        }
    }
}

#[test]
fn a_repair_without_room_changes_nothing_and_goes_on_once_there_is_room() {
    let original = Original::make();
    let (sim, fs) = original.spoilt(0, |bytes| bytes[4096 + 1_000] ^= 1);
    let files = read_files(&sim);
    sim.set_capacity(Some(1));
    let mut repair = examine(&fs).unwrap();
    let full = fill(&mut repair, &original.reader);
    assert!(matches!(full, Err(RepairError::NoSpace)));
    let used: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    sim.set_capacity(Some(used + 3_000));
    fill(&mut repair, &original.reader).unwrap();
    assert!(matches!(repair.finish(), Err(RepairError::NoSpace)));
    assert_eq!(read_files(&sim), files);
    sim.set_capacity(None);
    repair.finish().unwrap();
    let (log, _) = open(&fs, Path::new(DIR)).unwrap();
    assert_eq!(read_all(&log.reader()).unwrap(), original.frames);
}

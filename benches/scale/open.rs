//! Opening a log of sealed segments: nothing of a node but its store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use segment_store::fs::{Fs, RealFs};
use segment_store::{Frame, FrameHeader, Log, LogIdentity, LogOptions, kind};
use serde_json::{Value, json};

use crate::median;

const GROUP: u64 = 7;
const PAYLOAD_BYTES: usize = (1 << 20) - 64;

pub(crate) fn measure(gib: u64, data: Option<PathBuf>, rounds: u64) -> Value {
    let parent = data.unwrap_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")));
    let folder = tempfile::tempdir_in(parent).expect("a folder for the log can be made");
    fill(folder.path(), gib << 30);
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    let mut segments = 0;
    for _ in 0..rounds {
        forget_pages(folder.path());
        for taken in [&mut cold, &mut warm] {
            let began = Instant::now();
            let log = open(folder.path());
            taken.push(began.elapsed().as_secs_f64() * 1e3);
            segments = log.reader().segments();
            log.close().expect("nothing was written");
        }
    }
    json!({
        "case": "open",
        "gib": gib,
        "segments": segments,
        "cold_ms": median(cold.clone()),
        "cold_ms_of_rounds": cold,
        "warm_ms": median(warm.clone()),
        "warm_ms_of_rounds": warm,
    })
}

fn open(folder: &Path) -> Log {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let identity = LogIdentity {
        cluster: *b"0123456789abcdef",
        group: GROUP,
    };
    let options = LogOptions::default();
    let opened = Log::open(fs, folder, identity, options, None);
    opened.expect("the log is sound").0
}

fn fill(folder: &Path, bytes: u64) {
    let mut log = open(folder);
    let payload: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(PAYLOAD_BYTES)
        .collect();
    for index in 1..=bytes >> 20 {
        let header = FrameHeader {
            kind: kind::RECORDS,
            codec: 0,
            flags: 0,
            index,
            term: 1,
            base_offset: index - 1,
            max_timestamp: 1,
            payload_len: 0,
            payload_crc: 0,
            prev_header_crc: log.last_header_crc(),
            record_count: 1,
            group: GROUP,
        };
        let frame = Frame::build(header, &payload);
        log.append(&[frame]).expect("there is room");
        if index % 64 == 0 {
            log.sync().expect("the disk syncs");
        }
    }
    log.close().expect("the disk syncs");
}

/// Has the system forget what it keeps of the log in memory, as after a restart of the machine.
fn forget_pages(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("it was made") {
        let file = std::fs::File::open(entry.expect("it is listed").path()).expect("it is there");
        if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            let advice = rustix::fs::Advice::DontNeed;
            rustix::fs::fadvise(&file, 0, None, advice).expect("files take advice");
        }
    }
}

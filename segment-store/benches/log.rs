//! What frames and the log cost, by the byte and by the call.
//!
//! `cargo bench -p segment-store --bench log`; `docs/PERFORMANCE.md` tells how two commits are compared. Files lie in the build's own folder: append
//! is the write into the page cache, without a sync.

#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use segment_store::fs::{Fs, RealFs};
use segment_store::{Frame, FrameHeader, Log, LogIdentity, LogOptions, UnstampedFrame, kind};

const GROUP: u64 = 7;
const SIZES: [usize; 3] = [1 << 10, 64 << 10, 1 << 20];
const PAYLOAD_MAX: usize = 8 << 20;
/// As much as one log is given before the next is begun: all of it lies in one segment, made before the clock runs.
const LOG_BYTES: usize = 120 << 20;

/// The header of a batch that nobody has stamped.
fn header(payload: &[u8]) -> FrameHeader {
    FrameHeader {
        kind: kind::RECORDS,
        codec: 0,
        flags: 0,
        index: 0,
        term: 0,
        base_offset: 0,
        max_timestamp: 1,
        payload_len: payload.len() as u32,
        payload_crc: crc32fast::hash(payload),
        prev_header_crc: 0,
        record_count: 3,
        group: GROUP,
    }
}

fn payload(len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(1);
    (0..len).map(|_| random.u8(..)).collect()
}

/// Frames that follow one another.
struct Chain {
    index: u64,
    link: u32,
}

impl Chain {
    fn frame(&mut self, payload: &[u8]) -> Frame {
        self.index += 1;
        let header = FrameHeader {
            index: self.index,
            term: 1,
            base_offset: (self.index - 1) * 3,
            prev_header_crc: self.link,
            ..header(payload)
        };
        let frame = Frame::build(header, payload);
        self.link = frame.header_crc();
        frame
    }
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    let head = header(&payload(1 << 10));
    group.bench_function("encode header", |bencher| {
        bencher.iter(|| black_box(&head).encode());
    });
    let encoded = head.encode();
    group.bench_function("decode and check header", |bencher| {
        bencher.iter(|| FrameHeader::decode(black_box(&encoded)).unwrap());
    });
    for len in SIZES {
        let payload = payload(len);
        group.throughput(Throughput::Bytes(len as u64));
        let sent = Frame::build(header(&payload), &payload).bytes().clone();
        group.bench_function(
            BenchmarkId::new("check and stamp a produced frame", len),
            |bencher| {
                bencher.iter_batched(
                    || BytesMut::from(&sent[..]),
                    |bytes| {
                        let frame = UnstampedFrame::parse(bytes, PAYLOAD_MAX).unwrap();
                        frame.stamp(9, 2, 30, 77)
                    },
                    criterion::BatchSize::LargeInput,
                );
            },
        );
        group.bench_function(BenchmarkId::new("split off and check", len), |bencher| {
            bencher.iter(|| split(&sent, true));
        });
    }
    group.finish();
    // However long the payload is.
    let mut group = criterion.benchmark_group("frame");
    let payload = payload(1 << 10);
    let sent = Frame::build(header(&payload), &payload).bytes().clone();
    group.bench_function("split off, header only", |bencher| {
        bencher.iter(|| split(&sent, false));
    });
    group.finish();
}

fn split(sent: &Bytes, check_payload: bool) -> Frame {
    let mut bytes = sent.clone();
    Frame::split_from(black_box(&mut bytes), PAYLOAD_MAX, check_payload).unwrap()
}

/// A new log in a folder of its own, whose segment is there already.
fn log(folder: &Path) -> Log {
    let fs: Arc<dyn Fs> = Arc::new(RealFs);
    let identity = LogIdentity {
        cluster: *b"0123456789abcdef",
        group: GROUP,
    };
    let options = LogOptions {
        segment_bytes_first: 128 << 20,
        ..LogOptions::default()
    };
    Log::open(fs, folder, identity, options, None).unwrap().0
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// Time of `rounds` appends of one frame each.
fn append(rounds: u64, payload: &[u8]) -> Duration {
    let mut taken = Duration::ZERO;
    let mut left = rounds;
    while left > 0 {
        let folder = folder();
        let mut log = log(folder.path());
        let fit = (LOG_BYTES / (payload.len() + 64)) as u64;
        let mut chain = Chain { index: 0, link: 0 };
        let frames: Vec<Frame> = (0..left.min(fit)).map(|_| chain.frame(payload)).collect();
        let began = Instant::now();
        for frame in &frames {
            log.append(std::slice::from_ref(frame)).unwrap();
        }
        taken += began.elapsed();
        left -= frames.len() as u64;
    }
    taken
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    group.sample_size(10);
    for len in SIZES {
        let payload = payload(len);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(BenchmarkId::new("a frame, unsynced", len), |bencher| {
            bencher.iter_custom(|rounds| append(rounds, &payload));
        });
    }
    group.finish();
}

/// A log of so many frames.
fn filled(folder: &Path, len: usize) -> Log {
    let mut log = log(folder);
    let mut chain = Chain { index: 0, link: 0 };
    let payload = payload(len);
    for _ in 0..LOG_BYTES / (len + 64) {
        log.append(&[chain.frame(&payload)]).unwrap();
    }
    log
}

fn reads(criterion: &mut Criterion) {
    const FRAME_BYTES: usize = 4 << 10;
    const RUN_BYTES: usize = 1 << 20;
    let folder = folder();
    let log = filled(folder.path(), FRAME_BYTES);
    let reader = log.reader();
    let last = log.last_index();
    let mut group = criterion.benchmark_group("read");
    let mut random = fastrand::Rng::with_seed(2);
    let mut from = move || random.u64(1..last - 256);
    group.throughput(Throughput::Bytes(RUN_BYTES as u64));
    group.bench_function("a run of 1 MiB, as it lies in the map", |bencher| {
        bencher.iter_batched(
            &mut from,
            |from| reader.read(from, last, RUN_BYTES).unwrap(),
            criterion::BatchSize::SmallInput,
        );
    });
    group.throughput(Throughput::Elements(1));
    let offsets = log.next_offset();
    let mut random = fastrand::Rng::with_seed(3);
    group.bench_function("look an offset up in the index", |bencher| {
        bencher.iter_batched(
            || random.u64(..offsets),
            |offset| reader.seek_offset(offset).unwrap(),
            criterion::BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, frames, appends, reads);
criterion_main!(benches);

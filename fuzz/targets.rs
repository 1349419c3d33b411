//! What reads bytes from outside: one function per decoder, for the fuzzer and for the property tests over mutated corpora alike.
//!
//! A target fails by panicking, by taking more memory than its limit, or by not coming back. What it must answer to good bytes is the
//! unit tests' business; that the corpus is good bytes is checked by whoever makes it ([`super::corpus`]).

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use plimsoll::config::{ClientConfig, Config};
use plimsoll::controller::{ControllerMachine, ControllerView, decode_command, decode_outcome};
use plimsoll::replica::StateMachine;
use plimsoll::wire::{
    BatchCaps, BatchReader, Codec, PeerCaps, check_batch, decode_envelopes, decode_frames,
    decode_greeting, decode_hello, decode_reply, decode_report, decode_request, kind, peek_head,
};
use segment_store::fs::{Fs, SimFs, ensure_dir};
use segment_store::{
    BallotFile, Frame, FrameHeader, Log, LogIdentity, LogOptions, UnstampedFrame, UnstampedRun,
    dump, snapshot, verify,
};

/// A decoder: takes any bytes. Returns whether it found them good.
pub(crate) type Target = fn(&[u8]) -> bool;

/// All targets by name.
pub(crate) const TARGETS: [(&str, Target); 10] = [
    ("frame", frame),
    ("batch", batch),
    ("segment", segment),
    ("footer", footer),
    ("ballot", ballot),
    ("snapshot", stored_snapshot),
    ("peer", peer),
    ("client", client),
    ("command", command),
    ("config", config),
];

/// Group and cluster of all that the corpus holds.
pub(crate) const GROUP: u64 = 7;
pub(crate) const CLUSTER: [u8; 16] = *b"0123456789abcdef";
pub(crate) const DIR: &str = "/log";
/// Longest payload; small, so that a length that is believed shows.
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;
/// Name of the snapshots in the corpus.
pub(crate) const SNAPSHOT: &str = "state";

pub(crate) fn caps() -> BatchCaps {
    BatchCaps {
        payload_bytes_max: PAYLOAD_MAX,
        records_bytes_max: PAYLOAD_MAX,
    }
}

/// Small segments, so that a file is short and a log has a sealed one.
pub(crate) fn options() -> LogOptions {
    LogOptions {
        segment_bytes_max: 16 << 10,
        segment_bytes_first: 12 << 10,
        payload_bytes_max: PAYLOAD_MAX,
        index_every_bytes: 256,
        ahead_bytes_max: 4 << 10,
        past_cache_bytes_min: 2 << 10,
    }
}

pub(crate) fn open(fs: &Arc<dyn Fs>) -> Option<Log> {
    let identity = LogIdentity {
        cluster: CLUSTER,
        group: GROUP,
    };
    let opened = Log::open(Arc::clone(fs), Path::new(DIR), identity, options(), None);
    opened.ok().map(|(log, _)| log)
}

/// A disk with these files in [`DIR`].
pub(crate) fn disk<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> SimFs {
    let sim = SimFs::new(1);
    ensure_dir(&sim, Path::new(DIR)).expect("an empty disk takes a folder");
    for (name, bytes) in files {
        sim.plant(&Path::new(DIR).join(name), bytes.to_vec());
    }
    sim
}

/// Frames, stamped or not.
fn frame(data: &[u8]) -> bool {
    let header = FrameHeader::decode(data).is_ok();
    let alone = UnstampedFrame::parse(BytesMut::from(data), PAYLOAD_MAX).is_ok();
    let run = UnstampedRun::parse(BytesMut::from(data), PAYLOAD_MAX);
    let unstamped = run.is_ok_and(|run| {
        let bytes: usize = run.headers().iter().map(FrameHeader::frame_len).sum();
        assert_eq!((bytes, run.batches().count()), (data.len(), run.count()));
        assert!(!alone || run.count() == 1, "one frame, and several");
        true
    });
    let mut rest = Bytes::copy_from_slice(data);
    let mut frames = 0;
    while Frame::split_from(&mut rest, PAYLOAD_MAX, true).is_ok() {
        frames += 1;
    }
    header && (unstamped || frames > 0)
}

/// The payload of a batch. Its frame is made around it, so that no checksum hides what comes after. The first byte is the codec, the
/// second the count of records that the header claims.
fn batch(data: &[u8]) -> bool {
    let [codec, count, payload @ ..] = data else {
        return false;
    };
    let header = FrameHeader {
        kind: segment_store::kind::RECORDS,
        codec: codec % 4,
        flags: 0,
        index: 1,
        term: 1,
        base_offset: 0,
        max_timestamp: 1_000,
        payload_len: 0,
        payload_crc: 0,
        prev_header_crc: 0,
        record_count: u32::from(*count),
        group: GROUP,
    };
    let frame = Frame::build(header, payload);
    let _ = peek_head(payload);
    let _ = Codec::from_byte(*codec);
    let taken = check_batch(frame.header(), payload, GROUP, &caps()).is_ok();
    let Ok(reader) = BatchReader::parse(&frame, &caps()) else {
        return false;
    };
    for record in reader.records() {
        let bytes = record.key.unwrap_or_default().len() + record.value.unwrap_or_default().len();
        let headers: usize = record
            .headers
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes + headers <= PAYLOAD_MAX, "a record lies in its batch");
    }
    taken
}

/// The two files of the corpus' log: a sealed segment and a tail.
fn files() -> &'static [(String, Vec<u8>)] {
    static FILES: std::sync::OnceLock<Vec<(String, Vec<u8>)>> = std::sync::OnceLock::new();
    FILES.get_or_init(super::corpus::log_files)
}

/// Opens a log of which one file is `bytes`, and reads it all in every way.
fn open_with(file: usize, bytes: &[u8]) -> bool {
    let planted = files().iter().enumerate().map(|(at, (name, whole))| {
        let bytes = if at == file { bytes } else { whole.as_slice() };
        (name.as_str(), bytes)
    });
    let sim = disk(planted);
    let fs: Arc<dyn Fs> = Arc::new(sim);
    let _ = verify(&*fs, Path::new(DIR));
    if let Ok(dumped) = dump(&*fs, Path::new(DIR)) {
        drop(dumped);
    }
    let Some(log) = open(&fs) else {
        return false;
    };
    let reader = log.reader();
    let mut next = reader.first_index();
    while let Ok(run) = reader.read(next, u64::MAX, 3_000)
        && !run.is_empty()
    {
        assert!(run.last_index >= next, "a run goes on");
        next = run.last_index + 1;
    }
    let _ = reader.seek_offset(reader.next_offset() / 2);
    let _ = reader.seek_time(1_000);
    next == reader.last_index() + 1
}

/// A segment: the first byte says which of the two, the rest is the file.
fn segment(data: &[u8]) -> bool {
    let [which, bytes @ ..] = data else {
        return false;
    };
    open_with(usize::from(which % 2), bytes)
}

/// The end of the sealed segment.
fn footer(data: &[u8]) -> bool {
    let mut bytes = files()[0].1.clone();
    let len = data.len().min(bytes.len());
    let at = bytes.len() - len;
    bytes[at..].copy_from_slice(&data[data.len() - len..]);
    open_with(0, &bytes)
}

fn ballot(data: &[u8]) -> bool {
    let sim = disk([("ballot", data)]);
    let Ok((mut file, (term, _))) = BallotFile::open(&sim, &Path::new(DIR).join("ballot")) else {
        return false;
    };
    file.save(term.saturating_add(1), 1).is_ok()
}

/// A snapshot's file (first byte even), or the controller's state as it is kept in one.
fn stored_snapshot(data: &[u8]) -> bool {
    let [which, bytes @ ..] = data else {
        return false;
    };
    if which % 2 == 1 {
        let mut machine = ControllerMachine::new(ControllerView::default());
        return machine.restore(bytes).is_ok();
    }
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    let name = NAME.get_or_init(|| super::corpus::snapshot_file().0);
    let sim = disk([(name.as_str(), bytes)]);
    let loaded = snapshot::load_latest(&sim, Path::new(DIR), SNAPSHOT);
    matches!(loaded, Ok(Some(_)))
}

/// What a node says to a node: two bytes of the head's length, the head, the body.
fn peer(data: &[u8]) -> bool {
    let Some((len, rest)) = data.split_first_chunk::<2>() else {
        return false;
    };
    let len = usize::from(u16::from_le_bytes(*len)).min(rest.len());
    let (head, body) = rest.split_at(len);
    let body = Bytes::copy_from_slice(body);
    let small = PeerCaps {
        envelopes_max: 64,
        frames_max: 64,
        term_runs_max: 64,
        members_max: 64,
        ..PeerCaps::default()
    };
    let mut good = decode_envelopes(kind::ENVELOPES, head, body, &small).is_ok();
    good |= decode_hello(kind::HELLO, head).is_ok();
    good |= decode_report(kind::REPORT, head).is_ok();
    good |= decode_greeting(kind::GREETING, head).is_ok();
    good |= decode_frames(kind::FRAMES, head).is_ok();
    good
}

/// A request or a reply.
fn client(data: &[u8]) -> bool {
    let request = decode_request(kind::REQUEST, data).is_ok();
    decode_reply(kind::REPLY, data).is_ok() || request
}

/// A command to the controller, or its outcome.
fn command(data: &[u8]) -> bool {
    let applied = decode_command(data).map(|_| {
        // What decodes must also be answered, whatever is in it.
        let mut machine = ControllerMachine::new(ControllerView::default());
        machine.apply(plimsoll::raft::LogId { term: 1, index: 1 }, data)
    });
    decode_outcome(data).is_ok() || applied.is_ok()
}

/// A node's or a client's settings.
fn config(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else {
        return false;
    };
    let node = toml::from_str::<Config>(text).is_ok_and(|config| config.validate().is_ok());
    let client = toml::from_str::<ClientConfig>(text).is_ok_and(|config| config.validate().is_ok());
    node || client
}

//! What the tests of the log share: a maker of chained frames and a reader of everything.
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod original;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use segment_store::fs::Fs;
use segment_store::{
    Frame, FrameHeader, Log, LogIdentity, LogOptions, LogReader, OpenError, ReadError, Recovered,
    kind,
};

pub(crate) const GROUP: u64 = 7;
pub(crate) const PAYLOAD_MAX: usize = 1 << 20;

pub(crate) fn identity() -> LogIdentity {
    LogIdentity {
        cluster: *b"0123456789abcdef",
        group: GROUP,
    }
}

/// Small segments and a dense index, so that short histories see everything.
pub(crate) fn small() -> LogOptions {
    LogOptions {
        segment_bytes_max: 24 << 10,
        segment_bytes_first: 12 << 10,
        payload_bytes_max: PAYLOAD_MAX,
        index_every_bytes: 256,
        ahead_bytes_max: 4 << 10,
        past_cache_bytes_min: 2 << 10,
    }
}

pub(crate) fn open(fs: &Arc<dyn Fs>, dir: &Path) -> Result<(Log, Recovered), OpenError> {
    Log::open(Arc::clone(fs), dir, identity(), small(), None)
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) offset: u64,
    pub(crate) link: u32,
}

impl Chain {
    pub(crate) fn start() -> Chain {
        Chain {
            index: 1,
            term: 1,
            offset: 0,
            link: 0,
        }
    }

    pub(crate) fn after(log: &Log) -> Chain {
        Chain {
            index: log.last_index() + 1,
            term: log.last_term().max(1),
            offset: log.next_offset(),
            link: log.last_header_crc(),
        }
    }

    pub(crate) fn frame(&mut self, kind: u8, records: u32, time: u64, payload: &[u8]) -> Frame {
        let header = FrameHeader {
            kind,
            codec: 0,
            flags: 0,
            index: self.index,
            term: self.term,
            base_offset: self.offset,
            max_timestamp: time,
            payload_len: 0,
            payload_crc: 0,
            prev_header_crc: self.link,
            record_count: records,
            group: GROUP,
        };
        let frame = Frame::build(header, payload);
        self.index += 1;
        self.offset += u64::from(records);
        self.link = frame.header_crc();
        frame
    }

    /// A batch of three records whose payload tells index and `salt`.
    pub(crate) fn batch(&mut self, len: usize, salt: u8) -> Frame {
        let mut payload = vec![salt; len];
        for (to, from) in payload.iter_mut().zip(self.index.to_le_bytes()) {
            *to = from;
        }
        let time = 1_000 + self.index * 10;
        self.frame(kind::RECORDS, 3, time, &payload)
    }

    pub(crate) fn noop(&mut self) -> Frame {
        self.frame(kind::NOOP, 0, 0, b"")
    }

    pub(crate) fn membership(&mut self) -> Frame {
        self.frame(kind::MEMBERSHIP, 0, 0, b"voters 1 2 3")
    }
}

/// Every frame from the first one on, each checked in full, and each checked to follow the one before.
pub(crate) fn read_all(reader: &LogReader) -> Result<Vec<Bytes>, ReadError> {
    let mut frames = Vec::new();
    let mut next = reader.first_index();
    let mut link = None;
    loop {
        let run = reader.read(next, u64::MAX, 3_000)?;
        if run.is_empty() {
            assert_eq!(next, reader.last_index() + 1);
            return Ok(frames);
        }
        assert_eq!(run.first_index, next);
        let mut bytes = run.bytes;
        while !bytes.is_empty() {
            let frame = Frame::split_from(&mut bytes, PAYLOAD_MAX, true).expect("a whole frame");
            assert_eq!(frame.header().index, next);
            assert!(link.is_none_or(|link| link == frame.header().prev_header_crc));
            link = Some(frame.header_crc());
            next += 1;
            frames.push(frame.bytes().clone());
        }
        assert_eq!(run.last_index, next - 1);
    }
}

pub(crate) fn bytes_of(frames: &[Frame]) -> Vec<Bytes> {
    frames.iter().map(|frame| frame.bytes().clone()).collect()
}

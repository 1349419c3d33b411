//! Producers' frames one behind the other in one piece of memory, until a leader gives them their places.
//!
//! On the produce walk: the batches of one request are checked, stamped and handed on together, however small each of them is. Must not
//! know: files, segments, what a payload means.

use bytes::{Bytes, BytesMut};

use super::{Frame, UnstampedFrame, check_unstamped};
use crate::error::FrameError;
use crate::format::{FrameHeader, HEADER_LEN, get_u32};

/// One or more producers' frames before a leader gave them their places in the log, in order and without gaps.
#[derive(Debug)]
pub struct UnstampedRun {
    headers: Vec<FrameHeader>,
    bytes: BytesMut,
}

impl UnstampedRun {
    /// Takes `bytes` as nothing but unstamped frames, at least one, each of them with every check of [`UnstampedFrame::parse`].
    pub fn parse(bytes: BytesMut, payload_bytes_max: usize) -> Result<Self, FrameError> {
        let mut headers = Vec::with_capacity(1);
        let mut at = 0;
        loop {
            let header = check_unstamped(&bytes[at..], payload_bytes_max)?;
            at += header.frame_len();
            headers.push(header);
            if at == bytes.len() {
                return Ok(UnstampedRun { headers, bytes });
            }
        }
    }

    /// Number of frames, at least 1.
    pub fn count(&self) -> usize {
        self.headers.len()
    }

    /// Length of all frames in bytes.
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The headers as the producers made them.
    pub fn headers(&self) -> &[FrameHeader] {
        &self.headers
    }

    /// Each frame's header and payload.
    pub fn batches(&self) -> impl Iterator<Item = (&FrameHeader, &[u8])> {
        let mut rest = &self.bytes[..];
        self.headers.iter().map(move |header| {
            let (frame, behind) = rest.split_at(header.frame_len());
            rest = behind;
            let end = HEADER_LEN + header.payload_len as usize;
            (header, &frame[HEADER_LEN..end])
        })
    }

    /// The frames as they were sent, for passing them on to the leader.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// Gives the frames consecutive places in the log, the first of them `index`: rewrites the headers in place, and copies nothing. The
    /// second value is all frames in one piece.
    ///
    /// # Panics
    /// If the last record's offset would pass `u64::MAX`.
    pub fn stamp(
        mut self,
        index: u64,
        term: u64,
        base_offset: u64,
        prev_header_crc: u32,
    ) -> (Vec<Frame>, Bytes) {
        let (mut at, mut next_offset, mut link) = (0, base_offset, prev_header_crc);
        for (index, header) in (index..).zip(&mut self.headers) {
            header.index = index;
            header.term = term;
            header.base_offset = next_offset;
            header.prev_header_crc = link;
            next_offset = next_offset
                .checked_add(u64::from(header.record_count))
                .unwrap_or_else(|| panic!("offsets ran out at {next_offset}"));
            let encoded = header.encode();
            self.bytes[at..at + HEADER_LEN].copy_from_slice(&encoded);
            link = get_u32(&encoded, 4);
            at += header.frame_len();
        }
        let whole = self.bytes.freeze();
        let mut rest = whole.clone();
        let frames = self.headers.into_iter().map(|header| Frame {
            header,
            header_crc: get_u32(&rest, 4),
            bytes: rest.split_to(header.frame_len()),
        });
        (frames.collect(), whole)
    }
}

impl From<UnstampedFrame> for UnstampedRun {
    fn from(frame: UnstampedFrame) -> UnstampedRun {
        UnstampedRun {
            headers: vec![frame.header],
            bytes: frame.bytes,
        }
    }
}

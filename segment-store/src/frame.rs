//! A frame as one piece of memory: exactly the bytes that lie on disk and travel on the wire.
//!
//! On the produce walk an [`UnstampedFrame`] becomes a [`Frame`] in place; on the append walk frames are split off a message
//! without a copy. Must not know: files, segments, what a payload means.

mod run;

use bytes::{Bytes, BytesMut};

pub use self::run::UnstampedRun;
use crate::error::FrameError;
use crate::format::{FrameHeader, HEADER_LEN, padded_len};

/// A stamped frame: its place in the log is fixed. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    header: FrameHeader,
    header_crc: u32,
    /// Header, payload and padding: `header.frame_len()` bytes.
    bytes: Bytes,
}

impl Frame {
    /// The decoded header.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// Checksum of the header, which the next frame of the log carries as its link.
    pub fn header_crc(&self) -> u32 {
        self.header_crc
    }

    /// The whole frame as it lies on disk: header, payload, padding.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload, without a copy.
    pub fn payload(&self) -> Bytes {
        self.bytes.slice(self.payload_range())
    }

    /// Splits one frame off the front of `bytes` without a copy, checking version, kind, header checksum and the cap, padding,
    /// and the payload checksum if `check_payload`. On an error `bytes` is left as it was.
    pub fn split_from(
        bytes: &mut Bytes,
        payload_bytes_max: usize,
        check_payload: bool,
    ) -> Result<Frame, FrameError> {
        let (header, header_crc) = checked_header(bytes, payload_bytes_max)?;
        let frame_len = header.frame_len();
        check_padding(&bytes[..frame_len], &header)?;
        if check_payload {
            check_payload_crc(bytes, &header)?;
        }
        Ok(Frame {
            header,
            header_crc,
            bytes: bytes.split_to(frame_len),
        })
    }

    /// Builds a stamped frame around a small payload (no-op, membership, controller command), which is copied. Length and
    /// checksum of the payload are filled in here; the rest of `header` is taken as given.
    ///
    /// # Panics
    /// If the payload passes 4 GiB.
    pub fn build(header: FrameHeader, payload: &[u8]) -> Frame {
        let header = FrameHeader {
            payload_len: u32::try_from(payload.len()).expect("payloads we build are small"),
            payload_crc: crc32fast::hash(payload),
            ..header
        };
        let encoded = header.encode();
        let mut bytes = BytesMut::zeroed(header.frame_len());
        bytes[..HEADER_LEN].copy_from_slice(&encoded);
        bytes[HEADER_LEN..HEADER_LEN + payload.len()].copy_from_slice(payload);
        Frame {
            header,
            header_crc: crate::format::get_u32(&encoded, 4),
            bytes: bytes.freeze(),
        }
    }

    /// Checks the payload against its checksum.
    pub fn verify_payload(&self) -> Result<(), FrameError> {
        check_payload_crc(&self.bytes, &self.header)
    }

    fn payload_range(&self) -> std::ops::Range<usize> {
        HEADER_LEN..HEADER_LEN + self.header.payload_len as usize
    }
}

/// A producer's frame before a leader gave it a place in the log: index, term, base offset and link are zero.
#[derive(Debug)]
pub struct UnstampedFrame {
    header: FrameHeader,
    bytes: BytesMut,
}

impl UnstampedFrame {
    /// Takes `bytes` as exactly one unstamped frame, with every check: version, kind, header checksum, cap, length, payload
    /// checksum, padding, and that nothing is stamped yet.
    pub fn parse(bytes: BytesMut, payload_bytes_max: usize) -> Result<Self, FrameError> {
        let header = check_unstamped(&bytes, payload_bytes_max)?;
        match bytes.len() - header.frame_len() {
            0 => Ok(UnstampedFrame { header, bytes }),
            extra => Err(FrameError::TrailingBytes { extra }),
        }
    }

    /// The header as the producer made it.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The payload.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_LEN..HEADER_LEN + self.header.payload_len as usize]
    }

    /// Length of the whole frame in bytes.
    pub fn frame_len(&self) -> usize {
        self.bytes.len()
    }

    /// The whole frame as the producer sent it, for passing it on to the leader.
    pub fn into_bytes(self) -> Bytes {
        self.bytes.freeze()
    }

    /// Gives the frame its place in the log: rewrites the 64 bytes of the header in place, and copies nothing.
    ///
    /// # Panics
    /// If the last record's offset would pass `u64::MAX`.
    pub fn stamp(self, index: u64, term: u64, base_offset: u64, prev_header_crc: u32) -> Frame {
        let run = UnstampedRun::from(self);
        let (mut frames, _) = run.stamp(index, term, base_offset, prev_header_crc);
        frames.pop().expect("one came in")
    }
}

/// Checks the frame at the front of `bytes`: version, kind, header checksum, cap, length, payload checksum, padding, and that nothing is
/// stamped yet.
fn check_unstamped(bytes: &[u8], payload_bytes_max: usize) -> Result<FrameHeader, FrameError> {
    let (header, _) = checked_header(bytes, payload_bytes_max)?;
    if header.index != 0
        || header.term != 0
        || header.base_offset != 0
        || header.prev_header_crc != 0
    {
        return Err(FrameError::AlreadyStamped);
    }
    // All there: the header was checked against that.
    let frame = &bytes[..header.frame_len()];
    check_padding(frame, &header)?;
    check_payload_crc(frame, &header)?;
    Ok(header)
}

/// Decodes the header and checks that the frame is within the cap and all there.
fn checked_header(
    bytes: &[u8],
    payload_bytes_max: usize,
) -> Result<(FrameHeader, u32), FrameError> {
    let (header, header_crc) = FrameHeader::decode(bytes)?;
    if header.payload_len as usize > payload_bytes_max {
        return Err(FrameError::TooLong {
            payload_len: header.payload_len,
            max: payload_bytes_max,
        });
    }
    let need = padded_len(header.payload_len);
    if bytes.len() < need && !crate::mutation::is("a length is believed") {
        return Err(FrameError::Short {
            need,
            have: bytes.len(),
        });
    }
    Ok((header, header_crc))
}

/// Padding is zeros, so that a frame has one form only. `bytes` is the whole frame.
pub(crate) fn check_padding(bytes: &[u8], header: &FrameHeader) -> Result<(), FrameError> {
    let padding = &bytes[HEADER_LEN + header.payload_len as usize..];
    if padding.iter().all(|&byte| byte == 0) {
        Ok(())
    } else {
        Err(FrameError::Padding)
    }
}

/// Checks the payload that follows the header at the front of `bytes`.
pub(crate) fn check_payload_crc(bytes: &[u8], header: &FrameHeader) -> Result<(), FrameError> {
    let payload = &bytes[HEADER_LEN..HEADER_LEN + header.payload_len as usize];
    if crc32fast::hash(payload) == header.payload_crc {
        Ok(())
    } else {
        Err(FrameError::PayloadCrc)
    }
}

#[cfg(test)]
mod tests;

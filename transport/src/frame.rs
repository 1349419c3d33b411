//! The shape of a message on a stream: a 16-byte preamble, a head, a body.
//!
//! Owns the preamble's bytes and the caps that are checked before anything is allocated. Knows nothing of streams, nor of what heads and
//! bodies mean. On every walk, at both ends of each hop.
//!
//! ```text
//!  0  u8  version = 1      4  u32 head_len     12  u32 reserved = 0
//!  1  u8  kind             8  u32 body_len     16  head, then body
//!  2  u16 flags = 0                                little-endian throughout
//! ```

use bytes::{Bytes, BytesMut};

/// Bytes of a preamble.
pub const PREAMBLE_LEN: usize = 16;
/// The version this code writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The caps a reader puts on a message, each inclusive, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest head accepted.
    pub head_bytes_max: usize,
    /// Longest body accepted.
    pub body_bytes_max: usize,
}

/// One message, whole.
#[derive(Debug)]
pub struct Message {
    /// What the message is; this crate passes it on unread.
    pub kind: u8,
    /// The head: small, to be decoded.
    pub head: Bytes,
    /// The body: one contiguous buffer of its own, so that a frame in it can be stamped in place.
    pub body: BytesMut,
}

/// What is known of a message once its head is there and its body is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// What the message is; this crate passes it on unread.
    pub kind: u8,
    /// The head: small, to be decoded.
    pub head: Bytes,
    /// Length of the body that follows, in bytes.
    pub body_len: u32,
}

/// The first 16 bytes of a message, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) kind: u8,
    pub(crate) head_len: u32,
    pub(crate) body_len: u32,
}

impl Preamble {
    /// The preamble of a message with such a head and body, or which of the two passes what 32 bits can say.
    pub(crate) fn new(kind: u8, head_len: usize, body_len: usize) -> Result<Preamble, FrameError> {
        let narrow = |part, len: usize| {
            u32::try_from(len).map_err(|_| FrameError::TooLong {
                part,
                len: len as u64,
                max: u64::from(u32::MAX),
            })
        };
        Ok(Preamble {
            kind,
            head_len: narrow("head", head_len)?,
            body_len: narrow("body", body_len)?,
        })
    }

    pub(crate) fn encode(self) -> [u8; PREAMBLE_LEN] {
        let mut bytes = [0; PREAMBLE_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.kind;
        bytes[4..8].copy_from_slice(&self.head_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.body_len.to_le_bytes());
        bytes
    }

    /// Decodes and checks against `limits`. The kind is not judged here.
    pub(crate) fn decode(
        bytes: &[u8; PREAMBLE_LEN],
        limits: &Limits,
    ) -> Result<Preamble, FrameError> {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if bytes[0] != VERSION {
            return Err(FrameError::UnknownVersion { version: bytes[0] });
        }
        let flags = u16::from_le_bytes([bytes[2], bytes[3]]);
        if flags != 0 || u32_at(12) != 0 {
            return Err(FrameError::ReservedSet {
                flags,
                reserved: u32_at(12),
            });
        }
        let preamble = Preamble {
            kind: bytes[1],
            head_len: u32_at(4),
            body_len: u32_at(8),
        };
        check_cap("head", preamble.head_len, limits.head_bytes_max)?;
        check_cap("body", preamble.body_len, limits.body_bytes_max)?;
        Ok(preamble)
    }
}

fn check_cap(part: &'static str, len: u32, max: usize) -> Result<(), FrameError> {
    if len as usize > max {
        return Err(FrameError::TooLong {
            part,
            len: u64::from(len),
            max: max as u64,
        });
    }
    Ok(())
}

/// Why sixteen bytes are no preamble of ours. Nothing after them can be trusted: the stream is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A version this code does not read.
    #[error(
        "message version {version} is unknown here (this side speaks {VERSION}): update this side first"
    )]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// Bits that must be zero in this version.
    #[error(
        "reserved bits of a message are set (flags {flags:#06x}, reserved {reserved:#010x}): the other side breaks the protocol"
    )]
    ReservedSet {
        /// The flags.
        flags: u16,
        /// The reserved word.
        reserved: u32,
    },
    /// A head or body over its cap.
    #[error("a message's {part} of {len} bytes is over the limit of {max}")]
    TooLong {
        /// "head" or "body".
        part: &'static str,
        /// The length announced, in bytes.
        len: u64,
        /// The longest allowed, in bytes, inclusive.
        max: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes_max: 10,
        body_bytes_max: 100,
    };

    #[test]
    fn preamble_bytes_are_pinned() {
        let preamble = Preamble::new(0x7f, 0x0102, 0x0304_0506).unwrap();
        let golden = [1, 0x7f, 0, 0, 2, 1, 0, 0, 6, 5, 4, 3, 0, 0, 0, 0];
        assert_eq!(preamble.encode(), golden);
        let wide = Limits {
            head_bytes_max: usize::MAX,
            body_bytes_max: usize::MAX,
        };
        assert_eq!(Preamble::decode(&golden, &wide), Ok(preamble));
    }

    #[test]
    fn caps_are_inclusive_and_apply_to_head_and_body_each() {
        let decode =
            |head, body| Preamble::decode(&Preamble::new(1, head, body).unwrap().encode(), &LIMITS);
        assert!(decode(10, 100).is_ok());
        assert!(matches!(
            decode(11, 0),
            Err(FrameError::TooLong {
                part: "head",
                len: 11,
                max: 10
            })
        ));
        assert!(matches!(
            decode(0, 101),
            Err(FrameError::TooLong { part: "body", .. })
        ));
        assert!(decode(u32::MAX as usize, u32::MAX as usize).is_err());
    }

    #[test]
    fn every_bit_that_must_be_zero_is_checked() {
        let good = Preamble::new(1, 0, 0).unwrap().encode();
        for at in [2, 3, 12, 13, 14, 15] {
            for bit in 0..8 {
                let mut bytes = good;
                bytes[at] |= 1 << bit;
                let verdict = Preamble::decode(&bytes, &LIMITS);
                assert!(matches!(verdict, Err(FrameError::ReservedSet { .. })));
            }
        }
    }

    #[test]
    fn every_other_version_is_unknown() {
        for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
            let mut bytes = Preamble::new(1, 0, 0).unwrap().encode();
            bytes[0] = version;
            let verdict = Preamble::decode(&bytes, &LIMITS);
            assert_eq!(verdict, Err(FrameError::UnknownVersion { version }));
        }
    }

    #[test]
    fn every_kind_passes_through() {
        for kind in 0..=u8::MAX {
            let bytes = Preamble::new(kind, 0, 0).unwrap().encode();
            assert_eq!(Preamble::decode(&bytes, &LIMITS).unwrap().kind, kind);
        }
    }
}

//! How a head is sealed and opened: version byte, then a checked rkyv archive.
//!
//! Owns nothing of the messages themselves. On every walk that crosses a connection.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use super::{TEXT_BYTES_MAX, WIRE_VERSION, WireError};

/// The kinds of message, as they stand in the transport's preamble.
pub mod kind {
    /// A client's [`Request`](crate::wire::Request).
    pub const REQUEST: u8 = 1;
    /// A node's [`Reply`](crate::wire::Reply).
    pub const REPLY: u8 = 2;
    /// Envelopes between two nodes.
    pub const ENVELOPES: u8 = 3;
    /// What a stream between two nodes is for: [`StreamHello`](crate::wire::StreamHello).
    pub const HELLO: u8 = 4;
    /// What a node tells of its replicas: [`NodeReport`](crate::wire::NodeReport).
    pub const REPORT: u8 = 5;
    /// How two nodes make themselves known: [`Greeting`](crate::wire::Greeting).
    pub const GREETING: u8 = 6;
    /// Frames that another node lacks: the answer to [`StreamHello::Repair`](crate::wire::StreamHello::Repair).
    pub const FRAMES: u8 = 7;
}

/// Writes the version byte and the archive of `value`.
pub(super) fn seal<T>(value: &T) -> Vec<u8>
where
    T: for<'a> Serialize<HighSerializer<Vec<u8>, ArenaHandle<'a>, rancor::Failure>>,
{
    let mut head = Vec::with_capacity(128);
    head.push(WIRE_VERSION);
    rkyv::api::high::to_bytes_in::<_, rancor::Failure>(value, head)
        .expect("a vector takes every write and our types share no pointers")
}

/// Checks kind, length and version, validates the archive, lets `caps` measure it, and only then copies it out.
pub(super) fn open<T>(
    kind: u8,
    expected: u8,
    head: &[u8],
    bytes_max: usize,
    caps: impl FnOnce(&T::Archived) -> Result<(), WireError>,
) -> Result<T, WireError>
where
    T: Archive,
    T::Archived: Portable
        + for<'a> CheckBytes<HighValidator<'a, rancor::Failure>>
        + Deserialize<T, HighDeserializer<rancor::Failure>>,
{
    if kind != expected {
        return Err(WireError::UnknownKind { kind });
    }
    if head.len() > bytes_max {
        return Err(WireError::TooLong {
            what: "head",
            len: head.len(),
            max: bytes_max,
        });
    }
    let (&version, archive) = head.split_first().ok_or(WireError::Malformed)?;
    if version != WIRE_VERSION {
        return Err(WireError::Version { version });
    }
    let archived =
        rkyv::access::<T::Archived, rancor::Failure>(archive).map_err(|_| WireError::Malformed)?;
    caps(archived)?;
    rkyv::deserialize::<T, rancor::Failure>(archived).map_err(|_| WireError::Malformed)
}

/// Refuses a list or string longer than `max`.
pub(super) fn at_most(what: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max {
        Err(WireError::TooLong { what, len, max })
    } else {
        Ok(())
    }
}

/// Refuses a string longer than [`TEXT_BYTES_MAX`].
pub(super) fn text(what: &'static str, text: &str) -> Result<(), WireError> {
    at_most(what, text.len(), TEXT_BYTES_MAX)
}

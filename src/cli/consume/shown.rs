//! A record as JSON.
//!
//! Owns the shape: text where the bytes are UTF-8, base64 under another name where they are not, so that nothing is lost or
//! guessed. Must not copy a value that can be printed as it lies.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plimsoll::wire::RecordRef;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// A record and where it lies.
pub(super) struct Shown<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: u32,
    pub(super) record: RecordRef<'a>,
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", self.topic)?;
        map.serialize_entry("partition", &self.partition)?;
        map.serialize_entry("offset", &self.record.offset)?;
        map.serialize_entry("timestamp_ms", &self.record.timestamp_ms)?;
        bytes(&mut map, ["key", "key_base64"], self.record.key)?;
        bytes(&mut map, ["value", "value_base64"], self.record.value)?;
        map.serialize_entry("headers", &Headers(&self.record))?;
        map.end()
    }
}

/// The headers in order, as a list: a name may come twice.
struct Headers<'a>(&'a RecordRef<'a>);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for (name, value) in self.0.headers.clone() {
            list.serialize_element(&Header { name, value })?;
        }
        list.end()
    }
}

struct Header<'a> {
    name: &'a str,
    value: &'a [u8],
}

impl Serialize for Header<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("name", self.name)?;
        bytes(&mut map, ["value", "value_base64"], Some(self.value))?;
        map.end()
    }
}

/// Puts bytes under the first name as text, under the second as base64, or under the first as null if there are none.
fn bytes<M: SerializeMap>(
    map: &mut M,
    [text_name, base64_name]: [&'static str; 2],
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => map.serialize_entry(text_name, &None::<&str>),
        Some((_, Ok(text))) => map.serialize_entry(text_name, text),
        Some((bytes, Err(_))) => map.serialize_entry(base64_name, &STANDARD.encode(bytes)),
    }
}

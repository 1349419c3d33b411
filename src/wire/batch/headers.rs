//! Headers of one record: names and values, packed one behind the other.
//!
//! Owns their layout: name length (u16), value length (u32), name, value; little-endian. Names are UTF-8 and may repeat;
//! values are any bytes. Checked once, when the batch is; reading cannot fail afterwards.

use bytes::{BufMut, BytesMut};

/// Name and value.
type Header<'a> = (&'a str, &'a [u8]);

/// Bytes before each name.
pub(super) const PREFIX_LEN: usize = 6;

/// Appends one header; the caller has checked that `name` is at most 65,535 bytes.
pub(super) fn write(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_u16_le(name.len() as u16);
    out.put_u32_le(value.len() as u32);
    out.put_slice(name.as_bytes());
    out.put_slice(value);
}

/// `None` unless `bytes` is headers up to its very end.
pub(super) fn check(mut bytes: &[u8]) -> Option<()> {
    while !bytes.is_empty() {
        (_, bytes) = split(bytes)?;
    }
    Some(())
}

/// The first header, and what is behind it.
fn split(bytes: &[u8]) -> Option<(Header<'_>, &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk::<PREFIX_LEN>()?;
    let name_len = u16::from_le_bytes([prefix[0], prefix[1]]) as usize;
    let value_len = u32::from_le_bytes([prefix[2], prefix[3], prefix[4], prefix[5]]) as usize;
    let (name, rest) = rest.split_at_checked(name_len)?;
    let (value, rest) = rest.split_at_checked(value_len)?;
    Some(((std::str::from_utf8(name).ok()?, value), rest))
}

/// The headers of one record, in the order they were given.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    /// What is left, checked.
    pub(super) rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = split(self.rest)?;
        self.rest = rest;
        Some(header)
    }
}

//! Puts messages together from the pieces in which a stream arrives.
//!
//! Owns the state of the message that is being received. Pure: knows nothing of streams, so that a receiver may be dropped and taken up again at
//! any point. On every walk, at the receiving end of each hop.

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{FrameError, Head, Limits, Message, PREAMBLE_LEN, Preamble};
use crate::pool;

/// Room made for a head or body before any of it has come, at most. A length announced without data behind it costs no more than this.
const EAGER_BYTES: usize = 128 << 10;
/// Room is then made for this many times what has come: a body is moved rarely while it grows, and memory stays in proportion to data received.
const GROWTH: usize = 16;

/// The message under way: which parts are complete, and what has come of the one that is not.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    preamble_bytes: [u8; PREAMBLE_LEN],
    preamble_filled: usize,
    preamble: Option<Preamble>,
    /// Complete if `Some`.
    head: Option<Bytes>,
    head_partial: BytesMut,
    body: BytesMut,
    /// `body` lies in a buffer of the pool.
    pooled: bool,
    /// Bytes of the body dropped on the way, when it is not wanted.
    skipped: usize,
}

impl Assembler {
    /// Takes what belongs to the current message off the front of `chunk`. Returns the message once whole; what follows stays in `chunk`. After
    /// an error nothing more can be made of this stream.
    pub(crate) fn feed(
        &mut self,
        chunk: &mut Bytes,
        limits: &Limits,
    ) -> Result<Option<Message>, FrameError> {
        let Some(preamble) = self.take_until_body(chunk, limits)? else {
            return Ok(None);
        };
        let body_len = preamble.body_len as usize;
        if self.body.capacity() == 0 && !chunk.is_empty() {
            (self.body, self.pooled) = match pool::reuse(body_len) {
                Some(body) => (body, true),
                None => (BytesMut::new(), false),
            };
        }
        append(&mut self.body, chunk, body_len);
        if self.body.len() < body_len {
            return Ok(None);
        }
        let mut done = std::mem::take(self);
        if !done.pooled {
            pool::adopt(&mut done.body);
        }
        Ok(Some(Message {
            kind: preamble.kind,
            head: done.head.expect("taken above"),
            body: done.body,
        }))
    }

    /// Takes preamble and head of the current message off the front of `chunk`, and nothing of its body. Returns them once complete, as often as
    /// asked.
    pub(crate) fn feed_head(
        &mut self,
        chunk: &mut Bytes,
        limits: &Limits,
    ) -> Result<Option<Head>, FrameError> {
        let preamble = self.take_until_body(chunk, limits)?;
        Ok(preamble.map(|preamble| Head {
            kind: preamble.kind,
            head: self.head.clone().expect("complete by now"),
            body_len: preamble.body_len,
        }))
    }

    /// Drops what belongs to the body of the current message, whose head is complete, off the front of `chunk`. True once all of it is gone.
    pub(crate) fn feed_nowhere(&mut self, chunk: &mut Bytes) -> bool {
        let body_len = self.preamble.map_or(0, |preamble| preamble.body_len);
        let left = body_len as usize - self.body.len() - self.skipped;
        let n = left.min(chunk.len());
        chunk.advance(n);
        self.skipped += n;
        if n == left {
            *self = Assembler::default();
        }
        n == left
    }

    /// Whether preamble and head of the current message are complete.
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// Whether nothing of a next message has come.
    pub(crate) fn is_empty(&self) -> bool {
        self.preamble_filled == 0
    }

    /// Bytes of the current message that came, and how many it has in all as far as is known.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let head = self
            .head
            .as_ref()
            .map_or(self.head_partial.len(), Bytes::len);
        let received = self.preamble_filled + head + self.body.len() + self.skipped;
        let announced = self
            .preamble
            .map_or(0, |p| u64::from(p.head_len) + u64::from(p.body_len));
        (received as u64, PREAMBLE_LEN as u64 + announced)
    }

    fn take_until_body(
        &mut self,
        chunk: &mut Bytes,
        limits: &Limits,
    ) -> Result<Option<Preamble>, FrameError> {
        let Some(preamble) = self.take_preamble(chunk, limits)? else {
            return Ok(None);
        };
        let complete = self.head.is_some() || self.take_head(chunk, preamble.head_len as usize);
        Ok(complete.then_some(preamble))
    }

    fn take_preamble(
        &mut self,
        chunk: &mut Bytes,
        limits: &Limits,
    ) -> Result<Option<Preamble>, FrameError> {
        if self.preamble.is_none() {
            let missing = &mut self.preamble_bytes[self.preamble_filled..];
            let n = missing.len().min(chunk.len());
            missing[..n].copy_from_slice(&chunk[..n]);
            chunk.advance(n);
            self.preamble_filled += n;
            if self.preamble_filled == PREAMBLE_LEN {
                self.preamble = Some(Preamble::decode(&self.preamble_bytes, limits)?);
            }
        }
        Ok(self.preamble)
    }

    /// A head that came in one piece is not copied.
    fn take_head(&mut self, chunk: &mut Bytes, len: usize) -> bool {
        if self.head_partial.is_empty() && chunk.len() >= len {
            self.head = Some(chunk.split_to(len));
            return true;
        }
        append(&mut self.head_partial, chunk, len);
        if self.head_partial.len() == len {
            self.head = Some(std::mem::take(&mut self.head_partial).freeze());
        }
        self.head.is_some()
    }
}

/// Moves bytes from `chunk` to `part` until that has `len`, making room in proportion to what came.
fn append(part: &mut BytesMut, chunk: &mut Bytes, len: usize) {
    let n = (len - part.len()).min(chunk.len());
    if part.capacity() - part.len() < n {
        let target = EAGER_BYTES.max((part.len() + n).saturating_mul(GROWTH));
        part.reserve(target.min(pool::rounded(len)) - part.len());
    }
    part.extend_from_slice(&chunk[..n]);
    chunk.advance(n);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes_max: 1 << 10,
        body_bytes_max: 64 << 20,
    };

    fn encode(kind: u8, head: &[u8], body: &[u8]) -> Vec<u8> {
        let preamble = Preamble::new(kind, head.len(), body.len()).unwrap();
        [&preamble.encode(), head, body].concat()
    }

    fn assert_message(message: &Message, kind: u8, head: &[u8], body: &[u8]) {
        assert_eq!(
            (message.kind, &message.head[..], &message.body[..]),
            (kind, head, body)
        );
    }

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let sent: Vec<(u8, Vec<u8>, Vec<u8>)> = vec![
            (1, vec![], vec![]),
            (2, b"head".to_vec(), vec![]),
            (3, vec![], b"body".to_vec()),
            (4, vec![7; 100], vec![8; 300]),
            (5, b"h".to_vec(), b"b".to_vec()),
        ];
        let wire: Vec<u8> = sent.iter().flat_map(|(k, h, b)| encode(*k, h, b)).collect();
        for cut in 1..=wire.len() {
            let mut assembler = Assembler::default();
            let mut received = Vec::new();
            for piece in wire.chunks(cut) {
                let mut chunk = Bytes::copy_from_slice(piece);
                while !chunk.is_empty() {
                    received.extend(assembler.feed(&mut chunk, &LIMITS).unwrap());
                }
            }
            assert!(assembler.is_empty());
            assert_eq!(received.len(), sent.len(), "cut every {cut} bytes");
            for (message, (kind, head, body)) in received.iter().zip(&sent) {
                assert_message(message, *kind, head, body);
            }
        }
    }

    #[test]
    fn a_head_is_known_before_its_body_which_may_be_taken_or_dropped() {
        let wire = [
            encode(1, b"first", b"dropped"),
            encode(2, b"second", b"taken"),
        ]
        .concat();
        for cut in 1..=wire.len() {
            let mut assembler = Assembler::default();
            let (mut heads, mut taken) = (Vec::new(), Vec::new());
            for piece in wire.chunks(cut) {
                let mut chunk = Bytes::copy_from_slice(piece);
                while !chunk.is_empty() {
                    let Some(head) = assembler.feed_head(&mut chunk, &LIMITS).unwrap() else {
                        continue;
                    };
                    if head.kind == 1 {
                        assembler.feed_nowhere(&mut chunk);
                    } else {
                        taken.extend(assembler.feed(&mut chunk, &LIMITS).unwrap());
                    }
                    heads.push((head.kind, head.head, head.body_len));
                }
            }
            heads.dedup();
            let expected = [(1, &b"first"[..], 7), (2, b"second", 5)];
            assert!(
                heads
                    .iter()
                    .map(|(kind, head, len)| (*kind, &head[..], *len))
                    .eq(expected)
            );
            assert_eq!(taken.len(), 1, "cut every {cut} bytes");
            assert_message(&taken[0], 2, b"second", b"taken");
            assert!(assembler.is_empty());
        }
    }

    #[test]
    fn a_length_without_data_makes_no_room() {
        let wire = encode(1, &[], &vec![0; 64 << 20]);
        let mut assembler = Assembler::default();
        let mut chunk = Bytes::copy_from_slice(&wire[..PREAMBLE_LEN]);
        assert!(assembler.feed(&mut chunk, &LIMITS).unwrap().is_none());
        assert_eq!(assembler.body.capacity(), 0);
        let mut chunk = Bytes::copy_from_slice(&wire[PREAMBLE_LEN..PREAMBLE_LEN + 1_000]);
        assert!(assembler.feed(&mut chunk, &LIMITS).unwrap().is_none());
        assert!(assembler.body.capacity() <= EAGER_BYTES);
        assert_eq!(assembler.progress(), (1_016, 16 + (64 << 20)));
    }

    #[test]
    fn room_stays_in_proportion_and_ends_at_the_exact_length() {
        let len = 5 << 20;
        let wire = encode(1, &[], &vec![9; len]);
        let mut assembler = Assembler::default();
        let mut message = None;
        for piece in wire.chunks(60_000) {
            let mut chunk = Bytes::copy_from_slice(piece);
            message = assembler.feed(&mut chunk, &LIMITS).unwrap();
            let received = assembler.body.len();
            assert!(assembler.body.capacity() <= EAGER_BYTES.max(GROWTH * received));
            assert!(assembler.body.capacity() <= len);
        }
        assert_eq!(message.unwrap().body.len(), len);
    }

    #[test]
    fn a_bad_preamble_is_an_error_as_soon_as_it_is_complete() {
        let mut wire = encode(1, &[], &[0; 100]);
        wire[0] = 2;
        let mut assembler = Assembler::default();
        let mut start = Bytes::copy_from_slice(&wire[..15]);
        assert!(assembler.feed(&mut start, &LIMITS).unwrap().is_none());
        let mut rest = Bytes::copy_from_slice(&wire[15..]);
        let verdict = assembler.feed(&mut rest, &LIMITS);
        assert!(matches!(
            verdict,
            Err(FrameError::UnknownVersion { version: 2 })
        ));
    }
}

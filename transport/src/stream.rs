//! Messages on a stream, one after another.
//!
//! Owns the two halves of a stream: gathering messages into few writes, and receiving them whole. Knows nothing of what they mean. On every walk,
//! at both ends of each hop.
//!
//! A body is copied once, at the receiver, into one contiguous buffer: the pieces QUIC delivers are as small as its datagrams, and whoever
//! stamps or writes a frame wants it in one piece. The sender copies small pieces only, since QUIC keeps a record for each until it is acknowledged.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::sync::Semaphore;

use crate::assemble::Assembler;
use crate::error::{RecvError, SendError, close, code_of, var_int};
use crate::frame::{FrameError, Head, Limits, Message, PREAMBLE_LEN, Preamble};

/// Pieces shorter than this are copied together before they are handed to QUIC; longer ones are handed over as they are.
const COPY_BYTES_MAX: usize = 2 << 10;
/// Pieces taken from QUIC at a time: one lock of the connection for all of them.
const CHUNKS: usize = 16;

/// The sending half of a stream. Dropped, the stream ends in good order after what was sent; unless that was half a message, then it is reset.
#[derive(Debug)]
pub struct SendHalf {
    quinn: quinn::SendStream,
    gather: Gather,
    /// One permit, of the whole connection.
    turn: Arc<Semaphore>,
    /// A write is under way. Still set when the next one begins: that one was abandoned half-way.
    writing: bool,
}

impl SendHalf {
    pub(crate) fn new(quinn: quinn::SendStream, turn: Arc<Semaphore>) -> SendHalf {
        SendHalf {
            quinn,
            gather: Gather::default(),
            turn,
            writing: false,
        }
    }

    /// Sends one message; its body is the pieces of `body` in a row. The pieces are taken, and left empty. Returns once all is in the hands of
    /// QUIC (flow control is the back pressure), not when it has arrived. Not cancel-safe: dropped half-way, the stream is closed for
    /// sending.
    pub async fn send(
        &mut self,
        kind: u8,
        head: &[u8],
        body: &mut [Bytes],
    ) -> Result<(), SendError> {
        let body_len = body.iter().map(Bytes::len).sum();
        self.gather(kind, head, body_len, body.iter())?;
        body.fill(Bytes::new());
        self.flush().await
    }

    /// Adds one message to what the next [`SendHalf::flush`] or [`SendHalf::send`] writes: many small ones then share one write. Its body is
    /// the pieces of `body` in a row, `body_len` bytes in all; nothing is added on an error. How much waits here is for the caller to bound.
    ///
    /// # Panics
    /// If the pieces are not `body_len` bytes long: the stream would be of no more use.
    pub fn gather<'a>(
        &mut self,
        kind: u8,
        head: &[u8],
        body_len: usize,
        body: impl Iterator<Item = &'a Bytes>,
    ) -> Result<(), FrameError> {
        let preamble = Preamble::new(kind, head.len(), body_len)?;
        self.gather.begin(preamble, head);
        let mut added = 0;
        for piece in body {
            added += piece.len();
            self.gather.add(piece);
        }
        assert_eq!(added, body_len, "the pieces are the body");
        Ok(())
    }

    /// Writes what was gathered. Not cancel-safe, as [`SendHalf::send`].
    pub async fn flush(&mut self) -> Result<(), SendError> {
        if self.writing {
            self.gather.pieces.clear();
            return Err(SendError::Closed);
        }
        self.gather.close();
        self.writing = true;
        let outcome = self.quinn.write_all_chunks(&mut self.gather.pieces).await;
        self.gather.pieces.clear();
        outcome?;
        self.writing = false;
        Ok(())
    }

    /// [`SendHalf::flush`], after those of the connection's streams that asked before: for streams of equal rank that may fill the connection's window
    /// between them, and that the other side reads alike. Without turns QUIC wakes whoever found the window full last first, and it may find it full again before
    /// the others had anything: a few streams then take all, and the rest wait for as long as those have something to send. One that the other side does
    /// not read, with its own window full, holds up all who wait for their turn.
    pub async fn flush_in_turn(&mut self) -> Result<(), SendError> {
        let turn = Arc::clone(&self.turn);
        // Given back when this returns or is dropped.
        let _turn = turn.acquire().await.expect("the semaphore is never closed");
        self.flush().await
    }

    /// Puts bytes on the stream that need not be a message.
    #[cfg(test)]
    pub(crate) async fn write_raw(&mut self, bytes: &[u8]) {
        self.quinn.write_all(bytes).await.unwrap();
    }

    /// Ends the stream in good order: the other side receives what was sent, then `None`. Nothing can be sent after it.
    pub fn finish(&mut self) {
        // It fails only if the stream was finished, reset or stopped already: there is nothing left to end then.
        let _ = self.quinn.finish();
    }

    /// Data of a higher priority goes before data of a lower one, among the streams of a connection. 0 at first.
    pub fn set_priority(&self, priority: i32) {
        // It fails only if the stream is closed for sending: then its priority no longer matters.
        let _ = self.quinn.set_priority(priority);
    }

    /// Waits until the other side stops reading, is gone, or has received all up to the end ([`SendError::Closed`]). Cancel-safe.
    pub async fn stopped(&mut self) -> SendError {
        match self.quinn.stopped().await {
            Ok(Some(code)) => SendError::Stopped {
                code: code_of(code),
            },
            Ok(None) | Err(quinn::StoppedError::ZeroRttRejected) => SendError::Closed,
            Err(quinn::StoppedError::ConnectionLost(lost)) => SendError::Lost(lost.into()),
        }
    }
}

impl Drop for SendHalf {
    fn drop(&mut self) {
        if self.writing {
            // Fails only if it is closed already.
            let _ = self.quinn.reset(var_int(close::DROPPED));
        }
    }
}

/// Messages turned into few pieces: preambles, heads and short pieces copied together, long pieces as they are.
#[derive(Debug, Default)]
struct Gather {
    pieces: Vec<Bytes>,
    small: BytesMut,
}

impl Gather {
    fn begin(&mut self, preamble: Preamble, head: &[u8]) {
        self.small.reserve(PREAMBLE_LEN + head.len());
        self.small.extend_from_slice(&preamble.encode());
        self.small.extend_from_slice(head);
    }

    fn add(&mut self, piece: &Bytes) {
        if piece.len() <= COPY_BYTES_MAX {
            self.small.extend_from_slice(piece);
        } else {
            self.close();
            self.pieces.push(piece.clone());
        }
    }

    /// Makes a piece of what was copied so far.
    fn close(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push(self.small.split().freeze());
        }
    }
}

/// The receiving half of a stream. Dropped before its end, the other side is told that nothing more will be read.
#[derive(Debug)]
pub struct RecvHalf {
    quinn: quinn::RecvStream,
    assembler: Assembler,
    /// Taken from QUIC; those before `next` are used up.
    chunks: [Bytes; CHUNKS],
    next: usize,
    filled: usize,
    /// After this nothing can be made of the stream.
    failed: Option<FrameError>,
}

impl RecvHalf {
    pub(crate) fn new(quinn: quinn::RecvStream) -> RecvHalf {
        RecvHalf {
            quinn,
            assembler: Assembler::default(),
            chunks: Default::default(),
            next: 0,
            filled: 0,
            failed: None,
        }
    }

    /// The next message, or `None` at the stream's end. Lengths are checked against `limits` before room is made, and room is made only as data
    /// comes. Cancel-safe: dropped half-way, the next call goes on where it was. A head may share memory with the datagram it came in:
    /// copy what is to be kept for long.
    pub async fn recv(&mut self, limits: &Limits) -> Result<Option<Message>, RecvError> {
        self.drive(|assembler, chunk| assembler.feed(chunk, limits))
            .await
    }

    /// The next message's head, before its body is received; `None` at the stream's end. Then [`RecvHalf::recv`] gives the whole message,
    /// or [`RecvHalf::skip_body`] drops it. Both lengths are checked against `limits`. Cancel-safe.
    pub async fn recv_head(&mut self, limits: &Limits) -> Result<Option<Head>, RecvError> {
        self.drive(|assembler, chunk| assembler.feed_head(chunk, limits))
            .await
    }

    /// Receives the rest of the message whose head [`RecvHalf::recv_head`] gave, and drops it, making no room for it. Cancel-safe.
    pub async fn skip_body(&mut self) -> Result<(), RecvError> {
        assert!(self.assembler.has_head(), "recv_head comes first");
        let skipped = self
            .drive(|assembler, chunk| Ok(assembler.feed_nowhere(chunk).then_some(())))
            .await?;
        skipped.ok_or(RecvError::Closed)
    }

    /// Feeds the assembler with what the stream brings until `step` has what it is after; `None` at the stream's end.
    async fn drive<T>(
        &mut self,
        mut step: impl FnMut(&mut Assembler, &mut Bytes) -> Result<Option<T>, FrameError>,
    ) -> Result<Option<T>, RecvError> {
        if let Some(error) = &self.failed {
            return Err(error.clone().into());
        }
        loop {
            if let Some(done) = self.assemble(&mut step)? {
                return Ok(Some(done));
            }
            match self.quinn.read_chunks(&mut self.chunks).await? {
                Some(filled) => {
                    self.next = 0;
                    self.filled = filled;
                }
                None if self.assembler.is_empty() => return Ok(None),
                None => {
                    let (received, expected) = self.assembler.progress();
                    return Err(RecvError::CutShort { received, expected });
                }
            }
        }
    }

    /// Takes a step with what has been taken from QUIC, as far as that goes.
    fn assemble<T>(
        &mut self,
        step: &mut impl FnMut(&mut Assembler, &mut Bytes) -> Result<Option<T>, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        // A step may need no bytes at all: a head that is there already, a body of none.
        let mut none = Bytes::new();
        loop {
            let starved = self.next == self.filled;
            let chunk = match self.chunks[..self.filled].get_mut(self.next) {
                Some(chunk) => chunk,
                None if self.assembler.has_head() => &mut none,
                None => return Ok(None),
            };
            let outcome = step(&mut self.assembler, chunk);
            if !starved && chunk.is_empty() {
                // Not only counted off, but let go: it is a slice of a whole datagram.
                *chunk = Bytes::new();
                self.next += 1;
            }
            match outcome {
                Ok(None) if starved => return Ok(None),
                Ok(None) => {}
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.failed = Some(error.clone());
                    return Err(error);
                }
            }
        }
    }

    /// Tells the other side, with a code, that nothing more will be read.
    pub fn stop(&mut self, code: u32) {
        // Fails only if the stream has ended or was stopped already.
        let _ = self.quinn.stop(var_int(code));
    }
}

//! Messages on a stream.
#![allow(clippy::todo)]

use bytes::Bytes;

use crate::error::{RecvError, SendError};
use crate::frame::{Limits, Message};

/// The sending half of a stream.
#[derive(Debug)]
pub struct SendHalf {}

impl SendHalf {
    /// Sends one message; `body` is what its pieces are in a row. The pieces are not copied, and are left empty. Returns once all is in the hands of QUIC
    /// (flow control is the back pressure), not when it has arrived. Not cancel-safe: dropped half-way, the stream is closed for sending.
    pub async fn send(
        &mut self,
        kind: u8,
        head: &[u8],
        body: &mut [Bytes],
    ) -> Result<(), SendError> {
        let _ = (kind, head, body);
        todo!()
    }

    /// Ends the stream in good order: the other side receives what was sent, then `None`.
    pub fn finish(&mut self) {
        todo!()
    }

    /// Data of a higher priority goes before data of a lower one, among the streams of a connection.
    pub fn set_priority(&self, priority: i32) {
        let _ = priority;
        todo!()
    }

    /// Waits until the other side stops reading, has read all up to the end, or is gone.
    pub async fn stopped(&mut self) -> SendError {
        todo!()
    }
}

/// The receiving half of a stream.
#[derive(Debug)]
pub struct RecvHalf {}

impl RecvHalf {
    /// The next message, or `None` at the stream's end. Cancel-safe: dropped half-way, the next call goes on where it was.
    pub async fn recv(&mut self, limits: &Limits) -> Result<Option<Message>, RecvError> {
        let _ = limits;
        todo!()
    }

    /// Tells the other side that nothing more will be read.
    pub fn stop(&mut self, code: u32) {
        let _ = code;
        todo!()
    }
}

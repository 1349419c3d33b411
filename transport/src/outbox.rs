//! A bounded queue of messages before a stream, and the task that writes them.
#![allow(clippy::todo)]

use bytes::Bytes;

use crate::error::SendError;
use crate::stream::SendHalf;

/// Queues messages for one stream without waiting. Cheap to clone; when the last clone is dropped, what is queued is sent and the stream ends.
#[derive(Clone, Debug)]
pub struct Outbox {}

impl Outbox {
    /// Takes over a stream. At most `bytes_max` bytes wait (heads and bodies, plus 64 for each message).
    pub fn spawn(send: SendHalf, bytes_max: usize) -> Outbox {
        let _ = (send, bytes_max);
        todo!()
    }

    /// Queues a message, or says at once why not.
    pub fn try_push(&self, kind: u8, head: Bytes, body: Vec<Bytes>) -> Result<(), PushError> {
        let _ = (kind, head, body);
        todo!()
    }

    /// Bytes that wait now.
    pub fn queued_bytes(&self) -> usize {
        todo!()
    }

    /// Waits until the stream is lost, and says why. What was queued then is dropped.
    pub async fn lost(&self) -> SendError {
        todo!()
    }
}

/// Why a message was not queued. Nothing of it will be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The queue holds its limit of bytes.
    #[error("the queue is full")]
    Full,
    /// The stream is gone.
    #[error("the stream is gone: {0}")]
    Lost(SendError),
}

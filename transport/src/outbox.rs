//! A bounded queue of messages before a stream, and the task that writes them.
//!
//! Owns the queue and its limit in bytes. Knows nothing of who queues and why. On the walks between nodes: it is what lets a synchronous state
//! machine send without waiting.
//!
//! The writer takes everything that waits in one go and writes it as one, so that a burst of small messages shares datagrams, locks and
//! wake-ups. Bytes count against the limit until QUIC has taken them; what QUIC holds is bounded by its send window.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::error::SendError;
use crate::stream::SendHalf;

/// What a message counts beside its bytes: the memory it takes to keep it in the queue.
const OVERHEAD_BYTES: usize = 64;
/// Most messages written as one.
const MERGE_MAX: usize = 1_024;

/// Queues messages for one stream without waiting. Cheap to clone; when the last clone is dropped, what is queued is sent and the stream
/// ends.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::UnboundedSender<Waiting>,
    queued_bytes: Arc<AtomicUsize>,
    bytes_max: usize,
    lost: watch::Receiver<Option<SendError>>,
}

#[derive(Debug)]
struct Waiting {
    kind: u8,
    head: Bytes,
    body: Vec<Bytes>,
    charge: usize,
}

impl Outbox {
    /// Takes over a stream; must be called within a tokio runtime. At most `bytes_max` bytes wait (heads and bodies, plus 64 for each message).
    pub fn spawn(send: SendHalf, bytes_max: usize) -> Outbox {
        let (queue, waiting) = mpsc::unbounded_channel();
        let (report, lost) = watch::channel(None);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            send,
            waiting,
            queued_bytes: queued_bytes.clone(),
        };
        tokio::spawn(async move {
            let end = writer.run().await;
            report.send_replace(Some(end));
        });
        Outbox {
            queue,
            queued_bytes,
            bytes_max,
            lost,
        }
    }

    /// Queues a message, or says at once why not. An empty queue takes a message of any length, lest one above the limit could never be sent.
    pub fn try_push(&self, kind: u8, head: Bytes, body: Vec<Bytes>) -> Result<(), PushError> {
        let body_len: usize = body.iter().map(Bytes::len).sum();
        assert!(
            u32::try_from(head.len().max(body_len)).is_ok(),
            "a message's head and body stay below 4 GiB each"
        );
        let charge = OVERHEAD_BYTES + head.len() + body_len;
        let before = self.queued_bytes.fetch_add(charge, Ordering::Relaxed);
        if before > 0 && before + charge > self.bytes_max {
            self.queued_bytes.fetch_sub(charge, Ordering::Relaxed);
            // A stream that is gone drains nothing: it must not look like one that is merely slow.
            return Err(self.reason().map_or(PushError::Full, PushError::Lost));
        }
        let message = Waiting {
            kind,
            head,
            body,
            charge,
        };
        self.queue
            .send(message)
            .map_err(|_| PushError::Lost(self.reason().unwrap_or(SendError::Closed)))
    }

    /// Bytes that wait now.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until the stream is lost, and says why. What was queued then is dropped, and nothing more is taken. Cancel-safe.
    pub async fn lost(&self) -> SendError {
        let mut lost = self.lost.clone();
        // The writer gone without a word: the runtime is shutting down.
        let report = lost.wait_for(Option::is_some).await;
        report
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or(SendError::Closed)
    }

    fn reason(&self) -> Option<SendError> {
        self.lost.borrow().clone()
    }
}

struct Writer {
    send: SendHalf,
    waiting: mpsc::UnboundedReceiver<Waiting>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Writer {
    /// Writes until the stream is lost, or until the last outbox is dropped ([`SendError::Closed`]).
    async fn run(mut self) -> SendError {
        let mut batch = Vec::new();
        loop {
            let taken = tokio::select! {
                biased;
                taken = self.waiting.recv_many(&mut batch, MERGE_MAX) => taken,
                reason = self.send.stopped() => return reason,
            };
            if taken == 0 {
                self.send.finish();
                return SendError::Closed;
            }
            let mut charge = 0;
            for message in batch.drain(..) {
                charge += message.charge;
                let Waiting {
                    kind, head, body, ..
                } = message;
                let body_len = body.iter().map(Bytes::len).sum();
                self.send
                    .gather(kind, &head, body_len, body.iter())
                    .expect("try_push checked the lengths");
            }
            if let Err(reason) = self.send.flush().await {
                return reason;
            }
            self.queued_bytes.fetch_sub(charge, Ordering::Relaxed);
        }
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

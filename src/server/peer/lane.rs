//! A bounded queue of envelopes in front of one stream to a peer, and the loop that writes it out: whatever waits when the stream can
//! take more goes as one message, so the heartbeats of many groups share a packet.
//!
//! Must not know which replica an envelope is from or what it says. On the walk of AppendEntries and its ack.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use transport::{SendError, SendHalf};

use crate::wire::{Envelope, encode_envelopes};

/// Most body bytes merged into one message; a single envelope may be larger.
const MESSAGE_BODY_BYTES: usize = 1 << 20;
/// Most envelopes merged into one message.
const MESSAGE_ENVELOPES: usize = 1024;
/// What an envelope is taken to weigh besides its frames.
const ENVELOPE_BYTES: usize = 256;

/// Bytes queued to one peer over all its lanes, and their limit.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            bytes_max,
        })
    }

    fn take(&self, bytes: usize) -> bool {
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                Some(used + bytes).filter(|sum| *sum <= self.bytes_max)
            })
            .is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// The envelope was dropped: the peer's budget is used up.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The queue. Pushed to from anywhere, written out by one task at a time.
#[derive(Debug)]
pub(super) struct Lane {
    queue: Mutex<VecDeque<Envelope>>,
    wake: Notify,
    ended: Notify,
    budget: Arc<Budget>,
}

impl Lane {
    pub(super) fn new(budget: Arc<Budget>) -> Arc<Lane> {
        Arc::new(Lane {
            queue: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
            budget,
        })
    }

    /// Queues an envelope behind the others. Never waits.
    pub(super) fn push(&self, envelope: Envelope) -> Result<(), Full> {
        if !self.budget.take(weight(&envelope)) {
            return Err(Full);
        }
        self.lock().push_back(envelope);
        self.wake.notify_one();
        Ok(())
    }

    /// Says that nothing will be pushed any more: whoever serves the stream ends it.
    pub(super) fn end(&self) {
        self.ended.notify_one();
    }

    /// Waits for `end`.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Drops all that waits: its stream is gone.
    pub(super) fn clear(&self) {
        let dropped = std::mem::take(&mut *self.lock());
        self.budget.give_back(dropped.iter().map(weight).sum());
    }

    /// Writes what is pushed until the stream fails. What was taken from the queue then is lost; consensus sends it again.
    pub(super) async fn write_to(&self, send: &mut SendHalf, sender: u64) -> SendError {
        loop {
            let message = self.next_message().await;
            let (kind, head, mut body) = encode_envelopes(sender, &message.envelopes);
            if let Err(error) = send.send(kind, &head, &mut body).await {
                return error;
            }
        }
    }

    /// Waits for envelopes, and takes as many as fit into one message.
    async fn next_message(&self) -> Taken {
        loop {
            if let Some(taken) = self.take_message() {
                return taken;
            }
            self.wake.notified().await;
        }
    }

    fn take_message(&self) -> Option<Taken> {
        let mut queue = self.lock();
        let mut bytes = weight(queue.front()?);
        let mut count = 1;
        while let Some(next) = queue.get(count).map(weight) {
            if bytes + next > MESSAGE_BODY_BYTES || count == MESSAGE_ENVELOPES {
                break;
            }
            bytes += next;
            count += 1;
        }
        let envelopes = queue.drain(..count).collect();
        Some(Taken {
            envelopes,
            bytes,
            budget: Arc::clone(&self.budget),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Envelope>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One message's worth of envelopes; counts against the budget until it is written, or the writing is abandoned.
#[derive(Debug)]
struct Taken {
    envelopes: Vec<Envelope>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.clear();
    }
}

fn weight(envelope: &Envelope) -> usize {
    ENVELOPE_BYTES + envelope.frames.iter().map(bytes::Bytes::len).sum::<usize>()
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;

//! Records of one partition that wait to be sent.
//!
//! Owns the batch being filled and the full ones behind it: the only thing that the threads that send and the lane's task
//! share. On the produce walk, first step. Knows nothing of connections.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use transport::BufferPool;

use super::delivery::{Delivery, Outcome};
use super::sticky::Sticky;
use super::{LINGER, Settings};
use crate::client::link::lock;
use crate::client::{ProduceError, Record};
use crate::wire::batch::BATCH_BYTES_MAX;
use crate::wire::{BatchBuilder, PushError};

/// Records of one partition that wait to be sent.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) partition: u32,
    pub(super) settings: Settings,
    queue: Mutex<Queue>,
    /// Rung when there is something new for the lane's task to look at.
    bell: Notify,
    buffer: Arc<Semaphore>,
    /// Memory of batches, shared by all partitions.
    buffers: Arc<Mutex<BufferPool>>,
    /// Bytes on their way, of all partitions.
    in_flight: Arc<AtomicUsize>,
    sticky: Arc<Sticky>,
}

/// What all partitions of a producer share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    /// Bytes that may wait for their acks.
    pub(super) buffer: Arc<Semaphore>,
    /// Memory of batches.
    pub(super) buffers: Arc<Mutex<BufferPool>>,
    /// Bytes on their way.
    pub(super) in_flight: Arc<AtomicUsize>,
    /// Where records without a key go.
    pub(super) sticky: Arc<Sticky>,
}

#[derive(Debug, Default)]
struct Queue {
    filling: Option<Batch>,
    full: VecDeque<Batch>,
    /// Do not linger for what is there now.
    hurry: bool,
    closed: bool,
    /// Of the batch begun last; batches settle in the order they were begun.
    last: Option<Arc<Outcome>>,
    failure: Option<ProduceError>,
}

/// A batch before it is built.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) builder: BatchBuilder,
    pub(super) outcome: Arc<Outcome>,
    /// When its first record came.
    pub(super) begun: Instant,
    /// Bytes of the buffer it holds.
    pub(super) bytes: usize,
}

/// A batch that is on its way.
#[derive(Debug)]
pub(super) struct OnItsWay {
    in_flight: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What the lane's task should do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Send this batch.
    Batch(Batch),
    /// Look again at this time, or when the bell rings.
    At(Instant),
    /// Look again when the bell rings.
    Idle,
    /// Everything is sent and nothing will come.
    Closed,
}

impl Pending {
    pub(super) fn new(partition: u32, settings: Settings, shared: Shared) -> Self {
        Self {
            partition,
            settings,
            queue: Mutex::default(),
            bell: Notify::new(),
            buffer: shared.buffer,
            buffers: shared.buffers,
            in_flight: shared.in_flight,
            sticky: shared.sticky,
        }
    }

    /// Copies a record into the batch being filled; `bytes` is its share of the buffer.
    pub(super) fn push(&self, record: &Record<'_>, bytes: usize) -> Result<Delivery, ProduceError> {
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let mut queue = lock(&self.queue);
        if queue.closed {
            return Err(ProduceError::Closed);
        }
        if queue
            .filling
            .as_ref()
            .is_some_and(|batch| batch.bytes + bytes > self.settings.batch_bytes)
        {
            self.seal(&mut queue);
        }
        loop {
            let fresh = queue.filling.is_none();
            let batch = queue.filling.get_or_insert_with(|| self.begin(bytes));
            match batch
                .builder
                .push(record.key, record.value, record.headers, timestamp_ms)
            {
                Ok(position) => {
                    batch.bytes += bytes;
                    let outcome = Arc::clone(&batch.outcome);
                    let is_full = batch.bytes >= self.settings.batch_bytes;
                    if fresh {
                        queue.last = Some(Arc::clone(&outcome));
                    }
                    if is_full {
                        self.seal(&mut queue);
                    }
                    if fresh || is_full {
                        self.bell.notify_one();
                    }
                    return Ok(Delivery {
                        outcome,
                        position: position as u32,
                        slot: None,
                    });
                }
                Err(PushError::BatchFull) => self.seal(&mut queue),
                Err(error) => {
                    if fresh {
                        queue.filling = None;
                    }
                    return Err(error.into());
                }
            }
        }
    }

    fn begin(&self, bytes: usize) -> Batch {
        let room = self.settings.batch_bytes.max(bytes) + 4096;
        let expected = if self.linger().is_zero() {
            // Perhaps the only one; it grows if there are more.
            room.min(256 + bytes)
        } else {
            room
        };
        let buffer = lock(&self.buffers).take(BatchBuilder::buffer_bytes(expected));
        Batch {
            builder: BatchBuilder::in_buffer(BATCH_BYTES_MAX, buffer),
            outcome: Outcome::new(self.partition),
            begun: Instant::now(),
            bytes: 0,
        }
    }

    /// How long a batch waits for company now. What would gain by waiting has something on its way before it.
    fn linger(&self) -> Duration {
        let usual = match self.in_flight() {
            0 => Duration::ZERO,
            _ => LINGER,
        };
        self.settings.linger.unwrap_or(usual)
    }

    /// Ends the batch being filled; records without a key go elsewhere from now on.
    fn seal(&self, queue: &mut Queue) {
        if let Some(batch) = queue.filling.take() {
            self.sticky.sealed(self.partition, batch.bytes);
            queue.full.push_back(batch);
        }
    }

    /// The next batch that is due, if any.
    pub(super) fn next(&self) -> Next {
        let mut queue = lock(&self.queue);
        if queue.full.is_empty() {
            let Some(begun) = queue.filling.as_ref().map(|batch| batch.begun) else {
                queue.hurry = false;
                return if queue.closed {
                    Next::Closed
                } else {
                    Next::Idle
                };
            };
            let due = begun + self.linger();
            if !queue.hurry && !queue.closed && Instant::now() < due {
                return Next::At(due);
            }
            self.seal(&mut queue);
            queue.hurry = false;
        }
        queue.full.pop_front().map_or(Next::Idle, Next::Batch)
    }

    /// Whether nothing waits and nothing will come.
    pub(super) fn is_done(&self) -> bool {
        let queue = lock(&self.queue);
        queue.closed && queue.filling.is_none() && queue.full.is_empty()
    }

    /// When the oldest batch that waits here was begun.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let queue = lock(&self.queue);
        queue
            .full
            .front()
            .or(queue.filling.as_ref())
            .map(|batch| batch.begun)
    }

    /// Takes out the batches that were begun before `before`, in order.
    pub(super) fn take_begun_before(&self, before: Instant) -> Vec<Batch> {
        let mut queue = lock(&self.queue);
        if queue
            .filling
            .as_ref()
            .is_some_and(|batch| batch.begun < before)
        {
            self.seal(&mut queue);
        }
        let expired = queue
            .full
            .iter()
            .take_while(|batch| batch.begun < before)
            .count();
        queue.full.drain(..expired).collect()
    }

    /// Bytes on their way, of all partitions of the producer. Bounds a queue; no data is passed on by it.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a batch of so many bytes as on its way until what is returned is dropped.
    pub(super) fn on_its_way(&self, bytes: usize) -> OnItsWay {
        let in_flight = Arc::clone(&self.in_flight);
        in_flight.fetch_add(bytes, Ordering::Relaxed);
        OnItsWay { in_flight, bytes }
    }

    /// Settles a batch and gives its share of the buffer back.
    pub(super) fn settle(
        &self,
        outcome: &Outcome,
        bytes: usize,
        result: Result<u64, ProduceError>,
    ) {
        if let Err(error) = &result {
            lock(&self.queue)
                .failure
                .get_or_insert_with(|| error.clone());
        }
        outcome.settle(result);
        self.give_back(bytes);
    }

    /// Gives back the share of the buffer of batches that are settled.
    pub(super) fn give_back(&self, bytes: usize) {
        self.sticky.settled(self.partition, bytes);
        self.buffer.add_permits(bytes);
    }

    /// Resolves when the bell rings.
    pub(super) async fn bell(&self) {
        self.bell.notified().await;
    }

    /// Sends what is there without lingering.
    pub(super) fn hurry(&self) {
        let mut queue = lock(&self.queue);
        if queue.filling.is_some() || !queue.full.is_empty() {
            queue.hurry = true;
            self.bell.notify_one();
        }
    }

    /// Takes no more records.
    pub(super) fn close(&self) {
        lock(&self.queue).closed = true;
        self.bell.notify_one();
    }

    /// Waits until all batches begun so far are settled.
    pub(super) async fn drained(&self) {
        let last = lock(&self.queue).last.clone();
        if let Some(last) = last {
            last.settled().await;
        }
    }

    /// The first failure since the last call.
    pub(super) fn take_failure(&self) -> Option<ProduceError> {
        lock(&self.queue).failure.take()
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Codec;

    fn pending(linger: Option<Duration>) -> Pending {
        let settings = Settings {
            linger,
            batch_bytes: 1000,
            in_flight: 5,
            compression: Codec::None,
            buffer_bytes: 1 << 20,
            delivery_timeout: Duration::from_secs(1),
        };
        let shared = Shared {
            buffer: Arc::new(Semaphore::new(1 << 20)),
            buffers: Arc::new(Mutex::new(BufferPool::new(1 << 20))),
            in_flight: Arc::default(),
            sticky: Arc::new(Sticky::new(1)),
        };
        Pending::new(0, settings, shared)
    }

    fn push(pending: &Pending) {
        drop(pending.push(&Record::value(b"value"), 10).unwrap());
    }

    #[test]
    fn record_lingers_only_while_something_is_on_its_way_unless_told_otherwise() {
        let usual = pending(None);
        push(&usual);
        assert!(
            matches!(usual.next(), Next::Batch(_)),
            "nothing is on its way"
        );
        let on_its_way = usual.on_its_way(1);
        assert_eq!(usual.linger(), LINGER);
        drop(on_its_way);
        assert_eq!(usual.linger(), Duration::ZERO);

        let hour = Duration::from_secs(3600);
        let told = pending(Some(hour));
        let begun = Instant::now();
        push(&told);
        assert!(matches!(told.next(), Next::At(due) if due >= begun + hour));
        let never = pending(Some(Duration::ZERO));
        let _on_its_way = never.on_its_way(1);
        push(&never);
        assert!(matches!(never.next(), Next::Batch(_)));
    }
}

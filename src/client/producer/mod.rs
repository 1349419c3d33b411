//! A producer: records in, acks out.
//!
//! Owns the choice of the partition, back pressure, and what a user holds: [`Producer`], [`Delivery`]. On the produce walk,
//! its first step and its last. What happens to a batch in between is the lane's, one for each partition.
//!
//! # Promises
//! - Records of one partition are written in the order they were sent, each at most once, across any number of retries and
//!   changes of leader: batches carry a producer id and sequence numbers that the cluster checks.
//! - An ack means that the record is fsynced on a majority of the replicas.
//! - A batch that is not acked within the delivery timeout fails, and whether it was written is not known. What was on its
//!   way behind it on the same partition fails with it, so that nothing later can be acked before something earlier; what
//!   was not sent yet goes on under a fresh producer id. Sending a failed record again may write it twice.
//! - A record with a key goes to partition `crc32(key) % partitions`. One without goes where the batch being filled is, and
//!   moves on with each batch: in turn, passing over a partition for which more waits than for all others together.

mod delivery;
mod lane;
mod pending;
mod sticky;

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use transport::BufferPool;

use super::link::Cluster;
use super::{ClientError, ProduceError, Record};
use crate::wire::Codec;
use crate::wire::batch::BATCH_BYTES_MAX;

pub use crate::wire::Codec as Compression;
pub use delivery::{Ack, Delivery};
pub use lane::PRODUCER_BYTES_MAX;

use lane::Lane;
use pending::{Pending, Shared};
use sticky::Sticky;

/// Batches of one partition that may be on their way at once; the cluster recognises as many when they are repeated.
const IN_FLIGHT_MAX: usize = 1024;
/// As many as keep the pipe full. What comes meanwhile gathers in fewer, larger batches, which cost less.
const IN_FLIGHT: usize = 5;

/// How long a batch waits for company while something is on its way, unless told otherwise.
const LINGER: Duration = Duration::from_millis(2);

/// Memory of batches that is used again, at most.
const BUFFERS_BYTES_MAX: usize = 16 << 20;

/// Settings of a producer.
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    cluster: Arc<Cluster>,
    topic: String,
    settings: Settings,
}

/// What all lanes of a producer go by.
#[derive(Debug, Clone)]
struct Settings {
    /// `None`: [`LINGER`], unless nothing is on its way.
    linger: Option<Duration>,
    batch_bytes: usize,
    in_flight: usize,
    compression: Codec,
    buffer_bytes: usize,
    delivery_timeout: Duration,
}

impl ProducerBuilder {
    pub(super) fn new(cluster: Arc<Cluster>, topic: String) -> Self {
        let settings = Settings {
            linger: None,
            batch_bytes: 256 << 10,
            in_flight: IN_FLIGHT,
            compression: Codec::None,
            buffer_bytes: 32 << 20,
            delivery_timeout: Duration::from_secs(30),
        };
        Self {
            cluster,
            topic,
            settings,
        }
    }

    /// How long a batch waits for company before it is sent, whatever else happens. By default not at all while nothing of this producer
    /// is on its way, so that a lone record goes at once, and else 2 ms. Zero always sends at once, and still gathers what arrives while the
    /// window is full.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = Some(linger);
        self
    }

    /// Size at which a batch is sent without waiting any longer, in bytes before compression; default 256 KiB. A larger
    /// record gets a batch of its own.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes;
        self
    }

    /// Batches per partition on their way at once, 1 to 1,024; default 5. However few they are, no more is sent above 4 MiB of a
    /// partition, which fill the pipe, and above 8 MiB of all partitions each has one at a time.
    #[must_use]
    pub fn in_flight(mut self, batches: usize) -> Self {
        self.settings.in_flight = batches;
        self
    }

    /// How batches are compressed; default not at all.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = compression;
        self
    }

    /// Bytes that may wait for their acks, over all partitions; default 32 MiB. [`send`](Producer::send) waits above it. A larger record
    /// gets all of it.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes = bytes;
        self
    }

    /// Time from sending a record to giving it up; default 30 s.
    #[must_use]
    pub fn delivery_timeout(mut self, timeout: Duration) -> Self {
        self.settings.delivery_timeout = timeout;
        self
    }

    /// Finds the topic, gets a producer id, and starts.
    ///
    /// # Errors
    /// [`ClientError::InvalidOption`], or [`ClientError::Refused`] if there is no such topic, or [`ClientError::Timeout`].
    pub async fn build(self) -> Result<Producer, ClientError> {
        self.settings.check()?;
        let topic = self.cluster.young_topic(&self.topic).await?;
        let id = self
            .cluster
            .producer_id(self.settings.delivery_timeout)
            .await?;
        let shared = Shared {
            buffer: Arc::new(Semaphore::new(self.settings.buffer_bytes)),
            buffers: Arc::new(Mutex::new(BufferPool::new(BUFFERS_BYTES_MAX))),
            in_flight: Arc::new(AtomicUsize::new(0)),
            sticky: Arc::new(Sticky::new(topic.partitions.len() as u32)),
        };
        let lanes = topic.partitions.iter().map(|partition| {
            let pending = Arc::new(Pending::new(
                partition.partition,
                self.settings.clone(),
                shared.clone(),
            ));
            let lane = Lane::new(
                Arc::clone(&self.cluster),
                self.topic.clone(),
                partition,
                id,
                Arc::clone(&pending),
            );
            tokio::spawn(lane.run());
            pending
        });
        Ok(Producer {
            lanes: lanes.collect(),
            buffer: shared.buffer,
            sticky: shared.sticky,
            buffer_bytes: self.settings.buffer_bytes,
        })
    }
}

impl Settings {
    fn check(&self) -> Result<(), ClientError> {
        let complain = |reason: String| Err(ClientError::InvalidOption { reason });
        if !(1..=IN_FLIGHT_MAX).contains(&self.in_flight) {
            return complain(format!(
                "in_flight must be 1 to {IN_FLIGHT_MAX}, not {}",
                self.in_flight
            ));
        }
        if !(1..=BATCH_BYTES_MAX).contains(&self.batch_bytes) {
            return complain(format!(
                "batch_bytes must be 1 to {BATCH_BYTES_MAX}, not {}",
                self.batch_bytes
            ));
        }
        if !(1..=1 << 30).contains(&self.buffer_bytes) {
            return complain(format!(
                "buffer_bytes must be 1 to 1 GiB, not {}",
                self.buffer_bytes
            ));
        }
        if self.delivery_timeout.is_zero() {
            return complain(String::from("delivery_timeout must not be zero"));
        }
        Ok(())
    }
}

/// Sends records to a topic. Shared freely: every method takes `&self`. What was sent before the producer is dropped is
/// still delivered, as long as the runtime lives; [`close`](Self::close) waits for it.
#[derive(Debug)]
pub struct Producer {
    lanes: Vec<Arc<Pending>>,
    buffer: Arc<Semaphore>,
    buffer_bytes: usize,
    sticky: Arc<Sticky>,
}

impl Producer {
    /// Puts a record into its batch, waiting only while too many bytes wait for their acks already. The record is copied.
    /// What is returned resolves once the record is acked or has failed, and may be dropped: see [`flush`](Self::flush).
    ///
    /// # Errors
    /// [`ProduceError::Record`] if it fits no batch, [`ProduceError::UnknownPartition`], [`ProduceError::Closed`].
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery, ProduceError> {
        let lane = self.lane(&record)?;
        let bytes = record.len_bytes().min(self.buffer_bytes) as u32;
        let permit = match self.buffer.try_acquire_many(bytes) {
            Ok(permit) => permit,
            Err(_) => {
                self.lanes.iter().for_each(|lane| lane.hurry());
                self.buffer
                    .acquire_many(bytes)
                    .await
                    .map_err(|_| ProduceError::Closed)?
            }
        };
        let delivery = lane.push(&record, bytes as usize)?;
        permit.forget();
        Ok(delivery)
    }

    /// Number of partitions of the topic.
    pub fn partitions(&self) -> u32 {
        self.lanes.len() as u32
    }

    /// Waits until everything sent before is acked or has failed, without lingering.
    ///
    /// # Errors
    /// The first failure since the last flush, so that one may send many records, drop the deliveries, and flush.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        for lane in &self.lanes {
            lane.hurry();
        }
        for lane in &self.lanes {
            lane.drained().await;
        }
        self.lanes
            .iter()
            .find_map(|lane| lane.take_failure())
            .map_or(Ok(()), Err)
    }

    /// Flushes and ends.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub async fn close(self) -> Result<(), ProduceError> {
        self.flush().await
    }

    fn lane(&self, record: &Record<'_>) -> Result<&Arc<Pending>, ProduceError> {
        let partitions = self.partitions();
        let partition = match (record.partition, record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => crc32fast::hash(key) % partitions.max(1),
            (None, None) => self.sticky.partition(),
        };
        self.lanes
            .get(partition as usize)
            .ok_or(ProduceError::UnknownPartition {
                partition,
                partitions,
            })
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.close();
        }
    }
}

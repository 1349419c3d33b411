//! A consumer: committed records, in order, for as long as one likes.
//!
//! Owns what a user holds: [`ConsumerBuilder`], [`Consumer`], [`Batch`]. On the fetch walk, its last step. What a partition
//! needs to keep going is the fetcher's, one for each partition.
//!
//! # Promises
//! - The records of a partition come in the order of their offsets, none missing, none twice, from whatever replica and
//!   across any number of reconnections. Between partitions there is no order.
//! - Every frame's checksum and group are checked here again, whatever the nodes checked before.
//! - Only committed records come. What has been seen is never taken back.
//! - Without [`follow`](ConsumerBuilder::follow), everything acked before [`stream`](ConsumerBuilder::stream) was called
//!   comes, even from a follower that lags; only where no leader can be asked, a follower's own end is the end.

mod fetcher;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::link::Cluster;
use super::{ClientError, ConsumeError, ConsumedRecord};
use crate::wire::{BatchReader, FetchFrom, RecordRef};

use fetcher::Fetcher;

/// Answers of nodes that may wait for the user, over all partitions; more waits in the nodes.
const WAITING_MAX: usize = 4;

/// Where to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the first record that is kept.
    Start,
    /// Behind the last record that is committed now.
    End,
    /// At this offset.
    Offset(u64),
    /// At the first record of this time or later, in milliseconds since 1970.
    Time(u64),
}

/// From which replica to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replica {
    /// From the leader, wherever it is.
    Leader,
    /// From any; another one when it is gone.
    Any,
    /// From this node, and no other.
    Node(u64),
}

/// Settings of a consumer.
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    cluster: Arc<Cluster>,
    topic: String,
    partition: Option<u32>,
    settings: Settings,
}

#[derive(Debug, Clone, Copy)]
struct Settings {
    from: FetchFrom,
    follow: bool,
    replica: Replica,
    fetch_bytes: u32,
    timeout: Duration,
}

impl ConsumerBuilder {
    pub(super) fn new(cluster: Arc<Cluster>, topic: String) -> Self {
        let settings = Settings {
            from: FetchFrom::Start,
            follow: false,
            replica: Replica::Leader,
            fetch_bytes: 1 << 20,
            timeout: Duration::from_secs(30),
        };
        Self {
            cluster,
            topic,
            partition: None,
            settings,
        }
    }

    /// Reads one partition; default all.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Where to start; default [`From::Start`].
    #[must_use]
    pub fn from(mut self, from: From) -> Self {
        self.settings.from = match from {
            From::Start => FetchFrom::Start,
            From::End => FetchFrom::End,
            From::Offset(offset) => FetchFrom::Offset(offset),
            From::Time(timestamp_ms) => FetchFrom::Time(timestamp_ms),
        };
        self
    }

    /// Whether to wait for more at the end; default not. Then it goes on for ever, and through any outage.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Self {
        self.settings.follow = follow;
        self
    }

    /// From which replica; default the leader.
    #[must_use]
    pub fn replica(mut self, replica: Replica) -> Self {
        self.settings.replica = replica;
        self
    }

    /// Most bytes of frames in one answer, default 1 MiB; a larger frame comes whole. What is received ahead of the user is
    /// bounded by a few of these and by the transport's windows.
    #[must_use]
    pub fn fetch_bytes(mut self, bytes: u32) -> Self {
        self.settings.fetch_bytes = bytes;
        self
    }

    /// Time without progress after which a partition is given up, unless it follows; default 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Finds the topic and starts to read.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if there is no such topic, [`ClientError::UnknownPartition`], [`ClientError::NoNode`].
    pub async fn stream(self) -> Result<Consumer, ClientError> {
        let topic = self.cluster.young_topic(&self.topic).await?;
        let partitions = topic.partitions.len() as u32;
        let wanted: Vec<_> = topic
            .partitions
            .iter()
            .filter(|info| self.partition.is_none_or(|p| p == info.partition))
            .collect();
        if let (Some(partition), true) = (self.partition, wanted.is_empty()) {
            return Err(ClientError::UnknownPartition {
                partition,
                partitions,
            });
        }
        let (sender, batches) = mpsc::channel(WAITING_MAX);
        for info in wanted {
            let fetcher = Fetcher::new(
                Arc::clone(&self.cluster),
                self.topic.clone(),
                info,
                self.settings,
                sender.clone(),
            );
            tokio::spawn(fetcher.run());
        }
        Ok(Consumer {
            batches,
            received: Vec::new().into_iter(),
            current: None,
        })
    }
}

/// Records as they come. Dropping it ends the reading.
#[derive(Debug)]
pub struct Consumer {
    batches: mpsc::Receiver<Result<Vec<Batch>, ConsumeError>>,
    /// What is left of the last answer.
    received: std::vec::IntoIter<Batch>,
    current: Option<Batch>,
}

impl Consumer {
    /// The next record, of any partition read; `None` once all have reached their end, which never happens when following.
    /// Cancel-safe.
    ///
    /// # Errors
    /// [`ConsumeError`] for a partition that cannot go on; the others do.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ConsumeError>> {
        loop {
            if let Some(record) = self.current.as_mut().and_then(Batch::take_first) {
                return Some(Ok(record));
            }
            match self.next_batch().await? {
                Ok(batch) => self.current = Some(batch),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next records, as many as lie together: the fastest way to read. What [`next`](Self::next) has begun is finished
    /// first. Cancel-safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_batch(&mut self) -> Option<Result<Batch, ConsumeError>> {
        if let Some(rest) = self.current.take().filter(|batch| !batch.is_empty()) {
            return Some(Ok(rest));
        }
        loop {
            if let Some(batch) = self.received.next() {
                return Some(Ok(batch));
            }
            match self.batches.recv().await? {
                Ok(batches) => self.received = batches.into_iter(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Records of one partition that lie together. Keeps the frame they came in alive.
#[derive(Debug, Clone)]
pub struct Batch {
    reader: Arc<BatchReader>,
    partition: u32,
    /// Position of the first record not taken yet.
    first: u32,
}

impl Batch {
    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Number of records left in it.
    pub fn len(&self) -> usize {
        (self.reader.record_count() - self.first) as usize
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records left, in order, borrowed from the received bytes.
    pub fn records(&self) -> impl ExactSizeIterator<Item = RecordRef<'_>> {
        (self.first..self.reader.record_count()).map(|position| self.reader.record(position))
    }

    fn take_first(&mut self) -> Option<ConsumedRecord> {
        let position = (!self.is_empty()).then_some(self.first)?;
        self.first += 1;
        Some(ConsumedRecord {
            batch: Arc::clone(&self.reader),
            position,
            partition: self.partition,
        })
    }
}

//! Sending and awaiting: records go out by one of two loops, and every ack of every record is awaited and counted.
//!
//! Owns the loops. Closed: so much in flight, and the next goes when there is room. Open: at a rate, each record when it is due, and its
//! time runs from then, so that a stall is counted in full (no coordinated omission). Must not know what is done with the figures.

use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use plimsoll::client::{Client, Compression, Delivery, PRODUCER_BYTES_MAX, Producer, Record};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::beat::Beat;
use super::load::Values;
use super::meter::Meter;
use crate::cli::output::Failure;

/// Groups of records whose acks are awaited, for each partition of a producer.
const AWAITED_MAX: usize = 1 << 14;
/// Most bytes that one producer of an open loop may have waiting for acks. Above it records wait, and their time runs.
const BUFFER_BYTES: usize = 64 << 20;
/// Most records that share one reading of the clock, in a closed loop.
const CLOCK_EVERY_MAX: usize = 16;

/// What producers do.
#[derive(Clone, Debug)]
pub(super) struct Sending {
    pub(super) producers: u32,
    /// Records a second of all together.
    pub(super) rate: Option<u64>,
    pub(super) room: Room,
    /// `None`: as the client has it.
    pub(super) linger: Option<Duration>,
    pub(super) batch_bytes: usize,
    /// In the mean.
    pub(super) record_bytes: usize,
    pub(super) compression: Compression,
    /// Whether values tell when they were sent or due, as time since this moment.
    pub(super) stamps_since: Option<Instant>,
}

/// What a closed loop has in flight, for each producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// So many batches in each partition, but no more than the producer sends at a time in all, and as many as are being filled.
    Batches(usize),
    /// So many records.
    Records(usize),
}

/// Counts from many tasks.
pub(super) type SharedMeter = Arc<Mutex<Meter>>;

/// Counts.
pub(super) fn with_meter<T>(meter: &SharedMeter, count: impl FnOnce(&mut Meter) -> T) -> T {
    count(&mut meter.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Records of one batch that were sent or due at the same moment.
struct Group {
    /// Of the last of them.
    delivery: Delivery,
    begun: Instant,
    records: u32,
    bytes: u64,
}

impl Sending {
    /// Makes the producers.
    pub(super) async fn build(
        &self,
        client: &Client,
        topic: &str,
    ) -> Result<Vec<Producer>, Failure> {
        let mut producers = Vec::new();
        for _ in 0..self.producers {
            let builder = client
                .producer(topic)
                .batch_bytes(self.batch_bytes)
                .buffer_bytes(BUFFER_BYTES)
                .compression(self.compression);
            let builder = match self.linger {
                Some(linger) => builder.linger(linger),
                None => builder,
            };
            let builder = match self.room {
                Room::Batches(batches) => builder.in_flight(batches),
                Room::Records(_) => builder,
            };
            producers.push(builder.build().await?);
        }
        Ok(producers)
    }

    /// Sends until `span` is over and awaits every ack; says how many records that were. A record that is not acknowledged ends the
    /// measurement: its figures would be worth nothing.
    pub(super) async fn run(
        &self,
        producers: Vec<Producer>,
        mut values: Values,
        span: Range<Instant>,
        meter: &SharedMeter,
    ) -> Result<u64, Failure> {
        let mut senders = JoinSet::new();
        for (number, producer) in producers.into_iter().enumerate() {
            let sender = Sender {
                room: self.room_of(&producer),
                producer,
                values: values.fork(),
                stamps_since: self.stamps_since,
                gathered: None,
                lanes: HashMap::new(),
                awaiting: JoinSet::new(),
                meter: Arc::clone(meter),
            };
            match self.rate {
                Some(rate) => {
                    // Between them the producers keep the beat of the whole.
                    let shift = Duration::from_secs_f64(number as f64 / rate as f64);
                    let share = rate as f64 / f64::from(self.producers);
                    let beat = Beat::new(share, span.start + shift..span.end)?;
                    senders.spawn(sender.at_rate(beat));
                }
                None => {
                    senders.spawn(sender.closed_loop(self.clock_every(), span.end));
                }
            }
        }
        let mut records = 0;
        while let Some(sender) = senders.join_next().await {
            records += sender.expect("a sender does not panic")?;
        }
        Ok(records)
    }

    /// Permits are for one record each.
    fn room_of(&self, producer: &Producer) -> Option<Arc<Semaphore>> {
        if self.rate.is_some() {
            return None;
        }
        let records = match self.room {
            Room::Records(records) => records,
            Room::Batches(batches) if self.records_per_batch() == 1 => {
                batches * producer.partitions() as usize
            }
            Room::Batches(batches) => {
                let partitions = producer.partitions() as usize;
                let filling = partitions.min(PRODUCER_BYTES_MAX / self.batch_bytes).max(1);
                let sent = (batches * partitions).min(PRODUCER_BYTES_MAX / self.batch_bytes);
                (sent.max(batches) + filling) * self.records_per_batch()
            }
        };
        Some(Arc::new(Semaphore::new(
            records.min(Semaphore::MAX_PERMITS),
        )))
    }

    fn records_per_batch(&self) -> usize {
        (self.batch_bytes / self.record_bytes).max(1)
    }

    /// Records that share one reading of the clock: a small part of a batch, and never more than the room holds.
    fn clock_every(&self) -> u32 {
        let records = match self.room {
            Room::Records(_) => 1,
            Room::Batches(_) => (self.records_per_batch() / 16).clamp(1, CLOCK_EVERY_MAX),
        };
        records as u32
    }
}

/// One producer at work.
struct Sender {
    producer: Producer,
    values: Values,
    stamps_since: Option<Instant>,
    /// What a closed loop has left; each record takes one permit and its ack gives it back.
    room: Option<Arc<Semaphore>>,
    gathered: Option<Group>,
    /// To those who await acks, by partition: within one, acks come in order.
    lanes: HashMap<u32, mpsc::Sender<Group>>,
    awaiting: JoinSet<Result<u64, Failure>>,
    meter: SharedMeter,
}

impl Sender {
    /// Closed loop. Records share a reading of the clock with some before them if nothing was waited for in between, so that their latency is,
    /// if anything, told too long, by the time it takes to hand over a few records.
    async fn closed_loop(mut self, clock_every: u32, ends: Instant) -> Result<u64, Failure> {
        let room = self.room.clone().expect("a closed loop has room");
        let (mut now, mut shared) = (Instant::now(), u32::MAX);
        loop {
            match room.try_acquire_many(clock_every) {
                Ok(permits) if shared < CLOCK_EVERY_MAX as u32 => permits.forget(),
                Ok(permits) => {
                    permits.forget();
                    (now, shared) = (Instant::now(), 0);
                }
                Err(_) => {
                    match room.acquire_many(clock_every).await {
                        Ok(permits) => permits.forget(),
                        // Closed by one that waited for an ack in vain.
                        Err(_) => return self.acked().await,
                    }
                    (now, shared) = (Instant::now(), 0);
                }
            }
            if now >= ends {
                return self.finish().await;
            }
            for _ in 0..clock_every {
                self.send(now).await?;
            }
            shared += clock_every;
            self.hand_over().await?;
        }
    }

    /// Open loop.
    async fn at_rate(mut self, mut beat: Beat) -> Result<u64, Failure> {
        while let Some(due) = beat.next().await? {
            self.send(due).await?;
            self.hand_over().await?;
        }
        self.finish().await
    }

    async fn send(&mut self, begun: Instant) -> Result<(), Failure> {
        let (key, value) = match self.stamps_since {
            Some(since) => self
                .values
                .next_stamped(begun.saturating_duration_since(since)),
            None => self.values.next(),
        };
        let bytes = value.len() as u64;
        let record = Record::value(value);
        let record = match key {
            Some(key) => record.key(key),
            None => record,
        };
        let delivery = self.producer.send(record).await?;
        match &mut self.gathered {
            Some(group) if group.delivery.is_with(&delivery) => {
                group.delivery = delivery;
                group.records += 1;
                group.bytes += bytes;
            }
            _ => {
                let next = Group {
                    delivery,
                    begun,
                    records: 1,
                    bytes,
                };
                if let Some(group) = self.gathered.replace(next) {
                    self.hand(group).await?;
                }
            }
        }
        Ok(())
    }

    /// Has the acks of all that was sent awaited.
    async fn hand_over(&mut self) -> Result<(), Failure> {
        match self.gathered.take() {
            Some(group) => self.hand(group).await,
            None => Ok(()),
        }
    }

    async fn hand(&mut self, group: Group) -> Result<(), Failure> {
        let partition = group.delivery.partition();
        let lane = self.lanes.entry(partition).or_insert_with(|| {
            let (lane, groups) = mpsc::channel(AWAITED_MAX);
            let (meter, room) = (Arc::clone(&self.meter), self.room.clone());
            self.awaiting.spawn(await_acks(groups, meter, room));
            lane
        });
        if lane.send(group).await.is_err() {
            // It ended with an error, which tells more.
            self.acked().await?;
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<u64, Failure> {
        self.producer.flush().await?;
        self.lanes.clear();
        self.acked().await
    }

    async fn acked(&mut self) -> Result<u64, Failure> {
        let mut records = 0;
        while let Some(lane) = self.awaiting.join_next().await {
            records += lane.expect("a task of ours does not panic")?;
        }
        Ok(records)
    }
}

/// The next group; `now` is out of date if it had to be waited for.
async fn next_group(
    groups: &mut mpsc::Receiver<Group>,
    now: &mut Option<Instant>,
) -> Option<Group> {
    match groups.try_recv() {
        Ok(group) => Some(group),
        Err(_) => {
            *now = None;
            groups.recv().await
        }
    }
}

/// Awaits the acks of one partition of one producer. Runs beside what settles them, on one thread: acks that are there without a wait
/// share a reading of the clock, which none of them came after.
async fn await_acks(
    mut groups: mpsc::Receiver<Group>,
    meter: SharedMeter,
    room: Option<Arc<Semaphore>>,
) -> Result<u64, Failure> {
    let mut acked = 0;
    // Of the last time that something was waited for: what is there without a wait came with that.
    let mut now = None;
    while let Some(mut group) = next_group(&mut groups, &mut now).await {
        let at_once = poll_fn(|context| Poll::Ready(Pin::new(&mut group.delivery).poll(context)));
        let result = match at_once.await {
            Poll::Ready(result) => result,
            Poll::Pending => {
                now = None;
                group.delivery.await
            }
        };
        if let Err(error) = result {
            if let Some(room) = &room {
                room.close();
            }
            return Err(error.into());
        }
        let now = *now.get_or_insert_with(Instant::now);
        with_meter(&meter, |meter| {
            meter.count(group.begun, now, group.records, group.bytes);
        });
        if let Some(room) = &room {
            room.add_permits(group.records as usize);
        }
        acked += u64::from(group.records);
    }
    Ok(acked)
}

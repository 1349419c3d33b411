//! The fetch walk: runs of frames straight from the map to the stream, up to the high watermark and never past it.
//!
//! Reads the watermark without lock or mailbox, from a leader or a follower alike. The place to start from is searched, and what is not surely in
//! the page cache is brought in, on a thread for that. QUIC's flow control is the back pressure. Must not know producers, terms or what is in a payload.

use std::sync::Arc;

use segment_store::{FrameHeader, HEADER_LEN, LogReader, ReadError};
use tokio::task::JoinHandle;
use transport::{SendError, SendHalf};

use super::metrics::TopicMetrics;
use super::route;
use super::shared::Shared;
use crate::replica::{Group, Replicas, Watermark};
use crate::wire::{ApiError, FetchFrom, Reply, encode_reply};

/// Most bytes in one reply's body, whatever the client asks for; a single frame may be larger.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Bytes brought into memory at a time where a log is cold; the next stretch is begun when half of one is left.
const AHEAD_BYTES: usize = 8 << 20;

/// What a client asked for.
pub(super) struct Fetch {
    pub(super) group: u64,
    pub(super) from: FetchFrom,
    pub(super) max_bytes: u32,
    pub(super) follow: bool,
}

/// Why a fetch ends early.
enum End {
    /// The client is told.
    Failed(ApiError),
    /// The client is gone.
    Gone(SendError),
}

impl From<SendError> for End {
    fn from(error: SendError) -> End {
        End::Gone(error)
    }
}

impl From<ApiError> for End {
    fn from(error: ApiError) -> End {
        End::Failed(error)
    }
}

/// Serves one fetch to its end, which may be never.
pub(super) async fn serve(shared: Arc<Shared>, mut send: SendHalf, fetch: Fetch) {
    match run(&shared, &mut send, &fetch).await {
        Ok(()) => {}
        Err(End::Gone(error)) => {
            return tracing::debug!(%error, group = fetch.group, "a consumer left");
        }
        Err(End::Failed(error)) => {
            if let Err(error) = route::error_with(&shared, &mut send, 0, error).await {
                return tracing::debug!(%error, group = fetch.group, "a consumer left before it was answered");
            }
        }
    }
    send.finish();
}

async fn run(shared: &Shared, send: &mut SendHalf, fetch: &Fetch) -> Result<(), End> {
    let group = shared.group(fetch.group)?;
    let state = shared.view.state();
    let (topic, _) = state.group(fetch.group).ok_or(ApiError::UnknownGroup)?;
    let metrics = shared.metrics.topic(&topic.name);
    drop(state);
    // The search may wait for the disk.
    let (from, max_bytes) = (fetch.from, fetch.max_bytes);
    let replicas = shared.replicas.clone();
    let found =
        tokio::task::spawn_blocking(move || Cursor::at(&replicas, &group, from, max_bytes)).await;
    let mut cursor = found.map_err(|_| ApiError::Internal)??;
    cursor.metrics = Some(metrics);
    loop {
        while cursor.send_next(send).await? {
            // Other streams get their turn even while this one always finds bytes and room to send them.
            tokio::task::yield_now().await;
        }
        if !fetch.follow {
            cursor.send_end(send).await?;
            return Ok(());
        }
        cursor.wait(send).await?;
    }
}

/// A place in a group's log, and what is needed to go on from there.
struct Cursor {
    replicas: Replicas,
    group: u64,
    watermark: Watermark,
    reader: LogReader,
    bytes_max: usize,
    /// Index of the next frame to send.
    next_index: u64,
    /// Offset of the next record the client wants.
    next_offset: u64,
    ahead: Ahead,
    metrics: Option<TopicMetrics>,
}

/// What of a cold log is brought into memory before it is wanted. Positions count the bytes of this fetch.
#[derive(Default)]
struct Ahead {
    /// Where the next frame lies.
    position: u64,
    /// Up to where it was brought in.
    until: u64,
    /// Brings in more; gives up to where.
    populating: Option<JoinHandle<Result<u64, ReadError>>>,
}

impl Cursor {
    /// Finds the place to start from; blocks.
    fn at(
        replicas: &Replicas,
        group: &Group,
        from: FetchFrom,
        max_bytes: u32,
    ) -> Result<Cursor, ApiError> {
        let (watermark, reader) = (group.watermark().clone(), group.reader().clone());
        // In this order: a later high watermark with an earlier index starts too early, which the client skips; never too late.
        let readable = watermark.applied_index();
        let high_watermark = watermark.high_watermark();
        let log_start = watermark.log_start();
        let out_of_range = || ApiError::OffsetOutOfRange {
            log_start,
            high_watermark,
        };
        let next_offset = match from {
            FetchFrom::Offset(offset) => offset,
            FetchFrom::Start | FetchFrom::Time(_) => log_start,
            FetchFrom::End => high_watermark,
        };
        if next_offset < log_start || next_offset > high_watermark {
            return Err(out_of_range());
        }
        let found = match from {
            FetchFrom::Time(timestamp_ms) => reader.seek_time(timestamp_ms),
            _ if next_offset == high_watermark => Ok(readable + 1),
            _ => reader.seek_offset(next_offset),
        };
        // What lies past the watermark is not settled yet: it may be replaced, and another frame be the first that is wanted.
        let next_index = found
            .map_err(|error| failed(replicas, group.group(), &error, out_of_range))?
            .min(readable + 1);
        let bytes_max = (max_bytes as usize).clamp(1, REPLY_BYTES_MAX);
        let mut cursor = Cursor {
            replicas: replicas.clone(),
            group: group.group(),
            watermark,
            reader,
            bytes_max,
            next_index,
            next_offset,
            ahead: Ahead::default(),
            metrics: None,
        };
        if let FetchFrom::Time(_) = from {
            cursor.next_offset = cursor.offset_of_next(readable, high_watermark)?;
        }
        Ok(cursor)
    }

    /// Offset of the first record at `next_index` or after it, which may be the high watermark.
    fn offset_of_next(&self, readable: u64, high_watermark: u64) -> Result<u64, ApiError> {
        if self.next_index > readable {
            return Ok(high_watermark);
        }
        let run = self
            .reader
            .read(self.next_index, readable, 1)
            .map_err(|error| self.failed(&error, || ApiError::Internal))?;
        Ok(first_offset(&run.bytes))
    }

    /// Sends the next run of frames; false when all that may be read has been sent.
    async fn send_next(&mut self, send: &mut SendHalf) -> Result<bool, End> {
        let readable = self.watermark.applied_index();
        if self.next_index > readable {
            return Ok(false);
        }
        let watermark = self.watermark.clone();
        let out_of_range = || ApiError::OffsetOutOfRange {
            log_start: watermark.log_start(),
            high_watermark: watermark.high_watermark(),
        };
        if self.reader.is_cold(self.next_index, self.bytes_max) {
            self.read_ahead()
                .await?
                .map_err(|error| self.failed(&error, out_of_range))?;
        }
        self.reader.note_consumer();
        let run = self
            .reader
            .read(self.next_index, readable, self.bytes_max)
            .map_err(|error| self.failed(&error, out_of_range))?;
        if run.cold && !run.is_whole() {
            // A consumer would refuse it; another replica has what was written.
            tracing::error!(
                group = self.group,
                from = run.first_index,
                "a frame on the disk is not what was written"
            );
            self.replicas.report_damage(self.group);
            return Err(ApiError::Unavailable.into());
        }
        let first_offset = self.next_offset.max(first_offset(&run.bytes));
        self.next_index = run.last_index + 1;
        self.ahead.position += run.bytes.len() as u64;
        if run.next_offset <= self.next_offset {
            // No-ops and the like, or frames before the start: nothing in them for a consumer.
            return Ok(true);
        }
        if let Some(metrics) = &self.metrics {
            metrics
                .consumed_records
                .increment(run.next_offset - first_offset);
            metrics.consumed_bytes.increment(run.bytes.len() as u64);
        }
        self.next_offset = run.next_offset;
        let (kind, head) = encode_reply(&self.fetched(first_offset, false));
        send.send(kind, &head, &mut [run.bytes]).await?;
        Ok(true)
    }

    /// Sees to it that the next read does not wait for the disk on this thread, and that most reads wait for nothing.
    async fn read_ahead(&mut self) -> Result<Result<(), ReadError>, ApiError> {
        let ahead = &mut self.ahead;
        let left = ahead.until.saturating_sub(ahead.position);
        if left < AHEAD_BYTES as u64 / 2 && ahead.populating.is_none() {
            let (reader, from, position) = (self.reader.clone(), self.next_index, ahead.position);
            ahead.populating = Some(tokio::task::spawn_blocking(move || {
                Ok(position + reader.populate(from, AHEAD_BYTES)?)
            }));
        }
        if left < self.bytes_max as u64
            && let Some(populating) = ahead.populating.take()
        {
            match populating.await.map_err(|_| ApiError::Internal)? {
                Ok(until) => ahead.until = until,
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    fn failed(&self, error: &ReadError, out_of_range: impl FnOnce() -> ApiError) -> ApiError {
        failed(&self.replicas, self.group, error, out_of_range)
    }

    async fn send_end(&self, send: &mut SendHalf) -> Result<(), SendError> {
        route::reply_with(send, &self.fetched(self.next_offset, true)).await
    }

    fn fetched(&self, first_offset: u64, end: bool) -> Reply {
        Reply::Fetched {
            group: self.group,
            first_offset,
            high_watermark: self.watermark.high_watermark(),
            log_start: self.watermark.log_start(),
            end,
        }
    }

    /// Waits for the next publication, or for the client to leave.
    async fn wait(&self, send: &mut SendHalf) -> Result<(), End> {
        tokio::select! {
            _ = self.watermark.changed(self.next_offset) => {}
            gone = send.stopped() => return Err(End::Gone(gone)),
        }
        if self.watermark.is_closed() {
            return Err(End::Failed(ApiError::UnknownGroup));
        }
        Ok(())
    }
}

fn first_offset(run: &[u8]) -> u64 {
    let header = run
        .get(..HEADER_LEN)
        .and_then(|header| FrameHeader::decode(header).ok());
    header
        .expect("the log's reader hands out whole frames that it has checked")
        .0
        .base_offset
}

fn failed(
    replicas: &Replicas,
    group: u64,
    error: &ReadError,
    out_of_range: impl FnOnce() -> ApiError,
) -> ApiError {
    match error {
        ReadError::Trimmed { .. } | ReadError::OffsetOutOfRange { .. } => out_of_range(),
        damage if damage.is_damage() => {
            tracing::error!(group, error = %damage, "a log cannot be read; it is to be repaired");
            replicas.report_damage(group);
            ApiError::Unavailable
        }
        other => {
            tracing::error!(error = %other, "a log cannot be read");
            ApiError::Internal
        }
    }
}

//! The fetch walk: runs of frames straight from the map to the stream, up to the high watermark and never past it.
//!
//! Reads the watermark without lock or mailbox, from a leader or a follower alike. The place to start from is searched, and what is not surely in
//! the page cache is read, on a thread for that (`fetch/ahead.rs`). QUIC's flow control is the back pressure. Must not know producers, terms or what is
//! in a payload.

mod ahead;

use std::sync::Arc;
use std::time::Duration;

use segment_store::{FrameHeader, FrameRun, HEADER_LEN, LoadMemory, LogReader, ReadError};
use tokio::time::timeout;
use transport::{SendError, SendHalf};

use self::ahead::Ahead;
use super::metrics::TopicMetrics;
use super::route;
use super::shared::Shared;
use crate::replica::{Group, Replicas, Watermark};
use crate::wire::{ApiError, FetchFrom, Reply, encode_reply};

/// Most bytes in one reply's body, whatever the client asks for; a single frame may be larger.
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Without a leader for so long, several times what an election takes, a replica may be cut off from others that go on. Who waits here for more is sent away.
const LEADERLESS_MAX: Duration = Duration::from_secs(1);

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
    let (replicas, memory) = (shared.replicas.clone(), shared.load_memory.clone());
    let found =
        tokio::task::spawn_blocking(move || Cursor::at(&replicas, memory, &group, from, max_bytes));
    let mut cursor = found.await.map_err(|_| ApiError::Internal)??;
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

impl Cursor {
    /// Finds the place to start from; blocks.
    fn at(
        replicas: &Replicas,
        memory: LoadMemory,
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
            ahead: Ahead::new(reader.clone(), memory, bytes_max),
            reader,
            bytes_max,
            next_index,
            next_offset,
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
        self.reader.note_consumer();
        let run = self.next_run(readable).await?;
        let first_offset = self.next_offset.max(first_offset(&run.bytes));
        self.next_index = run.last_index + 1;
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

    /// The next run of frames, of which there are some. What may have to come from the disk was checked as a whole: a consumer would refuse a frame that
    /// is not what was written, and another replica has it.
    async fn next_run(&mut self, readable: u64) -> Result<FrameRun, ApiError> {
        let run = match self.ahead.next(self.next_index, readable).await? {
            Some(run) => run,
            None => self.reader.read(self.next_index, readable, self.bytes_max),
        };
        let watermark = &self.watermark;
        run.map_err(|error| {
            self.failed(&error, || ApiError::OffsetOutOfRange {
                log_start: watermark.log_start(),
                high_watermark: watermark.high_watermark(),
            })
        })
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

    /// Waits for the next publication, for the client to leave, or for so long without a leader that other replicas may know more.
    async fn wait(&self, send: &mut SendHalf) -> Result<(), End> {
        tokio::select! {
            _ = self.watermark.changed(self.next_offset) => {}
            gone = send.stopped() => return Err(End::Gone(gone)),
            () = cut_off(&self.watermark) => return Err(End::Failed(ApiError::NotLeader { leader: None })),
        }
        if self.watermark.is_closed() {
            return Err(End::Failed(ApiError::UnknownGroup));
        }
        Ok(())
    }
}

/// Resolves once this replica has known of no leader for [`LEADERLESS_MAX`].
async fn cut_off(watermark: &Watermark) {
    loop {
        let leader = watermark.leader();
        let changed = watermark.leader_changed(leader);
        match leader {
            Some(_) => _ = changed.await,
            None if timeout(LEADERLESS_MAX, changed).await.is_err() => return,
            None => {}
        }
        if watermark.is_closed() {
            // Whoever waits is told that, instead.
            return std::future::pending().await;
        }
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

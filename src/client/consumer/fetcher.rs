//! One partition's stream of frames: opened, checked, opened again where it broke off.
//!
//! Owns the next offset of one partition and the checks on what is received. On the fetch walk, at the client's end. QUIC's
//! flow control is the back pressure: while the user is busy nothing is read, and the node sends no more.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use segment_store::{Frame, HEADER_LEN, kind};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::debug;
use transport::{Limits, Message};

use super::{Batch, Replica, Settings};
use crate::client::admin::unexpected;
use crate::client::backoff::{Backoff, LEADERLESS_PAUSE_MAX};
use crate::client::link::{Cluster, Role, Target, Unreached, Wanted};
use crate::client::{ClientError, ConsumeError, ConsumeReason};
use crate::mutation;
use crate::wire::{
    ApiError, BatchCaps, BatchReader, FetchFrom, PartitionInfo, REPLY_HEAD_BYTES_MAX, Reply,
    Request, decode_reply, encode_request,
};

/// Longest frame and longest records taken, in bytes: the most a node can be set to accept.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Time for asking where the log ends.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// Damaged answers in a row before the partition is given up.
const DAMAGED_MAX: u32 = 3;

/// Reads one partition.
pub(super) struct Fetcher {
    cluster: Arc<Cluster>,
    topic: String,
    partition: u32,
    group: u64,
    replicas: Vec<u64>,
    settings: Settings,
    sender: mpsc::Sender<Result<Vec<Batch>, ConsumeError>>,
    cursor: Cursor,
    /// Where the log ended when reading began, exclusive; 0 if nobody could say. Unused when following.
    end: Option<u64>,
    backoff: Backoff,
    /// When something was last received.
    heard: Instant,
    problem: String,
    damaged: u32,
    /// The node that last failed.
    avoid: Option<u64>,
}

/// Where a partition's reading stands, and what of a frame is still to be handed out.
#[derive(Debug)]
struct Cursor {
    partition: u32,
    group: u64,
    /// Next offset to hand out; `None` until a node has said where the start is.
    next: Option<u64>,
    /// Records before this time are dropped, up to the first that is not.
    not_before_ms: Option<u64>,
}

/// Why a stream of frames is over.
enum Over {
    /// The end of the partition is reached, or the user is gone.
    Done,
    /// Try again.
    Again(String),
    /// There is no point in trying again.
    Failed(ConsumeReason),
}

impl Fetcher {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        topic: String,
        info: &PartitionInfo,
        settings: Settings,
        sender: mpsc::Sender<Result<Vec<Batch>, ConsumeError>>,
    ) -> Self {
        let not_before_ms = if let FetchFrom::Time(time) = settings.from {
            Some(time)
        } else {
            None
        };
        Self {
            cluster,
            topic,
            partition: info.partition,
            group: info.group,
            replicas: info.replicas.clone(),
            settings,
            sender,
            cursor: Cursor {
                partition: info.partition,
                group: info.group,
                next: None,
                not_before_ms,
            },
            end: None,
            backoff: Backoff::new(),
            heard: Instant::now(),
            problem: String::from("nothing was tried"),
            damaged: 0,
            avoid: None,
        }
    }

    /// Reads until the end, for ever, or until it cannot go on, whichever applies.
    pub(super) async fn run(mut self) {
        loop {
            match self.session().await {
                Over::Done => return,
                Over::Failed(reason) => return self.fail(reason).await,
                Over::Again(problem) => {
                    debug!(
                        topic = self.topic,
                        partition = self.partition,
                        problem,
                        "cannot fetch at the moment"
                    );
                    self.problem = problem;
                }
            }
            if !self.settings.follow && self.heard.elapsed() >= self.settings.timeout {
                let (after, last) = (self.settings.timeout, self.problem.clone());
                return self.fail(ConsumeReason::Timeout { after, last }).await;
            }
            tokio::select! {
                () = sleep(self.backoff.pause()) => {}
                () = self.sender.closed() => return,
            }
        }
    }

    async fn fail(&self, reason: ConsumeReason) {
        let error = ConsumeError {
            partition: self.partition,
            reason,
        };
        // If the user is gone, nobody needs to know.
        let _ = self.sender.send(Err(error)).await;
    }

    /// Without following, the end is no nearer than where the log ends now, linearizable: a replica that has not heard of
    /// the last commits yet is asked again. Only if no leader can say, and one that follows may, its own end will do.
    async fn find_end(&mut self) -> Result<(), Over> {
        if self.settings.follow || self.end.is_some() {
            return Ok(());
        }
        let request = Request::EndOffset { group: self.group };
        let limit = END_TIMEOUT.min(self.settings.timeout);
        match self
            .cluster
            .call(Target::Leader(self.group), &request, limit)
            .await
        {
            Ok((_, Reply::EndOffset { offset })) => self.end = Some(offset),
            Ok((node, other)) => return Err(Over::Again(unexpected(node, &other).to_string())),
            Err(_) if self.settings.replica != Replica::Leader => self.end = Some(0),
            Err(error) => return Err(Over::Again(error.to_string())),
        }
        Ok(())
    }

    /// One stream, from opening it until it is over.
    async fn session(&mut self) -> Over {
        if let Err(over) = self.find_end().await {
            return over;
        }
        let node = match self.choose().await {
            Ok(node) => node,
            Err(over) => return over,
        };
        let over = self.fetch(node).await;
        if let Over::Again(_) = over {
            self.avoid = Some(node);
            self.cluster.forget_leader(self.group, node);
        }
        over
    }

    async fn fetch(&mut self, node: u64) -> Over {
        let (cluster, wanted) = (Arc::clone(&self.cluster), self.wanted());
        let opened = match &wanted {
            Some(wanted) => cluster.reach(node, wanted).await,
            None => cluster.open(node).await.map_err(Unreached::Failed),
        };
        let (_, mut send, mut recv) = match opened {
            Ok(halves) => halves,
            Err(Unreached::Failed(failure)) => {
                return Over::Again(format!("node {node}: {failure}"));
            }
            Err(Unreached::Elsewhere) => {
                return Over::Again(format!("node {node} does not answer, and another is there"));
            }
        };
        let from = self
            .cursor
            .next
            .map_or(self.settings.from, FetchFrom::Offset);
        let (follow, max_bytes) = (self.settings.follow, self.settings.fetch_bytes);
        let (kind, head) = encode_request(&Request::Fetch {
            group: self.group,
            from,
            max_bytes,
            follow,
        });
        if let Err(error) = send.send(kind, &head, &mut []).await {
            return Over::Again(format!("node {node}: {error}"));
        }
        let body_bytes_max = (FRAME_BYTES_MAX + 2 * HEADER_LEN).max(max_bytes as usize);
        let limits = Limits {
            head_bytes_max: REPLY_HEAD_BYTES_MAX,
            body_bytes_max,
        };
        let mut silence = pin!(cluster.silence(node, Duration::ZERO));
        let mut pauses = Backoff::new();
        loop {
            let received = tokio::select! {
                biased;
                received = recv.recv(&limits) => received,
                () = self.sender.closed() => return Over::Done,
                () = &mut silence, if wanted.is_some() => {
                    if let Some(wanted) = &wanted && cluster.is_elsewhere(node, wanted).await {
                        return Over::Again(format!("node {node} fell silent, and another is there"));
                    }
                    silence.set(cluster.silence(node, pauses.pause_up_to(LEADERLESS_PAUSE_MAX)));
                    continue;
                }
            };
            let message = match received {
                Ok(Some(message)) => message,
                Ok(None) => return Over::Again(format!("node {node} ended the stream")),
                Err(error) => return Over::Again(format!("node {node}: {error}")),
            };
            if let Some(over) = self.receive(node, message).await {
                return over;
            }
        }
    }

    /// What the node that is read from is wanted for; `None` where no other will do.
    fn wanted(&self) -> Option<Wanted> {
        let role = match self.settings.replica {
            Replica::Leader => Role::Leader,
            Replica::Any => Role::Replica,
            Replica::Node(_) => return None,
        };
        let (topic, group) = (self.topic.clone(), self.group);
        Some(Wanted { topic, group, role })
    }

    /// Takes in one answer and hands its records on.
    async fn receive(&mut self, node: u64, message: Message) -> Option<Over> {
        let (first_offset, end) = match decode_reply(message.kind, &message.head) {
            Ok(Reply::Fetched {
                first_offset, end, ..
            }) => (first_offset, end),
            Ok(Reply::Error { error, .. }) => return Some(self.refused(node, error)),
            Ok(_) => {
                return Some(Over::Again(format!(
                    "node {node} answered another question"
                )));
            }
            Err(error) => return Some(Over::Again(format!("node {node}: {error}"))),
        };
        let batches = match self.cursor.take_in(first_offset, message.body.freeze()) {
            Ok(batches) => batches,
            Err(reason) => return Some(self.damage(node, reason)),
        };
        self.heard = Instant::now();
        self.backoff.reset();
        (self.damaged, self.avoid) = (0, None);
        if !batches.is_empty() && self.sender.send(Ok(batches)).await.is_err() {
            return Some(Over::Done);
        }
        let behind = self
            .end
            .is_some_and(|end| self.cursor.next.is_some_and(|next| next < end));
        match end {
            true if behind => Some(Over::Again(format!(
                "node {node} has not heard of the last commits yet"
            ))),
            true => Some(Over::Done),
            false => None,
        }
    }

    fn refused(&mut self, node: u64, error: ApiError) -> Over {
        match error {
            ApiError::NotLeader {
                leader: Some((leader, ref address)),
            } if leader != node => {
                self.cluster.learn_leader(self.group, leader, address);
                Over::Again(format!("node {node}: {error}"))
            }
            // We were there already, so this replica is merely behind.
            ApiError::OffsetOutOfRange { high_watermark, .. }
                if self.cursor.next.is_some_and(|next| next > high_watermark) =>
            {
                Over::Again(format!("node {node} is behind: {error}"))
            }
            error if error.is_retriable() => Over::Again(format!("node {node}: {error}")),
            error => Over::Failed(ConsumeReason::Refused(error)),
        }
    }

    fn damage(&mut self, node: u64, reason: String) -> Over {
        self.damaged += 1;
        if self.damaged < DAMAGED_MAX {
            return Over::Again(format!("node {node}: {reason}"));
        }
        Over::Failed(ConsumeReason::Damaged {
            offset: self.cursor.next.unwrap_or_default(),
            reason,
        })
    }

    /// The node to read from now.
    async fn choose(&mut self) -> Result<u64, Over> {
        match self.settings.replica {
            Replica::Node(node) => Ok(node),
            Replica::Any => {
                if self.avoid.is_some() {
                    self.look_up().await?;
                }
                let others: Vec<u64> = self
                    .replicas
                    .iter()
                    .copied()
                    .filter(|node| Some(*node) != self.avoid)
                    .collect();
                let from = if others.is_empty() {
                    &self.replicas
                } else {
                    &others
                };
                let chosen = fastrand::choice(from).copied();
                chosen.ok_or_else(|| Over::Again(String::from("the partition has no replicas")))
            }
            Replica::Leader => {
                if self.cluster.leader(self.group).is_none() {
                    self.look_up().await?;
                }
                let leader = self.cluster.leader(self.group);
                leader.ok_or_else(|| Over::Again(String::from("the partition has no leader")))
            }
        }
    }

    /// Asks who holds the partition now.
    async fn look_up(&mut self) -> Result<(), Over> {
        let asked = self.cluster.refresh(&self.topic, self.avoid.take()).await;
        let info = match &asked {
            Ok(topic) => topic
                .partitions
                .iter()
                .find(|info| info.partition == self.partition && info.group == self.group),
            Err(ClientError::Refused(ApiError::UnknownTopic)) => None,
            Err(error) => return Err(Over::Again(error.to_string())),
        };
        // A topic of the same name in other groups is another topic: its offsets mean something else.
        let info = info.ok_or(Over::Failed(ConsumeReason::Refused(ApiError::UnknownTopic)))?;
        self.replicas.clone_from(&info.replicas);
        Ok(())
    }
}

impl Cursor {
    /// Splits an answer into checked batches, without what comes before the cursor, and moves the cursor behind them.
    fn take_in(&mut self, first_offset: u64, mut body: Bytes) -> Result<Vec<Batch>, String> {
        let mut next = self.next.unwrap_or(first_offset);
        let mut batches = Vec::new();
        while !body.is_empty() {
            let frame = Frame::split_from(&mut body, FRAME_BYTES_MAX, true)
                .map_err(|error| error.to_string())?;
            let header = frame.header();
            if header.group != self.group && !mutation::is("batches of other groups are taken") {
                return Err(format!(
                    "a frame of group {} came for group {}",
                    header.group, self.group
                ));
            }
            if header.kind != kind::RECORDS
                || header
                    .base_offset
                    .saturating_add(u64::from(header.record_count))
                    <= next
            {
                continue;
            }
            if header.base_offset > next {
                return Err(format!(
                    "offset {next} is missing: the next frame begins at {}",
                    header.base_offset
                ));
            }
            let caps = BatchCaps {
                payload_bytes_max: FRAME_BYTES_MAX,
                records_bytes_max: FRAME_BYTES_MAX,
            };
            let reader = BatchReader::parse(&frame, &caps).map_err(|error| error.to_string())?;
            let mut first = (next - reader.base_offset()) as u32;
            next = reader.next_offset();
            if let Some(time) = self.not_before_ms {
                first += reader
                    .records()
                    .skip(first as usize)
                    .take_while(|record| record.timestamp_ms < time)
                    .count() as u32;
            }
            if first < reader.record_count() {
                self.not_before_ms = None;
                batches.push(Batch {
                    reader: Arc::new(reader),
                    partition: self.partition,
                    first,
                });
            }
        }
        self.next = Some(next);
        Ok(batches)
    }
}

#[cfg(test)]
mod tests;

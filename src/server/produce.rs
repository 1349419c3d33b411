//! The produce walk, from the stream to the replica's mailbox and back: one task reads, checks and submits, one answers in order.
//!
//! The bytes of a request, of one batch or of several small ones, are counted against its client's share and the node's budget before its body
//! is allocated, and until it is answered; while either is used up, streams wait unread and QUIC holds their senders back. An error of a request
//! is answered and the stream goes on. Must not know terms, indexes or disks.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use transport::{RecvError, RecvHalf, SendError, SendHalf};

use segment_store::{FrameError, UnstampedRun};

use super::metrics::TopicMetrics;
use super::route;
use super::shared::Shared;
use crate::config::LimitsConfig;
use crate::replica::{Acked, Group, Submitted};
use crate::wire::{
    ACKS_MAX, ApiError, PRODUCE_MERGED_BYTES_MAX, ProducedAck, Reply, Request, check_batches,
    decode_request,
};

/// Most requests of one stream accepted and not yet answered.
const STREAM_REQUESTS_MAX: usize = 1_024;
/// How long the body of an announced batch may take, lest it hold its share of the budget for ever.
const BODY_WITHIN: Duration = Duration::from_secs(10);
/// What a frame is longer than its payload, at most: header and padding.
const FRAME_SLACK: u64 = 128;

/// The longest body of a request.
fn largest(limits: &LimitsConfig) -> u64 {
    (limits.batch_bytes_max + FRAME_SLACK).max(PRODUCE_MERGED_BYTES_MAX as u64)
}

/// Bytes of batches that this node holds for all clients at most; the largest request fits in any case.
pub(super) fn budget(limits: &LimitsConfig) -> usize {
    let largest = largest(limits);
    let bytes = limits.produce_in_flight_bytes_max.max(largest) as usize;
    bytes.min(Semaphore::MAX_PERMITS)
}

/// What one connection may have of the budget: half, and the largest request in any case.
pub(super) fn share_of_one(limits: &LimitsConfig) -> usize {
    (budget(limits) / 2).max(largest(limits) as usize)
}

/// A request whose head has arrived and whose body has not.
pub(super) struct Announced {
    pub(super) correlation: u64,
    pub(super) group: u64,
    pub(super) forward: bool,
    pub(super) body_len: u32,
}

/// A request that will be answered in its turn.
struct Pending {
    correlation: u64,
    outcome: Outcome,
    permit: Option<Permit>,
}

/// Room for a request: of its client's share, and of the node's budget.
type Permit = (OwnedSemaphorePermit, OwnedSemaphorePermit);

enum Outcome {
    Refused(ApiError),
    Submitted {
        ack: Submitted,
        metrics: TopicMetrics,
        records: u64,
        bytes: u64,
    },
}

/// The group that the stream last produced to: almost always the only one.
struct Target {
    group: Group,
    number: u64,
    metrics: TopicMetrics,
}

/// Serves a stream of produce requests, of which the first is announced, to its end.
pub(super) async fn serve(
    shared: Arc<Shared>,
    share: Arc<Semaphore>,
    send: SendHalf,
    mut recv: RecvHalf,
    first: Announced,
) {
    let (pending, answers) = mpsc::channel(STREAM_REQUESTS_MAX);
    let answering = tokio::spawn(answer(Arc::clone(&shared), send, answers));
    let mut reader = Reader {
        shared,
        share,
        target: None,
    };
    let mut announced = Some(first);
    while let Some(batch) = announced.take() {
        let correlation = batch.correlation;
        let taken = match reader.take(&mut recv, batch).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::debug!(%error, "a producer's stream ended within a batch");
                break;
            }
        };
        let (outcome, permit) = match taken {
            Ok((outcome, permit)) => (outcome, permit),
            Err(error) => (Outcome::Refused(error), None),
        };
        if pending
            .send(Pending {
                correlation,
                outcome,
                permit,
            })
            .await
            .is_err()
        {
            break;
        }
        announced = match next(&mut recv).await {
            Ok(next) => next,
            Err(error) => {
                let refused = Pending {
                    correlation: 0,
                    outcome: Outcome::Refused(error),
                    permit: None,
                };
                let _ = pending.send(refused).await;
                None
            }
        };
    }
    drop(pending);
    if answering.await.is_err() {
        tracing::error!("the answering half of a produce stream ended unexpectedly");
    }
}

/// The next request's head; `None` at the stream's end, an error to be answered when it is no produce request.
async fn next(recv: &mut RecvHalf) -> Result<Option<Announced>, ApiError> {
    let head = match recv.recv_head(&route::HEADS).await {
        Ok(Some(head)) => head,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::debug!(%error, "a producer's stream ended");
            return Ok(None);
        }
    };
    match decode_request(head.kind, &head.head)? {
        Request::Produce {
            correlation,
            group,
            forward,
        } => Ok(Some(Announced {
            correlation,
            group,
            forward,
            body_len: head.body_len,
        })),
        _ => Err(ApiError::InvalidRequest {
            reason: "a stream that produces takes nothing but batches".into(),
        }),
    }
}

struct Reader {
    shared: Arc<Shared>,
    share: Arc<Semaphore>,
    target: Option<Target>,
}

type Taken = Result<(Outcome, Option<Permit>), ApiError>;

impl Reader {
    /// Receives the body of a request, checks it and submits what is in it. The inner error is to be answered; with the outer the stream is over.
    async fn take(&mut self, recv: &mut RecvHalf, batch: Announced) -> Result<Taken, RecvError> {
        let limits = &self.shared.config.limits;
        if u64::from(batch.body_len) > largest(limits) {
            recv.skip_body().await?;
            return Ok(Err(ApiError::BatchTooLarge {
                max: limits.batch_bytes_max,
            }));
        }
        // The share first: who waits for its own share holds nothing of the others'.
        let share = room(&self.share, batch.body_len).await;
        let permit = (
            share,
            room(&self.shared.produce_bytes, batch.body_len).await,
        );
        let Ok(message) = tokio::time::timeout(BODY_WITHIN, recv.recv(&route::HEADS)).await else {
            recv.stop(transport::close::PROTOCOL);
            return Err(RecvError::Closed);
        };
        let body = message?.ok_or(RecvError::Closed)?.body;
        Ok(self
            .submit(batch.group, batch.forward, body)
            .map(|outcome| (outcome, Some(permit))))
    }

    fn submit(
        &mut self,
        group: u64,
        forward: bool,
        body: bytes::BytesMut,
    ) -> Result<Outcome, ApiError> {
        let limits = &self.shared.config.limits;
        let run =
            UnstampedRun::parse(body, limits.batch_bytes_max as usize).map_err(
                |error| match error {
                    FrameError::TooLong { max, .. } => ApiError::BatchTooLarge { max: max as u64 },
                    other => ApiError::CorruptBatch {
                        reason: other.to_string(),
                    },
                },
            )?;
        if run.count() > 1 && (forward || run.len_bytes() > PRODUCE_MERGED_BYTES_MAX) {
            return Err(ApiError::InvalidRequest {
                reason: format!(
                    "several batches go in one request only to the leader, and up to {PRODUCE_MERGED_BYTES_MAX} bytes"
                ),
            });
        }
        let head = check_batches(&run, group, &self.shared.batch_caps())?;
        let (mut records, mut bytes) = (0, 0);
        for header in run.headers() {
            records += u64::from(header.record_count);
            bytes += u64::from(header.payload_len);
        }
        let target = self.target(group)?;
        let ack = target.group.submit(run, head, forward);
        Ok(Outcome::Submitted {
            ack,
            metrics: target.metrics.clone(),
            records,
            bytes,
        })
    }

    /// The group's handles; looked up again after the group was closed and opened anew.
    fn target(&mut self, group: u64) -> Result<&Target, ApiError> {
        let current = self.target.as_ref();
        if current
            .is_none_or(|target| target.number != group || target.group.watermark().is_closed())
        {
            let handle = self.shared.group(group)?;
            let state = self.shared.view.state();
            let (topic, _) = state.group(group).ok_or(ApiError::UnknownGroup)?;
            let metrics = self.shared.metrics.topic(&topic.name);
            self.target = Some(Target {
                group: handle,
                number: group,
                metrics,
            });
        }
        Ok(self.target.as_ref().expect("set above"))
    }
}

/// Waits until as many bytes may be held.
async fn room(budget: &Arc<Semaphore>, bytes: u32) -> OwnedSemaphorePermit {
    Arc::clone(budget)
        .acquire_many_owned(bytes)
        .await
        .expect("the semaphore is never closed")
}

/// Answers the requests of a stream in the order they came: those that are settled at the same time with one message.
async fn answer(shared: Arc<Shared>, send: SendHalf, mut answers: mpsc::Receiver<Pending>) {
    let mut answers_to = Answers {
        shared,
        send,
        acks: Vec::new(),
    };
    let mut sent = Ok(());
    while sent.is_ok()
        && let Some(first) = answers.recv().await
    {
        sent = answers_to.answer_all(first, &mut answers).await;
    }
    match sent {
        Ok(()) => answers_to.send.finish(),
        Err(error) => tracing::debug!(%error, "a producer left before it was answered"),
    }
}

/// The answering half of a stream.
struct Answers {
    shared: Arc<Shared>,
    send: SendHalf,
    /// Of requests that are settled, and whose producer is still to be told.
    acks: Vec<ProducedAck>,
}

impl Answers {
    /// Answers `first` and what waits behind it. Nothing that is settled waits for what is not.
    async fn answer_all(
        &mut self,
        first: Pending,
        answers: &mut mpsc::Receiver<Pending>,
    ) -> Result<(), SendError> {
        let mut next = Some(first);
        while let Some(Pending {
            correlation,
            outcome,
            permit,
        }) = next
        {
            let result = self.settled(outcome).await?;
            drop(permit);
            match result {
                Ok(acked) => self.acks.push(ProducedAck {
                    correlation,
                    base_offset: acked.base_offset,
                }),
                Err(error) => {
                    self.tell().await?;
                    route::error_with(&self.shared, &mut self.send, correlation, error).await?;
                }
            }
            if self.acks.len() == ACKS_MAX {
                self.tell().await?;
            }
            next = answers.try_recv().ok();
        }
        self.tell().await
    }

    /// What became of a request. Those before it are told of theirs first if this takes a while.
    async fn settled(&mut self, outcome: Outcome) -> Result<Result<Acked, ApiError>, SendError> {
        let (mut ack, metrics, records, bytes) = match outcome {
            Outcome::Refused(error) => return Ok(Err(error)),
            Outcome::Submitted {
                ack,
                metrics,
                records,
                bytes,
            } => (ack, metrics, records, bytes),
        };
        let at_once = poll_fn(|context| Poll::Ready(Pin::new(&mut ack).poll(context))).await;
        let result = match at_once {
            Poll::Ready(result) => result,
            Poll::Pending => {
                self.tell().await?;
                ack.await
            }
        };
        Ok(result.inspect(|_| {
            metrics.produced_records.increment(records);
            metrics.produced_bytes.increment(bytes);
        }))
    }

    /// Sends the acks gathered so far.
    async fn tell(&mut self) -> Result<(), SendError> {
        if self.acks.is_empty() {
            return Ok(());
        }
        let acks = std::mem::take(&mut self.acks);
        route::reply_with(&mut self.send, &Reply::Produced { acks }).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_may_hold_half_of_the_budget_and_the_largest_batch_always_fits() {
        let mut limits = LimitsConfig::default();
        assert_eq!(share_of_one(&limits) * 2, budget(&limits));
        limits.produce_in_flight_bytes_max = limits.batch_bytes_max;
        let largest = (limits.batch_bytes_max + FRAME_SLACK) as usize;
        assert_eq!((share_of_one(&limits), budget(&limits)), (largest, largest));
    }

    #[tokio::test]
    async fn batches_past_the_share_wait_until_one_is_answered() {
        let share = Arc::new(Semaphore::new(100));
        let first = room(&share, 60).await;
        let second = tokio::spawn({
            let share = Arc::clone(&share);
            async move { room(&share, 60).await }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert_eq!(second.await.unwrap().num_permits(), 60);
    }
}

//! What answers, refusals, silence and time do to a lane's window.
//!
//! Owns the decision between sending again and giving up, and what giving up means for the batches behind. On the produce
//! walk, at its end.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;
use tracing::debug;
use transport::{ConnectionLost, Message, RecvError};

use super::doubt::is_there;
use super::{AVOID_FOR, Lane, Over};
use crate::client::ProduceError;
use crate::wire::{ApiError, ProducedAck, Reply, decode_reply};

impl Lane {
    /// Takes in what came on the stream.
    pub(super) fn receive(
        &mut self,
        node: u64,
        received: Result<Option<Message>, RecvError>,
    ) -> ControlFlow<Over> {
        let message = match received {
            Ok(Some(message)) => message,
            Ok(None) => return ControlFlow::Break(self.lost(node, "the node ended the stream")),
            Err(RecvError::Lost(lost)) => return ControlFlow::Break(self.cut_off(node, &lost)),
            Err(error) => return ControlFlow::Break(self.lost(node, &error.to_string())),
        };
        match decode_reply(message.kind, &message.head) {
            Ok(Reply::Produced { acks }) => {
                for ack in acks {
                    self.acked(ack);
                }
                self.backoff.reset();
                self.avoid = None;
                ControlFlow::Continue(())
            }
            Ok(Reply::Error { correlation, error }) => self.refused(node, correlation, error),
            Ok(_) => ControlFlow::Break(self.lost(node, "it answered another question")),
            Err(error) => ControlFlow::Break(self.lost(node, &error.to_string())),
        }
    }

    /// The batches of a request are committed, one behind the other.
    fn acked(&mut self, ack: ProducedAck) {
        let Some(at) = self.position(ack.correlation) else {
            return;
        };
        // They leave the window together, or with the stream.
        let end = self.window.len().min(at + self.window[at].together);
        let (mut offset, mut bytes) = (ack.base_offset, 0);
        for batch in self.window.drain(at..end) {
            self.window_bytes -= batch.frame.len();
            batch.outcome.settle(Ok(offset));
            offset += batch.records;
            bytes += batch.bytes;
        }
        self.sent -= end - at;
        self.pending.give_back(bytes);
    }

    /// A request was refused: perhaps for now, perhaps for good.
    pub(super) fn refused(
        &mut self,
        node: u64,
        correlation: u64,
        error: ApiError,
    ) -> ControlFlow<Over> {
        let at = self.position(correlation);
        self.problem = format!("node {node}: {error}");
        if let ApiError::NotLeader { leader } = &error {
            self.cluster.forget_leader(self.group, node);
            let elsewhere = leader.as_ref().filter(|(leader, _)| *leader != node);
            let Some((leader, address)) = elsewhere else {
                return ControlFlow::Break(Over::Leaderless);
            };
            self.cluster.learn_leader(self.group, *leader, address);
            // Nodes may disagree for a moment: only the first hint is followed without a pause.
            let first = self.avoid.is_none();
            self.avoid = Some((node, Instant::now() + AVOID_FOR));
            return ControlFlow::Break(if first { Over::Again } else { Over::Leaderless });
        }
        if matches!(
            error,
            ApiError::UnknownGroup | ApiError::Unavailable | ApiError::ShuttingDown
        ) {
            self.cluster.forget_leader(self.group, node);
        }
        let waits_for_earlier =
            matches!(error, ApiError::OutOfOrderSequence { .. }) && at.is_some_and(|at| at > 0);
        match at {
            // One of several: each alone, they show which.
            Some(at) if self.window[at].together > 1 && !error.is_retriable() => {
                ControlFlow::Break(Over::Again)
            }
            Some(at) if !error.is_retriable() && !waits_for_earlier => {
                self.give_up_from(at, ProduceError::Refused(error));
                ControlFlow::Break(Over::Again)
            }
            _ => ControlFlow::Break(Over::Pause),
        }
    }

    pub(super) fn position(&self, correlation: u64) -> Option<usize> {
        self.window
            .iter()
            .position(|batch| batch.correlation == correlation)
    }

    pub(super) fn settle(&mut self, at: usize, result: Result<u64, ProduceError>) {
        let batch = self
            .window
            .remove(at)
            .expect("the caller has found it there");
        self.sent -= usize::from(at < self.sent);
        self.window_bytes -= batch.frame.len();
        self.pending.settle(&batch.outcome, batch.bytes, result);
    }

    /// Fails a batch of the window and all behind it: they cannot be accepted any more, or not in order.
    pub(super) fn give_up_from(&mut self, at: usize, error: ProduceError) {
        let earlier = error.to_string();
        let mut next = Some(error);
        while self.window.len() > at {
            let error = next.take().unwrap_or_else(|| ProduceError::EarlierFailed {
                earlier: earlier.clone(),
            });
            self.settle(at, Err(error));
        }
        self.needs_id = true;
    }

    /// Gives up what has waited for longer than the delivery timeout.
    pub(super) fn expire(&mut self) {
        let limit = self.pending.settings.delivery_timeout;
        let Some(before) = Instant::now().checked_sub(limit) else {
            return;
        };
        let timed_out = || ProduceError::Timeout {
            after: limit,
            last: self.problem.clone(),
        };
        let error = timed_out();
        if self
            .window
            .front()
            .is_some_and(|batch| batch.begun <= before)
        {
            self.give_up_from(0, error.clone());
        }
        for batch in self.pending.take_begun_before(before) {
            self.pending
                .settle(&batch.outcome, batch.bytes, Err(error.clone()));
        }
    }

    /// The topic, or this incarnation of it, is gone: everything for it fails.
    pub(super) fn gone(&mut self) -> Over {
        self.problem = ApiError::UnknownTopic.to_string();
        self.give_up_from(0, ProduceError::Refused(ApiError::UnknownTopic));
        for batch in self
            .pending
            .take_begun_before(Instant::now() + Duration::from_nanos(1))
        {
            self.pending.settle(
                &batch.outcome,
                batch.bytes,
                Err(ProduceError::Refused(ApiError::UnknownTopic)),
            );
        }
        Over::Pause
    }

    /// The node went away, or cannot be had: another may lead soon.
    pub(super) fn lost(&mut self, node: u64, reason: &str) -> Over {
        self.avoid = Some((node, Instant::now() + AVOID_FOR));
        self.cluster.forget_leader(self.group, node);
        self.trouble(format!("node {node}: {reason}"))
    }

    /// The connection is gone. A node that is there all the same may well lead, as the others say: it is dialed again at once, and says itself if
    /// it does not. To avoid it would cost half a second without service where it has just been elected.
    pub(super) fn cut_off(&mut self, node: u64, lost: &ConnectionLost) -> Over {
        if !is_there(lost) {
            return self.lost(node, &lost.to_string());
        }
        self.trouble(format!("node {node}: {lost}"));
        Over::Again
    }

    pub(super) fn trouble(&mut self, problem: String) -> Over {
        debug!(
            topic = self.topic,
            partition = self.pending.partition,
            problem,
            "cannot produce at the moment"
        );
        self.problem = problem;
        Over::Pause
    }
}

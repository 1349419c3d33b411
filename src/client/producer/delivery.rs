//! What becomes of a batch, and the futures that wait for it.
//!
//! Owns the one result that all records of a batch share. On the produce walk, its last step. Nothing is allocated per
//! record: a [`Delivery`] is a share in the batch's result and a position.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use super::ProduceError;
use crate::client::link::lock;

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The partition.
    pub partition: u32,
    /// The record's number in it.
    pub offset: u64,
}

/// The result of one batch: the offset of its first record, or why it failed.
#[derive(Debug)]
pub(super) struct Outcome {
    partition: u32,
    result: OnceLock<Result<u64, ProduceError>>,
    wakers: Mutex<Vec<Waker>>,
}

impl Outcome {
    pub(super) fn new(partition: u32) -> Arc<Self> {
        Arc::new(Self {
            partition,
            result: OnceLock::new(),
            wakers: Mutex::default(),
        })
    }

    /// Settles it, once; all who wait are woken.
    pub(super) fn settle(&self, result: Result<u64, ProduceError>) {
        let first = self.result.set(result).is_ok();
        debug_assert!(first, "a batch is settled once");
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Waits for the whole batch.
    pub(super) async fn settled(self: Arc<Self>) {
        let mut slot = None;
        std::future::poll_fn(|context| self.poll(context, &mut slot).map(drop)).await;
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
        slot: &mut Option<usize>,
    ) -> Poll<&Result<u64, ProduceError>> {
        if let Some(result) = self.result.get() {
            return Poll::Ready(result);
        }
        let mut wakers = lock(&self.wakers);
        match slot.and_then(|slot| wakers.get_mut(slot)) {
            Some(waker) => waker.clone_from(context.waker()),
            None => {
                *slot = Some(wakers.len());
                wakers.push(context.waker().clone());
            }
        }
        // Whoever settled it before the waker was in place did not see the waker.
        self.result.get().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The ack of one record, to be awaited at any time, or dropped.
#[derive(Debug)]
#[must_use = "await it for the ack, or drop it knowingly and rely on flush"]
pub struct Delivery {
    pub(super) outcome: Arc<Outcome>,
    pub(super) position: u32,
    pub(super) slot: Option<usize>,
}

impl Delivery {
    /// The partition the record goes to.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.outcome.partition
    }

    /// Whether both records are in one batch, and so acked or failed at the same moment.
    #[must_use]
    pub fn is_with(&self, other: &Delivery) -> bool {
        Arc::ptr_eq(&self.outcome, &other.outcome)
    }
}

impl Future for Delivery {
    type Output = Result<Ack, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let ack = |base: &u64| Ack {
            partition: this.outcome.partition,
            offset: base + u64::from(this.position),
        };
        match this.outcome.poll(context, &mut this.slot) {
            Poll::Ready(result) => Poll::Ready(result.as_ref().map(ack).map_err(Clone::clone)),
            Poll::Pending => Poll::Pending,
        }
    }
}

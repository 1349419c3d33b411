//! Producer ids: taken from the controller a block at a time, handed out one by one.
//!
//! Ids left in a block when the node stops are never used; there are enough.

use std::ops::Range;

use tokio::sync::Mutex;

use super::shared::Shared;
use crate::controller::{Command, Outcome};
use crate::wire::ApiError;

/// Ids taken from the controller at once.
const BLOCK: u64 = 1_000;

/// The block at hand.
#[derive(Debug, Default)]
pub(super) struct ProducerIds {
    block: Mutex<Range<u64>>,
}

impl ProducerIds {
    /// An id that nobody else has or ever had. Never 0.
    pub(super) async fn next(&self, shared: &Shared) -> Result<u64, ApiError> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        match shared
            .command(&Command::AllocateProducerIds { count: BLOCK })
            .await?
        {
            Outcome::ProducerIds { first, count } => {
                *block = first..first + count;
                block.next().ok_or(ApiError::Internal)
            }
            other => {
                tracing::error!(
                    ?other,
                    "the controller answered something else than producer ids"
                );
                Err(ApiError::Internal)
            }
        }
    }
}

//! Reaching the node that should lead, and giving up on it when another one leads.
//!
//! A node that dies says nothing, neither on a connection nor while it is dialed. So whoever waits for it asks the others after a moment, and not
//! only when QUIC gives up. On the produce walk, before the first batch of a stream, and while an ack is owed. Must not know what is sent.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use transport::{Connection, RecvHalf, SendHalf};

use super::doubt::SUSPECT_AFTER;
use super::{LEADERLESS_PAUSE_MAX, Lane, Over};

/// Time for asking them, while acks are not read.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

impl Lane {
    /// A stream to `node`. One that is to `forward` is no leader, and nobody is asked about it.
    pub(super) async fn open(
        &mut self,
        node: u64,
        forward: bool,
    ) -> Result<(Connection, SendHalf, RecvHalf), Over> {
        let cluster = Arc::clone(&self.cluster);
        let mut opening = pin!(cluster.open(node));
        let mut patience = SUSPECT_AFTER;
        loop {
            match timeout(patience, &mut opening).await {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(failure)) => {
                    self.unreachable = Some(node);
                    return Err(self.lost(node, &failure.to_string()));
                }
                Err(_) if forward => {}
                Err(_) => match self.ask_others(node).await {
                    Some(leader) if leader != node => {
                        self.lost(node, "it does not answer, and another leads");
                        return Err(Over::Again);
                    }
                    _ => patience = self.backoff.pause_up_to(LEADERLESS_PAUSE_MAX),
                },
            }
        }
    }

    /// Who leads, as the nodes but `node` say; `None` if that is not known, or if none of them answers.
    pub(super) async fn ask_others(&self, node: u64) -> Option<u64> {
        let asked = timeout(ASK_TIMEOUT, self.cluster.refresh(&self.topic, Some(node))).await;
        match asked {
            Ok(Ok(_)) => self.cluster.leader(self.group),
            _ => None,
        }
    }
}

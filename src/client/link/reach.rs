//! Reaching a node that leads or holds a partition, and giving up on it when it is silent and the others know better.
//!
//! A node that dies says nothing, neither on a connection nor while it is dialed. So whoever waits for it asks the others after a moment, and not
//! only when QUIC gives up. Must not know what is sent and received. On the produce walk and the fetch walk, before a stream is there and while one is silent.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use transport::{Connection, RecvHalf, SendHalf};

use super::{Cluster, Failure};
use crate::client::backoff::{Backoff, LEADERLESS_PAUSE_MAX};
use crate::wire::TopicInfo;

/// Time for asking the others, while nothing else is done.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// What a node is wanted for.
#[derive(Debug)]
pub(in crate::client) struct Wanted {
    pub(in crate::client) topic: String,
    pub(in crate::client) group: u64,
    pub(in crate::client) role: Role,
}

/// What a node must be to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client) enum Role {
    Leader,
    /// Any replica will do.
    Replica,
}

/// Why there is no stream to a node.
#[derive(Debug)]
pub(in crate::client) enum Unreached {
    Failed(Failure),
    /// It does not answer, and another one is there for what it is wanted for.
    Elsewhere,
}

impl Cluster {
    /// A new stream to `node`, and the connection it is on, dialed if need be; unless the node is silent, and the others know better.
    pub(in crate::client) async fn reach(
        &self,
        node: u64,
        wanted: &Wanted,
    ) -> Result<(Connection, SendHalf, RecvHalf), Unreached> {
        tokio::select! {
            biased;
            opened = self.open(node) => opened.map_err(Unreached::Failed),
            () = self.elsewhere(node, wanted) => Err(Unreached::Elsewhere),
        }
    }

    async fn elsewhere(&self, node: u64, wanted: &Wanted) {
        let (mut backoff, mut pause) = (Backoff::new(), Duration::ZERO);
        loop {
            self.silence(node, pause).await;
            if self.is_elsewhere(node, wanted).await {
                return;
            }
            pause = backoff.pause_up_to(LEADERLESS_PAUSE_MAX);
        }
    }

    /// Resolves once `node` is silent, no earlier than after `pause`. Never, if it is not known. Holds nothing that another waits for, so it need
    /// not be polled.
    pub(in crate::client) async fn silence(&self, node: u64, pause: Duration) {
        sleep(pause).await;
        match self.node(node) {
            Ok(node) => node.silence().await,
            Err(_) => std::future::pending().await,
        }
    }

    /// `node` is silent: whether another one is there for what it is wanted for, as the others say. If they say that it leads, it is dialed beside
    /// the connection that is silent.
    pub(in crate::client) async fn is_elsewhere(&self, node: u64, wanted: &Wanted) -> bool {
        let Some(topic) = self.ask_others(&wanted.topic, node).await else {
            return false;
        };
        match (wanted.role, self.leader(wanted.group)) {
            (Role::Leader, Some(leader)) if leader != node => true,
            (Role::Leader, Some(_)) => {
                if let Some(silent) = self.node(node).ok().and_then(|node| node.live()) {
                    self.dial_beside(node, &silent);
                }
                false
            }
            (Role::Leader, None) => false,
            (Role::Replica, _) => {
                let mut partitions = topic.partitions.iter();
                let held = partitions.find(|info| info.group == wanted.group);
                held.is_some_and(|info| info.replicas.iter().any(|replica| *replica != node))
            }
        }
    }

    /// The topic as the nodes but `node` know it; who leads is known then. `None` if none of them answers soon.
    pub(in crate::client) async fn ask_others(
        &self,
        topic: &str,
        node: u64,
    ) -> Option<Arc<TopicInfo>> {
        let asked = timeout(ASK_TIMEOUT, self.refresh(topic, Some(node))).await;
        asked.ok()?.ok()
    }
}

//! A request that any node may answer, or send on to the one that can.
//!
//! Owns the choice whom to ask, whom to ask besides while one is silent, and when again. Must not know what is asked. On the walk of administration, and at the
//! start of all others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::node::Node;
use super::{ATTEMPT_TIMEOUT, Cluster, Failure, Target, lock};
use crate::client::ClientError;
use crate::client::backoff::{BACKOFF_FIRST, Backoff};
use crate::wire::{ApiError, Reply, Request};

/// Where a request that is tried again and again stands.
struct Attempts {
    /// Under way, one for each node at most.
    asked: BTreeSet<u64>,
    /// Who can answer, as a node said.
    hint: Option<u64>,
    turn: usize,
    backoff: Backoff,
    /// Who was asked last, unless that has failed; then when to ask again.
    latest: Option<Arc<Node>>,
    pause: Duration,
    /// What went wrong last.
    problem: String,
}

impl Attempts {
    /// Resolves when one more node is to be asked: the one asked last is silent, or has failed a moment ago.
    async fn next(&self) {
        match &self.latest {
            Some(node) => node.silence().await,
            None => sleep(self.pause).await,
        }
    }

    fn again_after(&mut self, pause: Duration) {
        (self.latest, self.pause) = (None, pause);
    }
}

impl Cluster {
    /// A request that is tried again, elsewhere if need be, until it is answered, refused for good, or `limit` has passed. While the node
    /// that was asked is silent, another one is asked beside it: a node that cannot answer says who can.
    pub(in crate::client) async fn call(
        &self,
        target: Target,
        request: &Request,
        limit: Duration,
    ) -> Result<(u64, Reply), ClientError> {
        let deadline = Instant::now() + limit;
        let mut answers = JoinSet::new();
        let mut attempts = Attempts {
            asked: BTreeSet::new(),
            hint: self.preferred(target),
            turn: 0,
            backoff: Backoff::new(),
            latest: None,
            pause: Duration::ZERO,
            problem: String::from("nothing was tried"),
        };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let last = attempts.problem;
                return Err(ClientError::Timeout { after: limit, last });
            }
            attempts.pause = attempts.pause.min(left);
            tokio::select! {
                biased;
                Some(answered) = answers.join_next() => {
                    let (node, answer) = answered.map_err(|error| ClientError::NoNode {
                        tried: error.to_string(),
                    })?;
                    attempts.asked.remove(&node);
                    match answer {
                        Ok(reply) => return Ok((node, reply)),
                        Err(failure) => self.take_failure(&mut attempts, node, failure)?,
                    }
                }
                () = attempts.next() => {
                    let Some(node) = self.choose(&mut attempts) else {
                        // All are being asked, and one of them will answer or fail.
                        let pause = attempts.backoff.pause();
                        attempts.again_after(pause);
                        continue;
                    };
                    let (asked, endpoint) = (Arc::clone(&node), self.endpoint.clone());
                    let (request, limit) = (request.clone(), left.min(ATTEMPT_TIMEOUT));
                    answers.spawn(async move {
                        (asked.id, asked.ask(&endpoint, &request, limit).await)
                    });
                    attempts.asked.insert(node.id);
                    attempts.latest = Some(node);
                }
            }
        }
    }

    /// An attempt came to nothing: for good, or until another one.
    fn take_failure(
        &self,
        attempts: &mut Attempts,
        node: u64,
        failure: Failure,
    ) -> Result<(), ClientError> {
        match failure {
            Failure::Protocol(reason) => return Err(ClientError::Protocol { node, reason }),
            Failure::Refused(error) if !error.is_retriable() => {
                return Err(ClientError::Refused(error));
            }
            Failure::Refused(ApiError::NotLeader {
                leader: Some((leader, address)),
            }) if leader != node && !attempts.asked.contains(&leader) => {
                self.learn_node(leader, &address);
                attempts.problem = format!("node {node} sent us to node {leader}");
                attempts.hint = Some(leader);
                attempts.again_after(BACKOFF_FIRST);
            }
            failure => {
                attempts.problem = format!("node {node}: {failure}");
                let pause = attempts.backoff.pause();
                attempts.again_after(pause);
            }
        }
        Ok(())
    }

    /// The node to ask next: the one hinted at, or the nodes in turn, those that are connected first; none that is being asked.
    fn choose(&self, attempts: &mut Attempts) -> Option<Arc<Node>> {
        let nodes = lock(&self.nodes);
        let hinted = attempts.hint.take().and_then(|node| nodes.get(&node));
        let hinted = hinted.cloned();
        let mut others: Vec<Arc<Node>> = nodes.values().cloned().collect();
        drop(nodes);
        others.retain(|node| !attempts.asked.contains(&node.id));
        others.sort_by_key(|node| !node.is_up());
        let in_turn = others.get(attempts.turn % others.len().max(1)).cloned();
        attempts.turn += 1;
        hinted.or(in_turn)
    }
}

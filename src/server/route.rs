//! One stream of a client: the first request says what the stream is for, and whoever serves that use takes it over.
//!
//! A stream carries produces, or one fetch, or one control request after another. Every answer that is an error is counted here. Must
//! not know how a request is carried out.

use std::sync::Arc;

use tokio::sync::Semaphore;
use transport::{Limits, RecvHalf, SendError, SendHalf};

use super::shared::{Shared, reason};
use super::usage::usage_of_this_process;
use super::{fetch, nodes, produce, report, topics, transfer};
use crate::controller::Command;
use crate::wire::{ApiError, REQUEST_HEAD_BYTES_MAX, Reply, Request, decode_request, encode_reply};

/// What the head of a request may be; bodies are judged when the head is known.
pub(super) const HEADS: Limits = Limits {
    head_bytes_max: REQUEST_HEAD_BYTES_MAX,
    body_bytes_max: u32::MAX as usize,
};

/// Serves a stream to its end. Errors of a request are answered; only a stream that breaks the framing just ends.
///
/// `share` is what this client may have of the node's budget for batches.
pub(super) async fn serve_stream(
    shared: Arc<Shared>,
    share: Arc<Semaphore>,
    mut send: SendHalf,
    mut recv: RecvHalf,
) {
    loop {
        let head = match recv.recv_head(&HEADS).await {
            Ok(Some(head)) => head,
            Ok(None) => break,
            Err(error) => {
                tracing::debug!(%error, "a client's stream ended");
                break;
            }
        };
        let answer = match decode_request(head.kind, &head.head) {
            Ok(Request::Produce {
                correlation,
                group,
                forward,
            }) => {
                let first = produce::Announced {
                    correlation,
                    group,
                    forward,
                    body_len: head.body_len,
                };
                return produce::serve(shared, share, send, recv, first).await;
            }
            Ok(request) if head.body_len > 0 => {
                let reason = format!("{} bytes follow a request that has no body", head.body_len);
                tracing::debug!(?request, reason, "a client broke the protocol");
                refuse(&shared, &mut send, 0, ApiError::InvalidRequest { reason }).await;
                break;
            }
            Ok(Request::Fetch {
                group,
                from,
                max_bytes,
                follow,
            }) => {
                let fetch = fetch::Fetch {
                    group,
                    from,
                    max_bytes,
                    follow,
                };
                return fetch::serve(shared, send, fetch).await;
            }
            Ok(request) => match recv.skip_body().await {
                Ok(()) => control(&shared, request).await,
                Err(_) => break,
            },
            Err(error) => {
                refuse(&shared, &mut send, 0, error.into()).await;
                break;
            }
        };
        let sent = match answer {
            Ok(reply) => reply_with(&mut send, &reply).await,
            Err(error) => error_with(&shared, &mut send, 0, error).await,
        };
        if sent.is_err() {
            return;
        }
    }
    send.finish();
}

async fn control(shared: &Arc<Shared>, request: Request) -> Result<Reply, ApiError> {
    match request {
        Request::Metadata { topics } => Ok(Reply::Metadata(
            topics::metadata(shared, topics.as_deref()).await?,
        )),
        Request::CreateTopic {
            name,
            partitions,
            replicas,
            token,
        } => topics::create(shared, name, partitions, replicas, token).await,
        Request::DeleteTopic { name } => topics::delete(shared, name).await,
        Request::ProducerId => {
            let id = shared.producer_ids.next(shared).await?;
            Ok(Reply::ProducerId { id, epoch: 0 })
        }
        Request::ClusterStatus => Ok(Reply::ClusterStatus(report::cluster(shared).await)),
        Request::EndOffset { group } => {
            let offset = shared.group(group)?.read_index().await?;
            Ok(Reply::EndOffset { offset })
        }
        Request::TransferLeader { group, to } => transfer::transfer(shared, group, to).await,
        Request::PreferLeader { group, to } => {
            nodes::change(shared, Command::PreferLeader { group, node: to }).await
        }
        Request::AddNode { node, address } => {
            nodes::change(shared, Command::AddNode { node, address }).await
        }
        Request::RemoveNode { node } => nodes::change(shared, Command::RemoveNode { node }).await,
        Request::ReplaceNode { old, new, address } => {
            nodes::change(shared, Command::ReplaceNode { old, new, address }).await
        }
        Request::Rebalance => nodes::change(shared, Command::Rebalance).await,
        Request::Usage => Ok(Reply::Usage(Box::new(usage_of_this_process()))),
        Request::Produce { .. } | Request::Fetch { .. } => {
            unreachable!("taken over by their own servers")
        }
    }
}

/// Sends one reply without a body.
pub(super) async fn reply_with(send: &mut SendHalf, reply: &Reply) -> Result<(), SendError> {
    let (kind, head) = encode_reply(reply);
    send.send(kind, &head, &mut []).await
}

/// Answers with an error, and counts it.
pub(super) async fn error_with(
    shared: &Shared,
    send: &mut SendHalf,
    correlation: u64,
    error: ApiError,
) -> Result<(), SendError> {
    shared.metrics.rejected(reason(&error));
    let error = shared.with_address(error);
    reply_with(send, &Reply::Error { correlation, error }).await
}

/// Answers with an error after which the stream is of no more use.
async fn refuse(shared: &Shared, send: &mut SendHalf, correlation: u64, error: ApiError) {
    if let Err(error) = error_with(shared, send, correlation, error).await {
        tracing::debug!(%error, "a client left before it was refused");
    }
}

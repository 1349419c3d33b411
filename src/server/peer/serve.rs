//! A connection that another node dialed: its streams are taken in, its requests delivered, and the replies find their way back.
//!
//! The sender of every message must be the node of the certificate; one that is not closes the connection. On the walk of
//! AppendEntries, at the follower, and of elections, at the voter.

use std::sync::Arc;
use std::time::Duration;

use transport::{Connection, Limits, RecvHalf, SendHalf, close};

use super::dial::{StreamEnd, deliver_from};
use super::lane::Lane;
use super::{Peer, Peers, lock};
use crate::replica::Wanted;
use crate::server::report;
use crate::wire::{HELLO_HEAD_BYTES_MAX, StreamHello, decode_hello, encode_report};

/// Most connections of one peer: two in use, and as many that it has lost and we have not noticed yet.
const CONNECTIONS_MAX: usize = 4;
/// How long a stream may be open without saying what it is for.
const HELLO_WITHIN: Duration = Duration::from_secs(5);

impl Peers {
    /// Serves a connection accepted from `node` until it is lost. Refuses a node that was removed, or lacks what it had before.
    pub(in crate::server) async fn serve(self: &Arc<Peers>, node: u64, connection: Connection) {
        if self.greeter.is_removed(node) {
            return self.greeter.turn_away_at_greeting(node, &connection).await;
        }
        if node == self.node {
            return connection.close(close::PROTOCOL, "it dialed itself");
        }
        let Some(start) = self.greeter.welcome(node, &connection).await else {
            let end = connection.closed().await;
            return self.greeter.note_end(node, &end);
        };
        if self.greeter.is_removed(node) {
            return self.greeter.turn_away(node, &connection);
        }
        let Some(peer) = self.peer_or_new(node) else {
            return connection.close(close::DROPPED, "too many nodes");
        };
        peer.note_start(start);
        {
            let mut accepted = lock(&peer.accepted);
            accepted.push_back(connection.clone());
            if accepted.len() > CONNECTIONS_MAX
                && let Some(oldest) = accepted.pop_front()
            {
                oldest.close(
                    close::DROPPED,
                    "replaced by a newer connection of the same node",
                );
            }
        }
        tracing::debug!(peer = node, "a peer has connected");
        while let Ok((send, recv)) = connection.accept_bi().await {
            let (peers, peer, connection) =
                (Arc::clone(self), Arc::clone(&peer), connection.clone());
            self.runtime.spawn(async move {
                if let StreamEnd::Violation(why) = serve_stream(&peers, &peer, send, recv).await {
                    tracing::error!(
                        peer = peer.node,
                        why,
                        "a peer broke the protocol; its connection is closed"
                    );
                    connection.close(close::PROTOCOL, &why);
                }
            });
        }
        lock(&peer.accepted).retain(|open| open.id() != connection.id());
        if let Some(end) = connection.close_reason() {
            self.greeter.note_end(node, &end);
        }
    }

    /// Connections that peers dialed to us.
    pub(in crate::server) fn accepted_count(&self) -> usize {
        self.others
            .load()
            .values()
            .map(|peer| lock(&peer.accepted).len())
            .sum()
    }
}

async fn serve_stream(
    peers: &Arc<Peers>,
    peer: &Arc<Peer>,
    mut send: SendHalf,
    mut recv: RecvHalf,
) -> StreamEnd {
    let hello = match tokio::time::timeout(HELLO_WITHIN, hello(&mut recv)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(end)) => return end,
        Err(_) => return StreamEnd::Gone("said nothing for too long".into()),
    };
    if hello == StreamHello::Report {
        let (kind, head) = encode_report(&report::own(peers.node, peers.replicas()).await);
        return match send.send(kind, &head, &mut []).await {
            Ok(()) => {
                send.finish();
                send.stopped().await.into()
            }
            Err(error) => error.into(),
        };
    }
    if let StreamHello::Repair { group, first, last } = hello {
        let wanted = Wanted { group, first, last };
        return peers.give_frames(peer.node, wanted, send).await;
    }
    let lane = Lane::new(Arc::clone(&peer.budget));
    lock(&peer.replies).insert(hello, Arc::clone(&lane));
    let end = tokio::select! {
        error = lane.write_to(&mut send, peers.node) => error.into(),
        end = deliver_from(peers, peer.node, &mut recv) => end,
        // The peer opens another if there is still something to say, and the group, should it be opened again, answers on that.
        () = lane.ended() => StreamEnd::Gone("its group was closed here".into()),
    };
    let mut replies = lock(&peer.replies);
    if replies
        .get(&hello)
        .is_some_and(|current| Arc::ptr_eq(current, &lane))
    {
        replies.remove(&hello);
    }
    end
}

async fn hello(recv: &mut RecvHalf) -> Result<StreamHello, StreamEnd> {
    let limits = Limits {
        head_bytes_max: HELLO_HEAD_BYTES_MAX,
        body_bytes_max: 0,
    };
    let message = recv
        .recv(&limits)
        .await?
        .ok_or_else(|| StreamEnd::Gone("ended before it began".into()))?;
    Ok(decode_hello(message.kind, &message.head)?)
}

//! The streams opened from here: kept open while there is a connection, and the questions asked over it.
//!
//! Must not know what envelopes mean. On the walk of AppendEntries, at the leader, and of elections, at the candidate.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use transport::{Alpn, Connection, Limits, Link, RecvHalf};

use super::lane::Lane;
use super::{Peer, Peers};
use crate::wire::{
    NodeReport, REPLY_HEAD_BYTES_MAX, StreamHello, WireError, decode_envelopes, decode_report,
    encode_hello,
};

/// Votes and heartbeats overtake everything else.
const CONTROL_PRIORITY: i32 = 10;
const BULK_PRIORITY: i32 = 0;
/// What a peer that is far behind gets yields to everything else.
const CATCH_UP_PRIORITY: i32 = -10;
/// Pause before a stream that failed on a live connection is opened again. On a new connection it is opened at once.
const REOPEN_AFTER: Duration = Duration::from_millis(100);
/// How long another node may take to report on its replicas.
const REPORT_WITHIN: Duration = Duration::from_millis(500);

/// Why nothing more is read from a stream.
#[derive(thiserror::Error, Debug)]
pub(super) enum StreamEnd {
    /// The stream or its connection is gone; nobody is to blame.
    #[error("{0}")]
    Gone(String),
    /// The other side sent what no node of ours sends.
    #[error("{0}")]
    Violation(String),
}

impl From<transport::RecvError> for StreamEnd {
    fn from(error: transport::RecvError) -> StreamEnd {
        match error {
            transport::RecvError::Frame(error) => StreamEnd::Violation(error.to_string()),
            gone => StreamEnd::Gone(gone.to_string()),
        }
    }
}

impl From<transport::SendError> for StreamEnd {
    fn from(error: transport::SendError) -> StreamEnd {
        StreamEnd::Gone(error.to_string())
    }
}

impl From<transport::ConnectionLost> for StreamEnd {
    fn from(error: transport::ConnectionLost) -> StreamEnd {
        StreamEnd::Gone(error.to_string())
    }
}

impl From<WireError> for StreamEnd {
    fn from(error: WireError) -> StreamEnd {
        StreamEnd::Violation(error.to_string())
    }
}

/// The two connections dialed to one peer.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) address: String,
    /// Carries votes and heartbeats alone: streams of one connection share its windows, whatever their priority.
    control: Line,
    /// Carries everything else.
    bulk: Line,
}

impl Dialed {
    pub(super) fn new(peers: &Arc<Peers>, peer: &Arc<Peer>, address: String) -> Dialed {
        Dialed {
            control: Line::new(peers, peer, &address),
            bulk: Line::new(peers, peer, &address),
            address,
        }
    }

    /// The connection that `stream` belongs on.
    pub(super) fn line(&self, stream: StreamHello) -> &Line {
        match stream {
            StreamHello::Control => &self.control,
            StreamHello::Replication { .. }
            | StreamHello::CatchUp { .. }
            | StreamHello::Report
            | StreamHello::Repair { .. } => &self.bulk,
        }
    }
}

/// One connection dialed to a peer, again and again; shown only once it is greeted.
#[derive(Debug)]
pub(super) struct Line {
    greeted: watch::Receiver<Option<Connection>>,
    task: AbortHandle,
    /// Dialed as long as this lives.
    _link: Link,
}

impl Line {
    fn new(peers: &Arc<Peers>, peer: &Arc<Peer>, address: &str) -> Line {
        let link = Link::spawn(
            peers.endpoint.clone(),
            address.to_owned(),
            peer.node,
            Alpn::Peer,
        );
        let (slot, greeted) = watch::channel(None);
        let keep = keep_greeted(
            Arc::clone(peers),
            Arc::clone(peer),
            address.to_owned(),
            link.connection(),
            slot,
        );
        Line {
            greeted,
            task: peers.runtime.spawn(keep).abort_handle(),
            _link: link,
        }
    }

    pub(super) fn current(&self) -> Option<Connection> {
        self.greeted.borrow().clone()
    }

    fn follow(&self) -> watch::Receiver<Option<Connection>> {
        self.greeted.clone()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Greets on each new connection to a peer, shows it while it lives, and reports its loss to the replicas. A peer that has started again
/// may dial us long before we notice that the connection to its former self is dead: that is closed then, and dialed again at once.
async fn keep_greeted(
    peers: Arc<Peers>,
    peer: Arc<Peer>,
    address: String,
    mut connection: watch::Receiver<Option<Connection>>,
    slot: watch::Sender<Option<Connection>>,
) {
    let node = peer.node;
    while let Ok(up) = connection
        .wait_for(Option::is_some)
        .await
        .map(|up| up.clone())
    {
        let Some(up) = up else { continue };
        let start = peers.greeter.greet(node, &up).await;
        let greeted = start.is_some();
        if let Some(start) = start {
            peer.note_start(start);
            slot.send_replace(Some(up.clone()));
            hold(&up, start, peer.start.subscribe()).await;
        }
        let why = up.closed().await;
        slot.send_replace(None);
        peers.greeter.note_end(node, &why);
        if greeted {
            tracing::info!(peer = node, address, %why, "the connection to a peer is lost");
            peers.replicas().peer_unreachable(node);
        }
        if !is_over(&mut connection, &up).await {
            return;
        }
    }
}

/// Waits until `lost` is no longer what is shown as the connection to a peer; false if none will be shown any more.
async fn is_over(shown: &mut watch::Receiver<Option<Connection>>, lost: &Connection) -> bool {
    let is_another =
        |now: &Option<Connection>| now.as_ref().is_none_or(|now| now.id() != lost.id());
    shown.wait_for(is_another).await.is_ok()
}

/// Waits until `connection` is over: lost, or to a start of its node that another one has followed; then it is closed.
async fn hold(connection: &Connection, start: u64, mut starts: watch::Receiver<Option<u64>>) {
    tokio::select! {
        _ = connection.closed() => {}
        _ = starts.wait_for(|now| *now != Some(start)) => {
            connection.close(transport::close::DROPPED, "the node has started again");
        }
    }
}

/// Keeps one stream to `peer` open as long as the group, or the node, lives.
pub(super) async fn keep_open(
    peers: Arc<Peers>,
    peer: Arc<Peer>,
    stream: StreamHello,
    lane: Arc<Lane>,
) {
    let Some(mut connection) = peer
        .dialed
        .load()
        .as_ref()
        .map(|dialed| dialed.line(stream).follow())
    else {
        return;
    };
    while let Ok(up) = connection
        .wait_for(Option::is_some)
        .await
        .map(|up| up.clone())
    {
        let Some(up) = up else { continue };
        let end = converse(&peers, &peer, &up, stream, &lane).await;
        lane.clear();
        match end {
            StreamEnd::Violation(why) => {
                tracing::error!(
                    peer = peer.node,
                    ?stream,
                    why,
                    "a peer broke the protocol; its connection is closed"
                );
                up.close(transport::close::PROTOCOL, &why);
            }
            StreamEnd::Gone(why) => {
                tracing::debug!(peer = peer.node, ?stream, why, "a stream to a peer ended");
            }
        }
        if up.close_reason().is_none() {
            peers.replicas().peer_unreachable(peer.node);
            tokio::time::sleep(REOPEN_AFTER).await;
            continue;
        }
        if !is_over(&mut connection, &up).await {
            return;
        }
    }
}

/// Opens the stream, writes the lane out and delivers what comes back, until either fails.
async fn converse(
    peers: &Peers,
    peer: &Peer,
    connection: &Connection,
    stream: StreamHello,
    lane: &Lane,
) -> StreamEnd {
    let priority = match stream {
        StreamHello::Control => CONTROL_PRIORITY,
        StreamHello::CatchUp { .. } => CATCH_UP_PRIORITY,
        StreamHello::Replication { .. } | StreamHello::Report | StreamHello::Repair { .. } => {
            BULK_PRIORITY
        }
    };
    let (mut send, mut recv) = match connection.open_bi(priority).await {
        Ok(halves) => halves,
        Err(error) => return error.into(),
    };
    let (kind, head) = encode_hello(&stream);
    if let Err(error) = send.send(kind, &head, &mut []).await {
        return error.into();
    }
    tokio::select! {
        error = lane.write_to(&mut send, peers.node) => error.into(),
        end = deliver_from(peers, peer.node, &mut recv) => end,
    }
}

/// Delivers the envelopes that arrive from `node`, until the stream ends or says what it must not.
pub(super) async fn deliver_from(peers: &Peers, node: u64, recv: &mut RecvHalf) -> StreamEnd {
    loop {
        let message = match recv.recv(&peers.limits()).await {
            Ok(Some(message)) => message,
            Ok(None) => return StreamEnd::Gone("ended by the other side".into()),
            Err(error) => return error.into(),
        };
        match decode_envelopes(
            message.kind,
            &message.head,
            message.body.freeze(),
            &peers.caps,
        ) {
            Ok((sender, envelopes)) if sender == node => {
                peers.replicas().deliver(node, envelopes).await;
            }
            Ok((sender, _)) => {
                return StreamEnd::Violation(format!(
                    "a message claims to be from node {sender}, its certificate is node {node}'s"
                ));
            }
            Err(error) => return error.into(),
        }
    }
}

impl Peers {
    /// Asks `node` about its replicas; `None` when it cannot be reached or takes too long.
    pub(in crate::server) async fn report_of(&self, node: u64) -> Option<NodeReport> {
        let connection = self.peer(node)?.current(StreamHello::Report)?;
        match tokio::time::timeout(REPORT_WITHIN, ask(&connection)).await {
            Ok(Ok(report)) if report.node == node => Some(report),
            Ok(Ok(report)) => {
                tracing::error!(
                    peer = node,
                    claims = report.node,
                    "a peer's report claims to be another node's"
                );
                None
            }
            Ok(Err(error)) => {
                tracing::debug!(peer = node, %error, "a peer did not report on its replicas");
                None
            }
            Err(_) => None,
        }
    }
}

async fn ask(connection: &Connection) -> Result<NodeReport, StreamEnd> {
    let (mut send, mut recv) = connection.open_bi(BULK_PRIORITY).await?;
    let (kind, head) = encode_hello(&StreamHello::Report);
    send.send(kind, &head, &mut []).await?;
    send.finish();
    let limits = Limits {
        head_bytes_max: REPLY_HEAD_BYTES_MAX,
        body_bytes_max: 0,
    };
    let message = recv
        .recv(&limits)
        .await?
        .ok_or_else(|| StreamEnd::Gone("ended without an answer".into()))?;
    Ok(decode_report(message.kind, &message.head)?)
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;

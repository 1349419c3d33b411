//! Connections: who is at the other end is settled once, at the handshake; then peers and clients part ways.
//!
//! Must not know requests. Every walk of a client starts here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::Semaphore;
use transport::{Alpn, Connection, Endpoint, Incoming, RefusedError};

use super::shared::Shared;
use super::{produce, route};

/// Accepts until the endpoint is closed.
pub(super) async fn accept(shared: Arc<Shared>, endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(admit(Arc::clone(&shared), incoming));
    }
}

async fn admit(shared: Arc<Shared>, incoming: Incoming) {
    let connection = match incoming.identify().await {
        Ok(connection) => connection,
        Err(error) => return shared.metrics.connection_refused(reason(&error)),
    };
    match (connection.alpn(), connection.identity().node_id()) {
        (Alpn::Peer, Some(node)) => Arc::clone(&shared.peers).serve(node, connection).await,
        (Alpn::Peer, None) => {
            unreachable!("the handshake refuses clients that speak the peer protocol")
        }
        (Alpn::Client, _) => serve_client(shared, connection).await,
    }
}

/// Each stream of a client is served by a task of its own; the transport limits how many there are. All streams of a connection share half
/// of the node's budget for batches, so that no one client can hold all of it.
async fn serve_client(shared: Arc<Shared>, connection: Connection) {
    tracing::debug!(client = %connection.identity(), address = %connection.remote_address(), "a client has connected");
    shared.clients.fetch_add(1, Ordering::Relaxed);
    let share = Arc::new(Semaphore::new(produce::share_of_one(&shared.config.limits)));
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(route::serve_stream(
            Arc::clone(&shared),
            Arc::clone(&share),
            send,
            recv,
        ));
    }
    shared.clients.fetch_sub(1, Ordering::Relaxed);
}

fn reason(error: &RefusedError) -> &'static str {
    match error {
        RefusedError::Handshake { .. } => "handshake",
        RefusedError::TimedOut => "timed_out",
        RefusedError::NoIdentity { .. } => "no_identity",
        RefusedError::ForeignCluster { .. } => "foreign_cluster",
        RefusedError::ClientAsPeer { .. } => "client_as_peer",
    }
}

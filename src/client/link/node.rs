//! One node as the client sees it: its connection, dialed when it is needed and again after it was lost, and a request on a stream of its own.
//!
//! Must not know who leads what. On every walk of the client.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use transport::{Alpn, Connection, Endpoint, Limits, RecvHalf, SendHalf, close};

use super::silence::{Heard, Silence};
use super::{ATTEMPT_TIMEOUT, Failure, lock, unreachable};
use crate::wire::{REPLY_HEAD_BYTES_MAX, Reply, Request, decode_reply, encode_request};

/// Caps on a reply without a body.
pub(super) const REPLY_LIMITS: Limits = Limits {
    head_bytes_max: REPLY_HEAD_BYTES_MAX,
    body_bytes_max: 0,
};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    address: String,
    connection: std::sync::Mutex<Option<Connection>>,
    /// Held while dialing, so that many who need the connection dial once. Why that last came to nothing.
    dialing: Mutex<Option<Failure>>,
    /// Dials begun, and those of them that came to nothing.
    dials: AtomicU64,
    failures: AtomicU64,
    /// Held while dialing beside a connection that is silent, so that one does.
    beside: Mutex<()>,
    pub(super) silence: Silence,
}

impl Node {
    pub(super) fn new(id: u64, address: String) -> Arc<Self> {
        Arc::new(Self {
            id,
            address,
            connection: std::sync::Mutex::new(None),
            dialing: Mutex::new(None),
            dials: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            beside: Mutex::new(()),
            silence: Silence::new(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.live().is_some()
    }

    /// The connection, if there is one that is not closed.
    pub(super) fn live(&self) -> Option<Connection> {
        lock(&self.connection).clone().filter(is_live)
    }

    /// What has been heard of it until now.
    pub(super) fn heard(&self) -> Heard {
        let received = self.live().map(|connection| connection.stats());
        (
            self.dials.load(Ordering::Relaxed),
            received.map_or(0, |stats| stats.received_bytes),
        )
    }

    pub(super) async fn connection(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        let failures = self.failures.load(Ordering::Relaxed);
        let mut dialing = self.dialing.lock().await;
        if let Some(connection) = self.live() {
            return Ok(connection);
        }
        // Who has waited for a dial that came to nothing need not wait for another one.
        if self.failures.load(Ordering::Relaxed) != failures
            && let Some(failure) = dialing.clone()
        {
            return Err(failure);
        }
        self.dials.fetch_add(1, Ordering::Relaxed);
        match self.dial(endpoint).await {
            Ok(connection) => {
                *lock(&self.connection) = Some(connection.clone());
                Ok(connection)
            }
            Err(failure) => {
                *dialing = Some(failure.clone());
                self.failures.fetch_add(1, Ordering::Relaxed);
                Err(failure)
            }
        }
    }

    /// Dials anew though there is a connection, for that is silent; if the node answers, and the other is silent still, the new one takes its place,
    /// and the silent one is closed. Does nothing while another does so.
    pub(super) async fn dial_beside(&self, endpoint: &Endpoint, silent: &Connection) {
        let Ok(_alone) = self.beside.try_lock() else {
            return;
        };
        if !is_live(silent) {
            return;
        }
        let received = silent.stats().received_bytes;
        match self.dial(endpoint).await {
            // It was merely slow: streams on it go on.
            Ok(connection) if silent.stats().received_bytes != received => {
                connection.close(close::DROPPED, "the one it was to replace is not silent");
            }
            Ok(connection) => {
                let mut current = lock(&self.connection);
                if (current.as_ref()).is_some_and(|current| current.id() == silent.id()) {
                    *current = Some(connection);
                }
                drop(current);
                tracing::debug!(node = self.id, "a connection that was silent is replaced");
                silent.close(close::DROPPED, "it was silent: another one takes its place");
            }
            Err(failure) => {
                tracing::debug!(node = self.id, %failure, "no new connection beside a silent one");
            }
        }
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let mut addresses = tokio::net::lookup_host(&self.address)
            .await
            .map_err(unreachable)?;
        let address = addresses
            .next()
            .ok_or_else(|| Failure::Unreachable(format!("{} has no address", self.address)))?;
        endpoint
            .connect(address, self.id, Alpn::Client)
            .await
            .map_err(unreachable)
    }

    /// One request, on a stream of its own.
    pub(super) async fn ask(
        &self,
        endpoint: &Endpoint,
        request: &Request,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        let attempt = async {
            let connection = self.connection(endpoint).await?;
            let (mut send, mut recv) = open(&connection).await?;
            let (kind, head) = encode_request(request);
            send.send(kind, &head, &mut []).await.map_err(unreachable)?;
            send.finish();
            let message = recv.recv(&REPLY_LIMITS).await.map_err(unreachable)?;
            let message = message.ok_or_else(|| {
                Failure::Unreachable(String::from("the stream ended without an answer"))
            })?;
            decode_reply(message.kind, &message.head)
                .map_err(|error| Failure::Protocol(error.to_string()))
        };
        match timeout(limit, attempt).await {
            Ok(Ok(Reply::Error { error, .. })) => Err(Failure::Refused(error)),
            Ok(result) => result,
            Err(_) => Err(Failure::Unreachable(format!("no answer within {limit:?}"))),
        }
    }
}

/// A stream of a connection. A node lets each client have a certain number at a time; whoever uses all of them is told so.
pub(super) async fn open(connection: &Connection) -> Result<(SendHalf, RecvHalf), Failure> {
    match timeout(ATTEMPT_TIMEOUT, connection.open_bi(0)).await {
        Ok(opened) => opened.map_err(unreachable),
        Err(_) => Err(Failure::Unreachable(format!(
            "it gave us no more streams within {ATTEMPT_TIMEOUT:?}: this client has as many in use as a node allows"
        ))),
    }
}

fn is_live(connection: &Connection) -> bool {
    connection.close_reason().is_none()
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;

//! One node as the client sees it: its connection, dialed when it is needed and again after it was lost, and a request on a stream of its own.
//!
//! Must not know who leads what. On every walk of the client.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::timeout;
use transport::{Alpn, Connection, Endpoint, Limits, RecvHalf, SendHalf, close};

use super::{ATTEMPT_TIMEOUT, Failure, unreachable};
use crate::wire::{REPLY_HEAD_BYTES_MAX, Reply, Request, decode_reply, encode_request};

/// Caps on a reply without a body.
const REPLY_LIMITS: Limits = Limits {
    head_bytes_max: REPLY_HEAD_BYTES_MAX,
    body_bytes_max: 0,
};

#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: u64,
    address: String,
    /// Held while dialing, so that many who need the connection dial once.
    connection: Mutex<Option<Connection>>,
    /// Held while dialing beside a connection that is silent, so that one does.
    beside: Mutex<()>,
}

impl Node {
    pub(super) fn new(id: u64, address: String) -> Arc<Self> {
        Arc::new(Self {
            id,
            address,
            connection: Mutex::new(None),
            beside: Mutex::new(()),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.connection
            .try_lock()
            .is_ok_and(|connection| connection.as_ref().is_some_and(is_live))
    }

    pub(super) async fn connection(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let mut slot = self.connection.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| is_live(connection)) {
            return Ok(connection.clone());
        }
        let connection = self.dial(endpoint).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Dials anew though there is a connection, for that is silent; if the node answers, the new one takes the place of the silent one,
    /// which is closed. Does nothing while another does so.
    pub(super) async fn dial_beside(&self, endpoint: &Endpoint, silent: &Connection) {
        let Ok(_alone) = self.beside.try_lock() else {
            return;
        };
        if !is_live(silent) {
            return;
        }
        match self.dial(endpoint).await {
            Ok(connection) => {
                let mut slot = self.connection.lock().await;
                if slot
                    .as_ref()
                    .is_some_and(|current| current.id() == silent.id())
                {
                    *slot = Some(connection);
                }
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

//! A UDP socket that speaks QUIC: lets in whom it should, dials whom it must.
#![allow(clippy::todo)]

use std::net::SocketAddr;

use crate::connection::Connection;
use crate::credentials::Credentials;
use crate::error::{ConnectError, RefusedError};
use crate::identity::{Alpn, Identity};
use crate::options::TransportOptions;

/// One UDP socket, its connections in and out. Cheap to clone. Must be made and used within a tokio runtime.
#[derive(Clone, Debug)]
pub struct Endpoint {}

impl Endpoint {
    /// An endpoint that accepts connections at `listen`, and dials from there. Needs a node's credentials.
    pub fn server(
        credentials: &Credentials,
        listen: SocketAddr,
        options: &TransportOptions,
    ) -> Result<Endpoint, EndpointError> {
        let _ = (credentials, listen, options);
        todo!()
    }

    /// An endpoint that only dials, from any port.
    pub fn client(
        credentials: &Credentials,
        options: &TransportOptions,
    ) -> Result<Endpoint, EndpointError> {
        let _ = (credentials, options);
        todo!()
    }

    /// The address bound; tells the port when `listen` left it to the system.
    pub fn local_addr(&self) -> SocketAddr {
        todo!()
    }

    /// Who this endpoint speaks for.
    pub fn identity(&self) -> &Identity {
        todo!()
    }

    /// The next one to knock; `None` once the endpoint is closed. Spawn a task for each, and call [`Incoming::identify`] there.
    pub async fn accept(&self) -> Option<Incoming> {
        todo!()
    }

    /// Dials `address`, where node `node` of our own cluster is expected, and returns once that node has accepted us.
    pub async fn connect(
        &self,
        address: SocketAddr,
        node: u64,
        alpn: Alpn,
    ) -> Result<Connection, ConnectError> {
        let _ = (address, node, alpn);
        todo!()
    }

    /// Connections open now, in and out.
    pub fn open_connections(&self) -> usize {
        todo!()
    }

    /// Closes all connections with this code and reason, refuses new ones, and waits until the other sides have been told.
    pub async fn close(&self, code: u32, reason: &str) {
        let _ = (code, reason);
        todo!()
    }
}

/// Someone who knocks.
pub struct Incoming {}

impl Incoming {
    /// The address the packets come from.
    pub fn remote_address(&self) -> SocketAddr {
        todo!()
    }

    /// Carries the handshake through and lets the other side in, or refuses, tells it why, and logs that.
    pub async fn identify(self) -> Result<Connection, RefusedError> {
        todo!()
    }
}

/// Why no endpoint could be made.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address cannot be bound.
    #[error("cannot listen on UDP {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

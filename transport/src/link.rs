//! Keeps one outgoing connection to a node up.
#![allow(clippy::todo)]

use tokio::sync::watch;

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::identity::Alpn;

/// One outgoing connection to a node, dialed again whenever it is lost. Dropping the link closes the connection and ends the dialing.
#[derive(Debug)]
pub struct Link {}

impl Link {
    /// Starts dialing node `node` at `address` (`host:port`; resolved anew at each attempt). Must be called within a tokio runtime.
    pub fn spawn(endpoint: Endpoint, address: String, node: u64, alpn: Alpn) -> Link {
        let _ = (endpoint, address, node, alpn);
        todo!()
    }

    /// The node dialed.
    pub fn node(&self) -> u64 {
        todo!()
    }

    /// Follows the connection: `None` while there is none. A new connection is another [`Connection::id`].
    pub fn connection(&self) -> watch::Receiver<Option<Connection>> {
        todo!()
    }

    /// The connection now, if it is up.
    pub fn current(&self) -> Option<Connection> {
        todo!()
    }
}

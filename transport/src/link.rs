//! Keeps one outgoing connection to a node up.
//!
//! Owns the dialing, again and again, and the pauses between. Knows nothing of what the connection is used for. On every walk between nodes.

use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::connection::Connection;
use crate::endpoint::Endpoint;
use crate::error::{ConnectError, ConnectionLost, close};
use crate::identity::Alpn;

/// Longest pause before the first attempt after a loss. The pause doubles with each failure.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// Longest pause of all: short, for in a data centre a node that is back should be found at once, and an attempt costs a few packets.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// One outgoing connection to a node, dialed again whenever it is lost. Dropping the link closes the connection and ends the dialing.
#[derive(Debug)]
pub struct Link {
    node: u64,
    connection: watch::Receiver<Option<Connection>>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts dialing node `node` at `address` (`host:port`; resolved anew at each attempt). Must be called within a tokio runtime.
    pub fn spawn(endpoint: Endpoint, address: String, node: u64, alpn: Alpn) -> Link {
        let (slot, connection) = watch::channel(None);
        let dialer = Dialer {
            endpoint,
            address,
            node,
            alpn,
            slot,
        };
        Link {
            node,
            connection,
            task: tokio::spawn(dialer.run()),
        }
    }

    /// The node dialed.
    pub fn node(&self) -> u64 {
        self.node
    }

    /// Follows the connection: `None` while there is none. A new connection is another [`Connection::id`]. A loss and a new connection in quick
    /// succession may be seen as one change.
    pub fn connection(&self) -> watch::Receiver<Option<Connection>> {
        self.connection.clone()
    }

    /// The connection now, if it is up.
    pub fn current(&self) -> Option<Connection> {
        self.connection.borrow().clone()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The dialer, dropped with its task, closes the connection.
        self.task.abort();
    }
}

struct Dialer {
    endpoint: Endpoint,
    address: String,
    node: u64,
    alpn: Alpn,
    slot: watch::Sender<Option<Connection>>,
}

impl Dialer {
    async fn run(self) {
        let mut pause = Pause::new();
        let mut complaint = String::new();
        loop {
            match self.dial().await {
                Ok(connection) => {
                    self.hold(connection, &mut pause).await;
                    complaint.clear();
                }
                Err(DialError::Connect(ConnectError::Closed)) => return,
                Err(error) => self.complain(&mut complaint, error.to_string()),
            }
            sleep(pause.next()).await;
        }
    }

    /// Shows the connection to those who follow the link, until it is lost.
    async fn hold(&self, connection: Connection, pause: &mut Pause) {
        let (node, address) = (self.node, &self.address);
        tracing::info!(node, address, "link up");
        let since = Instant::now();
        self.slot.send_replace(Some(connection.clone()));
        let reason = connection.closed().await;
        self.slot.send_replace(None);
        // One that breaks as soon as it is made has not earned a quick new attempt.
        if since.elapsed() >= PAUSE_MAX {
            *pause = Pause::new();
        }
        if reason != ConnectionLost::ClosedHere {
            tracing::warn!(node, address, %reason, "link down");
        }
    }

    /// The log gets each new reason once, not each attempt.
    fn complain(&self, last: &mut String, reason: String) {
        let (node, address) = (self.node, &self.address);
        if *last == reason {
            tracing::debug!(node, address, %reason, "link still down");
        } else {
            tracing::warn!(node, address, %reason, "link cannot be made; trying on");
            *last = reason;
        }
    }

    /// One attempt: each address the name stands for, in turn.
    async fn dial(&self) -> Result<Connection, DialError> {
        let resolve = |source| DialError::Resolve {
            address: self.address.clone(),
            source,
        };
        let mut failure = None;
        for address in lookup_host(&self.address).await.map_err(resolve)? {
            match self.endpoint.connect(address, self.node, self.alpn).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.map_or_else(
            || DialError::NoAddress(self.address.clone()),
            DialError::Connect,
        ))
    }
}

impl Drop for Dialer {
    fn drop(&mut self) {
        if let Some(connection) = self.slot.send_replace(None) {
            connection.close(close::STOPPING, "the link was given up");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("cannot resolve {address}: {source}")]
    Resolve {
        address: String,
        source: std::io::Error,
    },
    #[error("{0} stands for no address")]
    NoAddress(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// Pauses between attempts: doubling up to a limit, and scattered so that nodes do not dial in step.
struct Pause {
    longest: Duration,
}

impl Pause {
    fn new() -> Pause {
        Pause { longest: PAUSE_MIN }
    }

    /// Between half and all of the present length; the next is twice as long.
    fn next(&mut self) -> Duration {
        let pause = self.longest.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.longest = (self.longest * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_scatter_by_half() {
        let mut pause = Pause::new();
        for doublings in 0..12 {
            let longest = (PAUSE_MIN * 2_u32.pow(doublings)).min(PAUSE_MAX);
            let next = pause.next();
            assert!(longest / 2 <= next && next <= longest, "{next:?}");
        }
    }
}

//! How long a lane waits for a sign of its leader, and whether anything at all has come from there.
//!
//! Must not know what is done about a silence. On the produce walk, while an ack is owed.

use std::time::Duration;

use tokio::time::Instant;
use transport::{Connection, ConnectionLost};

/// Silence of a leader that owes an ack, after which the other nodes are asked who leads.
const SUSPECT_AFTER: Duration = Duration::from_millis(200);

/// A leader that owes an ack, and the connection to it.
pub(super) struct Doubt {
    pub(super) connection: Connection,
    /// When to ask who leads, unless there is a sign of the leader before.
    pub(super) ask_at: Instant,
    /// Bytes that had come on the connection when there last was a sign, or something was sent.
    received: u64,
}

impl Doubt {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            ask_at: Instant::now() + SUSPECT_AFTER,
            received: connection.stats().received_bytes,
            connection,
        }
    }

    /// There was a sign of the leader, or it has only now been sent something.
    pub(super) fn put_off(&mut self) {
        self.ask_at = Instant::now() + SUSPECT_AFTER;
        self.received = self.connection.stats().received_bytes;
    }

    /// Nothing has come since, not even what says that something arrived: a node that is merely slow, or waits for its disk, says that much.
    pub(super) fn is_silent(&self) -> bool {
        self.connection.stats().received_bytes == self.received
    }
}

/// Whether a connection ended because the node at its other end is there: it has started again, or was dialed anew beside this one.
pub(super) fn is_there(lost: &ConnectionLost) -> bool {
    matches!(lost, ConnectionLost::Reset | ConnectionLost::ClosedHere)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_started_again_or_was_dialed_anew_is_there_and_one_not_heard_or_going_down_is_not()
     {
        let closed = ConnectionLost::ClosedByPeer {
            code: transport::close::STOPPING,
            reason: String::new(),
        };
        assert!(is_there(&ConnectionLost::Reset) && is_there(&ConnectionLost::ClosedHere));
        assert!(!is_there(&ConnectionLost::TimedOut) && !is_there(&closed));
    }
}
